//! The one table of settings: name, default, what is accepted, meaning, and how the text becomes a value.

use super::value::{address, granting, ids, ledger, list, number, path, people, prefetch, profiles, root, seconds};
use super::value::{secret, switch, word};
use super::{Cloud, Config, Credential, LogFormat};
use crate::domain::guard::HARMLESS_ROLES;

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// This text.
    Text(&'static str),
    /// These items.
    List(&'static [&'static str]),
    /// What `graph.cloud` says.
    OfCloud(fn(Cloud) -> &'static str),
    /// Nothing.
    Unset,
    /// A mistake, where the command needs this part.
    Required(Part),
}

/// A part of the program that only some commands need.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// RabbitMQ.
    Broker,
    /// Microsoft Graph, by these credentials.
    Graph(&'static [Credential]),
}

impl Part {
    /// Whether a credential has to do with it.
    pub fn concerns(self, credential: Credential) -> bool {
        match self {
            Self::Broker => true,
            Self::Graph(kinds) => kinds.contains(&credential),
        }
    }
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// In quotes.
    Text,
    /// As it is.
    Bare,
    /// As an array.
    List,
    /// As `***`.
    Secret,
    /// As `***` unless it names a SQLite file, which has no password.
    Ledger,
}

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// `section.name`.
    pub name: &'static str,
    /// The default.
    pub preset: Preset,
    /// What is accepted, for the reference and for mistakes.
    pub accepts: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// How it is shown.
    pub look: Look,
    /// Whether the value may stand in a file named by `<name>_file`.
    pub from_file: bool,
    /// Puts the value in its place; `None` if it is not acceptable.
    pub set: Setter,
}

type Setter = fn(&mut Config, &str) -> Option<()>;

impl Key {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("MFA_RESET_{}", self.name.replacen('.', "__", 1).to_uppercase())
    }

    /// The value as it may be shown.
    pub fn shown(&self, text: &str) -> String {
        match self.look {
            Look::Secret => "\"***\"".into(),
            Look::Ledger if !text.starts_with("sqlite:") => "\"***\"".into(),
            Look::Bare => text.into(),
            Look::Text | Look::Ledger => format!("{text:?}"),
            Look::List => format!("{:?}", list(text).into_iter().collect::<Vec<_>>()),
        }
    }
}

const fn key(
    name: &'static str,
    preset: Preset,
    look: Look,
    accepts: &'static str,
    doc: &'static str,
    set: Setter,
) -> Key {
    Key { name, preset, accepts, doc, look, from_file: false, set }
}

const fn or_file(key: Key) -> Key {
    Key { from_file: true, ..key }
}

fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// A file, or nothing: that undoes what a weaker source says.
fn put_path(place: &mut Option<std::path::PathBuf>, text: &str) -> Option<()> {
    *place = path(text);
    Some(())
}

const SWITCH: &str = "`true` or `false`";
const FILE: &str = "a file";
const PREFETCH: &str = "1 to 1000";
const WORD: &str = "1 to 64 letters, digits, `.`, `-`, `_`";

