//! A simulated tenant with one user for each cell.

use std::time::Duration;

use mfa_reset::simulator::{self, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cell::{Cell, Company, Default};
use crate::kind::{AUTHENTICATOR_AAGUID, KINDS, Kind};

const FEW: [&str; 4] = ["microsoft_authenticator", "phone_mobile", "fido2", "email"];
const PREFERENCES: [&str; 6] = ["push", "oath", "sms", "voiceMobile", "voiceAlternateMobile", "voiceOffice"];

/// A served tenant, until it is dropped.
pub struct Tenant {
    pub root: String,
    http: reqwest::Client,
    _server: JoinSet<()>,
}

/// The name of the user of a cell.
pub fn upn(number: usize) -> String {
    format!("cell{number:05}@contoso.test")
}

impl Tenant {
    /// Serves a user for each of the cells, under its number.
    pub async fn serve(cells: &[(usize, Cell)], lag: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let users: Vec<Value> = cells.iter().map(|(number, cell)| user(*number, cell)).collect();
        let options = Options { tenant: Some(json!({"premium": true, "users": users})), lag, ..Options::default() };
        let mut server = JoinSet::new();
        server.spawn(async move { simulator::serve(listener, options, std::future::pending()).await.unwrap() });
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self { root, http, _server: server }
    }

    /// Asks the simulator itself.
    pub async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}/_simulator/{path}", self.root)).send().await.unwrap().json().await.unwrap()
    }

    /// Tells the simulator itself.
    pub async fn post(&self, path: &str, body: &Value) {
        let sent = self.http.post(format!("{}/_simulator/{path}", self.root)).json(body).send().await.unwrap();
        assert!(sent.status().is_success(), "{body}: {:?}", sent.text().await);
    }

    /// A token of an application beside the one under test.
    pub async fn token(&self) -> String {
        let form = [("grant_type", "client_credentials"), ("client_id", "probe"), ("client_secret", "probe")];
        let scope = ("scope", format!("{}/.default", self.root));
        let sent = self.http.post(format!("{}/tenant/oauth2/v2.0/token", self.root));
        let form: Vec<(&str, &str)> = form.into_iter().chain([(scope.0, scope.1.as_str())]).collect();
        let body: Value = sent.form(&form).send().await.unwrap().json().await.unwrap();
        body["access_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    /// Tries to remove a method: the status, and what Graph says.
    pub async fn probe(&self, path: &str, token: &str) -> (u16, String) {
        let sent = self.http.delete(format!("{}{path}", self.root)).bearer_auth(token).send().await.unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    }
}

/// The kinds of the user's methods.
fn kinds(cell: &Cell) -> Vec<&'static Kind> {
    let wanted = |kind: &&Kind| {
        kind.name == cell.subject.name
            || match cell.company {
                Company::Everything => true,
                Company::Few => FEW.contains(&kind.name),
                // An alternate mobile phone cannot be without a mobile one.
                Company::Alone => kind.name == "phone_mobile" && cell.subject.name == "phone_alternate_mobile",
            }
    };
    KINDS.iter().filter(wanted).collect()
}

fn user(number: usize, cell: &Cell) -> Value {
    let kinds = kinds(cell);
    let method = |(at, kind): (usize, &&Kind)| {
        let properties = match kind.name {
            "authenticator_passkey" => json!({"aaGuid": AUTHENTICATOR_AAGUID}),
            _ => json!({}),
        };
        let mut method =
            json!({"type": kind.simulated, "value": format!("+1 555{number:05}{at:02}"), "properties": properties});
        if kind.name == cell.subject.name && cell.is_orphan() {
            method["id"] = json!("5d2c4f0e-3f52-4a0e-9d5e-0c8b6f1f7a11");
        }
        method
    };
    let bears = |preference: &&str, kind: &Kind| kind.preferences.contains(preference);
    let others = PREFERENCES
        .into_iter()
        .filter(|preference| !bears(preference, cell.subject) && kinds.iter().any(|kind| bears(preference, kind)));
    let choices: Vec<&str> = match cell.default {
        Default::Nothing => Vec::new(),
        Default::Subject => cell.subject.preferences.to_vec(),
        Default::Other => others.collect(),
    };
    let preference = (!choices.is_empty()).then(|| choices[number % choices.len()]);
    json!({
        "userPrincipalName": upn(number),
        "methods": kinds.iter().enumerate().map(method).collect::<Vec<_>>(),
        "defaultMethod": preference,
        "strictDefault": cell.strict,
        "defaultWording": cell.wording,
    })
}
