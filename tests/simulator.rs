//! The simulator from outside: one test for each of Graph's rules that it keeps, over real HTTP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use mfa_reset::simulator::{self, Options};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[path = "simulator/allowed.rs"]
mod allowed;
#[path = "simulator/changing.rs"]
mod changing;
#[path = "simulator/clouds.rs"]
mod clouds;
#[path = "simulator/defaults.rs"]
mod defaults;
#[path = "simulator/passes.rs"]
mod passes;
#[path = "simulator/people.rs"]
mod people;
#[path = "simulator/types.rs"]
mod types;

const MOBILE: &str = "3179e48a-750b-4051-897c-87b9720928f7";
const PASSWORD: &str = "28c10230-6103-485e-b985-444c60001490";
const GLOBAL_ADMIN: &str = "62e90394-69f5-4237-9190-012177145e10";

struct Graph {
    root: String,
    client: reqwest::Client,
    token: String,
    stop: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
}

impl Graph {
    async fn start(options: Options) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let stopped = async move { stopped.await.unwrap_or(()) };
            simulator::serve(listener, options, stopped).await.unwrap();
        });
        let client =
            reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        let mut graph = Self { root, client, token: String::new(), stop: Some(stop), server };
        graph.token = graph.token_for("any", "any").await;
        graph
    }

    async fn with_tenant(tenant: Value) -> Self {
        Self::start(Options { tenant: Some(tenant), ..Options::default() }).await
    }

    /// Starts with one user, `ada@contoso.test`, who has these methods.
    async fn with_methods(default: &str, methods: &[&str]) -> Self {
        let methods: Vec<Value> = methods.iter().map(|kind| json!({"type": kind, "value": "+1 5550100"})).collect();
        let user = json!({"userPrincipalName": "ada@contoso.test", "defaultMethod": default, "methods": methods});
        Self::with_tenant(json!({"users": [user]})).await
    }

    async fn ask_token(&self, client: &str, secret: &str) -> Response {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", secret),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let url = format!("{}/contoso.test/oauth2/v2.0/token", self.root);
        self.client.post(url).form(&form).send().await.unwrap()
    }

    async fn token_for(&self, client: &str, secret: &str) -> String {
        let body: Value = self.ask_token(client, secret).await.json().await.unwrap();
        body["access_token"].as_str().unwrap_or_default().to_owned()
    }

    fn request(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.root)).bearer_auth(&self.token);
        body.map_or(request.try_clone().unwrap(), |body| request.json(&body))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.request(method, path, body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn delete(&self, collection: &str, id: &str) -> (u16, Value) {
        let path = format!("/v1.0/users/ada@contoso.test/authentication/{collection}/{id}");
        self.call(Method::DELETE, &path, None).await
    }

    async fn methods(&self, version: &str) -> Vec<Value> {
        let path = format!("/{version}/users/ada@contoso.test/authentication/methods");
        self.get(&path).await.1["value"].as_array().unwrap().clone()
    }

    async fn id_of(&self, kind: &str) -> String {
        let (_, state) = self.get("/_simulator/users/ada@contoso.test").await;
        let methods = state["methods"].as_array().unwrap();
        methods.iter().find(|method| method["type"] == kind).unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn fault(&self, fault: Value) {
        assert_eq!(self.call(Method::POST, "/_simulator/faults", Some(fault)).await.0, 201);
    }

    async fn set(&self, settings: Value) {
        assert_eq!(self.call(Method::PATCH, "/_simulator/settings", Some(settings)).await.0, 200);
    }

    /// Changes Ada past every rule.
    async fn change(&self, changes: Value) {
        assert_eq!(self.call(Method::PATCH, "/_simulator/users/ada@contoso.test", Some(changes)).await.0, 200);
    }

    /// What each call changed, tokens aside.
    async fn effects(&self) -> Vec<Value> {
        let journal = self.journal(0).await;
        let graph = journal.iter().filter(|entry| entry["operation"] != "token" && entry["method"] != "GET");
        graph.map(|entry| entry["effect"].clone()).collect()
    }

    async fn journal(&self, since: u64) -> Vec<Value> {
        self.get(&format!("/_simulator/journal?since={since}")).await.1.as_array().unwrap().clone()
    }

    async fn batch(&self, items: &[(&str, &str)]) -> Vec<Value> {
        let item =
            |(n, (method, url)): (usize, &(&str, &str))| json!({"id": n.to_string(), "method": method, "url": url});
        let requests: Vec<Value> = items.iter().enumerate().map(item).collect();
        let (status, body) = self.call(Method::POST, "/v1.0/$batch", Some(json!({"requests": requests}))).await;
        assert_eq!(status, 200, "{body}");
        let mut responses = body["responses"].as_array().unwrap().clone();
        responses.sort_by_key(|response| response["id"].as_str().unwrap().parse::<u32>().unwrap());
        responses
    }
}

fn status(answer: &(u16, Value), expected: u16, code: &str) {
    assert_eq!(answer.0, expected, "{}", answer.1);
    assert_eq!(answer.1["error"]["code"], code, "{}", answer.1);
    assert!(answer.1["error"]["innerError"]["request-id"].is_string(), "{}", answer.1);
}

fn contains(answer: &(u16, Value), fragment: &str) {
    let message = answer.1["error"]["message"].as_str().unwrap();
    assert!(message.contains(fragment), "{message}");
}

#[tokio::test]
async fn the_default_goes_last_in_two_wordings() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator", "phone_mobile"]).await;
    let app = graph.id_of("microsoft_authenticator").await;
    let refused = graph.delete("microsoftAuthenticatorMethods", &app).await;
    status(&refused, 400, "badRequest");
    contains(&refused, "Cannot delete default method with other methods configured");
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);
    assert_eq!(graph.delete("microsoftAuthenticatorMethods", &app).await.0, 204);
    assert_eq!(graph.methods("v1.0").await.len(), 1, "the password stays");

    let graph = Graph::with_methods("sms", &["microsoft_authenticator", "phone_mobile"]).await;
    let refused = graph.delete("phoneMethods", MOBILE).await;
    status(&refused, 400, "badRequest");
    contains(&refused, "matches the user's current default authentication method");
}

