//! Finds the one user that a target means, and makes sure that every identifier of the target means that user.

use serde_json::Value;

use super::Graph;
use super::address::{encode, literal};
use super::fault;
use super::observe::{Operation, Trail};
use crate::domain::guard::User;
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::domain::request::{Lane, Target};

const SELECT: &str = "$select=id,userPrincipalName,mail,proxyAddresses,isManagementRestricted";

impl Graph {
    /// Finds the one user that the target means; every identifier must agree.
    pub async fn resolve(&self, lane: Lane, target: &Target, trail: &Trail) -> Result<User, Fault> {
        let found = match (&target.object_id, &target.upn, &target.mail) {
            (Some(id), _, _) => self.get_user(lane, &format!("users/{}", encode(id)), trail).await?,
            (None, Some(upn), _) => self.get_user(lane, &upn_path(upn), trail).await?,
            (None, None, Some(mail)) => self.find_user(lane, mail, trail).await?,
            (None, None, None) => return Err(Fault::Permanent { reason: Reason::UserNotFound }),
        };
        let profile = Profile::read(&found).ok_or(Fault::Transient { reason: Reason::GraphUnavailable })?;
        if !profile.agrees_with(target) {
            return Err(Fault::Permanent { reason: Reason::TargetMismatch });
        }
        Ok(profile.into_user())
    }

    async fn get_user(&self, lane: Lane, path: &str, trail: &Trail) -> Result<Value, Fault> {
        let answer = self.get(lane, Operation::GetUser, self.url(path, Some(SELECT)), trail).await?;
        if answer.is_good() { Ok(answer.body.unwrap_or_default()) } else { Err(fault::permanent(&answer)) }
    }

    /// The one user with this mail address, as their main address or another. Anybody may be given somebody else's
    /// address in one of the two places, so both are asked.
    async fn find_user(&self, lane: Lane, mail: &str, trail: &Trail) -> Result<Value, Fault> {
        let main = format!("mail%20eq%20{}", literal(mail));
        let other = format!("proxyAddresses/any(p:p%20eq%20{})", literal(&format!("smtp:{mail}")));
        let mut found: Vec<Value> = Vec::new();
        for filter in [main, other] {
            let url = self.url("users", Some(&format!("$filter={filter}&{SELECT}")));
            let first = self.get(lane, Operation::FindUser, url, trail).await?;
            if !first.is_good() {
                return Err(fault::permanent(&first));
            }
            let rows = self.pages(lane, Operation::FindUser, first, trail).await?;
            for row in rows.ok_or(Fault::Transient { reason: Reason::GraphUnavailable })? {
                if found.iter().all(|user| user.get("id") != row.get("id")) {
                    found.push(row);
                }
            }
        }
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(Fault::Permanent { reason: Reason::UserNotFound }),
            _ => Err(Fault::Permanent { reason: Reason::AmbiguousTarget }),
        }
    }
}

/// A name that begins with `$` would be taken for an operator.
fn upn_path(upn: &str) -> String {
    if upn.starts_with('$') { format!("users({})", literal(upn)) } else { format!("users/{}", encode(upn)) }
}

/// What Graph says of a user, in lower case.
struct Profile {
    id: String,
    upn: Option<String>,
    /// Mail addresses.
    mails: Vec<String>,
    /// Addresses of other kinds.
    others: Vec<String>,
    /// Whether every address was told: an app that may not read them gets null, a user without any an empty list.
    complete: bool,
    restricted: bool,
}

impl Profile {
    /// Reads it; `None` without an object id.
    fn read(user: &Value) -> Option<Self> {
        let text = |name: &str| user.get(name).and_then(Value::as_str).map(str::to_lowercase);
        let id = text("id").filter(|id| uuid::Uuid::try_parse(id).is_ok())?;
        let upn = text("userPrincipalName").filter(|upn| !upn.is_empty());
        let proxies = user.get("proxyAddresses").and_then(Value::as_array);
        let complete = proxies.is_some_and(|proxies| proxies.iter().all(Value::is_string));
        // Null unless somebody set it.
        let restricted = user.get("isManagementRestricted").and_then(Value::as_bool).unwrap_or(false);
        let mut profile = Self { id, upn, mails: Vec::new(), others: Vec::new(), complete, restricted };
        profile.mails.extend(text("mail"));
        for proxy in proxies.into_iter().flatten().filter_map(Value::as_str) {
            let proxy = proxy.to_lowercase();
            match proxy.split_once(':') {
                Some(("smtp", mail)) if !profile.mails.iter().any(|known| known == mail) => {
                    profile.mails.push(mail.to_owned());
                }
                Some(("smtp", _)) => {}
                Some((_, other)) => profile.others.push(other.to_owned()),
                None => profile.others.push(proxy),
            }
        }
        Some(profile)
    }

    fn agrees_with(&self, target: &Target) -> bool {
        let id = target.object_id.as_ref().is_none_or(|id| id.to_lowercase() == self.id);
        let upn = target.upn.as_ref().is_none_or(|upn| Some(upn.to_lowercase()) == self.upn);
        let mail = target.mail.as_ref().is_none_or(|mail| self.mails.contains(&mail.to_lowercase()));
        id && upn && mail
    }

    fn into_user(self) -> User {
        let mut addresses = self.mails;
        addresses.extend(self.others);
        let addresses = Some(addresses).filter(|_| self.complete);
        User { object_id: self.id, upn: self.upn, addresses, restricted: self.restricted }
    }
}
