//! A user's authentication methods: list them, remove one; and revoke the user's sessions.

use jiff::Timestamp;
use reqwest::Method as HttpMethod;
use serde_json::Value;
use uuid::Uuid;

use super::Graph;
use super::address::encode;
use super::answer::Answer;
use super::client::Call;
use super::fault;
use super::observe::{Operation, Trail};
use crate::domain::method::{Method, MethodType};
use crate::domain::outcome::Fault;
use crate::domain::reason::Reason;
use crate::domain::request::Lane;
use crate::ports::Removal;

impl Graph {
    /// Lists the user's methods, every page.
    pub async fn list_methods(&self, lane: Lane, user_id: &str, trail: &Trail) -> Result<Vec<Method>, Fault> {
        let url = self.url(&format!("users/{}/authentication/methods", encode(user_id)), None);
        let first = self.get(lane, Operation::ListMethods, url, trail).await?;
        self.methods(lane, user_id, first, trail).await
    }

    /// The methods of a list whose first page is there.
    pub(super) async fn methods(
        &self,
        lane: Lane,
        user_id: &str,
        first: Answer,
        trail: &Trail,
    ) -> Result<Vec<Method>, Fault> {
        if !first.is_good() {
            return Err(fault::permanent(&first));
        }
        let rows = self.pages(lane, Operation::ListMethods, first, trail).await?;
        let rows = rows.ok_or(Fault::Transient { reason: Reason::GraphUnavailable })?;
        Ok(rows.iter().map(|row| self.method(user_id, row)).collect())
    }

    fn method(&self, user_id: &str, row: &Value) -> Method {
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        let method_type = MethodType::from_odata(text("@odata.type").unwrap_or_default(), text("phoneType"));
        let value = match method_type {
            MethodType::PhoneMobile | MethodType::PhoneAlternateMobile | MethodType::PhoneOffice => text("phoneNumber"),
            MethodType::Email => text("emailAddress"),
            MethodType::Password
            | MethodType::Fido2
            | MethodType::WindowsHello
            | MethodType::MicrosoftAuthenticator
            | MethodType::SoftwareOath
            | MethodType::HardwareOath
            | MethodType::TemporaryAccessPass
            | MethodType::PlatformCredential
            | MethodType::QrCodePin
            | MethodType::External
            | MethodType::Unknown => None,
        };
        Method {
            id: text("id").unwrap_or_default().to_owned(),
            method_type,
            digest: self.digest_key.digest(method_type, user_id, value),
            aaguid: text("aaGuid").map(str::to_lowercase),
            synced: text("passkeyType") == Some("synced"),
        }
    }

    /// Removes one method: one request, sent at once. The caller has been admitted, and checked its lease then.
    pub async fn remove(
        &self,
        user_id: &str,
        method: &Method,
        call: Uuid,
        checked: Timestamp,
    ) -> Result<Removal, Fault> {
        let nameless = method.id.chars().all(|letter| letter == '.');
        let Some(collection) = method.method_type.entry().collection.filter(|_| !nameless) else {
            return Ok(Removal::Impossible);
        };
        let path = format!("users/{}/authentication/{collection}/{}", encode(user_id), encode(&method.id));
        let (operation, url) = (Operation::DeleteMethod, self.url(&path, None));
        let call = Call { operation, method: HttpMethod::DELETE, url, id: call, body: None, checked: Some(checked) };
        let ending = self.send_now(&call).await?;
        fault::removal(&ending, self.gate.remaining())
    }

    /// Revokes the user's sessions: one request, sent at once. The caller has been admitted, and checked its lease then.
    pub async fn revoke_sessions(&self, user_id: &str, call: Uuid, checked: Timestamp) -> Result<(), Fault> {
        let url = self.url(&format!("users/{}/revokeSignInSessions", encode(user_id)), None);
        let operation = Operation::RevokeSessions;
        let call = Call { operation, method: HttpMethod::POST, url, id: call, body: None, checked: Some(checked) };
        let ending = self.send_now(&call).await?;
        fault::revocation(&ending, self.gate.remaining())
    }
}
