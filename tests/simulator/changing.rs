//! What can be registered and changed through Graph: phones, addresses, SMS sign-in, per-user MFA, sessions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Graph, MOBILE, contains, status};

const BASE: &str = "/v1.0/users/ada@contoso.test/authentication";
const EMAIL: &str = "3ddfcfc8-9383-446f-83cc-3ab9be4be18f";

fn phone(kind: &str, number: &str) -> Option<Value> {
    Some(json!({"phoneType": kind, "phoneNumber": number}))
}

impl Graph {
    async fn post(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call(Method::POST, &format!("{BASE}/{path}"), body).await
    }

    async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::PATCH, &format!("{BASE}/{path}"), Some(body)).await
    }
}

#[tokio::test]
async fn phones_are_registered_one_of_a_type() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator"]).await;
    status(&graph.post("phoneMethods", phone("alternateMobile", "+1 5550199")).await, 400, "badRequest");
    let (code, made) = graph.post("phoneMethods", phone("mobile", "+1 5550100")).await;
    assert_eq!((code, made["id"].as_str(), made["phoneNumber"].as_str()), (201, Some(MOBILE), Some("+1 5550100")));
    assert!(made["@odata.context"].as_str().unwrap().ends_with("phoneMethods/$entity"), "{made}");
    status(&graph.post("phoneMethods", phone("mobile", "+1 5550101")).await, 400, "badRequest");
    assert_eq!(graph.post("phoneMethods", phone("alternateMobile", "+1 5550199")).await.0, 201);
    assert_eq!(graph.post("phoneMethods", phone("office", "+1 5550177x42")).await.0, 201);
    let (_, listed) = graph.get(&format!("{BASE}/phoneMethods")).await;
    assert_eq!(listed["value"].as_array().unwrap().len(), 3);
    for (kind, number) in
        [("office", "+15550100"), ("office", "5550100"), ("office", "+1 555-0100"), ("fax", "+1 5550100")]
    {
        assert_eq!(graph.post("phoneMethods", phone(kind, number)).await.0, 400, "{kind} {number}");
    }
    assert_eq!(graph.post("phoneMethods", Some(json!({"phoneType": "mobile"}))).await.0, 400);
}

#[tokio::test]
async fn phones_change_their_number_and_never_their_type() {
    let graph = Graph::with_methods("sms", &["phone_mobile"]).await;
    let path = format!("phoneMethods/{MOBILE}");
    let (code, changed) = graph.patch(&path, json!({"phoneNumber": "+1 5550123", "phoneType": "mobile"})).await;
    assert_eq!((code, &changed["phoneNumber"]), (200, &json!("+1 5550123")));
    assert_eq!(graph.patch(&path, json!({"phoneType": "office"})).await.0, 400);
    assert_eq!(graph.patch(&path, json!({"phoneNumber": "123"})).await.0, 400);
    let missing =
        graph.patch("phoneMethods/e37fc753-ff3b-4958-9484-eaa9425c82bc", json!({"phoneNumber": "+1 5550123"}));
    assert_eq!(missing.await.0, 404);
    assert_eq!(graph.methods("v1.0").await[1]["phoneNumber"], "+1 5550123");
    let effects = graph.effects().await;
    let replaced = &effects.iter().find(|effect| effect["replaced"].is_object()).unwrap()["replaced"];
    assert_eq!((&replaced["type"], &replaced["id"]), (&json!("phone_mobile"), &json!(MOBILE)));
    assert_ne!(replaced["value_hash"], replaced["old_value_hash"]);
}

#[tokio::test]
async fn signing_in_by_sms_needs_a_policy_and_a_number_of_ones_own() {
    let user = |name: &str, number: &str| {
        json!({"userPrincipalName": name, "methods": [{"type": "phone_mobile", "value": number},
            {"type": "phone_office", "value": "+1 5550177"}]})
    };
    let users = json!([user("ada@contoso.test", "+1 5550100"), user("bob@contoso.test", "+1 5550100")]);
    let graph = Graph::with_tenant(json!({"users": users})).await;
    let (enable, disable) =
        (format!("phoneMethods/{MOBILE}/enableSmsSignIn"), format!("phoneMethods/{MOBILE}/disableSmsSignIn"));
    let state = async || graph.get(&format!("{BASE}/phoneMethods/{MOBILE}")).await.1["smsSignInState"].clone();
    assert_eq!(state().await, "notAllowedByPolicy");
    let refused = graph.post(&enable, None).await;
    status(&refused, 400, "badRequest");
    contains(&refused, "credential policy is not enabled");

    graph.set(json!({"sms_sign_in": true})).await;
    assert_eq!(state().await, "notEnabled");
    assert_eq!(graph.post(&enable, None).await.0, 400, "somebody else has the number");
    assert_eq!(graph.post("phoneMethods/e37fc753-ff3b-4958-9484-eaa9425c82bc/enableSmsSignIn", None).await.0, 400);
    let path = format!("phoneMethods/{MOBILE}");
    let changed = graph.patch(&path, json!({"phoneNumber": "+1 5550142"})).await.1;
    assert_eq!(changed["smsSignInState"], "ready", "a new number is made ready at once");
    assert_eq!(graph.post(&disable, None).await.0, 200);
    assert_eq!(state().await, "notEnabled");
    assert_eq!(graph.post(&enable, None).await.0, 200);
    assert_eq!(state().await, "ready");
    let taken = graph.patch(&path, json!({"phoneNumber": "+1 5550100"})).await.1;
    assert_eq!(taken["smsSignInState"], "phoneNumberNotUnique");
    assert!(graph.effects().await.contains(&json!({"sms_sign_in": "ready"})));
    assert_eq!(graph.get(&format!("{BASE}/{enable}")).await.0, 405);
}

