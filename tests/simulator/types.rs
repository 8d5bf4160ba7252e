//! Every type of method: where it is listed, where it is read, and how it goes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Graph, PASSWORD, status};

/// Type, `@odata.type`, collection, whether v1.0 lists the type, whether v1.0 has the collection.
const TYPES: [(&str, &str, &str, bool, bool); 15] = [
    ("phone_mobile", "phone", "phoneMethods", true, true),
    ("phone_alternate_mobile", "phone", "phoneMethods", true, true),
    ("phone_office", "phone", "phoneMethods", true, true),
    ("email", "email", "emailMethods", true, true),
    ("fido2", "fido2", "fido2Methods", true, true),
    ("windows_hello", "windowsHelloForBusiness", "windowsHelloForBusinessMethods", true, true),
    ("microsoft_authenticator", "microsoftAuthenticator", "microsoftAuthenticatorMethods", true, true),
    (
        "passwordless_microsoft_authenticator",
        "passwordlessMicrosoftAuthenticator",
        "passwordlessMicrosoftAuthenticatorMethods",
        false,
        false,
    ),
    ("software_oath", "softwareOath", "softwareOathMethods", true, true),
    ("hardware_oath", "hardwareOath", "hardwareOathMethods", false, false),
    ("temporary_access_pass", "temporaryAccessPass", "temporaryAccessPassMethods", true, true),
    ("platform_credential", "platformCredential", "platformCredentialMethods", true, true),
    ("external", "external", "externalAuthenticationMethods", true, true),
    ("resource_account_key", "resourceAccountKey", "resourceAccountKeyAuthenticationMethods", false, false),
    ("qr_code_pin", "qrCodePin", "qrCodePinMethod", true, false),
];
const DEVICES: &str = "/beta/directory/authenticationMethodDevices/hardwareOathDevices";

fn authentication(version: &str) -> String {
    format!("/{version}/users/ada@contoso.test/authentication")
}

#[tokio::test]
async fn every_type_is_listed_read_and_deleted_in_its_place() {
    for (kind, odata, collection, listed, here) in TYPES {
        let needed: &[&str] = if kind == "phone_alternate_mobile" { &["phone_mobile"] } else { &[] };
        let graph = Graph::with_methods("", &[needed, &[kind]].concat()).await;
        let id = graph.id_of(kind).await;
        let name = format!("#microsoft.graph.{odata}AuthenticationMethod");
        for (version, listed, here) in [("v1.0", listed, here), ("beta", true, true)] {
            let shown = graph.methods(version).await;
            let shown = shown.iter().find(|method| method["id"] == id.as_str());
            assert_eq!(
                shown.map(|method| method["@odata.type"].as_str()),
                listed.then_some(Some(name.as_str())),
                "{kind}"
            );
            let typed = graph.get(&format!("{}/{collection}", authentication(version))).await;
            assert_eq!(typed.0, if here { 200 } else { 400 }, "{kind} {version}: {}", typed.1);
            if !here {
                let text = format!("Resource not found for the segment '{collection}'.");
                assert_eq!(
                    (&typed.1["error"]["code"], &typed.1["error"]["message"]),
                    (&json!("BadRequest"), &json!(text))
                );
            }
        }
        let path = if kind == "qr_code_pin" { String::new() } else { format!("/{id}") };
        let path = format!("{}/{collection}{path}", authentication("beta"));
        let (code, one) = graph.get(&path).await;
        assert_eq!((code, one["id"].as_str()), (200, Some(id.as_str())), "{one}");
        assert_eq!(graph.call(Method::DELETE, &path, None).await.0, 204, "{kind}");
        status(&graph.get(&path).await, 404, "itemNotFound");
        status(&graph.call(Method::DELETE, &path, None).await, 404, "itemNotFound");
        assert_eq!(graph.methods("beta").await.len(), 1 + needed.len(), "{kind}");
    }
}

#[tokio::test]
async fn a_method_goes_by_its_own_collection_only() {
    let graph = Graph::with_methods("", &["fido2", "software_oath"]).await;
    let id = graph.id_of("fido2").await;
    assert_eq!(graph.delete("softwareOathMethods", &id).await.0, 404);
    for version in ["v1.0", "beta"] {
        let path = format!("{}/methods/{id}", authentication(version));
        let (code, body) = graph.call(Method::DELETE, &path, None).await;
        assert_eq!((code, body.get("error")), (404, None), "the backend answers past Graph");
        assert!(
            body["Message"].as_str().unwrap().contains("mface.windowsazure.com") && body["MessageDetail"].is_string()
        );
        assert_eq!(graph.get(&path).await.0, 200);
    }
    assert_eq!(graph.delete("passwordMethods", PASSWORD).await.0, 405);
    assert_eq!(graph.methods("v1.0").await.len(), 3);
}

#[tokio::test]
async fn an_unassigned_token_stays_in_the_directory() {
    let graph = Graph::with_methods("", &["hardware_oath"]).await;
    let id = graph.id_of("hardware_oath").await;
    let device = async || graph.get(DEVICES).await.1["value"][0].clone();
    let before = device().await;
    assert_eq!((&before["id"], &before["status"]), (&json!(id), &json!("activated")));
    assert!(before["assignedTo"]["id"].is_string(), "{before}");
    let path = format!("{}/hardwareOathMethods/{id}", authentication("beta"));
    assert_eq!(graph.get(&path).await.1["device"]["serialNumber"], before["serialNumber"]);
    assert_eq!(graph.call(Method::DELETE, &path, None).await.0, 204);
    let after = device().await;
    assert_eq!((&after["id"], &after["status"], &after["assignedTo"]), (&json!(id), &json!("available"), &Value::Null));
    assert_eq!(graph.get(&DEVICES.replace("beta", "v1.0")).await.0, 400);
}

#[tokio::test]
async fn a_qr_code_has_parts() {
    let graph = Graph::with_methods("", &["qr_code_pin"]).await;
    let base = format!("{}/qrCodePinMethod", authentication("beta"));
    assert_eq!(graph.get(&format!("{base}/pin")).await.1["id"], "pin");
    assert_eq!(graph.get(&format!("{base}/temporaryQRCode")).await.0, 404);
    assert_eq!(graph.call(Method::DELETE, &format!("{base}/pin"), None).await.0, 405);
    let code = format!("{base}/standardQRCode");
    assert_eq!(graph.call(Method::DELETE, &code, None).await.0, 204);
    assert_eq!(graph.get(&code).await.0, 404);
    assert_eq!(graph.get(&base).await.1["standardQRCode"], Value::Null);
    assert_eq!(graph.call(Method::DELETE, &base, None).await.0, 204);
    assert_eq!(
        graph.effects().await,
        [Value::Null, json!({"code_removed": "standardQRCode"}), graph.effects().await[2].clone()]
    );
    assert_eq!(graph.effects().await[2]["removed"]["type"], "qr_code_pin");
}
