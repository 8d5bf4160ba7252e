//! The values of labels that no other module has a list of.

/// The calls made to Graph and for its tokens: the label `operation`.
pub const OPERATIONS: [&str; 18] = [
    "token",
    "get_user",
    "find_user",
    "find_groups",
    "batch",
    "list_memberships",
    "list_role_assignments",
    "list_role_eligibilities",
    "list_methods",
    "list_typed",
    "get_preferences",
    "delete_method",
    "revoke_sessions",
    "set_preferences",
    "set_phone",
    "set_sms_sign_in",
    "set_email",
    "set_per_user_mfa",
];

/// The answers that exist from the start: the label `status`. Other HTTP codes appear as they come.
pub const STATUSES: [&str; 12] =
    ["200", "204", "400", "401", "403", "404", "429", "500", "503", "504", "timeout", "connect"];

/// What `/readyz` checks: the label `check`.
pub const CHECKS: [&str; 5] = ["consuming", "publisher", "ledger", "token", "not_draining"];
