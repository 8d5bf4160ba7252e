//! Who may do what: the app's permissions decide, except in a restricted unit, where they count for nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Graph, MOBILE, status};

const ADA: &str = "/v1.0/users/ada@contoso.test";
const BETA: &str = "/beta/users/ada@contoso.test/authentication";
const EMAIL: &str = "3ddfcfc8-9383-446f-83cc-3ab9be4be18f";

/// A tenant in which the app has these roles.
async fn with_roles(roles: &[&str], user: Value) -> Graph {
    let app = json!({"clientId": "any", "secret": "any", "roles": roles});
    let mut ada = json!({"userPrincipalName": "ada@contoso.test", "methods": [{"type": "phone_mobile", "value": "+1 5550100"},
        {"type": "email"}, {"type": "hardware_oath"}, {"type": "qr_code_pin"}]});
    ada.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
    Graph::with_tenant(json!({"apps": [app], "users": [ada]})).await
}

async fn codes(graph: &Graph, calls: &[(Method, String, Value)]) -> Vec<u16> {
    let mut codes = Vec::new();
    for (method, path, body) in calls {
        codes.push(graph.call(method.clone(), path, (!body.is_null()).then(|| body.clone())).await.0);
    }
    codes
}

/// Reads and changes of each kind that the permissions tell apart.
fn calls() -> Vec<(Method, String, Value)> {
    let call = |method, path: String, body| (method, path, body);
    let prefer = json!({"userPreferredMethodForSecondaryAuthentication": "oath"});
    vec![
        call(Method::GET, ADA.into(), Value::Null),
        call(Method::GET, format!("{ADA}/authentication/methods"), Value::Null),
        call(Method::GET, format!("{ADA}/authentication/phoneMethods"), Value::Null),
        call(Method::GET, format!("{BETA}/signInPreferences"), Value::Null),
        call(Method::GET, format!("{BETA}/requirements"), Value::Null),
        call(Method::PATCH, format!("{BETA}/signInPreferences"), prefer),
        call(Method::PATCH, format!("{BETA}/requirements"), json!({"perUserMfaState": "disabled"})),
        call(
            Method::PATCH,
            format!("{ADA}/authentication/phoneMethods/{MOBILE}"),
            json!({"phoneNumber": "+1 5550101"}),
        ),
        call(Method::POST, format!("{ADA}/revokeSignInSessions"), Value::Null),
        call(Method::DELETE, format!("{ADA}/authentication/phoneMethods/{MOBILE}"), Value::Null),
    ]
}

#[tokio::test]
async fn each_permission_opens_its_own_calls() {
    let table: [(&str, [u16; 10]); 9] = [
        ("User.Read.All", [200, 403, 403, 403, 403, 403, 403, 403, 403, 403]),
        ("UserAuthenticationMethod.Read.All", [403, 200, 200, 200, 403, 403, 403, 403, 403, 403]),
        ("UserAuthenticationMethod.ReadWrite.All", [403, 200, 200, 200, 403, 204, 403, 200, 403, 204]),
        ("UserAuthMethod-Phone.Read.All", [403, 403, 200, 403, 403, 403, 403, 403, 403, 403]),
        ("UserAuthMethod-Phone.ReadWrite.All", [403, 403, 200, 403, 403, 403, 403, 200, 403, 204]),
        ("UserAuthMethod-Email.ReadWrite.All", [403, 403, 403, 403, 403, 403, 403, 403, 403, 403]),
        ("Policy.Read.All", [403, 403, 403, 403, 200, 403, 403, 403, 403, 403]),
        ("Policy.ReadWrite.AuthenticationMethod", [403, 403, 403, 403, 200, 403, 204, 403, 403, 403]),
        ("User.RevokeSessions.All", [403, 403, 403, 403, 403, 403, 403, 403, 200, 403]),
    ];
    for (role, expected) in table {
        let graph = with_roles(&[role], json!({})).await;
        assert_eq!(codes(&graph, &calls()).await, expected, "{role}");
    }
}

#[tokio::test]
async fn a_granular_permission_has_the_name_of_its_type() {
    let names = [
        ("Email", "emailMethods"),
        ("Passkey", "fido2Methods"),
        ("WindowsHello", "windowsHelloForBusinessMethods"),
        ("MicrosoftAuthApp", "microsoftAuthenticatorMethods"),
        ("MicrosoftAuthApp", "passwordlessMicrosoftAuthenticatorMethods"),
        ("SoftwareOATH", "softwareOathMethods"),
        ("HardwareOATH", "hardwareOathMethods"),
        ("TAP", "temporaryAccessPassMethods"),
        ("PlatformCred", "platformCredentialMethods"),
        ("External", "externalAuthenticationMethods"),
        ("ResourceKey", "resourceAccountKeyAuthenticationMethods"),
        ("Password", "passwordMethods"),
        ("QR", "qrCodePinMethod"),
    ];
    for (name, own) in names {
        let graph = with_roles(&[&format!("UserAuthMethod-{name}.ReadWrite.All")], json!({})).await;
        for (other, collection) in names {
            let answer = graph.get(&format!("{BETA}/{collection}")).await;
            assert_eq!(answer.0 == 200, name == other, "{name} of {own} at {collection}: {}", answer.1);
        }
    }
    let graph = with_roles(&["UserAuthMethod-MicrosoftAuthenticator.ReadWrite.All"], json!({})).await;
    assert_eq!(graph.get(&format!("{BETA}/microsoftAuthenticatorMethods")).await.0, 403, "there is no such permission");
}

#[tokio::test]
async fn a_refusal_tells_which_service_it_came_from() {
    let graph = with_roles(&[], json!({})).await;
    let methods = graph.get(&format!("{BETA}/methods")).await;
    status(&methods, 403, "accessDenied");
    assert_eq!(methods.1["error"]["message"], "Request Authorization failed");
    let user = graph.get(ADA).await;
    status(&user, 403, "Authorization_RequestDenied");
    assert_eq!(user.1["error"]["message"], "Insufficient privileges to complete the operation.");
    status(&graph.get(&format!("{BETA}/requirements")).await, 403, "accessDenied");
    status(
        &graph.call(Method::POST, &format!("{ADA}/revokeSignInSessions"), None).await,
        403,
        "Authorization_RequestDenied",
    );
}

#[tokio::test]
async fn in_a_restricted_unit_no_permission_counts() {
    let all = [
        "UserAuthenticationMethod.ReadWrite.All",
        "User.RevokeSessions.All",
        "User.Read.All",
        "Policy.ReadWrite.AuthenticationMethod",
    ];
    let graph = with_roles(&all, json!({"isManagementRestricted": true})).await;
    assert_eq!(codes(&graph, &calls()).await, [200, 200, 200, 200, 200, 403, 403, 403, 403, 403]);
    status(&graph.delete("emailMethods", EMAIL).await, 403, "accessDenied");
    let enable = format!("{ADA}/authentication/phoneMethods/{MOBILE}/enableSmsSignIn");
    status(&graph.call(Method::POST, &enable, None).await, 403, "accessDenied");
    let code = format!("{BETA}/qrCodePinMethod/standardQRCode");
    status(&graph.call(Method::DELETE, &code, None).await, 403, "accessDenied");
    assert!(graph.effects().await.iter().all(Value::is_null));

    graph.set(json!({"restricted_reads": true})).await;
    assert_eq!(codes(&graph, &calls()[..5]).await, [200, 403, 403, 403, 403]);
}
