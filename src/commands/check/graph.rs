//! Microsoft Graph: reach, clock, token, permissions, and the very reading calls that the worker makes.

use std::sync::Arc;

use jiff::SignedDuration;

use super::permissions;
use super::report::{Finding, Report};
use crate::adapters::graph::{Graph, SetUpError, Trail};
use crate::commands::assemble;
use crate::config::Config;
use crate::domain::guard::{Facts, Lookup, Membership};
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;

/// From here on times in audit records and tickets are visibly off.
const ODD: SignedDuration = SignedDuration::from_secs(30);
/// From here on assertions are refused, and waits that Graph asks for are misread.
const WRONG: SignedDuration = SignedDuration::from_mins(5);

/// What to do about a refusal of the identity service, by its code.
const MENDS: [(&str, &str); 9] = [
    ("AADSTS7000215", "put the value of a client secret, not its id, into graph.client_secret"),
    ("AADSTS7000222", "make a new client secret in Entra, and put its value into graph.client_secret"),
    ("AADSTS700016", "take graph.client_id and graph.tenant_id from the overview of the app registration"),
    (
        "AADSTS90002",
        "take graph.tenant_id from the overview of the app registration, and name its cloud in graph.cloud",
    ),
    ("AADSTS7000112", "enable the application in Entra: Enterprise applications, Properties"),
    ("AADSTS700027", "upload the certificate of graph.certificate_file to the app registration"),
    ("AADSTS700024", "set this machine's clock right, for example with chrony"),
    ("AADSTS53003", "except the application from the Conditional Access policy for workload identities"),
    ("AADSTS530032", "except the application from the Conditional Access policy for workload identities"),
];

/// Looks at it.
pub async fn look(config: &Config, report: &mut Report<'_>) -> anyhow::Result<()> {
    // No digest leaves this command, so any key will do.
    let settings = assemble::graph_settings(config, [0; 32], Arc::new(|_| {}))?;
    let graph = match Graph::new(settings) {
        Ok(graph) => graph,
        Err(error) => {
            report.add(set_up(error));
            return Ok(());
        }
    };
    let reached = reach(config, &graph, report).await;
    if let Err(fault) = graph.sign_in().await {
        report.add(no_token(config, &fault, graph.token_trouble()));
        return Ok(());
    }
    report.add(Finding::ok("graph.token", "the identity service grants a token"));
    match graph.granted().await {
        Ok(Some(granted)) => {
            for finding in permissions::judge(&granted, &config.policy.enabled_steps) {
                report.add(finding);
            }
        }
        Ok(None) | Err(_) => report.add(Finding::warn(
            "graph.permissions",
            "the token cannot be read, which Microsoft allows itself: the permissions were not looked at",
            "compare the permissions of the application in Entra with the README",
        )),
    }
    if reached {
        read(&graph, report).await;
    }
    Ok(())
}

fn set_up(error: SetUpError) -> Finding {
    let mend =
        "install the authorities' certificates (the package ca-certificates), and look at the settings of [graph]";
    Finding::fail("graph.reach", format!("{:#}", anyhow::Error::from(error)), mend)
}

async fn reach(config: &Config, graph: &Graph, report: &mut Report<'_>) -> bool {
    let endpoint = &config.graph.endpoint;
    match graph.clock_ahead().await {
        Ok(ahead) => {
            report.add(Finding::ok("graph.reach", format!("{endpoint} answers")));
            report.add(match ahead {
                Some(ahead) => clock("graph.clock", "Graph's clock", ahead),
                None => Finding::warn(
                    "graph.clock",
                    "Graph does not tell the time",
                    "look whether a proxy cuts the header Date, and at this machine's clock",
                ),
            });
            true
        }
        Err(status) => {
            let mend = format!("open the way to {endpoint}, by HTTPS_PROXY if it leads through a proxy");
            report.add(Finding::fail("graph.reach", format!("{endpoint} does not answer: {status}"), mend));
            false
        }
    }
}

/// What it means that a clock is ahead of this machine's, or behind.
pub fn clock(check: &'static str, whose: &str, ahead: SignedDuration) -> Finding {
    let off = ahead.abs();
    let seconds = off.as_secs();
    let detail = match (seconds, ahead.is_positive()) {
        (0, _) => return Finding::ok(check, format!("{whose} and this machine's agree")),
        (_, true) => format!("{whose} is {seconds} s ahead of this machine's"),
        (_, false) => format!("{whose} is {seconds} s behind this machine's"),
    };
    let mend = "set this machine's clock right, for example with chrony; credentials, leases and times depend on it";
    match off {
        off if off >= WRONG => Finding::fail(check, detail, mend),
        off if off >= ODD => Finding::warn(check, detail, mend),
        _ => Finding::ok(check, detail),
    }
}

