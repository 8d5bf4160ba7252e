//! What the pretended tenant holds. The same shapes serve the tenant file, `PATCH /_simulator/users/{id}` and the state
//! that `GET /_simulator/users/{id}` shows.
//!
//! It keeps state and finds it again; what Graph allows is decided in `rules`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::assertion::Federated;
use super::choices::Wording;
use super::kind::Kind;
use super::platform::Assigned;

/// Holds one registered authentication method.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Method {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Filled in when left out.
    pub id: String,
    /// The number, address or name by which a person would know it.
    pub value: String,
    /// When Graph says it was registered; often nothing.
    pub created: Option<String>,
    /// What takes the place of, or comes on top of, the usual properties.
    pub properties: Map<String, Value>,
    #[serde(skip)]
    pub removed_at: Option<Instant>,
}

impl Method {
    /// Gives a stand-in for the value that can be compared but not read.
    pub fn value_hash(&self) -> Option<String> {
        let hash = || Uuid::new_v5(&Uuid::NAMESPACE_OID, self.value.as_bytes()).to_string();
        (!self.value.is_empty()).then(hash)
    }

    /// Names the method for the journal, which never shows its value.
    pub fn mark(&self) -> Value {
        json!({"type": self.kind, "id": self.id, "value_hash": self.value_hash()})
    }

    /// Names the method and what it took the place of.
    pub fn mark_with(&self, old: &Self) -> Value {
        let mut mark = self.mark();
        mark["old_value_hash"] = json!(old.value_hash());
        mark
    }
}

/// Tells whether a user must use a second factor; `enforced` once one is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MfaState {
    #[default]
    Disabled,
    Enabled,
    Enforced,
}

/// Grants a directory role, everywhere or within a scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Grant {
    Everywhere(String),
    Scoped { role: String, scope: String },
}

impl Grant {
    /// Names the role by its template id.
    pub fn role(&self) -> &str {
        match self {
            Self::Everywhere(role) | Self::Scoped { role, .. } => role,
        }
    }

    /// Names the scope; `/` is the whole directory.
    pub fn scope(&self) -> &str {
        match self {
            Self::Everywhere(_) => "/",
            Self::Scoped { scope, .. } => scope,
        }
    }
}

/// Holds one user with everything that hangs on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct User {
    pub id: String,
    pub user_principal_name: String,
    pub mail: Option<String>,
    pub proxy_addresses: Vec<String>,
    pub display_name: String,
    pub user_type: String,
    pub account_enabled: bool,
    pub on_premises_sync_enabled: Option<bool>,
    pub is_management_restricted: bool,
    #[serde(rename = "signInSessionsValidFromDateTime")]
    pub sessions_valid_from: String,
    pub roles: Vec<Grant>,
    pub eligible_roles: Vec<Grant>,
    pub groups: Vec<String>,
    pub administrative_units: Vec<String>,
    /// The preferred second factor: `push`, `oath`, `sms`, `voiceMobile`, `voiceAlternateMobile` or `voiceOffice`.
    pub default_method: Option<String>,
    pub system_preferred: bool,
    /// Every method but the password counts when the default is to go, not only second factors.
    pub strict_default: bool,
    /// The types that count then; the tenant's answer when left out.
    pub counted: Option<Vec<Kind>>,
    /// In which words the default is refused; the tenant's answer when left out.
    pub default_wording: Option<Wording>,
    /// Whether the user must use a second factor, by the setting older than any policy.
    pub per_user_mfa_state: MfaState,
    /// Soft-deleted: no call finds it.
    pub deleted: bool,
    pub methods: Vec<Method>,
}

impl Default for User {
    fn default() -> Self {
        Self {
            id: String::new(),
            user_principal_name: String::new(),
            mail: None,
            proxy_addresses: Vec::new(),
            display_name: String::new(),
            user_type: "Member".into(),
            account_enabled: true,
            on_premises_sync_enabled: None,
            is_management_restricted: false,
            sessions_valid_from: "2026-01-01T00:00:00Z".into(),
            roles: Vec::new(),
            eligible_roles: Vec::new(),
            groups: Vec::new(),
            administrative_units: Vec::new(),
            default_method: None,
            system_preferred: false,
            strict_default: false,
            counted: None,
            default_wording: None,
            per_user_mfa_state: MfaState::default(),
            deleted: false,
            methods: Vec::new(),
        }
    }
}

