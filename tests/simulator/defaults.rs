//! The default method: in which words it is refused, what keeps it from going, and how it is changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Graph, MOBILE, contains, status};

const ALTERNATE: &str = "b6332ec1-7057-4abe-9331-3d72feddfe41";
const PREFERENCES: &str = "/beta/users/ada@contoso.test/authentication/signInPreferences";
const STATE: &str = "/_simulator/users/ada@contoso.test";
const OTHERS: &str = "Cannot delete default method with other methods configured";
const MATCHES: &str = "matches the user's current default authentication method";

fn prefer(value: &str) -> Option<Value> {
    Some(json!({"userPreferredMethodForSecondaryAuthentication": value}))
}

#[tokio::test]
async fn the_wording_is_the_tenants_or_the_users() {
    let graph = Graph::with_methods("sms", &["phone_mobile", "software_oath", "microsoft_authenticator"]).await;
    contains(&graph.delete("phoneMethods", MOBILE).await, MATCHES);
    graph.set(json!({"default_wording": "other_methods"})).await;
    contains(&graph.delete("phoneMethods", MOBILE).await, OTHERS);
    graph.change(json!({"defaultWording": "matches_default", "defaultMethod": "push"})).await;
    let app = graph.id_of("microsoft_authenticator").await;
    let refused = graph.delete("microsoftAuthenticatorMethods", &app).await;
    status(&refused, 400, "badRequest");
    contains(&refused, MATCHES);
    contains(&refused, &app);

    let tenant = json!({"settings": {"default_wording": "matches_default"}, "users": [{
        "userPrincipalName": "ada@contoso.test", "defaultMethod": "push",
        "methods": [{"type": "microsoft_authenticator"}, {"type": "software_oath"}]}]});
    let graph = Graph::with_tenant(tenant).await;
    let app = graph.id_of("microsoft_authenticator").await;
    contains(&graph.delete("microsoftAuthenticatorMethods", &app).await, MATCHES);
}

#[tokio::test]
async fn what_counts_as_another_method_is_chosen() {
    let kept = ["microsoft_authenticator", "fido2", "windows_hello", "temporary_access_pass", "email"];
    let rules = [
        (json!({}), 204),
        (json!({"strict_default": true}), 400),
        (json!({"counted": ["password"]}), 400),
        (json!({"counted": ["fido2"]}), 400),
        (json!({"counted": ["hardware_oath", "platform_credential"]}), 204),
    ];
    for (rule, expected) in rules {
        let graph = Graph::with_methods("push", &kept).await;
        graph.set(rule.clone()).await;
        let app = graph.id_of("microsoft_authenticator").await;
        assert_eq!(graph.delete("microsoftAuthenticatorMethods", &app).await.0, expected, "{rule}");
    }
    let graph = Graph::with_methods("push", &kept).await;
    graph.change(json!({"counted": ["email"]})).await;
    let app = graph.id_of("microsoft_authenticator").await;
    assert_eq!(graph.delete("microsoftAuthenticatorMethods", &app).await.0, 400);
    assert_eq!(graph.delete("emailMethods", "3ddfcfc8-9383-446f-83cc-3ab9be4be18f").await.0, 204);
    assert_eq!(graph.delete("microsoftAuthenticatorMethods", &app).await.0, 204);
    assert_eq!(graph.call(Method::PATCH, "/_simulator/settings", Some(json!({"counted": ["sms"]}))).await.0, 400);
}

#[tokio::test]
async fn an_alternate_phone_as_default_locks_both_until_the_default_changes() {
    let graph = Graph::with_methods("voiceAlternateMobile", &["phone_mobile", "phone_alternate_mobile"]).await;
    contains(&graph.delete("phoneMethods", ALTERNATE).await, MATCHES);
    let mobile = graph.delete("phoneMethods", MOBILE).await;
    status(&mobile, 400, "badRequest");
    contains(&mobile, "without first deleting alternate mobile number");
    assert_eq!(graph.call(Method::PATCH, PREFERENCES, prefer("voiceMobile")).await.0, 204);
    contains(&graph.delete("phoneMethods", MOBILE).await, "without first deleting alternate mobile number");
    assert_eq!(graph.delete("phoneMethods", ALTERNATE).await.0, 204);
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204, "the last one goes though it is the default");
    let after = graph.get(PREFERENCES).await.1;
    assert_eq!(after["userPreferredMethodForSecondaryAuthentication"], Value::Null, "{after}");
}

#[tokio::test]
async fn a_preference_needs_its_method() {
    let graph = Graph::with_methods("push", &["microsoft_authenticator", "phone_mobile"]).await;
    for (value, expected) in
        [("voiceOffice", 400), ("voiceAlternateMobile", 400), ("fax", 400), ("voiceMobile", 204), ("oath", 204)]
    {
        assert_eq!(graph.call(Method::PATCH, PREFERENCES, prefer(value)).await.0, expected, "{value}");
    }
    let by_system = |value: Value| Some(json!({"isSystemPreferredAuthenticationMethodEnabled": value}));
    assert_eq!(graph.call(Method::PATCH, PREFERENCES, by_system(json!(true))).await.0, 204);
    assert_eq!(graph.call(Method::PATCH, PREFERENCES, by_system(json!("yes"))).await.0, 400);
    assert_eq!(graph.call(Method::PATCH, PREFERENCES, Some(json!({}))).await.0, 400);
    let shown = graph.get(PREFERENCES).await.1;
    assert_eq!(shown["isSystemPreferredAuthenticationMethodEnabled"], true);
    assert_eq!(
        shown["userPreferredMethodForSecondaryAuthentication"], "oath",
        "the system's choice changes no default"
    );
    let app = graph.id_of("microsoft_authenticator").await;
    assert_eq!(
        graph.delete("microsoftAuthenticatorMethods", &app).await.0,
        400,
        "it serves codes, and so is the default"
    );
    let effects = graph.effects().await;
    assert!(effects.contains(&json!({"default": "oath"})) && effects.contains(&json!({"system_preferred": true})));
    assert_eq!(graph.get(STATE).await.1["systemPreferred"], true);
}

#[tokio::test]
async fn an_orphaned_key_never_goes() {
    let orphan = "5d2c4f0e-3f52-4a0e-9d5e-0c8b6f1f7a11";
    let methods = json!([{"type": "windows_hello", "id": orphan}, {"type": "windows_hello"}]);
    let user = json!({"userPrincipalName": "ada@contoso.test", "methods": methods});
    let graph = Graph::with_tenant(json!({"users": [user]})).await;
    for _ in 0..3 {
        let refused = graph.delete("windowsHelloForBusinessMethods", orphan).await;
        status(&refused, 400, "badRequest");
        contains(&refused, "Invalid value for KeyId");
    }
    let listed = graph.methods("v1.0").await;
    let good = listed.iter().find(|method| method["id"] != orphan && method["keyStrength"].is_string()).unwrap();
    let good = good["id"].as_str().unwrap();
    assert_eq!(graph.delete("windowsHelloForBusinessMethods", good).await.0, 204);
    assert_eq!(graph.methods("v1.0").await.len(), 2);
}
