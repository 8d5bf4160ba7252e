//! Reads a tenant from JSON. It checks what would only surprise later: names twice, references to nothing.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::choices::Choices;
use super::kind::Kind;
use super::tenant::{App, Group, Method, Named, Tenant, User};

/// Says what is wrong with a tenant file.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTenant {
    /// The JSON has not the shape of a tenant.
    #[error("the tenant does not have the expected shape: {0}")]
    Shape(#[source] serde_json::Error),
    /// Two users have one name.
    #[error("two users are called {0}")]
    Twice(String),
    /// A user has neither an id nor a UPN.
    #[error("user number {0} has no userPrincipalName")]
    Nameless(usize),
    /// A user or group is in a group that is not there.
    #[error("there is no group {0}")]
    NoGroup(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    tenant_id: Option<String>,
    premium: bool,
    settings: Choices,
    apps: Vec<App>,
    roles: Vec<Named>,
    administrative_units: Vec<Named>,
    groups: Vec<Group>,
    users: Option<Vec<User>>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            tenant_id: None,
            premium: true,
            settings: Choices::default(),
            apps: Vec::new(),
            roles: Vec::new(),
            administrative_units: Vec::new(),
            groups: Vec::new(),
            users: None,
        }
    }
}

/// Reads a tenant and what it chooses; the flag tells whether it lists its users.
pub fn read(value: &Value) -> Result<(Tenant, Choices, bool), InvalidTenant> {
    let file = File::deserialize(value).map_err(InvalidTenant::Shape)?;
    let by_id = |items: Vec<Named>| items.into_iter().map(|item| (item.id.clone(), item)).collect();
    let mut tenant = Tenant::default();
    tenant.id = file.tenant_id;
    tenant.premium = file.premium;
    tenant.apps = file.apps;
    tenant.roles = by_id(file.roles);
    tenant.units = by_id(file.administrative_units);
    tenant.groups = file.groups.into_iter().map(|group| (group.id.clone(), group)).collect();
    check_groups(&tenant, tenant.groups.values().flat_map(|group| &group.groups))?;
    let Some(users) = file.users else { return Ok((tenant, file.settings, false)) };
    let mut names = HashSet::new();
    for (number, mut user) in users.into_iter().enumerate() {
        complete(&mut user, number)?;
        check_groups(&tenant, user.groups.iter())?;
        for name in [&user.id, &user.user_principal_name] {
            if !names.insert(name.to_lowercase()) {
                return Err(InvalidTenant::Twice(name.clone()));
            }
        }
        tenant.add(user);
    }
    Ok((tenant, file.settings, true))
}

fn check_groups<'a>(tenant: &Tenant, mut ids: impl Iterator<Item = &'a String>) -> Result<(), InvalidTenant> {
    match ids.find(|id| !tenant.groups.contains_key(*id)) {
        Some(id) => Err(InvalidTenant::NoGroup(id.clone())),
        None => Ok(()),
    }
}

fn complete(user: &mut User, number: usize) -> Result<(), InvalidTenant> {
    if user.user_principal_name.is_empty() {
        return Err(InvalidTenant::Nameless(number));
    }
    if user.id.is_empty() {
        user.id = Uuid::new_v5(&Uuid::NAMESPACE_DNS, user.user_principal_name.as_bytes()).to_string();
    }
    if user.display_name.is_empty() {
        user.display_name.clone_from(&user.user_principal_name);
    }
    complete_methods(user);
    Ok(())
}

/// Gives every method an id and every user a password: Graph lists one for everybody.
pub fn complete_methods(user: &mut User) {
    if !user.methods.iter().any(|method| method.kind == Kind::Password) {
        user.methods.insert(0, Method { kind: Kind::Password, ..Method::default() });
    }
    for at in 0..user.methods.len() {
        if user.methods[at].id.is_empty() {
            let kind = user.methods[at].kind;
            let drawn = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{kind:?}/{at}", user.id).as_bytes());
            user.methods[at].id = id_for(kind, drawn);
        }
    }
}

/// Makes the id of a method: the shared one of its type, or one made of what was drawn.
pub fn id_for(kind: Kind, drawn: Uuid) -> String {
    match (kind.facts().fixed_id, kind) {
        (Some(id), _) => id.into(),
        // The service's own ids look like this; a GUID here is a key that cannot be removed.
        (None, Kind::WindowsHello | Kind::Fido2) => format!("-{}2", &drawn.simple().to_string()[..21]),
        (None, _) => drawn.to_string(),
    }
}
