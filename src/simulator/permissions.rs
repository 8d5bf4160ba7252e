//! Which application permissions open which call, written from Graph's permission data. Any one of a list is enough.

use super::kind::Kind;

pub const READ_USERS: &[&str] =
    &["User.ReadBasic.All", "User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"];
pub const REVOKE: &[&str] = &["User.RevokeSessions.All", "User.ReadWrite.All", "Directory.ReadWrite.All"];
pub const READ_MEMBERSHIPS: &[&str] = &[
    "User.Read.All",
    "User.ReadWrite.All",
    "GroupMember.Read.All",
    "Group.Read.All",
    "Group.ReadWrite.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
pub const SEE_GROUPS: &[&str] = &[
    "GroupMember.Read.All",
    "GroupMember.ReadWrite.All",
    "Group.Read.All",
    "Group.ReadWrite.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
pub const SEE_ROLES: &[&str] = &[
    "RoleManagement.Read.Directory",
    "RoleManagement.ReadWrite.Directory",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
pub const SEE_UNITS: &[&str] = &[
    "AdministrativeUnit.Read.All",
    "AdministrativeUnit.ReadWrite.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
pub const READ_ELIGIBILITIES: &[&str] = &[
    "RoleEligibilitySchedule.Read.Directory",
    "RoleManagement.Read.Directory",
    "RoleManagement.Read.All",
    "RoleManagement.ReadWrite.Directory",
];
pub const READ_METHODS: &[&str] = &["UserAuthenticationMethod.Read.All", "UserAuthenticationMethod.ReadWrite.All"];
pub const WRITE_METHODS: &[&str] = &["UserAuthenticationMethod.ReadWrite.All"];
// The per-user state of multifactor authentication is policy, not a method.
pub const READ_REQUIREMENTS: &[&str] = &["Policy.Read.All", "Policy.ReadWrite.AuthenticationMethod"];
pub const WRITE_REQUIREMENTS: &[&str] = &["Policy.ReadWrite.AuthenticationMethod"];
pub const READ_TOKENS: &[&str] =
    &["Policy.Read.AuthenticationMethod", "Policy.Read.All", "Policy.ReadWrite.AuthenticationMethod"];

/// Tells whether the roles hold one of the permissions.
pub fn any(roles: &[String], permissions: &[&str]) -> bool {
    roles.iter().any(|role| permissions.contains(&role.as_str()))
}

/// Tells whether the roles open the typed collection of a method.
pub fn typed(roles: &[String], kind: Kind, write: bool) -> bool {
    let granular = |verb: &str| format!("UserAuthMethod-{}.{verb}.All", kind.facts().permission);
    let has = |verb: &str| roles.contains(&granular(verb));
    if write {
        return any(roles, WRITE_METHODS) || has("ReadWrite");
    }
    any(roles, READ_METHODS) || has("Read") || has("ReadWrite")
}