#[tokio::test]
async fn phones_go_in_order_and_some_things_never_go() {
    let graph = Graph::with_methods("push", &["phone_mobile", "phone_alternate_mobile"]).await;
    contains(&graph.delete("phoneMethods", MOBILE).await, "without first deleting alternate mobile number");
    assert_eq!(graph.delete("phoneMethods", "b6332ec1-7057-4abe-9331-3d72feddfe41").await.0, 204);
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);
    status(&graph.delete("phoneMethods", MOBILE).await, 404, "itemNotFound");
    assert_eq!(graph.delete("passwordMethods", PASSWORD).await.0, 405);
    let generic = graph.delete("methods", MOBILE).await;
    assert_eq!(generic.0, 404);
    assert!(generic.1["Message"].is_string() && generic.1.get("error").is_none());
}

#[tokio::test]
async fn versions_differ() {
    let graph = Graph::with_methods("push", &["hardware_oath", "qr_code_pin", "fido2", "unknown"]).await;
    let types = |list: Vec<Value>| -> Vec<String> {
        list.iter().map(|item| item["@odata.type"].as_str().unwrap().replace("#microsoft.graph.", "")).collect()
    };
    let old = types(graph.methods("v1.0").await);
    assert!(!old.contains(&"hardwareOathAuthenticationMethod".to_owned()));
    assert_eq!(types(graph.methods("beta").await).len(), old.len() + 1);
    let id = graph.id_of("hardware_oath").await;
    status(&graph.delete("hardwareOathMethods", &id).await, 400, "BadRequest");
    let base = "/beta/users/ada@contoso.test/authentication";
    for path in [format!("{base}/hardwareOathMethods/{id}"), format!("{base}/qrCodePinMethod")] {
        assert_eq!(graph.get(&path).await.0, 200);
        assert_eq!(graph.call(Method::DELETE, &path, None).await.0, 204);
    }
    let preferences = "/v1.0/users/ada@contoso.test/authentication/signInPreferences";
    assert_eq!(graph.get(preferences).await.0, 400);
    assert_eq!(graph.get("/v1.0/users/ada@contoso.test/authentication/methods?$top=1").await.0, 400);
}

