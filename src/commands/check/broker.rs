//! RabbitMQ: reach, encryption, version, what is there and as it should be, and what the user may do.

use super::policies;
use super::queues::{self, Parts};
use super::report::{Finding, Report, Status};
use crate::adapters::amqp::{Inspection, SessionError, Settings};
use crate::commands::assemble;
use crate::config::Config;

/// The versions that this program is written for.
const OLDEST: (u32, u32) = (3, 10);
const NEWEST: (u32, u32) = (4, 3);
/// The `max_message_size` that the README asks for: a request has half of that at most.
const MESSAGE: usize = 131_072;

/// Where the worker publishes, and what it consumes.
const WRITTEN: [&str; 4] = ["retry", "results", "audit", "dead-letters"];
const READ: [&str; 2] = ["requests.tickets", "requests.batch"];

/// Looks at it.
pub async fn look(config: &Config, report: &mut Report<'_>) {
    let settings = assemble::broker(config);
    let broker = match Inspection::open(&settings).await {
        Ok(broker) => broker,
        Err(error) => return report.add(away(&error)),
    };
    let (place, user) = (broker.place(), broker.user().to_owned());
    report.add(Finding::ok("broker.reach", format!("{place}, as {user}")));
    report.add(encryption(broker.is_private()));
    report.add(version(broker.product()));
    if let Err(error) = inside(&broker, config, &settings, report).await {
        // The connection broke, or the broker fell silent.
        report.add(away(&error));
    }
    broker.close().await;
}

fn away(error: &SessionError) -> Finding {
    let mend = match error {
        SessionError::Configuration(_) => {
            "put right what it says: broker.url with its user, password and virtual host, broker.ca_file, or the \
             certificate; `rabbitmqctl list_permissions -p VHOST` shows who may enter"
        }
        SessionError::Passing(_) => {
            "see that the broker runs, that broker.url names its host and port, that the way is open, and that \
             broker.ca_file holds its authority"
        }
    };
    Finding::fail("broker.reach", error.to_string(), mend)
}

fn encryption(private: bool) -> Finding {
    const CHECK: &str = "broker.encryption";
    if private {
        return Finding::ok(CHECK, "nobody on the way can listen");
    }
    let mend = "use amqps:// in broker.url: who asks, and for whom, is proved and hidden by the connection alone";
    Finding::warn(CHECK, "amqp:// off this machine: passwords and requests travel in the clear", mend)
}

fn version(product: Option<(String, String)>) -> Finding {
    const CHECK: &str = "broker.version";
    const KNOWN: &str = "see that it is RabbitMQ 3.10 to 4.3: nothing else was tried";
    let Some((name, version)) = product else {
        return Finding::warn(CHECK, "the broker does not tell its version", KNOWN);
    };
    let told = format!("{name} {version}");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = parts.next().flatten().zip(parts.next().flatten());
    match number.filter(|_| name == "RabbitMQ") {
        Some(number) if number < OLDEST => {
            let mend = "upgrade to RabbitMQ 3.10 or later: at-least-once dead-lettering and time limits of quorum queues \
                        came with it";
            Finding::fail(CHECK, told, mend)
        }
        Some(number) if number > NEWEST => {
            let mend = "look whether a newer mfa-reset knows it: this one is written for RabbitMQ 3.10 to 4.3";
            Finding::warn(CHECK, told, mend)
        }
        Some(_) => Finding::ok(CHECK, told),
        None => Finding::warn(CHECK, told, KNOWN),
    }
}

/// Everything behind the door.
async fn inside(
    broker: &Inspection,
    config: &Config,
    settings: &Settings,
    report: &mut Report<'_>,
) -> Result<(), SessionError> {
    let parts = Parts::find(broker, settings).await?;
    report.add(queues::topology(&parts, settings));
    let permissions = permissions(broker, settings).await?;
    let may_write = permissions.status == Status::Ok;
    report.add(permissions);
    if may_write && parts.exchanges.contains(&"results") {
        report.add(message_size(broker).await?);
    }
    policies::look(config, settings, &parts, report).await;
    Ok(())
}

async fn permissions(broker: &Inspection, settings: &Settings) -> Result<Finding, SessionError> {
    const CHECK: &str = "broker.permissions";
    let mut lacking = Vec::new();
    for exchange in WRITTEN {
        if !broker.may_write(exchange).await? {
            lacking.push(format!("write on {}.{exchange}", settings.prefix));
        }
    }
    for queue in READ {
        if !broker.may_read(queue).await? {
            lacking.push(format!("read on {}.{queue}", settings.prefix));
        }
    }
    if lacking.is_empty() {
        return Ok(Finding::ok(CHECK, "the user may publish and consume where the worker does"));
    }
    let (user, lacking, prefix) = (broker.user(), lacking.join(", "), settings.prefix.replace('.', "[.]"));
    let configure = if settings.declare { format!("^{prefix}[.]") } else { "^$".to_owned() };
    let mend = format!(
        "rabbitmqctl set_permissions -p '{}' {user} '{configure}' '^{prefix}[.](requests|retry|results|audit|dead-letters)$' \
         '^{prefix}[.](requests[.](tickets|batch)|dead-letters)$'; topic permissions must let it pass, too",
        broker.vhost()
    );
    Ok(Finding::fail(CHECK, format!("the user lacks {lacking}"), mend))
}

async fn message_size(broker: &Inspection) -> Result<Finding, SessionError> {
    const CHECK: &str = "broker.message_size";
    let mend = "set max_message_size = 131072 in rabbitmq.conf";
    Ok(match broker.size_limit("results", MESSAGE + 1).await? {
        Some(limit) if limit < MESSAGE as u64 => {
            let detail = format!("no message over {limit} bytes is taken: long requests and their copies do not fit");
            Finding::fail(CHECK, detail, mend)
        }
        Some(limit) => Finding::ok(CHECK, format!("no message over {limit} bytes is taken")),
        None => {
            let detail = "messages over 131072 bytes are taken, and a request has 65536 at most";
            Finding::warn(CHECK, detail, mend)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_are_known_are_well() {
        let check = |name: &str, number: &str, status| {
            let found = version(Some((name.to_owned(), number.to_owned())));
            assert_eq!(found.status, status, "{found:?}");
        };
        check("RabbitMQ", "3.10.8", Status::Ok);
        check("RabbitMQ", "4.3.5", Status::Ok);
        check("RabbitMQ", "4.1.0-rc.1", Status::Ok);
        check("RabbitMQ", "3.9.29", Status::Fail);
        check("RabbitMQ", "4.4.0", Status::Warn);
        check("RabbitMQ", "new", Status::Warn);
        check("LavinMQ", "4.0.5", Status::Warn);
        assert_eq!(version(None).status, Status::Warn);
    }
}
