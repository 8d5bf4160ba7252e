//! Temporary Access Passes, and the password, which an app cannot reset.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Graph, PASSWORD, status};

const PASSES: &str = "/v1.0/users/ada@contoso.test/authentication/temporaryAccessPassMethods";

async fn ask(graph: &Graph, body: Value) -> (u16, Value) {
    graph.call(Method::POST, PASSES, Some(body)).await
}

#[tokio::test]
async fn a_pass_is_told_once_and_takes_the_place_of_the_old_one() {
    let graph = Graph::with_methods("", &["fido2"]).await;
    let (code, first) = ask(&graph, json!({})).await;
    assert_eq!((code, &first["lifetimeInMinutes"], &first["isUsable"]), (201, &json!(60), &json!(true)), "{first}");
    let pass = first["temporaryAccessPass"].as_str().unwrap().to_owned();
    assert_eq!(pass.len(), 8);
    let listed = graph.get(PASSES).await.1["value"].clone();
    assert_eq!((&listed[0]["id"], &listed[0]["temporaryAccessPass"]), (&first["id"], &Value::Null));
    let (_, second) = ask(&graph, json!({"lifetimeInMinutes": 120, "isUsableOnce": true})).await;
    assert_ne!((&second["id"], second["temporaryAccessPass"].as_str()), (&first["id"], Some(pass.as_str())));
    let listed = graph.get(PASSES).await.1["value"].as_array().unwrap().clone();
    assert_eq!(
        (listed.len(), &listed[0]["lifetimeInMinutes"], &listed[0]["isUsableOnce"]),
        (1, &json!(120), &json!(true))
    );
    assert!(!json!(graph.journal(0).await).to_string().contains(&pass));
    let names: Vec<String> =
        graph.effects().await.iter().map(|effect| effect.as_object().unwrap().keys().next().unwrap().clone()).collect();
    assert_eq!(names, ["registered", "replaced"]);
    let id = second["id"].as_str().unwrap();
    assert_eq!(graph.delete("temporaryAccessPassMethods", id).await.0, 204);
}

#[tokio::test]
async fn the_policy_bounds_a_pass() {
    let graph = Graph::with_methods("", &[]).await;
    for minutes in [json!(9), json!(59), json!(481), json!("60")] {
        status(&ask(&graph, json!({"lifetimeInMinutes": minutes})).await, 400, "badRequest");
    }
    status(&ask(&graph, json!({"startDateTime": "2020-01-01T00:00:00Z"})).await, 400, "badRequest");
    let (code, later) = ask(&graph, json!({"startDateTime": "2099-01-01T00:00:00Z"})).await;
    assert_eq!((code, &later["methodUsabilityReason"]), (201, &json!("NotYetValid")));
    graph.set(json!({"pass_policy": {"once_only": true, "maximum_minutes": 43200}})).await;
    assert_eq!(ask(&graph, json!({"isUsableOnce": false})).await.0, 400);
    assert_eq!(ask(&graph, json!({"lifetimeInMinutes": 43200})).await.1["isUsableOnce"], true);
    graph.change(json!({"userType": "Guest"})).await;
    assert_eq!(ask(&graph, json!({})).await.0, 400);
    graph.change(json!({"userType": "Member"})).await;
    graph.set(json!({"pass_policy": {"enabled": false}})).await;
    assert_eq!(ask(&graph, json!({})).await.0, 400);
}

#[tokio::test]
async fn no_app_resets_a_password() {
    let graph = Graph::with_methods("", &[]).await;
    let path = format!("/v1.0/users/ada@contoso.test/authentication/methods/{PASSWORD}/resetPassword");
    status(&graph.call(Method::POST, &path, Some(json!({}))).await, 403, "accessDenied");
}
