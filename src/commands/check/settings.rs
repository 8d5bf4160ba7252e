//! The settings themselves, which were read by now, and the key that signs checkpoints.

use secrecy::ExposeSecret;

use super::files::{folder, may_write};
use super::report::{Finding, Report};
use crate::adapters::ledger::{KeyError, SigningKey};
use crate::config::Config;

/// Looks at them.
pub fn look(config: &Config, report: &mut Report<'_>) {
    report.add(Finding::ok("config", "every setting is well formed, and they go together"));
    report.add(producers(config));
    report.add(protected(config));
    report.add(signing_key(config));
}

fn producers(config: &Config) -> Finding {
    match &config.policy.producers {
        Some(producers) => {
            Finding::ok("policy.producers", format!("{} may ask", count(producers.len(), "broker user")))
        }
        None => Finding::warn(
            "policy.producers",
            "every broker user that may publish may ask for a reset",
            "list those that may ask in policy.producers, and set policy.allow_any_producer = false",
        ),
    }
}

fn protected(config: &Config) -> Finding {
    let (users, groups) = (config.policy.protected_users.len(), config.policy.protected_groups.len());
    if users + groups > 0 {
        let detail = format!("{} and {} are never reset", count(users, "user"), count(groups, "group"));
        return Finding::ok("policy.protected", detail);
    }
    Finding::warn(
        "policy.protected",
        "nobody is protected by name: only roles protect",
        "name your break-glass accounts in policy.protected_users, and groups of people with eligible memberships in \
         policy.protected_groups",
    )
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn signing_key(config: &Config) -> Finding {
    const CHECK: &str = "audit.signing_key";
    let path = &config.signing_key_file;
    let shared = !config.ledger_url.expose_secret().starts_with("sqlite:");
    match SigningKey::load(path) {
        Ok(Some(key)) => Finding::ok(CHECK, format!("Ed25519 key {}", key.public().id())),
        Ok(None) => match may_write(folder(path)) {
            Ok(()) if shared => Finding::warn(
                CHECK,
                "there is none yet; each worker would make one of its own at its first start",
                "give all workers the same audit.signing_key_file, or verify with the public key of each",
            ),
            Ok(()) => Finding::ok(CHECK, "there is none yet; the worker makes it at its first start"),
            Err(error) => Finding::fail(
                CHECK,
                format!("there is none, and its folder {} cannot be written: {error}", folder(path).display()),
                "make the folder and let the worker's user write in it, or put the key there: audit.signing_key_file",
            ),
        },
        Err(error @ KeyError::Open(_)) => {
            Finding::fail(CHECK, error.to_string(), format!("chmod 600 {}", path.display()))
        }
        Err(error @ KeyError::Damaged(_)) => Finding::fail(
            CHECK,
            error.to_string(),
            "bring the key back from where it is kept, or move the file away: the worker makes a new one, whose public \
             half verifies from then on",
        ),
        Err(error @ (KeyError::File { .. } | KeyError::Random)) => Finding::fail(
            CHECK,
            format!("{:#}", anyhow::Error::from(error)),
            "let the worker's user read the file: run check as that user",
        ),
    }
}