#[tokio::test]
async fn a_list_lags_behind_a_deletion() {
    let graph = Graph::with_methods("sms", &["phone_mobile"]).await;
    graph.set(json!({"lag_ms": 60_000})).await;
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);
    assert_eq!(graph.methods("v1.0").await.len(), 2);
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 404);
    let again = json!({"type": "phone_mobile", "value": "+1 5550199"});
    let path = "/_simulator/users/ada@contoso.test/methods";
    assert_eq!(graph.call(Method::POST, path, Some(again.clone())).await.0, 201);
    assert_eq!(graph.call(Method::POST, path, Some(again)).await.0, 409);
    let listed = graph.methods("v1.0").await;
    assert_eq!((listed[1]["phoneNumber"].as_str(), listed.len()), (Some("+1 5550199"), 2));
}

#[tokio::test]
async fn tokens_are_checked() {
    let apps = json!([
        {"clientId": "reader", "secret": "s", "roles": ["UserAuthenticationMethod.Read.All", "User.Read.All"]},
        {"clientId": "phones", "secret": "s", "roles": ["UserAuthMethod-Phone.ReadWrite.All"]},
    ]);
    let user = json!({"userPrincipalName": "ada@contoso.test", "roles": [GLOBAL_ADMIN],
        "methods": [{"type": "phone_mobile"}, {"type": "email"}]});
    let mut graph = Graph::with_tenant(json!({"apps": apps, "users": [user]})).await;
    for (client, secret, code) in [("reader", "wrong", 7_000_215), ("who", "s", 700_016)] {
        let body: Value = graph.ask_token(client, secret).await.json().await.unwrap();
        assert_eq!(body["error_codes"], json!([code]), "{body}");
    }
    status(&graph.get("/v1.0/users/ada@contoso.test").await, 401, "InvalidAuthenticationToken");

    graph.token = graph.token_for("reader", "s").await;
    assert_eq!(graph.methods("v1.0").await.len(), 3);
    status(&graph.delete("phoneMethods", MOBILE).await, 403, "accessDenied");
    let revoke = "/v1.0/users/ada@contoso.test/revokeSignInSessions";
    status(&graph.call(Method::POST, revoke, None).await, 403, "Authorization_RequestDenied");
    let members = graph.get("/v1.0/users/ada@contoso.test/transitiveMemberOf").await.1;
    assert!(members["value"][0]["id"].is_string() && members["value"][0]["roleTemplateId"].is_null(), "{members}");
    let assignments = "/v1.0/roleManagement/directory/roleAssignments?$filter=principalId eq 'x'";
    assert_eq!(graph.get(assignments).await.0, 403);

    graph.token = graph.token_for("phones", "s").await;
    assert_eq!(graph.get("/v1.0/users/ada@contoso.test/authentication/methods").await.0, 403);
    assert_eq!(graph.get("/v1.0/users/ada@contoso.test/authentication/phoneMethods").await.0, 200);
    assert_eq!(graph.delete("emailMethods", "3ddfcfc8-9383-446f-83cc-3ab9be4be18f").await.0, 403);
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);

    graph.set(json!({"token_lifetime_s": 0})).await;
    graph.token = graph.token_for("reader", "s").await;
    assert_eq!(graph.get("/v1.0/users/ada@contoso.test").await.0, 401);
}

#[tokio::test]
async fn users_are_found_and_selected() {
    let graph = Graph::start(Options { users: 200, ..Options::default() }).await;
    let (code, user) = graph.get("/v1.0/users/user00001@contoso.test?$select=id,accountEnabled").await;
    assert_eq!((code, user["accountEnabled"].as_bool(), user.get("mail")), (200, Some(true), None));
    let guest = "user00040_fabrikam.test%23EXT%23%40contoso.test";
    let (_, guest) = graph.get(&format!("/v1.0/users/{guest}?$select=id,userType,mail")).await;
    assert_eq!(guest["userType"], "Guest");
    let filters = ["mail eq 'user00040@fabrikam.test'", "proxyAddresses/any(p:p eq 'smtp:user00040@fabrikam.test')"];
    for filter in filters {
        let (_, found) = graph.get(&format!("/v1.0/users?$filter={filter}&$select=id")).await;
        assert_eq!(found["value"], json!([{"id": guest["id"]}]), "{filter}");
    }
    status(&graph.get("/v1.0/users/nobody@contoso.test").await, 404, "Request_ResourceNotFound");
    status(&graph.get("/v1.0/users/user00001@contoso.test?$select=shoeSize").await, 400, "BadRequest");
    let change = json!({"deleted": true});
    let path = "/_simulator/users/user00001@contoso.test";
    assert_eq!(graph.call(Method::PATCH, path, Some(change)).await.0, 200);
    assert_eq!(graph.get("/v1.0/users/user00001@contoso.test").await.0, 404);
}

