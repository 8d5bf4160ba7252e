//! Which application permissions of Microsoft Graph the settings need: the one table, and what a token's grants are
//! against it. Microsoft Graph permissions reference.

use std::collections::BTreeSet;

use super::report::Finding;
use crate::domain::method::MethodType;

/// Lists methods of every type and changes them.
const METHODS: &str = "UserAuthenticationMethod.ReadWrite.All";
/// Lists them only; beside it each type can have a permission of its own.
const READ_METHODS: &str = "UserAuthenticationMethod.Read.All";

/// A permission that the worker needs.
pub struct Need {
    /// The permission to grant.
    pub permission: &'static str,
    /// What for.
    pub why: &'static str,
    /// The step of `policy.enabled_steps` that needs it; always needed without one.
    pub step: Option<&'static str>,
    /// Wider ones that do as well. Nobody should grant them for this.
    pub wider: &'static [&'static str],
}

/// What the worker needs, besides what lists and changes methods.
pub const NEEDS: [Need; 5] = [
    Need {
        permission: "User.RevokeSessions.All",
        why: "revoke sessions",
        step: None,
        wider: &["User.ReadWrite.All", "Directory.ReadWrite.All"],
    },
    Need {
        permission: "User.Read.All",
        why: "find users and see their addresses",
        step: None,
        wider: &["User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    },
    Need {
        permission: "RoleManagement.Read.Directory",
        why: "see the roles that people hold and may take",
        step: None,
        wider: &["RoleManagement.ReadWrite.Directory"],
    },
    Need {
        permission: "GroupMember.Read.All",
        why: "see groups, and which of them may carry roles",
        step: None,
        wider: &[
            "GroupMember.ReadWrite.All",
            "Group.Read.All",
            "Group.ReadWrite.All",
            "Directory.Read.All",
            "Directory.ReadWrite.All",
        ],
    },
    Need {
        permission: "Policy.ReadWrite.AuthenticationMethod",
        why: "set per-user MFA",
        step: Some("set_per_user_mfa"),
        wider: &[],
    },
];

/// The permission of each type that Graph deletes, for whoever does not grant that for all types.
pub const GRANULAR: [(MethodType, &str); 13] = [
    (MethodType::PhoneMobile, "UserAuthMethod-Phone.ReadWrite.All"),
    (MethodType::PhoneAlternateMobile, "UserAuthMethod-Phone.ReadWrite.All"),
    (MethodType::PhoneOffice, "UserAuthMethod-Phone.ReadWrite.All"),
    (MethodType::Email, "UserAuthMethod-Email.ReadWrite.All"),
    (MethodType::Fido2, "UserAuthMethod-Passkey.ReadWrite.All"),
    (MethodType::WindowsHello, "UserAuthMethod-WindowsHello.ReadWrite.All"),
    (MethodType::MicrosoftAuthenticator, "UserAuthMethod-MicrosoftAuthApp.ReadWrite.All"),
    (MethodType::SoftwareOath, "UserAuthMethod-SoftwareOATH.ReadWrite.All"),
    (MethodType::HardwareOath, "UserAuthMethod-HardwareOATH.ReadWrite.All"),
    (MethodType::TemporaryAccessPass, "UserAuthMethod-TAP.ReadWrite.All"),
    (MethodType::PlatformCredential, "UserAuthMethod-PlatformCred.ReadWrite.All"),
    (MethodType::QrCodePin, "UserAuthMethod-QR.ReadWrite.All"),
    (MethodType::External, "UserAuthMethod-External.ReadWrite.All"),
];

/// Steps that change methods of one type, and what they need without [`METHODS`].
const STEPS: [(&str, &str); 2] =
    [("set_phones", "UserAuthMethod-Phone.ReadWrite.All"), ("set_email", "UserAuthMethod-Email.ReadWrite.All")];

/// What the grants of a token are against what these enabled steps need: what is missing, and what is too much.
pub fn judge(granted: &[String], enabled: &BTreeSet<String>) -> [Finding; 2] {
    let has = |permission: &str| granted.iter().any(|name| name == permission);
    let is_on = |step: Option<&str>| step.is_none_or(|step| enabled.contains(step));
    let mut missing: Vec<String> = Vec::new();
    for need in NEEDS.iter().filter(|need| is_on(need.step)) {
        if !has(need.permission) && !need.wider.iter().any(|wider| has(wider)) {
            missing.push(format!("{} (to {})", need.permission, need.why));
        }
    }
    let granular: Vec<&str> = GRANULAR.iter().map(|(_, permission)| *permission).filter(|name| has(name)).collect();
    let wide = has(METHODS);
    if !wide && (!has(READ_METHODS) || granular.is_empty()) {
        missing.push(format!("{METHODS} (to list and remove sign-in methods)"));
    } else if !wide {
        let lacks = |(step, permission): &&(&str, &str)| is_on(Some(step)) && !granular.contains(permission);
        missing.extend(STEPS.iter().filter(lacks).map(|(step, permission)| format!("{permission} (for {step})")));
    }
    let present = if missing.is_empty() { narrow(wide, &granular) } else { fail(&missing) };
    [present, excess(granted, enabled, wide)]
}

fn fail(missing: &[String]) -> Finding {
    Finding::fail(
        "graph.permissions",
        format!("the application lacks {}", missing.join(", ")),
        format!("grant {} as application permissions of Microsoft Graph, with admin consent", missing.join(", ")),
    )
}

/// With granular permissions, some types may be left out on purpose.
fn narrow(wide: bool, granular: &[&str]) -> Finding {
    let lacks = |(_, permission): &&(MethodType, &str)| !wide && !granular.contains(permission);
    let left: Vec<&str> = GRANULAR.iter().filter(lacks).map(|(kind, _)| kind.name()).collect();
    if left.is_empty() {
        return Finding::ok("graph.permissions", "everything that the settings need is granted");
    }
    let permissions: BTreeSet<&str> = GRANULAR.iter().filter(lacks).map(|(_, permission)| *permission).collect();
    Finding::warn(
        "graph.permissions",
        format!("these types cannot be removed: {}", left.join(", ")),
        format!("if they are to be removed grant {}", Vec::from_iter(permissions).join(", ")),
    )
}

fn excess(granted: &[String], enabled: &BTreeSet<String>, wide: bool) -> Finding {
    let needed = |name: &str| {
        let need = NEEDS.iter().find(|need| need.permission == name);
        let granular = name == READ_METHODS || GRANULAR.iter().any(|(_, permission)| *permission == name);
        name == METHODS
            || need.is_some_and(|need| need.step.is_none_or(|step| enabled.contains(step)))
            || (granular && !wide)
    };
    let excess: Vec<&str> = granted.iter().map(String::as_str).filter(|name| !needed(name)).collect();
    if excess.is_empty() {
        return Finding::ok("graph.excess", "nothing else is granted");
    }
    let names = excess.join(", ");
    Finding::warn(
        "graph.excess",
        format!("more is granted than the settings need: {names}"),
        format!("take {names} away from the application, unless another program shares it: then give each its own"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::Status::{self, Fail, Ok, Warn};
    use super::*;

    const REST: [&str; 4] =
        ["User.RevokeSessions.All", "User.Read.All", "RoleManagement.Read.Directory", "GroupMember.Read.All"];

    fn check(methods: &[&str], rest: &[&str], steps: &[&str], expected: [Status; 2]) {
        let granted: Vec<String> = methods.iter().chain(rest).map(|name| (*name).to_owned()).collect();
        let enabled = steps.iter().map(|step| (*step).to_owned()).collect();
        let found = judge(&granted, &enabled);
        assert_eq!([found[0].status, found[1].status], expected, "{granted:?} {steps:?}: {found:?}");
    }

    #[test]
    fn what_the_readme_lists_is_enough_and_not_too_much() {
        check(&[METHODS], &REST, &[], [Ok, Ok]);
        check(&[METHODS], &REST, &["set_phones", "set_email"], [Ok, Ok]);
        let readme = include_str!("../../../README.md");
        let named = NEEDS.iter().map(|need| need.permission).chain([METHODS, READ_METHODS]);
        for permission in named {
            assert!(readme.contains(&format!("`{permission}`")), "the README does not name {permission}");
        }
    }

    #[test]
    fn each_permission_is_missed() {
        check(&[], &REST, &[], [Fail, Ok]);
        for at in 0..REST.len() {
            let rest: Vec<&str> = REST.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, r)| *r).collect();
            check(&[METHODS], &rest, &[], [Fail, Ok]);
        }
        check(&[METHODS], &REST, &["set_per_user_mfa"], [Fail, Ok]);
    }

    #[test]
    fn wider_ones_do_and_are_too_much() {
        for wide in ["Directory.ReadWrite.All", "Application.ReadWrite.All", "Policy.ReadWrite.AuthenticationMethod"] {
            check(&[METHODS, wide], &REST, &[], [Ok, Warn]);
        }
        check(&[METHODS, "Directory.ReadWrite.All"], &["RoleManagement.Read.Directory"], &[], [Ok, Warn]);
        check(&[METHODS, READ_METHODS], &REST, &[], [Ok, Warn]);
    }

    #[test]
    fn granular_ones_leave_types_out() {
        let phone = "UserAuthMethod-Phone.ReadWrite.All";
        check(&[READ_METHODS], &REST, &[], [Fail, Ok]);
        check(&[phone], &REST, &[], [Fail, Ok]);
        check(&[READ_METHODS, phone], &REST, &["set_phones"], [Warn, Ok]);
        check(&[READ_METHODS, phone], &REST, &["set_email"], [Fail, Ok]);
        let all: Vec<&str> = GRANULAR.iter().map(|(_, permission)| *permission).chain([READ_METHODS]).collect();
        check(&all, &REST, &["set_email", "set_phones"], [Ok, Ok]);
    }

    #[test]
    fn every_type_that_graph_deletes_has_a_permission() {
        for entry in &crate::domain::method::TABLE {
            let has = GRANULAR.iter().any(|(kind, _)| *kind == entry.method_type);
            assert_eq!(has, entry.collection.is_some(), "{}", entry.name);
        }
    }
}
