//! `mfa-reset demo`: forty tickets through the real reset against a simulated Graph, in one process.

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::assemble::{self, Process};
use super::demo_tickets::{Ticket, tenant, tickets};
use crate::admin::Health;
use crate::config::{Config, Needs, Sources};
use crate::domain::event::Event;
use crate::local::Local;
use crate::simulator::{self, Options};

/// Shows the tickets, and what became of them.
pub async fn run(out: &mut (dyn Write + Send), stop: CancellationToken) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mfa-reset-demo-{}", Timestamp::now().as_millisecond()));
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the simulator")?;
    let graph = format!("http://{}", listener.local_addr()?);
    let options = Options { tenant: Some(tenant()), lag: Duration::from_millis(200), ..Options::default() };
    let end = CancellationToken::new();
    let mut beside = JoinSet::new();
    let ended = end.clone();
    beside.spawn(async move { simulator::serve(listener, options, async move { ended.cancelled().await }).await });
    let config = config(&graph, &folder)?;
    let process = Process::open(&config, assemble::metrics()?, Health::new()).await?;
    let mut upkeep = process.start(&config, &end);
    let tickets = tickets(Timestamp::now());
    let results = work(&process, &graph, &tickets, &stop).await?;
    table(&tickets, &results, out)?;
    end.cancel();
    while upkeep.join_next().await.is_some() {}
    process.close().await;
    std::fs::write(folder.join("metrics.txt"), process.metrics.render()?)?;
    where_to_look(&folder, out)
}

fn config(graph: &str, folder: &Path) -> anyhow::Result<Config> {
    let at = |file: &str| folder.join(file).display().to_string();
    let flags = [
        format!("graph.endpoint={graph}"),
        format!("graph.authority={graph}"),
        "graph.tenant_id=11111111-1111-4111-8111-111111111111".to_owned(),
        "graph.client_id=22222222-2222-4222-8222-222222222222".to_owned(),
        "graph.client_secret=demo".to_owned(),
        "graph.requests_per_second=200".to_owned(),
        format!("ledger.url=sqlite:{}", at("ledger.db")),
        format!("audit.signing_key_file={}", at("signing-key")),
        "policy.protected_users=breakglass@contoso.test".to_owned(),
    ];
    let sources = Sources { file: None, environment: Vec::new(), flags: flags.into() };
    Ok(Config::load(&sources, Needs::RUN)?)
}

/// Feeds the tickets in three stretches: plain ones, throttled ones, and those that repeat what went before.
async fn work(
    process: &Process,
    graph: &str,
    tickets: &[Ticket],
    stop: &CancellationToken,
) -> anyhow::Result<HashMap<String, Value>> {
    let results: Arc<Mutex<Vec<Value>>> = Arc::default();
    let progress = ProgressBar::new(tickets.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        progress.set_style(style);
    }
    let (bar, kept) = (progress.clone(), results.clone());
    let write = move |event: &Event| {
        bar.set_message(event.body["data"]["ticket_number"].as_str().unwrap_or_default().to_owned());
        bar.inc(1);
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(event.body.clone());
        Ok(())
    };
    let (shared, rules) = (process.shared.clone(), process.rules.clone());
    let local = Local { shared, rules, metrics: process.metrics.clone(), write: Arc::new(write) };
    let mut found = HashMap::new();
    for (stretch, throttled) in [("plain", false), ("throttled stretch", true), ("again", false)] {
        if throttled {
            throttle(graph).await?;
        }
        let wanted = |ticket: &&Ticket| stretch_of(ticket.about) == stretch;
        let mine: Vec<&Ticket> = tickets.iter().filter(wanted).collect();
        let lines: String = mine.iter().map(|ticket| format!("{}\n", ticket.line)).collect();
        local.run(BufReader::new(Cursor::new(lines.into_bytes())), stop).await?;
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(results.drain(..).map(|event| (format!("{stretch} {}", request_of(&event["data"])), event)));
    }
    progress.finish_and_clear();
    Ok(found)
}

fn stretch_of(about: &str) -> &'static str {
    match about {
        "throttled stretch" => "throttled stretch",
        "the same ticket again" | "an id used twice" | "second reset within the hour" => "again",
        _ => "plain",
    }
}

/// Lets the simulated Graph answer 429 for a while.
async fn throttle(graph: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?;
    let fault = json!({"operation": "delete_method", "status": 429, "retry_after": "1.128", "times": 6});
    client.post(format!("{graph}/_simulator/faults")).json(&fault).send().await?.error_for_status()?;
    Ok(())
}

fn request_of(data: &Value) -> String {
    data["request_id"].as_str().unwrap_or_default().to_owned()
}

fn table(tickets: &[Ticket], results: &HashMap<String, Value>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    writeln!(
        out,
        "{:<8} {:<35} {:<14} {:<22} {:>7}  verified",
        "ticket", "what it is about", "outcome", "reason", "removed"
    )?;
    for ticket in tickets {
        let asked: Value = serde_json::from_str(&ticket.line)?;
        let id = asked["id"].as_str().unwrap_or_default();
        let data = results.get(&format!("{} {id}", stretch_of(ticket.about))).map(|event| &event["data"]);
        let word = |key: &str| data.and_then(|data| data[key].as_str()).unwrap_or("no result").to_owned();
        let (removed, verified) =
            data.map_or((0, false), |data| (data["methods_removed"].as_u64().unwrap_or(0), data["verified"] == true));
        let number = asked["ticket"]["number"].as_str().unwrap_or_default();
        let (outcome, reason) = (word("outcome"), word("reason_code"));
        let verified = if verified { "yes" } else { "" };
        writeln!(out, "{number:<8} {:<35} {outcome:<14} {reason:<22} {removed:>7}  {verified}", ticket.about)?;
    }
    Ok(())
}

fn where_to_look(folder: &Path, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let folder = folder.display();
    writeln!(out, "\nledger   {folder}/ledger.db\nmetrics  {folder}/metrics.txt")?;
    writeln!(
        out,
        "audit    MFA_RESET_LEDGER__URL=sqlite:{folder}/ledger.db MFA_RESET_AUDIT__SIGNING_KEY_FILE={folder}/signing-key \\"
    )?;
    writeln!(
        out,
        "         cargo run --release -- audit verify      (or: audit export, audit search --ticket INC0001)"
    )?;
    Ok(())
}
