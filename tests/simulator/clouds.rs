//! National clouds lack collections: the path then means nothing there.

use mfa_reset::simulator::{Cloud, Options};
use serde_json::json;

use crate::{Graph, MOBILE, contains, status};

const PRESENT: [&str; 12] = [
    "methods",
    "passwordMethods",
    "phoneMethods",
    "emailMethods",
    "fido2Methods",
    "windowsHelloForBusinessMethods",
    "microsoftAuthenticatorMethods",
    "softwareOathMethods",
    "temporaryAccessPassMethods",
    "platformCredentialMethods",
    "externalAuthenticationMethods",
    "hardwareOathMethods",
];
const CHINA: [&str; 3] = ["phoneMethods", "microsoftAuthenticatorMethods", "platformCredentialMethods"];

async fn present(graph: &Graph, version: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in PRESENT {
        let answer = graph.get(&format!("/{version}/users/ada@contoso.test/authentication/{name}")).await;
        if answer.0 == 200 {
            found.push(name);
        } else {
            status(&answer, 400, "BadRequest");
            contains(&answer, &format!("Resource not found for the segment '{name}'."));
        }
    }
    found
}

fn options(cloud: &str) -> Options {
    let methods = json!([{"type": "external"}, {"type": "phone_mobile"}, {"type": "fido2"}]);
    let user = json!({"userPrincipalName": "ada@contoso.test", "methods": methods});
    Options { tenant: Some(json!({"settings": {"cloud": cloud}, "users": [user]})), ..Options::default() }
}

#[tokio::test]
async fn each_cloud_has_its_own_collections() {
    let graph = Graph::start(options("global")).await;
    assert_eq!(present(&graph, "v1.0").await, PRESENT[..11]);
    assert_eq!(present(&graph, "beta").await, PRESENT);
    for cloud in ["us-gov", "us-gov-dod"] {
        let graph = Graph::start(options(cloud)).await;
        assert_eq!(present(&graph, "v1.0").await, PRESENT[..10], "{cloud}");
        assert!(!present(&graph, "beta").await.contains(&"externalAuthenticationMethods"), "{cloud}");
        assert_eq!(graph.methods("v1.0").await.len(), 3, "what has no collection there is not listed either");
    }
}

#[tokio::test]
async fn china_has_three_and_no_mixed_list() {
    let graph = Graph::start(options("china")).await;
    let mut here = present(&graph, "v1.0").await;
    here.sort_unstable();
    let mut expected = CHINA;
    expected.sort_unstable();
    assert_eq!(here, expected);
    assert_eq!(present(&graph, "beta").await.len(), 3);
    let beta = "/beta/users/ada@contoso.test/authentication";
    for own in ["signInPreferences", "requirements"] {
        assert_eq!(graph.get(&format!("{beta}/{own}")).await.0, 200, "{own}");
    }
    assert_eq!(graph.delete("phoneMethods", MOBILE).await.0, 204);
    let generic = graph.delete("methods", MOBILE).await;
    status(&generic, 400, "BadRequest");
    contains(&generic, "segment 'methods'");
    graph.set(json!({"full_beta": true})).await;
    assert_eq!(present(&graph, "beta").await, PRESENT);
    assert_eq!(present(&graph, "v1.0").await.len(), 3);
}

#[tokio::test]
async fn the_command_line_says_more_than_the_file() {
    let graph = Graph::start(Options { cloud: Some(Cloud::China), ..options("us-gov") }).await;
    assert_eq!(graph.get("/_simulator/settings").await.1["cloud"], "china");
    graph.set(json!({"cloud": "global"})).await;
    assert_eq!(present(&graph, "beta").await, PRESENT);
}