fn no_token(config: &Config, fault: &Fault, trouble: Option<String>) -> Finding {
    let detail = trouble.unwrap_or_else(|| fault.to_string());
    let known = MENDS.iter().find(|(code, _)| detail.contains(&format!("({code})")));
    let mend = match (known, fault) {
        (Some((_, mend)), _) => (*mend).to_owned(),
        (None, Fault::Unavailable { reason: Reason::TokenRefused }) => {
            "look at graph.tenant_id, graph.client_id and the credential; https://login.microsoftonline.com/error explains \
             a code"
                .to_owned()
        }
        (None, _) => format!("open the way to {}, or try again when it is better", config.graph.authority),
    };
    Finding::fail("graph.token", detail, mend)
}

/// Reads users until one can be surveyed as the worker does before a reset: some may be out of everybody's reach.
async fn read(graph: &Graph, report: &mut Report<'_>) {
    let users = match graph.some_users().await {
        Ok(users) => users,
        Err(fault) => {
            let mend = "grant User.Read.All; look at the permissions above, and at Microsoft's service health";
            return report.add(Finding::fail("graph.user", format!("no user can be read: {fault}"), mend));
        }
    };
    if users.is_empty() {
        let mend = "look whether graph.tenant_id is the right tenant";
        return report.add(Finding::warn("graph.user", "the tenant shows no user", mend));
    }
    report.add(Finding::ok("graph.user", "a user can be read"));
    let mut last = None;
    for user in &users {
        match graph.survey(Lane::Batch, user, &Trail::default()).await {
            Ok(facts) => {
                report.add(methods(&facts));
                return report.add(guard(&facts));
            }
            Err(fault) => last = Some((user, fault)),
        }
    }
    let Some((user, fault)) = last else { return };
    report.add(Finding::fail(
        "graph.methods",
        format!("the sign-in methods of {} users cannot be read, the last one {user}: {fault}", users.len()),
        "grant UserAuthenticationMethod.ReadWrite.All; look at the permissions above, whether these users are in a \
         restricted administrative unit, and at Microsoft's service health",
    ));
}

fn methods(facts: &Facts) -> Finding {
    const CHECK: &str = "graph.methods";
    let unread: Vec<&str> = facts.unread.iter().map(|(kind, _)| kind.name()).collect();
    if unread.is_empty() {
        return Finding::ok(CHECK, "the user's sign-in methods can be read");
    }
    Finding::warn(
        CHECK,
        format!("these types cannot be read in this cloud or with these permissions: {}", unread.join(", ")),
        "grant UserAuthenticationMethod.ReadWrite.All, or leave it: results name these types",
    )
}

fn guard(facts: &Facts) -> Finding {
    const CHECK: &str = "graph.guard";
    let failed = [
        (matches!(facts.memberships, Lookup::Failed), "the user's roles and groups (GroupMember.Read.All)"),
        (matches!(facts.role_assignable_groups, Lookup::Failed), "groups that may carry roles (GroupMember.Read.All)"),
        (matches!(facts.assignments, Lookup::Failed), "roles held (RoleManagement.Read.Directory)"),
        (matches!(facts.eligibilities, Lookup::Failed), "roles to be had (RoleManagement.Read.Directory)"),
    ];
    let failed: Vec<&str> = failed.iter().filter(|(failed, _)| *failed).map(|(_, what)| *what).collect();
    if !failed.is_empty() {
        let detail = format!("the guard cannot read {}: it would deny every reset", failed.join(", "));
        return Finding::fail(CHECK, detail, "grant the permissions named in brackets, with admin consent");
    }
    let Lookup::Complete(memberships) = &facts.memberships else {
        return Finding::ok(CHECK, "the guard can read what it needs");
    };
    let nameless = |member: &&Membership| match member {
        Membership::Unreadable | Membership::Role(None) | Membership::Group { readable: false, .. } => true,
        Membership::Role(Some(_)) | Membership::Group { .. } | Membership::AdministrativeUnit => false,
    };
    match memberships.iter().filter(nameless).count() {
        0 => Finding::ok(CHECK, "the guard can read what it needs"),
        hidden => Finding::warn(
            CHECK,
            format!("{hidden} of the user's memberships came without a name: such users are denied"),
            "grant GroupMember.Read.All and RoleManagement.Read.Directory; hidden memberships stay hidden",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_clock_may_be_off_a_little() {
        for (seconds, status) in
            [(0, Status::Ok), (29, Status::Ok), (-30, Status::Warn), (299, Status::Warn), (-300, Status::Fail)]
        {
            let found = clock("graph.clock", "Graph's clock", SignedDuration::from_secs(seconds));
            assert_eq!(found.status, status, "{seconds}: {found:?}");
        }
    }
}