#[tokio::test]
async fn memberships_come_in_pages_with_hidden_parts() {
    let names: Vec<String> = (0..5).map(|n| format!("g{n}")).collect();
    let groups: Vec<Value> =
        names.iter().map(|id| json!({"id": id, "displayName": id, "hidden": id == "g3"})).collect();
    let user = json!({"userPrincipalName": "ada@contoso.test", "groups": names, "roles": [GLOBAL_ADMIN],
        "eligibleRoles": [GLOBAL_ADMIN]});
    let graph = Graph::with_tenant(json!({"groups": groups, "users": [user], "premium": false})).await;
    let mut next = Some("/v1.0/users/ada@contoso.test/transitiveMemberOf?$top=2&$select=id,displayName".to_owned());
    let mut all = Vec::new();
    while let Some(path) = next {
        let (code, page) = graph.get(&path).await;
        assert_eq!(code, 200, "{page}");
        all.extend(page["value"].as_array().unwrap().clone());
        next = page["@odata.nextLink"].as_str().map(|link| link.strip_prefix(&graph.root).unwrap().to_owned());
    }
    assert_eq!(all.len(), 6);
    assert_eq!(all[3], json!({"@odata.type": "#microsoft.graph.group", "id": "g3", "displayName": null}));
    let id = graph.get("/v1.0/users/ada@contoso.test").await.1["id"].as_str().unwrap().to_owned();
    let roles = "/v1.0/roleManagement/directory";
    let (_, held) = graph.get(&format!("{roles}/roleAssignments?$filter=principalId eq '{id}'")).await;
    assert_eq!(held["value"][0]["roleDefinitionId"], GLOBAL_ADMIN);
    let eligible = graph.get(&format!("{roles}/roleEligibilityScheduleInstances?$filter=principalId eq '{id}'")).await;
    status(&eligible, 400, "AadPremiumLicenseRequired");
}

#[tokio::test]
async fn sessions_and_preferences_change() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator", "phone_mobile"]).await;
    let before = graph.get("/v1.0/users/ada@contoso.test?$select=signInSessionsValidFromDateTime").await.1;
    let (code, body) = graph.call(Method::POST, "/v1.0/users/ada@contoso.test/revokeSignInSessions", None).await;
    assert_eq!((code, &body["value"]), (200, &json!(true)));
    let after = graph.get("/v1.0/users/ada@contoso.test?$select=signInSessionsValidFromDateTime").await.1;
    assert_ne!(before, after);
    let path = "/beta/users/ada@contoso.test/authentication/signInPreferences";
    let wish = |value: &str| Some(json!({"userPreferredMethodForSecondaryAuthentication": value}));
    assert_eq!(graph.call(Method::PATCH, path, wish("voiceOffice")).await.0, 400);
    assert_eq!(graph.call(Method::PATCH, path, wish("sms")).await.0, 204);
    assert_eq!(graph.get(path).await.1["userPreferredMethodForSecondaryAuthentication"], "sms");
    let effects: Vec<Value> = graph.journal(0).await.iter().map(|entry| entry["effect"].clone()).collect();
    assert!(effects.contains(&json!({"revoked": true})) && effects.contains(&json!({"default": "sms"})));
}

