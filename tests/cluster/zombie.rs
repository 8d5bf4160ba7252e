//! Workers that are frozen past their leases, and workers that lose sight of the ledger: whatever they were about to do,
//! another one has done it by the time they wake up, the user has a new phone, and that phone stays.

use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::gate::Gate;
use crate::postgres::Postgres;
use crate::proxy::Line;
use crate::rabbit::{self, Rabbit};
use crate::scene::{Scene, fault};
use crate::secrets::BROKER_PASSWORD;
use crate::stage::until;

/// The worker that is frozen, and the one that takes over.
const A: usize = 0;
const B: usize = 1;
/// Whose phone it is about, and who comes afterwards.
const OWNER: usize = 3;
const OTHERS: [usize; 4] = [13, 14, 15, 16];
const REQUEST: &str = "zombie:lost-phone";
/// Missed heartbeats, the lease, the longest call, and the retry queue, with room to spare.
const TAKEN_OVER: Duration = Duration::from_secs(120);

/// What the database of a story is called.
type Name = &'static str;
/// How a story goes.
type Story = fn(Name, (&Rabbit, &Postgres));

/// Whether the broker notices that A is frozen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broker {
    /// It misses A's heartbeats and gives B what A had in hand; A wakes up without a session, which stops it too.
    Awake,
    /// It goes on waiting for A, and B has the request from a second publication. Nothing but the ledger stops A.
    Fooled,
}
use Broker::{Awake, Fooled};

