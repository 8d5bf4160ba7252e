//! The simulator as a test sees it: its journal is the truth about what reached Graph.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Process, free_port};
use crate::stage::until;

/// A method of one user: object id, type as results name it, method id.
pub type Method = (String, String, String);

/// The id that every mobile phone has.
pub const MOBILE: &str = "3179e48a-750b-4051-897c-87b9720928f7";

/// A running simulator.
pub struct Simulator {
    port: u16,
    _process: Process,
}

impl Simulator {
    /// Starts one that throttles nobody, with these options besides.
    pub async fn start(program: &Path, options: &[&str], log: &Path) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let fixed = ["simulator", "--listen", &listen, "--seed", "1", "--rate", "100000"];
        let arguments = [&fixed, options].concat();
        let process = Process::spawn(program, &arguments, [("LANG", "C")], log);
        let simulator = Self { port, _process: process };
        let answers = async || simulator.get("stats").await.is_some();
        until(Duration::from_secs(20), "the simulator answers", answers).await;
        simulator
    }

    /// The root of its Graph and of its token endpoint.
    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it answers under `/_simulator/`; nothing where it does not answer with success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let (status, text) = http(&format!("{}/_simulator/{path}", self.root())).await?;
        (status == 200).then(|| serde_json::from_str(&text).unwrap())
    }

    /// Lets a user register this mobile phone; it has none at the moment. Gives what the user has now.
    pub async fn register_mobile(&self, user: &str, number: &str) -> Value {
        let method = json!({"type": "phone_mobile", "value": number});
        let url = format!("{}/_simulator/users/{user}/methods", self.root());
        let answer = client().post(url).json(&method).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Leaves a user with a password and this mobile phone.
    pub async fn with_only_mobile(&self, user: &str, number: &str) {
        let methods = json!({"methods": [{"type": "password"}, {"type": "phone_mobile", "value": number}]});
        let url = format!("{}/_simulator/users/{user}", self.root());
        let answer = client().patch(url).json(&methods).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Sets a fault: a call goes wrong in some way.
    pub async fn spoil(&self, fault: &Value) {
        let url = format!("{}/_simulator/faults", self.root());
        let answer = client().post(url).json(fault).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// How often the faults have struck that were to strike so often.
    pub async fn struck(&self, of: u64) -> u64 {
        let faults = self.get("faults").await.expect("faults");
        faults.as_array().unwrap().iter().map(|fault| of - fault["times"].as_u64().unwrap()).sum()
    }

    /// Answers these operations with 429 and so many seconds to wait, until the faults are cleared.
    pub async fn throttle(&self, operations: &[&str], seconds: u32) {
        for operation in operations {
            let fault = json!({"operation": operation, "retry_after": seconds.to_string(), "times": 0});
            let answer = client().post(format!("{}/_simulator/faults", self.root())).json(&fault).send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        }
    }

    /// Lets every call through again.
    pub async fn clear_faults(&self) {
        let answer = client().delete(format!("{}/_simulator/faults", self.root())).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    async fn journal(&self) -> Vec<Value> {
        let journal = self.get("journal?since=0").await.expect("a journal");
        journal.as_array().unwrap().clone()
    }

    /// What each call to Graph said of its trace; all of them say something.
    pub async fn traceparents(&self) -> Vec<String> {
        let journal = self.journal().await;
        let calls = journal.iter().filter(|entry| entry["operation"] != "token");
        calls.map(|entry| entry["traceparent"].as_str().unwrap_or_else(|| panic!("{entry}")).to_owned()).collect()
    }

    /// Every delete of a method that was applied.
    pub async fn deleted(&self) -> Vec<Method> {
        let journal = self.journal().await;
        let applied = |entry: &&Value| entry["method"] == "DELETE" && entry["status"] == 204;
        journal.iter().filter(applied).map(removal).collect()
    }

    /// How many calls to Graph it has seen, those for tokens aside.
    pub async fn graph_calls(&self) -> usize {
        let journal = self.journal().await;
        let graph = |entry: &&Value| !entry["path"].as_str().unwrap().contains("/oauth2/");
        journal.iter().filter(graph).count()
    }
}

/// The method that a delete in the journal names.
pub fn removal(entry: &Value) -> Method {
    let path = entry["path"].as_str().unwrap();
    let (_, rest) = path.split_once("/authentication/").unwrap_or((path, path));
    // There is one QR code for each user, and its address has no id.
    let only = entry["effect"]["removed"]["id"].as_str().unwrap_or_default();
    let (collection, id) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest, only));
    let kind = match (collection, id) {
        ("phoneMethods", MOBILE) => "phone_mobile",
        ("phoneMethods", "b6332ec1-7057-4abe-9331-3d72feddfe41") => "phone_alternate_mobile",
        ("phoneMethods", "e37fc753-ff3b-4958-9484-eaa9425c82bc") => "phone_office",
        ("emailMethods", _) => "email",
        ("fido2Methods", _) => "fido2",
        ("windowsHelloForBusinessMethods", _) => "windows_hello",
        ("microsoftAuthenticatorMethods" | "passwordlessMicrosoftAuthenticatorMethods", _) => "microsoft_authenticator",
        ("softwareOathMethods", _) => "software_oath",
        ("hardwareOathMethods", _) => "hardware_oath",
        ("temporaryAccessPassMethods", _) => "temporary_access_pass",
        ("platformCredentialMethods", _) => "platform_credential",
        ("qrCodePinMethod", _) => "qr_code_pin",
        ("externalAuthenticationMethods", _) => "external",
        _ => panic!("a delete that is no removal of a method: {path}"),
    };
    (entry["user"].as_str().unwrap().to_owned(), kind.to_owned(), id.to_owned())
}

/// Status and body of a GET; nothing where nobody answers.
pub async fn http(url: &str) -> Option<(u16, String)> {
    let answer = client().get(url).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_certs_only([]).no_proxy();
    builder.timeout(Duration::from_secs(10)).build().unwrap()
}