#[tokio::test]
async fn a_batch_answers_each_item() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator"]).await;
    let user = ("GET", "/users/ada@contoso.test?$select=id");
    let answers = graph.batch(&[user, ("GET", "/users/nobody@contoso.test"), ("GET", "/nonsense")]).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 400]);
    assert!(answers[0]["body"]["id"].is_string());
    let too_many = json!({"requests": (0..21).map(|n| json!({"id": n.to_string(), "method": "GET", "url": "/users"})).collect::<Vec<_>>()});
    assert_eq!(graph.call(Method::POST, "/v1.0/$batch", Some(too_many)).await.0, 400);
    let twice = json!({"requests": [{"id": "a", "method": "GET", "url": "/users"}, {"id": "A", "method": "GET", "url": "/users"}]});
    assert_eq!(graph.call(Method::POST, "/v1.0/$batch", Some(twice)).await.0, 400);
    let chain = json!({"requests": [
        {"id": "1", "method": "GET", "url": "/users/nobody"},
        {"id": "2", "method": "GET", "url": "/users", "dependsOn": ["1"]},
    ]});
    let (_, body) = graph.call(Method::POST, "/v1.0/$batch", Some(chain)).await;
    assert!(body["responses"].as_array().unwrap().iter().any(|answer| answer["status"] == 424));
    let many: Vec<_> = std::iter::repeat_n(user, 20).collect();
    graph.batch(&many).await;
    let journal = graph.journal(0).await;
    let entry = &journal[journal.len() - 2];
    assert_eq!((&entry["path"], &entry["operation"]), (&json!("/v1.0/users/ada@contoso.test"), &json!("get_user")));
}

#[tokio::test]
async fn each_item_says_how_much_of_the_limit_is_used() {
    let graph = Graph::start(Options { users: 1, rate: Some(10.0), ..Options::default() }).await;
    let name = "x-ms-throttle-limit-percentage";
    let told =
        |answers: &[Value]| -> Vec<bool> { answers.iter().map(|item| item["headers"].get(name).is_some()).collect() };
    let answers = graph.batch(&[("GET", "/users/user00001@contoso.test"); 12]).await;
    assert!(answers.iter().all(|item| item["headers"]["x-ms-resource-unit"] == "1"));
    assert!(told(&answers).contains(&false) && told(&answers).contains(&true), "{answers:?}");
    let refused = answers.iter().find(|item| item["status"] == 429).unwrap();
    let scope = refused["headers"]["x-ms-throttle-scope"].as_str().unwrap();
    assert!(scope.starts_with("Tenant_Application/ReadWrite/"), "{scope}");
    graph.set(json!({"omit_percentage": true})).await;
    let answers = graph.batch(&[("GET", "/users/user00001@contoso.test"); 12]).await;
    assert!(!told(&answers).contains(&true), "{answers:?}");
}

#[tokio::test]
async fn too_many_calls_are_throttled_item_by_item() {
    let graph = Graph::start(Options { users: 1, rate: Some(4.0), ..Options::default() }).await;
    let answers = graph.batch(&[("GET", "/users/user00001@contoso.test"); 6]).await;
    let throttled: Vec<_> = answers.iter().filter(|answer| answer["status"] == 429).collect();
    assert_eq!(throttled.len(), 2);
    let wait = throttled[0]["headers"]["Retry-After"].as_str().unwrap();
    assert!(wait.contains('.') && wait.parse::<f64>().unwrap() > 0.0, "{wait}");
    let path = "/v1.0/users/user00001@contoso.test";
    let response = graph.request(Method::GET, path, None).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    graph.set(json!({"omit_retry_after": true})).await;
    let response = graph.request(Method::GET, path, None).send().await.unwrap();
    assert!(response.headers().get("retry-after").is_none());
    assert_eq!(graph.get("/_simulator/stats").await.1["throttled"], 4);
    graph.set(json!({"rate": 0})).await;
    assert_eq!(graph.get(path).await.0, 200);
}

#[tokio::test]
async fn faults_strike_as_often_as_told() {
    let graph = Graph::with_methods("sms", &["phone_mobile", "email"]).await;
    graph.fault(json!({"operation": "get_user", "status": 429, "retry_after": "17", "times": 2})).await;
    let path = "/v1.0/users/ada@contoso.test";
    let response = graph.request(Method::GET, path, None).header("client-request-id", "mine").send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"17".parse().unwrap()));
    assert_eq!(response.headers()["client-request-id"], "mine");
    assert!(response.headers().contains_key("request-id") && response.headers().contains_key("date"));
    assert_eq!(graph.batch(&[("GET", "/users/ada@contoso.test")]).await[0]["headers"]["Retry-After"], "17");
    assert_eq!(graph.get(path).await.0, 200);

    graph.fault(json!({"operation": "get_user", "user": "somebody else"})).await;
    assert_eq!(graph.get(path).await.0, 200);
    graph.fault(json!({"operation": "get_user", "user": "ada@contoso.test", "mode": "malformed"})).await;
    let text = graph.request(Method::GET, path, None).send().await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err());
    graph.fault(json!({"operation": "token", "status": 503})).await;
    assert_eq!(graph.ask_token("a", "b").await.status(), 503);
}

