//! Every query of the project, asked of a Prometheus that has seen work: each must have data. There is no list of exceptions.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::board::{Query, all, list, path, read, selectors, text};
use crate::prometheus::{Prometheus, sample};
use crate::scene::Scene;
use crate::simulator::http;

#[tokio::test]
async fn every_query_has_data_and_every_metric_a_use() {
    let mut scene = Scene::play().await;
    let (prometheus, prefix) = (&scene.prometheus, scene.stage.queues.prefix.clone());
    let (mut asked, mut lacking) = (0, Vec::new());
    for query in all().iter().flat_map(crate::board::Board::queries) {
        asked += 1;
        lacking.extend(lack(prometheus, &query, &prefix).await.map(|why| format!("{}: {why}", query.panel)));
    }
    println!("{asked} queries of panels");
    assert!(lacking.is_empty(), "{lacking:#?}");
    variables(prometheus, &prefix).await;
    alerts(prometheus).await;
    let url = format!("http://127.0.0.1:{}/metrics", scene.stage.admin_port);
    let (_, exported) = http(&url).await.expect("the metrics");
    every_metric_is_used(&exported);
    scene.stage.finish().await;
}

/// What a query lacks: series, a number, or a label that its legend names.
async fn lack(prometheus: &Prometheus, query: &Query, prefix: &str) -> Option<String> {
    let expr = filled_in(&query.expr, prefix);
    let series = prometheus.query(&expr).await;
    if series.is_empty() {
        return Some(format!("no series: {expr}"));
    }
    if !series.iter().map(sample).any(f64::is_finite) {
        return Some(format!("no number: {expr}"));
    }
    let labels = query.legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim());
    let missing = labels.filter(|label| series.iter().any(|one| text(one, &format!("/metric/{label}")).is_empty()));
    missing.map(|label| format!("no label {label}: {expr}")).next()
}

fn filled_in(expr: &str, prefix: &str) -> String {
    let chosen =
        [("$__rate_interval", "10m"), ("$__range", "1h"), ("$job", ".+"), ("$instance", ".+"), ("$prefix", prefix)];
    let expr = chosen.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value));
    assert!(!expr.contains('$'), "{expr}");
    expr
}

/// Each variable that asks Prometheus offers something to choose.
async fn variables(prometheus: &Prometheus, prefix: &str) {
    for board in all() {
        for variable in board.variables().iter().filter(|variable| variable["type"] == "query") {
            let query = filled_in(text(variable, "/query/query"), prefix);
            let inner =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
            let (selector, label) = inner.rsplit_once(", ").expect("a selector and a label");
            let values = prometheus.ask(&format!("label/{label}/values"), &[("match[]", selector)]).await;
            let expected = match text(variable, "/name") {
                "prefix" => format!("{prefix}.requests.tickets"),
                "job" => "mfa-reset".to_owned(),
                _ => values[0].as_str().expect("a value").to_owned(),
            };
            assert!(list(&values, "").contains(&Value::from(expected)), "{}: {inner}: {values}", board.file);
        }
    }
}

/// Each rule is loaded and well, each selector in it has series, and what it says leads somewhere.
async fn alerts(prometheus: &Prometheus) {
    let boards: BTreeSet<String> = all().iter().map(|board| text(&board.json, "/uid").to_owned()).collect();
    let groups = prometheus.ask("rules", &[]).await;
    let rules: Vec<&Value> = list(&groups, "/groups").iter().flat_map(|group| list(group, "/rules")).collect();
    let written = read("alerts.yaml");
    assert_eq!(rules.len(), written.matches("- alert: ").count() + written.matches("- record: ").count());
    for rule in rules {
        let (name, query) = (text(rule, "/name"), text(rule, "/query"));
        assert_eq!((text(rule, "/health"), text(rule, "/lastError")), ("ok", ""), "{name}");
        prometheus.query(query).await;
        for selector in selectors(query) {
            assert!(!prometheus.query(selector).await.is_empty(), "{name}: no series: {selector}");
        }
        if rule["type"] == "recording" {
            continue;
        }
        assert!(["page", "ticket"].contains(&text(rule, "/labels/severity")), "{name}");
        let section = format!("https://runbook.example/runbook.md#{}", name.to_lowercase());
        assert_eq!(text(rule, "/annotations/runbook_url"), section, "{name}");
        let board = text(rule, "/annotations/dashboard").strip_prefix("https://grafana.example/d/");
        assert!(board.is_some_and(|uid| boards.contains(uid)), "{name}");
        let said = [text(rule, "/annotations/summary"), text(rule, "/annotations/description")];
        assert!(said.iter().all(|words| words.len() > 20), "{name}");
        // More resets than in a usual hour; and the one dead letter waits for its five minutes.
        match name {
            "MfaResetVolumeAnomaly" => assert_eq!(rule["state"], "firing", "{name}"),
            "MfaResetDeadLetters" => assert_eq!(rule["state"], "pending", "{name}"),
            _ => {}
        }
    }
}

/// Each exported metric is on a panel, in an alert, or explained in the runbook.
fn every_metric_is_used(exported: &str) {
    let files = ["alerts.yaml", "runbook.md"].map(read).into_iter();
    let queries = all().iter().flat_map(crate::board::Board::queries).map(|query| query.expr).collect::<Vec<_>>();
    let texts: Vec<String> = files.chain(queries).collect();
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let used: BTreeSet<&str> = texts.iter().flat_map(|text| text.split(word)).collect();
    let families = exported.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|rest| rest.split(' '));
    let families: Vec<&str> = families.filter_map(|mut words| words.next()).collect();
    assert!(families.len() > 25, "{families:?}");
    let unused = |name: &&&str| !used.contains(**name) && !used.contains(format!("{name}_bucket").as_str());
    let unused: Vec<_> = families.iter().filter(unused).collect();
    assert!(unused.is_empty(), "{} and the panels use no {unused:?}", path("runbook.md").display());
}