/// The table, in the order it is shown.
#[rustfmt::skip]
pub static TABLE: [Key; 41] = [
    or_file(key("broker.url", Preset::Required(Part::Broker), Look::Secret, "an address such as `amqps://user:password@host:5671/vhost`",
        "where RabbitMQ is",
        |config, text| { address(text, &["amqp", "amqps"])?; put(&mut config.broker.url, secret(text)) })),
    key("broker.prefix", Preset::Text("mfa"), Look::Text, WORD,
        "the first word of every exchange and queue",
        |config, text| put(&mut config.broker.prefix, word(text))),
    key("broker.declare", Preset::Text("true"), Look::Bare, SWITCH,
        "whether missing exchanges and queues are declared; `false` only looks",
        |config, text| put(&mut config.broker.declare, switch(text))),
    key("broker.ca_file", Preset::Unset, Look::Text, FILE,
        "PEM certificates that vouch for the broker, where the system's do not",
        |config, text| put_path(&mut config.broker.ca_file, text)),
    key("broker.client_cert_file", Preset::Unset, Look::Text, FILE,
        "the PEM certificate shown to the broker",
        |config, text| put_path(&mut config.broker.client_cert_file, text)),
    key("broker.client_key_file", Preset::Unset, Look::Text, FILE,
        "the PEM key of that certificate",
        |config, text| put_path(&mut config.broker.client_key_file, text)),
    key("broker.prefetch_tickets", Preset::Text("32"), Look::Bare, PREFETCH,
        "how many requests of the tickets lane are worked on at once",
        |config, text| put(&mut config.broker.prefetch_tickets, prefetch(text))),
    key("broker.prefetch_batch", Preset::Text("32"), Look::Bare, PREFETCH,
        "how many requests of the batch lane are worked on at once",
        |config, text| put(&mut config.broker.prefetch_batch, prefetch(text))),
    key("broker.management_url", Preset::Unset, Look::Secret, "an address such as `https://user:password@host:15671`",
        "the management API, for `check` alone: it tells arguments, bindings and policies",
        |config, text| { address(text, &["https", "http"])?; put(&mut config.broker.management_url, Some(secret(text))) }),
    key("graph.cloud", Preset::Text("global"), Look::Text, "`global`, `us-gov`, `us-gov-dod` or `china`",
        "the national cloud of the tenant, which says where Graph is and where tokens come from",
        |config, text| put(&mut config.graph.cloud, Cloud::of(text))),
    key("graph.endpoint", Preset::OfCloud(Cloud::endpoint), Look::Text, "a root address without a path, `https://` off loopback",
        "where Graph is; tokens are asked for this address",
        |config, text| put(&mut config.graph.endpoint, root(text))),
    key("graph.authority", Preset::OfCloud(Cloud::authority), Look::Text, "a root address without a path, `https://` off loopback",
        "where tokens come from",
        |config, text| put(&mut config.graph.authority, root(text))),
    key("graph.credential", Preset::Text("secret"), Look::Text, "`secret`, `certificate`, `federated` or `managed-identity`",
        "how the application proves who it is",
        |config, text| put(&mut config.graph.credential, Credential::of(text))),
    key("graph.tenant_id", Preset::Required(Part::Graph(Credential::REGISTERED)), Look::Text, "the directory's id or a domain of it",
        "the tenant",
        |config, text| put(&mut config.graph.tenant_id, word(text))),
    key("graph.client_id", Preset::Required(Part::Graph(Credential::REGISTERED)), Look::Text, "the id of an app registration, or of a managed identity",
        "the application that the worker acts as; without it a managed identity is the system-assigned one",
        |config, text| put(&mut config.graph.client_id, word(text))),
    or_file(key("graph.client_secret", Preset::Required(Part::Graph(&[Credential::Secret])), Look::Secret, "the value of a client secret",
        "the application's secret",
        |config, text| put(&mut config.graph.client_secret, secret(text)))),
    key("graph.certificate_file", Preset::Required(Part::Graph(&[Credential::Certificate])), Look::Text, FILE,
        "the application's certificate and its RSA key, PKCS#8 or PKCS#1, in one PEM file; read for every token",
        |config, text| put(&mut config.graph.certificate_file, path(text))),
    key("graph.federated_token_file", Preset::Required(Part::Graph(&[Credential::Federated])), Look::Text, "a file; `AZURE_FEDERATED_TOKEN_FILE` names it if nothing else does",
        "the token of an issuer that the application trusts; read for every token",
        |config, text| put(&mut config.graph.federated_token_file, path(text))),
    key("graph.requests_per_second", Preset::Text("50"), Look::Bare, "1 to 1000",
        "the most requests a second; an item of a batch counts as one",
        |config, text| put(&mut config.graph.requests_per_second, number(text, 1..=1000))),
    key("graph.beta", Preset::Text("true"), Look::Bare, SWITCH,
        "whether the beta API may be called: hardware OATH, QR codes, the default method and per-user MFA are only there",
        |config, text| put(&mut config.graph.beta, switch(text))),
    key("graph.timeout", Preset::Text("30s"), Look::Text, "`1s` to `5m`",
        "how long one call may take",
        |config, text| put(&mut config.graph.timeout, seconds(text, 1..=300))),
    key("graph.allow_http", Preset::Text("false"), Look::Bare, SWITCH,
        "whether `http://` is accepted off loopback: tokens then travel in the clear",
        |config, text| put(&mut config.graph.allow_http, switch(text))),
    or_file(key("ledger.url", Preset::Text("sqlite:mfa-reset.db"), Look::Ledger, "`sqlite:FILE`, or `postgres://user:password@host/database`; off loopback with `?sslmode=verify-full`, and with `&sslrootcert=FILE` for a private authority",
        "where jobs, plans, outcomes and audit records are kept; several workers share a PostgreSQL database",
        |config, text| put(&mut config.ledger_url, ledger(text)))),
    key("policy.producers", Preset::List(&[]), Look::List, "broker users",
        "who may ask; the broker checks who published a request",
        |config, text| put(&mut config.policy.producers, Some(Some(list(text))))),
    key("policy.allow_any_producer", Preset::Text("false"), Look::Bare, SWITCH,
        "whether every broker user may ask; the worker refuses to start with neither this nor `policy.producers`",
        |config, text| put(&mut config.allow_any_producer, switch(text))),
    key("policy.protected_users", Preset::List(&[]), Look::List, "object ids, user principal names or mail addresses",
        "people who are never reset",
        |config, text| put(&mut config.policy.protected_users, people(text))),
    key("policy.protected_groups", Preset::List(&[]), Look::List, "object ids of groups",
        "groups whose members, direct or not, are never reset",
        |config, text| put(&mut config.policy.protected_groups, ids(text))),
    key("policy.harmless_roles", Preset::List(&HARMLESS_ROLES), Look::List, "template ids of directory roles",
        "roles that do not protect their holders; every other role does",
        |config, text| put(&mut config.policy.harmless_roles, ids(text))),
    key("policy.cool_down", Preset::Text("1h"), Look::Text, "`0` (off) to `30d`",
        "how long after a reset another one of the same person is denied",
        |config, text| put(&mut config.policy.cool_down, seconds(text, 0..=30 * 86_400))),
    key("policy.max_resets_per_hour", Preset::Text("600"), Look::Bare, "1 to 1000000",
        "how many resets may start in an hour; requests beyond it wait",
        |config, text| put(&mut config.policy.max_resets_per_hour, number(text, 1..=1_000_000))),
    key("policy.enabled_steps", Preset::List(&[]), Look::List, "some of `set_phones`, `set_email`, `set_per_user_mfa`",
        "steps that give access, which are denied unless named here",
        |config, text| put(&mut config.policy.enabled_steps, granting(text))),
    key("policy.profiles", Preset::Unset, Look::Text, "a table of names, none of them a built-in profile's, each with a list of steps as in a request but `set_phones` and `set_email`; in the environment as JSON",
        "profiles of your own",
        |config, text| put(&mut config.profiles, profiles(text))),
    key("audit.signing_key_file", Preset::Text("mfa-reset-audit.key"), Look::Text, FILE,
        "the key that signs audit checkpoints; made at first start, readable by its owner only",
        |config, text| put(&mut config.signing_key_file, path(text))),
    key("audit.checkpoint_interval", Preset::Text("60s"), Look::Text, "`1s` to `30m`",
        "how often a signed checkpoint is published, idle or not",
        |config, text| put(&mut config.checkpoint_interval, seconds(text, 1..=1800))),
    key("retry.max_attempts", Preset::Text("8"), Look::Bare, "1 to 100",
        "how many attempts may meet a fault; waiting costs none",
        |config, text| put(&mut config.retry.max_attempts, number(text, 1..=100))),
    key("retry.deadline", Preset::Text("24h"), Look::Text, "`1m` to `30d`",
        "how long a job may take from first seen",
        |config, text| put(&mut config.retry.deadline, seconds(text, 60..=30 * 86_400))),
    key("admin.listen", Preset::Text("127.0.0.1:9464"), Look::Text, "an address and a port such as `0.0.0.0:9464`",
        "where health and metrics are served",
        |config, text| put(&mut config.admin_listen, text.parse().ok())),
    key("log.format", Preset::Unset, Look::Text, "`text` or `json`",
        "how log lines look; text on a terminal, else JSON, if unset",
        |config, text| put(&mut config.log_format, match text { "text" => Some(Some(LogFormat::Text)), "json" => Some(Some(LogFormat::Json)), _ => None })),
    key("log.filter", Preset::Text("info"), Look::Text, "a level, or directives such as `info,mfa_reset=debug`",
        "what is logged",
        |config, text| { tracing_subscriber::EnvFilter::try_new(text).ok()?; put(&mut config.log_filter, (!text.is_empty()).then(|| text.to_owned())) }),
    key("log.otlp_endpoint", Preset::Unset, Look::Text, "a root address without a path, such as `http://collector:4318`; in a build with the feature `otlp` only",
        "the collector that traces are sent to, by OTLP over HTTP",
        |config, text| put(&mut config.otlp_endpoint, Some(Some(root(text)?)))),
    key("shutdown.grace_period", Preset::Text("30s"), Look::Text, "`1s` to `1h`, not below `graph.timeout`",
        "how long the worker may take to stop",
        |config, text| put(&mut config.grace_period, seconds(text, 1..=3600))),
];