#[tokio::test]
async fn a_connection_can_close_with_or_without_effect() {
    let graph = Graph::with_methods("sms", &["phone_mobile", "email"]).await;
    let delete = format!("/v1.0/users/ada@contoso.test/authentication/phoneMethods/{MOBILE}");
    for (mode, left) in [("close", 3), ("drop_after_apply", 2)] {
        graph.call(Method::PATCH, "/_simulator/users/ada@contoso.test", Some(json!({"strictDefault": false}))).await;
        graph.fault(json!({"operation": "delete_method", "mode": mode})).await;
        let failure = graph.request(Method::DELETE, &delete, None).send().await.unwrap_err();
        assert!(failure.is_request() && !failure.is_timeout(), "{failure:?}");
        assert_eq!(graph.methods("v1.0").await.len(), left, "{mode}");
    }
    let journal = graph.journal(0).await;
    let drops: Vec<_> = journal.iter().filter(|entry| entry["status"] == 0).collect();
    assert_eq!((drops.len(), &drops[0]["effect"]), (2, &Value::Null));
    let removed = &drops[1]["effect"]["removed"];
    assert_eq!((&removed["type"], &removed["id"]), (&json!("phone_mobile"), &json!(MOBILE)));
    assert!(removed["value_hash"].is_string() && !removed.to_string().contains("555"));

    graph.fault(json!({"operation": "delete_method", "mode": "drop_after_apply"})).await;
    let email = "/users/ada@contoso.test/authentication/emailMethods/3ddfcfc8-9383-446f-83cc-3ab9be4be18f";
    assert_eq!(graph.batch(&[("DELETE", email)]).await[0]["status"], 504);
    assert_eq!(graph.methods("v1.0").await.len(), 1);
}

#[tokio::test]
async fn a_stalled_call_ends_with_the_simulator() {
    let mut graph = Graph::with_methods("sms", &["phone_mobile"]).await;
    graph.fault(json!({"operation": "get_user", "mode": "stall"})).await;
    let stalled = graph.request(Method::GET, "/v1.0/users/ada@contoso.test", None).send();
    assert!(tokio::time::timeout(Duration::from_millis(100), stalled).await.is_err());
    graph.fault(json!({"operation": "get_user", "mode": "stall"})).await;
    let mut calls = JoinSet::new();
    calls.spawn(graph.request(Method::GET, "/v1.0/users/ada@contoso.test", None).send());
    while graph.journal(0).await.iter().filter(|entry| entry["status"] == 0).count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    graph.stop.take().unwrap().send(()).unwrap();
    assert!(calls.join_next().await.unwrap().unwrap().is_err());
    let ended = tokio::time::timeout(Duration::from_secs(5), graph.server.join_next()).await;
    ended.expect("it stops").unwrap().unwrap();
}

#[tokio::test]
async fn a_seed_draws_the_same_tenant_and_latency_counts() {
    let latency = Duration::from_millis(30);
    let one = Graph::start(Options { users: 60, seed: 7, latency, ..Options::default() }).await;
    let other = Graph::start(Options { users: 60, seed: 7, ..Options::default() }).await;
    for n in 1..=60 {
        let path = format!("/_simulator/users/user{n:05}@contoso.test");
        assert_eq!(one.get(&path).await, other.get(&path).await, "{n}");
    }
    assert_eq!(one.get("/_simulator/users/user00050@contoso.test").await.1["roles"].as_array().unwrap().len(), 1);
    let start = tokio::time::Instant::now();
    one.get("/v1.0/users/user00001@contoso.test").await;
    assert!(start.elapsed() >= latency);
}
