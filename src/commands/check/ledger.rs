//! The ledger: that it is there or can be made, that it can be written, how old it is, and how much room it has.

use std::path::Path;

use secrecy::ExposeSecret;

use super::files::{folder, free, may_write};
use super::graph::clock;
use super::report::{Finding, Report};
use crate::adapters::ledger::{DatabaseLook, FileLook, Look, OpenError, look as look_at};
use crate::config::Config;

/// Below this a day of resets may not fit.
const LITTLE: u64 = 512 << 20;
/// Below this an hour may not.
const TOO_LITTLE: u64 = 64 << 20;

/// Looks at it.
pub async fn look(config: &Config, report: &mut Report<'_>) {
    match look_at(config.ledger_url.expose_secret()).await {
        Ok(Look::Memory) => report.add(Finding::warn(
            "ledger.reach",
            "the ledger is in memory: what was done is forgotten when the worker ends",
            "name a file in ledger.url",
        )),
        Ok(Look::File(found)) => file(&found, report),
        Ok(Look::Database(found)) => database(&found, report),
        Err(error) => report.add(unreachable(error)),
    }
}

fn unreachable(error: OpenError) -> Finding {
    let mend = match error {
        OpenError::Unreachable(_) => {
            "see that the database runs and that ledger.url names its host, database, user and password, and \
             sslrootcert where its authority is private"
        }
        OpenError::Sql(_) => {
            "see that ledger.url names a ledger of this program, and that the user may read it; bring a damaged one \
             back from a backup"
        }
        OpenError::File(..) | OpenError::Locked(_) | OpenError::Url => {
            "let the worker's user read the file and its folder: run check as that user"
        }
    };
    Finding::fail("ledger.reach", format!("{:#}", anyhow::Error::from(error)), mend)
}

fn file(found: &FileLook, report: &mut Report<'_>) {
    let place = found.path.display();
    report.add(match (found.exists, found.held) {
        (true, true) => Finding::ok("ledger.reach", format!("{place}, held by a running worker")),
        (true, false) => Finding::ok("ledger.reach", format!("{place}, held by nobody")),
        (false, _) => Finding::ok("ledger.reach", format!("{place} is not there yet; the worker makes it")),
    });
    if found.exists {
        report.add(schema(found.version, found.known));
    }
    report.add(writable(found));
    report.add(disk(folder(&found.path)));
}

/// The file, and the folder, since the log of changes and the lock lie beside it.
fn writable(found: &FileLook) -> Finding {
    const CHECK: &str = "ledger.write";
    let (file, folder) = (found.path.as_path(), folder(&found.path));
    let places: &[&Path] = if found.exists { &[file, folder] } else { &[folder] };
    for place in places {
        if let Err(error) = may_write(place) {
            return Finding::fail(
                CHECK,
                format!("{} cannot be written: {error}", place.display()),
                "make the folder, mount it for writing, and let the worker's user write the ledger and its folder: run \
                 check as that user",
            );
        }
    }
    Finding::ok(CHECK, "file and folder can be written")
}

fn disk(folder: &Path) -> Finding {
    const CHECK: &str = "ledger.disk";
    let mend = "make room on the disk of the ledger: when it is full, nobody is reset";
    match free(folder) {
        Ok(bytes) if bytes < TOO_LITTLE => Finding::fail(CHECK, room(bytes), mend),
        Ok(bytes) if bytes < LITTLE => Finding::warn(CHECK, room(bytes), mend),
        Ok(bytes) => Finding::ok(CHECK, room(bytes)),
        Err(error) => Finding::fail(
            CHECK,
            format!("the disk of {} cannot be looked at: {error}", folder.display()),
            "make the folder that ledger.url names",
        ),
    }
}

fn room(bytes: u64) -> String {
    format!("{} MiB are free", bytes >> 20)
}

fn schema(version: Option<i64>, known: i64) -> Finding {
    const CHECK: &str = "ledger.schema";
    match version {
        None => Finding::ok(CHECK, format!("no tables yet; the worker makes those of version {known}")),
        Some(version) if version < known => {
            Finding::ok(CHECK, format!("version {version}; the worker brings it to {known}"))
        }
        Some(version) if version == known => Finding::ok(CHECK, format!("version {version}")),
        Some(version) => Finding::fail(
            CHECK,
            format!("version {version} is newer than {known}, the newest that this program knows"),
            "install the program that made it, or a newer one",
        ),
    }
}

fn database(found: &DatabaseLook, report: &mut Report<'_>) {
    report.add(Finding::ok("ledger.reach", "the database answers"));
    report.add(schema(found.version, found.known));
    report.add(privileges(found));
    report.add(durable(found));
    report.add(clock("ledger.clock", "the database's clock", found.ahead));
}

fn privileges(found: &DatabaseLook) -> Finding {
    const CHECK: &str = "ledger.write";
    let makes = found.version.is_none_or(|version| version < found.known);
    if found.read_only {
        let mend = "name the primary in ledger.url, and see that default_transaction_read_only is off for the role";
        return Finding::fail(CHECK, "the database takes no writes", mend);
    }
    if !found.closed.is_empty() {
        let lacking = found.closed.join(", ");
        return Finding::fail(CHECK, format!("the role lacks {lacking}"), format!("grant the role {lacking}"));
    }
    if makes && !found.may_create {
        let mend = "grant the role CREATE on its schema until the worker has started once";
        return Finding::fail(CHECK, "tables have to be made, and the role may not", mend);
    }
    Finding::ok(CHECK, "the role may do what the worker needs")
}

fn durable(found: &DatabaseLook) -> Finding {
    const CHECK: &str = "ledger.durable";
    if !found.durable {
        let mend = "set fsync = on: the promises rest on commits that outlive a power cut";
        return Finding::fail(CHECK, "fsync is off, so a confirmed commit may be lost", mend);
    }
    if !found.utf8 {
        return Finding::fail(CHECK, "its encoding is not UTF-8", "make the database anew WITH ENCODING 'UTF8'");
    }
    Finding::ok(CHECK, "fsync is on, and the encoding is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_ledger_of_a_newer_program_fails_and_an_older_one_does_not() {
        let check = |version, status| assert_eq!(schema(version, 2).status, status, "{version:?}");
        check(None, Status::Ok);
        check(Some(1), Status::Ok);
        check(Some(2), Status::Ok);
        check(Some(3), Status::Fail);
    }
}