/// Each on a thread of its own, at the same time: what takes long is to wait for leases.
const STORIES: [(Name, Story); 8] = [
    ("survey", |name, servers| play(zombie(name, servers, Fooled, frozen_in_the_survey))),
    ("list", |name, servers| play(zombie(name, servers, Fooled, frozen_in_a_list))),
    ("list_awake", |name, servers| play(zombie(name, servers, Awake, frozen_in_a_list))),
    ("throttled", |name, servers| play(zombie(name, servers, Fooled, frozen_while_graph_asks_to_wait))),
    ("looks", |name, servers| play(zombie(name, servers, Fooled, frozen_between_two_looks))),
    ("removal", |name, servers| play(zombie(name, servers, Fooled, frozen_in_a_removal))),
    ("ledger", |name, servers| play(zombie(name, servers, Fooled, frozen_in_a_call_of_the_ledger))),
    ("blind", |name, (rabbit, postgres)| play(blind(name, rabbit, postgres))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sleeps_through_its_lease_removes_nothing_when_it_wakes() {
    let (rabbit, postgres) = tokio::join!(Rabbit::start(1), Postgres::start());
    for (name, _) in STORIES {
        postgres.make(name).await;
    }
    thread::scope(|scope| {
        let servers = (&rabbit, &postgres);
        for (name, story) in STORIES {
            let named = thread::Builder::new().name(format!("zombie {name}"));
            named.spawn_scoped(scope, move || story(name, servers)).unwrap();
        }
        let alone = thread::Builder::new().name("zombie alone".into());
        alone.spawn_scoped(scope, || play(frozen_alone(&rabbit))).unwrap();
    });
}

fn play(story: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(story);
}

/// A is caught in the middle of a reset; B finishes it; the user registers a new phone; A wakes up.
async fn zombie(
    name: Name,
    servers: (&Rabbit, &Postgres),
    broker: Broker,
    catch: impl AsyncFnOnce(&mut Scene<'_>, &Gate),
) {
    let (rabbit, postgres) = servers;
    let mut scene = Scene::new(name, rabbit, Some(postgres), 2).await;
    if broker == Fooled {
        let (user, password, way) = (rabbit::WORKER, BROKER_PASSWORD, scene.crew[A].broker.address);
        scene.crew[A].set("BROKER__URL", &format!("amqp://{user}:{password}@{way}/%2f?heartbeat=600"));
    }
    let gate = begin(&mut scene).await;
    catch(&mut scene, &gate).await;
    let frozen = Instant::now();
    forget_the_longest_call(postgres, name).await;
    scene.simulate(json!({"lag_ms": 0})).await;
    scene.start(B).await;
    match broker {
        Awake => scene.answered(TAKEN_OVER).await,
        Fooled => ask_until_answered(&mut scene).await,
    }
    println!("{name}: taken over after {:.0} s", frozen.elapsed().as_secs_f64());
    assert!(scene.register_anew(OWNER).await, "{name}: the old phone is gone");
    let changes = scene.changes(OWNER).await;
    scene.crew[A].ledger.set(Line::Whole);
    scene.crew[A].thaw();
    works_again(&mut scene).await;
    assert_eq!(scene.changes(OWNER).await, changes, "{name}: the sleeper changed something");
    scene.stop(A).await;
    scene.judge().await;
}

/// By itself nobody takes over before A's longest call is over, so that no answer comes after. Fencing is there for when that
/// is not enough.
async fn forget_the_longest_call(postgres: &Postgres, name: Name) {
    postgres.change(name, "UPDATE jobs SET lease_grace = 3000").await;
}

/// Starts A behind a gate, and gives the owner the phone that it is about.
async fn begin(scene: &mut Scene<'_>) -> Gate {
    let gate = Gate::start(scene.graph()).await;
    let a = &mut scene.crew[A];
    a.set("GRAPH__ENDPOINT", &format!("http://{}", gate.address));
    // What Graph answered while A slept is still an answer to it.
    a.set("GRAPH__TIMEOUT", "300s");
    a.set("SHUTDOWN__GRACE_PERIOD", "300s");
    scene.start(A).await;
    scene.with_only_mobile(OWNER).await;
    gate
}

/// Publishes the same request again and again: the broker gives one to A, which keeps it, and the next one to B.
async fn ask_until_answered(scene: &mut Scene<'_>) {
    let begun = Instant::now();
    while !scene.is_answered().await {
        assert!(begun.elapsed() < TAKEN_OVER, "{}: nobody takes over", scene.name);
        scene.ask_again(REQUEST).await;
        sleep(Duration::from_secs(3)).await;
    }
}

/// Waits until A has got rid of what it had, then lets it work alone.
async fn works_again(scene: &mut Scene<'_>) {
    let what = format!("{}: the sleeper is ready and has nothing in hand", scene.name);
    until(Duration::from_secs(90), &what, async || {
        scene.crew[A].is_ready().await && scene.crew[A].in_flight().await == Some(0.0)
    })
    .await;
    scene.quiet(Duration::from_secs(60)).await;
    if scene.crew.len() > 1 {
        scene.stop(B).await;
    }
    for user in OTHERS {
        scene.ask(&format!("afterwards {user}:all"), user, "all").await;
    }
    scene.answered(Duration::from_secs(60)).await;
    scene.quiet(Duration::from_secs(60)).await;
}

/// Asks for the reset and freezes A in the middle of this call, whose answer lies ready for it when it wakes.
async fn freeze_in(scene: &mut Scene<'_>, gate: &Gate, word: &'static str) {
    gate.watch_for(word);
    scene.ask(REQUEST, OWNER, "lost-phone").await;
    gate.passed().await;
    scene.crew[A].freeze();
    gate.let_go();
}

const SURVEY: &str = "POST /v1.0/$batch ";
const LIST: &str = "/authentication/methods ";
const REVOCATION: &str = "/revokeSignInSessions ";
const REMOVAL: &str = "DELETE ";

/// The list that the plan is to be made from is under way; it shows the old phone.
async fn frozen_in_the_survey(scene: &mut Scene<'_>, gate: &Gate) {
    freeze_in(scene, gate, SURVEY).await;
}

/// An answer was lost, and the list that is to settle it is under way; it shows the old phone.
async fn frozen_in_a_list(scene: &mut Scene<'_>, gate: &Gate) {
    scene.fault(OWNER, fault("delete_method", "close")).await;
    freeze_in(scene, gate, LIST).await;
    scene.until_called(OWNER, "list_methods", 1).await;
}

/// The removal is on its way, and nothing can call it back.
async fn frozen_in_a_removal(scene: &mut Scene<'_>, gate: &Gate) {
    freeze_in(scene, gate, REMOVAL).await;
    scene.until_called(OWNER, "delete_method", 1).await;
}

/// The ledger is asked whether the removal may be sent, and the question is on its way.
async fn frozen_in_a_call_of_the_ledger(scene: &mut Scene<'_>, gate: &Gate) {
    line_stalls_before_the_removal(scene, gate).await;
    scene.crew[A].freeze();
}

/// Graph has asked to wait before the removal.
async fn frozen_while_graph_asks_to_wait(scene: &mut Scene<'_>, _: &Gate) {
    scene.fault(OWNER, json!({"operation": "delete_method", "retry_after": "25"})).await;
    scene.ask(REQUEST, OWNER, "lost-phone").await;
    scene.until_called(OWNER, "delete_method", 1).await;
    // Long enough for the others to hear of it.
    sleep(Duration::from_secs(3)).await;
    scene.crew[A].freeze();
}

/// The phone is gone, lists still show it, and the next look is seconds away.
async fn frozen_between_two_looks(scene: &mut Scene<'_>, _: &Gate) {
    scene.simulate(json!({"lag_ms": 600_000})).await;
    scene.ask(REQUEST, OWNER, "lost-phone").await;
    scene.until_called(OWNER, "list_methods", 4).await;
    scene.crew[A].freeze();
}

/// While sessions are being revoked, A's line to the database stops: what it asks next never gets there.
async fn line_stalls_before_the_removal(scene: &mut Scene<'_>, gate: &Gate) {
    gate.watch_for(REVOCATION);
    scene.ask(REQUEST, OWNER, "lost-phone").await;
    gate.passed().await;
    scene.crew[A].ledger.set(Line::Stalled);
    gate.let_go();
    sleep(Duration::from_secs(2)).await;
    assert!(scene.calls(OWNER, "delete_method").await.is_empty(), "it does not remove without asking");
}

/// A sees the ledger no more and is awake all the time; the broker has given B the request too.
async fn blind(name: Name, rabbit: &Rabbit, postgres: &Postgres) {
    let mut scene = Scene::new(name, rabbit, Some(postgres), 2).await;
    let gate = begin(&mut scene).await;
    line_stalls_before_the_removal(&mut scene, &gate).await;
    let stalled = Instant::now();
    forget_the_longest_call(postgres, name).await;
    scene.start(B).await;
    ask_until_answered(&mut scene).await;
    println!("{name}: taken over after {:.0} s", stalled.elapsed().as_secs_f64());
    let what = "a worker without its ledger is not ready";
    until(Duration::from_secs(45), what, async || !scene.crew[A].is_ready().await).await;
    assert!(scene.register_anew(OWNER).await, "the old phone is gone");
    let changes = scene.changes(OWNER).await;
    sleep(Duration::from_secs(60).saturating_sub(stalled.elapsed())).await;
    scene.crew[A].ledger.set(Line::Whole);
    works_again(&mut scene).await;
    assert_eq!(scene.changes(OWNER).await, changes, "the blind one changed something");
    scene.stop(A).await;
    scene.judge().await;
}

/// One worker, one file: nobody takes over, and still its lease is over when it wakes up.
async fn frozen_alone(rabbit: &Rabbit) {
    let mut scene = Scene::new("alone", rabbit, None, 1).await;
    let gate = begin(&mut scene).await;
    frozen_in_a_list(&mut scene, &gate).await;
    let (frozen, removals) = (Instant::now(), scene.calls(OWNER, "delete_method").await.len());
    scene.replace_mobile(OWNER).await;
    sleep(Duration::from_secs(60).saturating_sub(frozen.elapsed())).await;
    scene.crew[A].thaw();
    scene.answered(TAKEN_OVER).await;
    works_again(&mut scene).await;
    assert_eq!(scene.calls(OWNER, "delete_method").await.len(), removals, "the sleeper removed something");
    scene.stop(A).await;
    scene.judge().await;
}
