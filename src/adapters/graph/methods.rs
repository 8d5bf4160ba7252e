//! What changes something about a user: one request each, sent at once. The caller has been admitted, and checked its
//! lease then.

use jiff::Timestamp;
use reqwest::Method as HttpMethod;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Graph;
use super::address::encode;
use super::answer::Ending;
use super::client::Call;
use super::fault;
use super::observe::Operation;
use crate::domain::method::{Api, Method, MethodType};
use crate::domain::outcome::Fault;
use crate::domain::task::Phones;
use crate::ports::{Change, Reply};

/// The ids that are the same for everybody (Graph's phoneAuthenticationMethod and emailAuthenticationMethod resources).
const FIXED_IDS: [(MethodType, &str); 4] = [
    (MethodType::PhoneMobile, "3179e48a-750b-4051-897c-87b9720928f7"),
    (MethodType::PhoneAlternateMobile, "b6332ec1-7057-4abe-9331-3d72feddfe41"),
    (MethodType::PhoneOffice, "e37fc753-ff3b-4958-9484-eaa9425c82bc"),
    (MethodType::Email, "3ddfcfc8-9383-446f-83cc-3ab9be4be18f"),
];

fn fixed_id(kind: MethodType) -> Option<&'static str> {
    FIXED_IDS.iter().find(|(known, _)| *known == kind).map(|(_, id)| *id)
}

/// A request that sets something.
struct Wish {
    operation: Operation,
    method: HttpMethod,
    api: Api,
    path: String,
    body: Option<Value>,
}

impl Graph {
    /// Removes one method.
    pub async fn remove(&self, user_id: &str, method: &Method, call: Uuid, checked: Timestamp) -> Result<Reply, Fault> {
        let nameless = method.id.chars().all(|letter| letter == '.');
        let collection = method.collection().filter(|place| place.single || !nameless);
        let Some(place) = collection.filter(|_| method.is_removable(self.beta)) else { return Ok(Reply::Impossible) };
        let id = if place.single { String::new() } else { format!("/{}", encode(&method.id)) };
        let path = format!("users/{}/authentication/{}{id}", encode(user_id), place.name);
        let wish =
            Wish { operation: Operation::DeleteMethod, method: HttpMethod::DELETE, api: place.api, path, body: None };
        fault::removal(&self.ask(&wish, call, checked).await?, self.gate.remaining())
    }

    /// Sets something.
    pub async fn change(
        &self,
        user_id: &str,
        change: Change<'_>,
        call: Uuid,
        checked: Timestamp,
    ) -> Result<Reply, Fault> {
        let Some(wish) = wish(user_id, change).filter(|wish| self.beta || wish.api == Api::V1) else {
            return Ok(Reply::Impossible);
        };
        fault::change(&self.ask(&wish, call, checked).await?, self.gate.remaining())
    }

    /// Revokes the user's sessions.
    pub async fn revoke_sessions(&self, user_id: &str, call: Uuid, checked: Timestamp) -> Result<(), Fault> {
        let path = format!("users/{}/revokeSignInSessions", encode(user_id));
        let wish =
            Wish { operation: Operation::RevokeSessions, method: HttpMethod::POST, api: Api::V1, path, body: None };
        fault::revocation(&self.ask(&wish, call, checked).await?, self.gate.remaining())
    }

    async fn ask(&self, wish: &Wish, id: Uuid, checked: Timestamp) -> Result<Ending, Fault> {
        let (url, method) = (self.url_of(wish.api, &wish.path, None), wish.method.clone());
        let (operation, body) = (wish.operation, wish.body.as_ref());
        self.send_now(&Call { operation, method, url, id, body, checked: Some(checked) }).await
    }
}

/// The request behind a change; none where there is no such thing to set.
fn wish(user_id: &str, change: Change<'_>) -> Option<Wish> {
    let below = |path: &str| format!("users/{}/authentication/{path}", encode(user_id));
    let wish =
        |operation, method, api, path: &str, body| Some(Wish { operation, method, api, path: below(path), body });
    match change {
        Change::Default(preference) => {
            let body = json!({"userPreferredMethodForSecondaryAuthentication": preference.name()});
            wish(Operation::SetPreferences, HttpMethod::PATCH, Api::Beta, "signInPreferences", Some(body))
        }
        Change::PerUserMfa(state) => {
            let body = json!({"perUserMfaState": state.name()});
            wish(Operation::SetPerUserMfa, HttpMethod::PATCH, Api::Beta, "requirements", Some(body))
        }
        Change::SmsSignIn(on) => {
            let id = fixed_id(MethodType::PhoneMobile)?;
            let verb = if on { "enableSmsSignIn" } else { "disableSmsSignIn" };
            wish(Operation::SetSmsSignIn, HttpMethod::POST, Api::V1, &format!("phoneMethods/{id}/{verb}"), None)
        }
        Change::Value { method_type, value, replaces } => {
            let phones = ["mobile", "alternateMobile", "office"];
            let phone = Phones::TYPES.iter().zip(phones).find(|(kind, _)| **kind == method_type);
            let (operation, body) = match phone {
                Some((_, kind)) => (Operation::SetPhone, json!({"phoneNumber": value.expose(), "phoneType": kind})),
                None => (Operation::SetEmail, json!({"emailAddress": value.expose()})),
            };
            let (place, id) = (method_type.entry().collection?, fixed_id(method_type)?);
            match replaces {
                true => wish(operation, HttpMethod::PATCH, place.api, &format!("{}/{id}", place.name), Some(body)),
                false => wish(operation, HttpMethod::POST, place.api, place.name, Some(body)),
            }
        }
    }
}