#[tokio::test]
async fn an_address_is_one() {
    let graph = Graph::with_methods("push", &[]).await;
    let address = |text: &str| json!({"emailAddress": text});
    let (code, made) = graph.post("emailMethods", Some(address("ada@example.test"))).await;
    assert_eq!((code, &made["id"], &made["emailAddress"]), (201, &json!(EMAIL), &json!("ada@example.test")));
    assert_eq!(graph.post("emailMethods", Some(address("more@example.test"))).await.0, 400);
    let path = format!("emailMethods/{EMAIL}");
    assert_eq!(graph.patch(&path, address("nonsense")).await.0, 400);
    let (code, changed) = graph.patch(&path, address("new@example.test")).await;
    assert_eq!((code, &changed["emailAddress"]), (200, &json!("new@example.test")));
    assert_eq!(graph.delete("emailMethods", EMAIL).await.0, 204);
    assert_eq!(graph.patch(&path, address("new@example.test")).await.0, 404);
    assert_eq!(graph.post("emailMethods", Some(address("ada@example.test"))).await.0, 201);
}

#[tokio::test]
async fn per_user_mfa_is_enforced_once_something_is_registered() {
    let graph = Graph::with_methods("sms", &["email"]).await;
    let path = "/beta/users/ada@contoso.test/authentication/requirements";
    let wish = |state: &str| Some(json!({"perUserMfaState": state}));
    assert_eq!(graph.get(path).await.1["perUserMfaState"], "disabled");
    assert_eq!(graph.call(Method::PATCH, path, wish("enabled")).await.0, 204);
    assert_eq!(graph.get(path).await.1["perUserMfaState"], "enabled");
    assert_eq!(graph.post("phoneMethods", phone("mobile", "+1 5550100")).await.0, 201);
    assert_eq!(graph.call(Method::PATCH, path, wish("enabled")).await.0, 204);
    assert_eq!(graph.get(path).await.1["perUserMfaState"], "enforced");
    assert_eq!(graph.call(Method::PATCH, path, wish("on")).await.0, 400);
    assert_eq!(graph.call(Method::DELETE, path, None).await.0, 405);
    status(&graph.get(&path.replace("beta", "v1.0")).await, 400, "BadRequest");
    assert!(graph.effects().await.contains(&json!({"per_user_mfa_state": "enforced"})));
}

#[tokio::test]
async fn sessions_of_a_guest_are_somebody_elses() {
    let graph = Graph::with_methods("push", &[]).await;
    let revoke = "/v1.0/users/ada@contoso.test/revokeSignInSessions";
    let since = async || {
        let path = "/v1.0/users/ada@contoso.test?$select=signInSessionsValidFromDateTime";
        graph.get(path).await.1["signInSessionsValidFromDateTime"].clone()
    };
    graph.change(json!({"userType": "Guest"})).await;
    let before = since().await;
    let (code, body) = graph.call(Method::POST, revoke, None).await;
    assert_eq!((code, &body["value"]), (200, &json!(true)));
    assert_eq!(since().await, before);
    graph.change(json!({"userType": "Member"})).await;
    assert_eq!(graph.call(Method::POST, revoke, None).await.0, 200);
    assert_ne!(since().await, before);
    assert_eq!(graph.effects().await, [Value::Null, json!({"revoked": true})]);
}

#[tokio::test]
async fn the_journal_tells_changes_and_no_numbers() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator"]).await;
    graph.set(json!({"sms_sign_in": true})).await;
    assert_eq!(graph.post("phoneMethods", phone("mobile", "+1 2065550147")).await.0, 201);
    assert_eq!(graph.patch(&format!("phoneMethods/{MOBILE}"), json!({"phoneNumber": "+1 2065550148"})).await.0, 200);
    assert_eq!(graph.post(&format!("phoneMethods/{MOBILE}/disableSmsSignIn"), None).await.0, 200);
    assert_eq!(graph.post("emailMethods", Some(json!({"emailAddress": "private@example.test"}))).await.0, 201);
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);
    let journal = graph.journal(0).await;
    let names: Vec<&str> =
        journal.iter().filter_map(|entry| Some(entry["effect"].as_object()?.keys().next()?.as_str())).collect();
    assert_eq!(names, ["registered", "replaced", "sms_sign_in", "registered", "removed"]);
    let text = json!(journal).to_string();
    assert!(!text.contains("2065550") && !text.contains("private@"), "{text}");
    let operations: Vec<&str> = journal.iter().map(|entry| entry["operation"].as_str().unwrap()).collect();
    assert!(operations.ends_with(&["add_method", "change_method", "set_sms_sign_in", "add_method", "delete_method"]));
}
