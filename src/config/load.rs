//! From sources to a [`Config`], or to every mistake in them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::keys::{Key, Part, Preset, TABLE};
use super::{Broker, Config, Credential, Graph, InForce, Needs, Platform, ServiceManager, Sources, check};
use crate::domain::profile::Profiles;
use crate::domain::retry::Limits;
use crate::domain::rules::Policy;

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, or the source where it concerns no key.
    pub key: String,
    /// What is wrong and what is accepted; never a value.
    pub reason: String,
}

impl Mistake {
    pub(super) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// Everything wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl std::fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "bad configuration")?;
        self.0.iter().try_for_each(|mistake| write!(formatter, "\n  {}: {}", mistake.key, mistake.reason))
    }
}

impl Config {
    /// Reads every source, and tells every mistake.
    pub fn load(sources: &Sources, needs: Needs) -> Result<Self, Mistakes> {
        let (given, mut mistakes) = sources.gather(needs);
        let mut config = Self::blank();
        for key in &TABLE {
            let found = given.get(key.name);
            let (text, origin) = match (found, key.preset) {
                (Some(value), _) => (value.text.clone(), value.origin.clone()),
                (None, Preset::Text(text)) => (text.to_owned(), "default".to_owned()),
                (None, Preset::List(items)) => (items.join(","), "default".to_owned()),
                (None, Preset::OfCloud(text)) => (text(config.graph.cloud).to_owned(), "graph.cloud".to_owned()),
                (None, Preset::Required(part)) if needs.part(part) && !about_any(&mistakes, key.name) => {
                    mistakes.extend(missing(key, part, &config, &mistakes));
                    continue;
                }
                (None, Preset::Unset | Preset::Required(_)) => continue,
            };
            match (key.set)(&mut config, text.trim()) {
                Some(()) => config.in_force.push(InForce { key, shown: key.shown(text.trim()), origin }),
                None => mistakes.push(Mistake::new(key.name, format!("{} is expected ({origin})", key.accepts))),
            }
        }
        if needs.graph && config.graph.credential == Credential::ManagedIdentity {
            match Platform::of(&sources.environment, config.graph.allow_http) {
                Ok(platform) => config.graph.platform = Some(platform),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        for mistake in check::all(&config, needs) {
            if !about_any(&mistakes, &mistake.key) {
                mistakes.push(mistake);
            }
        }
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        config.service_manager = ServiceManager::of(&sources.environment, std::process::id());
        if !needs.broker || config.allow_any_producer {
            config.policy.producers = None;
        }
        Ok(config)
    }

    fn blank() -> Self {
        Self {
            broker: Broker::default(),
            graph: Graph::default(),
            ledger_url: SecretString::default(),
            policy: Policy {
                producers: None,
                protected_users: BTreeSet::new(),
                protected_groups: BTreeSet::new(),
                harmless_roles: BTreeSet::new(),
                cool_down: Duration::ZERO,
                max_resets_per_hour: 0,
                enabled_steps: BTreeSet::new(),
            },
            profiles: Profiles::default(),
            signing_key_file: PathBuf::new(),
            checkpoint_interval: Duration::ZERO,
            retry: Limits { max_attempts: 0, deadline: Duration::ZERO },
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            log_format: None,
            log_filter: String::new(),
            otlp_endpoint: None,
            grace_period: Duration::ZERO,
            service_manager: None,
            allow_any_producer: false,
            in_force: Vec::new(),
        }
    }
}

/// A setting that is required and not there. Which credential needs it is unknown while that is mistaken itself.
fn missing(key: &Key, part: Part, config: &Config, mistakes: &[Mistake]) -> Option<Mistake> {
    let credential = config.graph.credential;
    match part {
        Part::Broker => Some(Mistake::new(key.name, format!("required: {}", key.accepts))),
        Part::Graph(_) if !part.concerns(credential) || about_any(mistakes, "graph.credential") => None,
        Part::Graph(_) => {
            let reason = format!("required for graph.credential = {}: {}", credential.name(), key.accepts);
            Some(Mistake::new(key.name, reason))
        }
    }
}

fn about_any(mistakes: &[Mistake], name: &str) -> bool {
    mistakes.iter().any(|mistake| mistake.key == name)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::task::Task;

    const SECRET: &str = "hunter2-canary";
    const ENOUGH: [(&str, &str); 5] = [
        ("MFA_RESET_BROKER__URL", "amqp://worker:hunter2-canary@127.0.0.1/"),
        ("MFA_RESET_GRAPH__TENANT_ID", "contoso.test"),
        ("MFA_RESET_GRAPH__CLIENT_ID", "app"),
        ("MFA_RESET_GRAPH__CLIENT_SECRET", SECRET),
        ("MFA_RESET_POLICY__PRODUCERS", "snow, console"),
    ];

    fn sources(environment: &[(&str, &str)], flags: &[&str]) -> Sources {
        Sources {
            file: None,
            environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    fn enough(flags: &[&str]) -> Sources {
        sources(&ENOUGH, flags)
    }

    fn mistakes(sources: &Sources, needs: Needs) -> Vec<String> {
        let found = Config::load(sources, needs).map(|_| Vec::new()).unwrap_or_else(|mistakes| mistakes.0);
        found.into_iter().map(|mistake| mistake.key).collect()
    }

    fn check_mistake(flags: &[&str], key: &str) {
        assert_eq!(mistakes(&enough(flags), Needs::WORKER), [key], "{flags:?}");
    }

    #[test]
    fn what_is_not_set_has_the_documented_default() {
        let config = Config::load(&enough(&[]), Needs::WORKER).unwrap();
        assert_eq!((config.broker.prefix.as_str(), config.broker.declare), ("mfa", true));
        assert_eq!((config.broker.prefetch_tickets, config.broker.prefetch_batch), (32, 32));
        assert_eq!(config.graph.endpoint, "https://graph.microsoft.com");
        assert_eq!(config.graph.authority, "https://login.microsoftonline.com");
        assert_eq!((config.graph.requests_per_second, config.graph.timeout), (50, Duration::from_secs(30)));
        assert_eq!(config.ledger_url.expose_secret(), "sqlite:mfa-reset.db");
        assert_eq!(config.policy.producers, Some(["console".to_owned(), "snow".to_owned()].into()));
        assert_eq!(config.policy.cool_down, Duration::from_secs(3600));
        assert_eq!((config.policy.harmless_roles.len(), config.policy.max_resets_per_hour), (5, 600));
        assert_eq!(config.retry, Limits { max_attempts: 8, deadline: Duration::from_secs(86_400) });
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9464");
        assert_eq!((config.log_format, config.log_filter.as_str()), (None, "info"));
        assert_eq!(config.grace_period, Duration::from_secs(30));
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[broker]\nprefix = \"file\"\nprefetch_batch = 5\n[policy]\nprotected_users = [\"A@b\"]")
            .unwrap();
        let environment = [("MFA_RESET_BROKER__PREFIX", "env"), ("HOME", "/root")];
        let load = |environment: &[_], flags: &[_]| {
            let sources = Sources { file: Some(file.path().into()), ..sources(environment, flags) };
            Config::load(&sources, Needs::LEDGER).unwrap()
        };
        let config = load(&[], &[]);
        assert_eq!((config.broker.prefix.as_str(), config.broker.prefetch_batch), ("file", 5));
        assert!(config.policy.protected_users.contains("a@b"));
        assert_eq!(load(&environment, &[]).broker.prefix, "env");
        assert_eq!(load(&environment, &["broker.prefix=flag"]).broker.prefix, "flag");
    }

    #[test]
    fn secrets_come_from_files_too_and_lose_their_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let named = format!("graph.client_secret_file={}", file.path().display());
        let config = Config::load(&enough(&[&named]), Needs::WORKER).unwrap();
        assert_eq!(config.graph.client_secret.expose_secret(), SECRET);
        check_mistake(&[&named, "graph.client_secret=x"], "graph.client_secret");
        check_mistake(&["graph.client_secret_file=/no/such/file"], "graph.client_secret");
        check_mistake(&["broker.prefix_file=/etc/hostname"], "broker.prefix_file");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let wrong = sources(
            &[("MFA_RESET_BROKER__URI", "x"), ("MFA_RESET_LOG__FORMAT", "xml"), ("MFA_RESET_BROKER__URL", "x")],
            &["retry.deadline=1y", "nonsense", "no.key=1", "graph.timeout"],
        );
        let expected = [
            "MFA_RESET_BROKER__URI",
            "--set",
            "no.key",
            "graph.timeout",
            "broker.url",
            "graph.tenant_id",
            "graph.client_id",
            "graph.client_secret",
            "retry.deadline",
            "log.format",
            "policy.producers",
        ];
        assert_eq!(mistakes(&wrong, Needs::WORKER), expected);
    }

    #[test]
    fn no_mistake_and_no_display_quotes_a_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("[graph]\nclient_secret = \"{SECRET}\nx = 1")).unwrap();
        let url = format!("broker.url=http://u:{SECRET}@h");
        let wrong =
            Sources { file: Some(file.path().into()), ..enough(&[&url, "graph.endpoint=https://u:hunter2-canary@h"]) };
        let told = Config::load(&wrong, Needs::WORKER).unwrap_err();
        assert_eq!(told.0.len(), 3);
        assert!(!told.to_string().contains(SECRET) && !format!("{told:?}").contains(SECRET), "{told}");
        let config = Config::load(&enough(&[]), Needs::WORKER).unwrap();
        assert!(!format!("{config:?}").contains(SECRET));
        assert!(!config.show().contains(SECRET));
        assert!(config.show().contains("client_secret = \"***\"  # MFA_RESET_GRAPH__CLIENT_SECRET\n"));
    }

