//! Against the simulator, which was written from Graph's schema and not from this client.

use std::sync::Arc;
use std::time::Duration;

use mfa_reset::adapters::graph::{Graph, Trail};
use mfa_reset::domain::guard::{Lookup, Membership};
use mfa_reset::domain::method::MethodType;
use mfa_reset::domain::outcome::Fault;
use mfa_reset::domain::plan::Reach;
use mfa_reset::domain::plan::Refusal;
use mfa_reset::domain::request::{Lane, Target};
use mfa_reset::ports::Reply;
use mfa_reset::simulator::{self, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bench::settings;

const ADMIN_ROLE: &str = "62e90394-69f5-4237-9190-012177145e10";

/// A served tenant, until it is dropped.
pub struct Tenant {
    pub root: String,
    pub http: reqwest::Client,
    pub graph: Arc<Graph>,
    _server: JoinSet<()>,
}

impl Tenant {
    pub async fn new(options: Options) -> Self {
        Self::with(options, false).await
    }

    /// With the beta API, or without it.
    pub async fn with(options: Options, beta: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { simulator::serve(listener, options, std::future::pending()).await.unwrap() });
        let mut settings = settings(&root, &root, &Arc::default());
        settings.requests_per_second = 200.0;
        settings.timeout = Duration::from_secs(2);
        settings.beta = beta;
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self { graph: Arc::new(Graph::new(settings).unwrap()), root, http, _server: server }
    }

    pub async fn fault(&self, fault: Value) {
        let sent = self.http.post(format!("{}/_simulator/faults", self.root)).json(&fault).send().await.unwrap();
        assert!(sent.status().is_success(), "{:?}", sent.text().await);
    }

    pub async fn journal(&self) -> Vec<Value> {
        self.http.get(format!("{}/_simulator/journal", self.root)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn id(&self, upn: &str) -> String {
        let target = Target { object_id: None, upn: Some(upn.to_owned()), mail: None };
        self.graph.resolve(Lane::Tickets, &target, &Trail::default()).await.unwrap().object_id
    }
}

fn ada() -> Options {
    let tenant = json!({
        "premium": false,
        "groups": [{"id": "00000000-0000-0000-0000-0000000000a1", "displayName": "Team", "isAssignableToRole": false},
                   {"id": "00000000-0000-0000-0000-0000000000a2", "displayName": "Secret", "hidden": true}],
        "users": [{"userPrincipalName": "ada_b.org#EXT#@contoso.test", "mail": "ada@b.org", "roles": [ADMIN_ROLE],
            "groups": ["00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"],
            "proxyAddresses": ["SMTP:ada@b.org", "smtp:o'ada@b.org"], "defaultMethod": "sms",
            "methods": [{"type": "phone_mobile", "value": "+1 5550100"}, {"type": "fido2"}, {"type": "software_oath"}]}]});
    Options { tenant: Some(tenant), ..Options::default() }
}

#[tokio::test]
async fn a_user_is_found_by_every_name_and_surveyed() {
    let tenant = Tenant::new(ada()).await;
    let id = tenant.id("ada_b.org#ext#@contoso.test").await;
    for (object_id, mail) in [(None, "ada@b.org"), (None, "o'ada@b.org"), (Some(id.clone()), "o'ada@b.org")] {
        let target = Target { object_id, upn: None, mail: Some(mail.to_owned()) };
        let user = tenant.graph.resolve(Lane::Batch, &target, &Trail::default()).await.unwrap();
        assert_eq!(user.object_id, id);
    }
    let facts = tenant.graph.survey(Lane::Tickets, &id, &Trail::default()).await.unwrap();
    let Lookup::Complete(memberships) = &facts.memberships else { panic!("{:?}", facts.memberships) };
    assert!(memberships.contains(&Membership::Role(Some(ADMIN_ROLE.to_owned()))));
    let readable = |seen: &Membership| match seen {
        Membership::Group { readable, .. } => Some(*readable),
        Membership::Role(_) | Membership::AdministrativeUnit | Membership::Unreadable => None,
    };
    let mut groups: Vec<bool> = memberships.iter().filter_map(readable).collect();
    groups.sort_unstable();
    assert_eq!(groups, [false, true]);
    assert_eq!(facts.assignments, Lookup::Complete(vec![Some(ADMIN_ROLE.to_owned())]));
    assert_eq!(facts.eligibilities, Lookup::NotLicensed);
    assert_eq!(facts.methods.len(), 4, "the password too");
}

#[tokio::test]
async fn methods_go_one_by_one_and_the_default_last() {
    let tenant = Tenant::new(ada()).await;
    let id = tenant.id("ada_b.org#ext#@contoso.test").await;
    let graph = &tenant.graph;
    let mut methods = graph.list_methods(Lane::Tickets, &id, &Reach::default(), &Trail::default()).await.unwrap();
    methods.retain(|method| method.method_type != MethodType::Password);
    methods.sort_by_key(|method| method.method_type != MethodType::PhoneMobile);
    let refused = graph.remove(&id, &methods[0], Uuid::new_v4(), jiff::Timestamp::now()).await;
    assert_eq!(refused, Ok(Reply::Refused(Refusal::Default)));
    for method in methods.iter().rev() {
        graph.admit(Lane::Tickets, &CancellationToken::new()).await.unwrap();
        assert_eq!(graph.remove(&id, method, Uuid::new_v4(), jiff::Timestamp::now()).await, Ok(Reply::Done));
    }
    assert_eq!(graph.remove(&id, &methods[1], Uuid::new_v4(), jiff::Timestamp::now()).await, Ok(Reply::NotFound));
    graph.revoke_sessions(&id, Uuid::new_v4(), jiff::Timestamp::now()).await.unwrap();
    assert_eq!(graph.list_methods(Lane::Tickets, &id, &Reach::default(), &Trail::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_effect_whose_answer_is_lost_is_unknown() {
    let tenant = Tenant::new(ada()).await;
    let id = tenant.id("ada_b.org#ext#@contoso.test").await;
    let methods = tenant.graph.list_methods(Lane::Tickets, &id, &Reach::default(), &Trail::default()).await.unwrap();
    let key = methods.iter().find(|method| method.method_type == MethodType::Fido2).unwrap();
    for mode in ["stall", "close", "drop_after_apply"] {
        tenant.fault(json!({"operation": "delete_method", "mode": mode})).await;
        let fault = tenant.graph.remove(&id, key, Uuid::new_v4(), jiff::Timestamp::now()).await;
        assert!(matches!(fault, Err(Fault::Unknown { .. })), "{mode}: {fault:?}");
    }
    let left = tenant.graph.list_methods(Lane::Tickets, &id, &Reach::default(), &Trail::default()).await.unwrap();
    assert_eq!(left.len(), methods.len() - 1);
}

#[tokio::test]
async fn reading_rides_out_a_broken_answer() {
    let tenant = Tenant::new(ada()).await;
    let id = tenant.id("ada_b.org#ext#@contoso.test").await;
    for mode in ["malformed", "close"] {
        tenant.fault(json!({"operation": "list_methods", "mode": mode})).await;
        tenant.graph.list_methods(Lane::Tickets, &id, &Reach::default(), &Trail::default()).await.unwrap();
        tenant.fault(json!({"operation": "list_memberships", "mode": mode})).await;
        let facts = tenant.graph.survey(Lane::Tickets, &id, &Trail::default()).await.unwrap();
        assert!(matches!(facts.memberships, Lookup::Complete(_)), "{mode}: {:?}", facts.memberships);
    }
}

async fn resolve_all(tenant: &Tenant, users: usize) -> Vec<Result<(), Fault>> {
    let mut jobs = JoinSet::new();
    for n in 1..=users {
        let graph = Arc::clone(&tenant.graph);
        let target = Target { object_id: None, upn: Some(format!("user{n:05}@contoso.test")), mail: None };
        jobs.spawn(async move { graph.resolve(Lane::Batch, &target, &Trail::default()).await.map(|_| ()) });
    }
    jobs.join_all().await
}

#[tokio::test]
async fn once_graph_asked_to_wait_nobody_calls_too_early() {
    let tenant = Tenant::new(Options { users: 39, ..Options::default() }).await;
    tenant.fault(json!({"operation": "get_user", "status": 429, "retry_after": "1.5"})).await;
    let asked = async {
        while tenant.graph.held_until().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        resolve_all(&tenant, 39).await
    };
    let (first, ended) = tokio::join!(tenant.id("user00001@contoso.test"), asked);
    assert!(!first.is_empty() && ended.iter().all(Result::is_ok), "{ended:?}");
    let journal = tenant.journal().await;
    let calls: Vec<&Value> = journal.iter().filter(|call| call["operation"] == "get_user").collect();
    assert_eq!((calls.len(), &calls[0]["status"]), (41, &json!(429)));
    let at = |call: &Value| call["at_ms"].as_u64().unwrap();
    assert!(calls[1..].iter().all(|call| at(call) >= at(calls[0]) + 1500), "{calls:#?}");
}

#[tokio::test]
async fn a_throttled_tenant_is_served_in_the_end_without_a_hot_loop() {
    let options = Options { users: 39, rate: Some(5.0), omit_percentage: true, ..Options::default() };
    let tenant = Tenant::new(options).await;
    let ended = resolve_all(&tenant, 39).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let throttled = tenant.journal().await.iter().filter(|call| call["status"] == 429).count();
    assert!((1..39).contains(&throttled), "{throttled}");
}

#[tokio::test]
async fn a_tenant_that_says_how_much_is_used_need_not_refuse_anything() {
    let tenant = Tenant::new(Options { users: 39, rate: Some(20.0), ..Options::default() }).await;
    for _ in 0..4 {
        assert!(resolve_all(&tenant, 39).await.iter().all(Result::is_ok));
    }
    let journal = tenant.journal().await;
    let throttled = journal.iter().filter(|call| call["status"] == 429).count();
    assert!(throttled <= 4, "{throttled} of {}", journal.len());
}