impl User {
    /// Walks the methods that are really there.
    pub fn live(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().filter(|method| method.removed_at.is_none())
    }

    /// Adds a method. Lists show it at once, in place of an old one that still lingered.
    pub fn register(&mut self, method: Method) {
        self.methods.retain(|other| other.id != method.id);
        self.methods.push(method);
    }
}

/// Holds one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Group {
    pub id: String,
    pub display_name: String,
    pub is_assignable_to_role: bool,
    /// Roles that its members hold through it.
    pub roles: Vec<Grant>,
    /// Groups that it is a member of.
    pub groups: Vec<String>,
    /// Comes back with nothing but its id, whatever the app may read.
    pub hidden: bool,
}

/// Holds one directory role, or one administrative unit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Named {
    /// The template id of a role, the object id of a unit.
    pub id: String,
    pub display_name: String,
    pub hidden: bool,
}

/// Holds one registered app.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct App {
    pub client_id: String,
    pub secret: String,
    /// Its application permissions; all that a reset needs when left out.
    pub roles: Option<Vec<String>>,
    pub disabled: bool,
    pub secret_expired: bool,
    /// The PEM certificate whose key signs its assertions.
    pub certificate: Option<String>,
    /// The tokens of others that stand for it.
    pub federated: Vec<Federated>,
    /// Whether it is an identity that a platform hands out; its secret is then App Service's header.
    pub managed_identity: Option<Assigned>,
}

/// Holds the whole tenant with the indexes to find a user by.
#[derive(Default)]
pub struct Tenant {
    pub id: Option<String>,
    pub premium: bool,
    pub apps: Vec<App>,
    pub roles: HashMap<String, Named>,
    pub units: HashMap<String, Named>,
    pub groups: HashMap<String, Group>,
    users: Vec<User>,
    keys: HashMap<String, usize>,
    aliases: HashMap<String, Vec<usize>>,
}

impl Tenant {
    /// Adds a user and makes it findable.
    pub fn add(&mut self, user: User) {
        self.users.push(user);
        self.index(self.users.len() - 1);
    }

    fn index(&mut self, at: usize) {
        let user = &self.users[at];
        self.keys.insert(user.id.to_lowercase(), at);
        self.keys.insert(user.user_principal_name.to_lowercase(), at);
        let addresses = user.proxy_addresses.iter().map(|address| address.to_lowercase());
        let mail = user.mail.iter().map(|mail| mail.to_lowercase());
        for alias in addresses.chain(mail).collect::<Vec<_>>() {
            self.aliases.entry(alias).or_default().push(at);
        }
    }

    /// Puts a changed user in its old place, under its new names.
    pub fn replace(&mut self, key: &str, user: User) {
        let Some(at) = self.position(key) else { return };
        let old = std::mem::replace(&mut self.users[at], user);
        self.keys.remove(&old.user_principal_name.to_lowercase());
        for places in self.aliases.values_mut() {
            places.retain(|place| *place != at);
        }
        self.index(at);
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.keys.get(&key.to_lowercase()).copied()
    }

    /// Finds a user by id or UPN as a call does: a deleted one is not there.
    pub fn find(&self, key: &str) -> Option<&User> {
        self.find_any(key).filter(|user| !user.deleted)
    }

    /// Finds a user by id or UPN, deleted or not.
    pub fn find_any(&self, key: &str) -> Option<&User> {
        self.position(key).map(|at| &self.users[at])
    }

    /// Finds a user by id or UPN, to change it.
    pub fn find_mut(&mut self, key: &str) -> Option<&mut User> {
        self.position(key).map(|at| &mut self.users[at]).filter(|user| !user.deleted)
    }

    /// Puts a changed method of a user in its old place.
    pub fn put(&mut self, owner: &str, method: Method) {
        let methods = self.find_mut(owner).into_iter().flat_map(|user| &mut user.methods);
        if let Some(old) = methods.into_iter().find(|old| old.id == method.id && old.removed_at.is_none()) {
            *old = method;
        }
    }

    /// Finds the users with a mail address or proxy address (`smtp:` and all).
    pub fn with_alias(&self, alias: &str) -> Vec<&User> {
        let places = self.aliases.get(&alias.to_lowercase()).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.users[*at]).filter(|user| !user.deleted).collect()
    }

    /// Walks all users in the order in which they were made.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.iter().filter(|user| !user.deleted)
    }
}