    #[test]
    fn what_a_command_does_not_need_is_not_required_and_still_checked() {
        assert_eq!(mistakes(&sources(&[], &[]), Needs::LEDGER), [""; 0]);
        assert_eq!(mistakes(&sources(&[], &[]), Needs::SUBMIT), ["broker.url"]);
        assert_eq!(
            mistakes(&sources(&[], &[]), Needs::RUN),
            ["graph.tenant_id", "graph.client_id", "graph.client_secret"]
        );
        assert_eq!(mistakes(&sources(&[], &["broker.url=x"]), Needs::LEDGER), ["broker.url"]);
        assert_eq!(Config::load(&enough(&[]), Needs::RUN).unwrap().policy.producers, None);
    }

    #[test]
    fn profiles_are_a_table_in_the_file_and_json_elsewhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let evict = r#"evict = [{ revoke_sessions = {} }, { remove_methods = { types = ["fido2"] } }]"#;
        std::fs::write(&file, format!("[policy.profiles]\n{evict}")).unwrap();
        let in_file = Sources { file: Some(file.path().into()), ..enough(&[]) };
        let flag = r#"policy.profiles={"evict":[{"revoke_sessions":{}},{"remove_methods":{"types":["fido2"]}}]}"#;
        for sources in [in_file, enough(&[flag])] {
            let config = Config::load(&sources, Needs::WORKER).unwrap();
            let names: Vec<_> = config.profiles.tasks("evict").unwrap().iter().map(Task::name).collect();
            assert_eq!(names, ["revoke_sessions", "remove_methods"]);
            assert!(config.profiles.tasks("all").is_some());
        }
        check_mistake(&[r#"policy.profiles={"all":[{"list_methods":{}}]}"#], "policy.profiles");
        check_mistake(&[r#"policy.profiles={"mine":[]}"#], "policy.profiles");
        check_mistake(&[r#"policy.profiles={"mine":[{"set_email":{"address":"a@b"}}]}"#], "policy.profiles");
        check_mistake(&[r#"policy.profiles={"mine":[{"reboot":{}}]}"#], "policy.profiles");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        check_mistake(&["policy.producers="], "policy.producers");
        check_mistake(&["policy.allow_any_producer=true"], "policy.producers");
        check_mistake(&["graph.endpoint=http://10.0.0.1"], "graph.endpoint");
        check_mistake(&["graph.endpoint=https://graph.microsoft.com/v1.0"], "graph.endpoint");
        check_mistake(&["graph.authority=http://login.example"], "graph.authority");
        check_mistake(&["broker.client_key_file=k.pem"], "broker.client_cert_file");
        check_mistake(&["shutdown.grace_period=29s"], "shutdown.grace_period");
        check_mistake(&["ledger.url=postgres://db/mfa"], "ledger.url");
        check_mistake(&["graph.credential=password"], "graph.credential");
        check_mistake(&["graph.cloud=moon"], "graph.cloud");
        check_mistake(&["policy.enabled_steps=issue_pass"], "policy.enabled_steps");
        let open = ["policy.producers=", "policy.allow_any_producer=true", "graph.endpoint=http://127.0.0.1:8088"];
        assert_eq!(Config::load(&enough(&open), Needs::WORKER).unwrap().policy.producers, None);
        let clear = ["graph.endpoint=http://10.0.0.1", "graph.allow_http=true"];
        assert_eq!(mistakes(&enough(&clear), Needs::WORKER), [""; 0]);
    }

    #[test]
    fn a_build_that_sends_no_traces_says_so() {
        let told = Config::load(&enough(&["log.otlp_endpoint=http://127.0.0.1:4318"]), Needs::WORKER);
        if cfg!(feature = "otlp") {
            assert_eq!(told.unwrap().otlp_endpoint.as_deref(), Some("http://127.0.0.1:4318"));
        } else {
            assert!(told.unwrap_err().to_string().contains("--features otlp"));
        }
        check_mistake(&["log.otlp_endpoint=http://127.0.0.1:4318/v1/traces"], "log.otlp_endpoint");
    }

    #[test]
    fn a_cloud_says_where_everything_is_unless_it_is_said() {
        for (cloud, endpoint, authority) in [
            ("global", "https://graph.microsoft.com", "https://login.microsoftonline.com"),
            ("us-gov", "https://graph.microsoft.us", "https://login.microsoftonline.us"),
            ("us-gov-dod", "https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
            ("china", "https://microsoftgraph.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
        ] {
            let named = format!("graph.cloud={cloud}");
            let graph = Config::load(&enough(&[&named]), Needs::WORKER).unwrap().graph;
            assert_eq!((graph.endpoint.as_str(), graph.authority.as_str()), (endpoint, authority));
            let own = "graph.endpoint=http://127.0.0.1:8088";
            let graph = Config::load(&enough(&[own, &named]), Needs::WORKER).unwrap().graph;
            assert_eq!((graph.endpoint.as_str(), graph.authority.as_str()), ("http://127.0.0.1:8088", authority));
        }
        let shown = Config::load(&enough(&["graph.cloud=china"]), Needs::WORKER).unwrap().show();
        assert!(shown.contains("authority = \"https://login.chinacloudapi.cn\"  # graph.cloud\n"), "{shown}");
    }

    #[test]
    fn each_credential_requires_its_own_settings() {
        let check = |credential: &str, expected: &[&str]| {
            let found = mistakes(&sources(&[], &[&format!("graph.credential={credential}")]), Needs::RUN);
            assert_eq!(found, expected, "{credential}");
        };
        check("secret", &["graph.tenant_id", "graph.client_id", "graph.client_secret"]);
        check("certificate", &["graph.tenant_id", "graph.client_id", "graph.certificate_file"]);
        check("federated", &["graph.tenant_id", "graph.client_id", "graph.federated_token_file"]);
        check("managed-identity", &[]);
        check("password", &["graph.credential"]);
        let told = Config::load(&sources(&[], &["graph.credential=certificate"]), Needs::RUN).unwrap_err();
        assert!(
            told.to_string().contains("graph.certificate_file: required for graph.credential = certificate: a file")
        );
        assert_eq!(mistakes(&sources(&[], &["graph.credential=certificate"]), Needs::LEDGER), [""; 0]);
    }

    #[test]
    fn a_pod_is_told_where_its_token_is() {
        let environment = [("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"), ("AZURE_CLIENT_ID", "not read")];
        let federated = ["graph.credential=federated", "graph.tenant_id=t", "graph.client_id=c"];
        let load = |flags: &[&str]| {
            let flags = [&federated[..], flags].concat();
            Config::load(&sources(&environment, &flags), Needs::RUN).unwrap().graph.federated_token_file
        };
        assert_eq!(load(&[]), PathBuf::from("/var/run/token"));
        assert_eq!(load(&["graph.federated_token_file=/own"]), PathBuf::from("/own"));
        let empty = sources(&[("AZURE_FEDERATED_TOKEN_FILE", "")], &federated);
        assert_eq!(mistakes(&empty, Needs::RUN), ["graph.federated_token_file"]);
    }

    #[test]
    fn a_platform_is_looked_for_only_by_a_managed_identity() {
        let lost = [("IDENTITY_ENDPOINT", "http://192.0.2.1/token"), ("IDENTITY_HEADER", SECRET)];
        assert!(
            Config::load(&sources(&[&ENOUGH[..], &lost].concat(), &[]), Needs::WORKER)
                .unwrap()
                .graph
                .platform
                .is_none()
        );
        let managed = ["graph.credential=managed-identity"];
        assert_eq!(mistakes(&sources(&lost, &managed), Needs::RUN), ["IDENTITY_ENDPOINT"]);
        let config = Config::load(&sources(&lost, &[managed[0], "graph.allow_http=true"]), Needs::RUN).unwrap();
        assert!(config.graph.platform.is_some() && !format!("{config:?}").contains(SECRET));
    }
}
