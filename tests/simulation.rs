//! One reset in a world that crashes before and after every effect, repeats every effect and fails every effect.
//!
//! The promises hold in each: one result id (G1, G4), nothing removed that was registered later (G2), the delivery
//! settled last (G3), two deliveries and two requests at once are safe (G11).

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use mfa_reset::domain::event::Event;
use mfa_reset::domain::guard::{HARMLESS_ROLES, Lookup, Membership};
use mfa_reset::domain::method::MethodType;
use mfa_reset::domain::outcome::{Fault, OutcomeKind};
use mfa_reset::domain::preference::Preference;
use mfa_reset::domain::profile::Profiles;
use mfa_reset::domain::reason::Reason;
use mfa_reset::domain::request::{Envelope, Lane, Request};
use mfa_reset::domain::retry::Limits;
use mfa_reset::domain::rules::{Policy, Rules};
use mfa_reset::domain::task::GRANTING;
use mfa_reset::ports::Job;
use mfa_reset::reset::{Concluded, Reset, Settlement};
use serde_json::json;
use world::{EFFECTS, Strike, World, method};

const STRIKES: [Strike; 5] = [Strike::CrashBefore, Strike::CrashAfter, Strike::Repeat, Strike::Fail, Strike::Lose];

#[tokio::test]
async fn a_lost_phone_is_reset_once_and_in_order() {
    let world = World::new();
    let kinds = drive(&world, job("1", "lost-phone"), 0).await;
    assert_eq!(kinds, [OutcomeKind::Succeeded]);
    world.with(|state| {
        let order: Vec<&str> = state.journal.iter().map(String::as_str).collect();
        assert_eq!(
            order,
            [
                "intent",
                "revoked",
                "removed alternate Some(\"other number\")",
                "removed mobile Some(\"old number\")",
                "removed app None",
                "revoked",
                "recorded",
                "published mfa-reset.succeeded.v1",
                "settled",
            ]
        );
        assert_eq!(state.audit.len(), 2);
    });
}

/// Returns to the deliveries of a job until it is settled, as the worker and the broker do together.
async fn drive(world: &World, mut job: Job, later: i64) -> Vec<OutcomeKind> {
    for _ in 0..60 {
        let settlement = run(world, &job).await;
        let dead = world.with(|state| state.dead);
        match settlement {
            _ if dead => {
                world.restart(later);
                register_anew(world);
            }
            Ok(
                Settlement::Concluded(Concluded { told: true, .. })
                | Settlement::Repeated
                | Settlement::Superseded
                | Settlement::Refused(..),
            ) => {
                world.with(|state| state.journal.push("settled".into()));
                match world.with(|state| state.copies.pop()) {
                    Some(copy) => {
                        job.envelope.deferral = copy;
                        job.envelope.first_seen = Some(jiff::Timestamp::from_second(1_000_000).unwrap());
                    }
                    None => return world.with(|state| state.published.iter().filter_map(Event::outcome).collect()),
                }
            }
            Ok(Settlement::Deferred(_)) => {
                job.envelope.deferral = world.with(|state| state.copies.pop()).expect("a deferred job has a copy");
                job.envelope.first_seen = Some(jiff::Timestamp::from_second(1_000_000).unwrap());
                wait(world);
            }
            Ok(Settlement::Again(_) | Settlement::GivenBack | Settlement::Concluded(_)) | Err(_) => wait(world),
        }
    }
    panic!("the job never settles: {:?}", world.with(|state| state.journal.clone()));
}

/// Leases run out while a copy waits.
fn wait(world: &World) {
    world.with(|state| {
        state.now += 20;
        state.rows.values_mut().for_each(|row| row.leased = false);
    });
}

/// The user registers a new mobile phone where the old one is gone: same id, another number.
fn register_anew(world: &World) {
    world.with(|state| {
        let begun = state.rows.values().any(|row| row.plan.is_some());
        if begun && !state.methods.iter().any(|method| method.method_type == MethodType::PhoneMobile) {
            state.methods.push(method(MethodType::PhoneMobile, "mobile", Some("new number")));
        }
    });
}

#[tokio::test]
async fn every_effect_may_crash_repeat_or_fail_and_the_promises_hold() {
    for (name, profile, prepare) in scenarios() {
        let clean = World::new();
        prepare(&clean);
        drive(&clean, job("1", profile), 0).await;
        let effects = clean.with(|state| state.effects.len());
        for strike in STRIKES {
            for at in 0..effects {
                for later in [1, 3600] {
                    let world = World::new();
                    prepare(&world);
                    world.with(|state| state.strike = Some((at, strike)));
                    drive(&world, job("1", profile), later).await;
                    promises(&world, &format!("{name}, {strike:?} at {at} of {effects}, {later} s later"));
                }
            }
        }
    }
}

async fn run(world: &World, job: &Job) -> Result<Settlement, Fault> {
    Reset { ports: world, job, rules: &rules() }.run(0.5).await
}

/// What it is called, what is asked for, and how the world is.
type Scenario = (&'static str, &'static str, fn(&World));

fn scenarios() -> [Scenario; 7] {
    [
        ("plain", "lost-phone", |_| ()),
        ("throttled", "lost-phone", |world| world.with(|state| state.throttle = 9)),
        ("alternate phone is the default", "lost-phone", |world| {
            world.with(|state| state.default_method = Some("alternate".into()));
        }),
        ("the default is told and stays in the way", "authenticator", |world| {
            world.with(|state| {
                (state.preference, state.tells_preference) = (Some(Preference::Push), true);
            });
        }),
        ("phones are set", "set-phones", |_| ()),
        ("no methods", "lost-phone", |world| world.with(|state| state.methods.truncate(1))),
        ("protected", "lost-phone", |world| {
            let role = vec![Membership::Role(Some("global administrator".into()))];
            world.with(|state| state.memberships = Some(Lookup::Complete(role)));
        }),
    ]
}

fn promises(world: &World, run: &str) {
    world.with(|state| {
        let ids: BTreeSet<_> =
            state.published.iter().filter(|event| event.outcome().is_some()).map(|event| event.id).collect();
        assert_eq!(ids.len(), 1, "G1, G4: one result id; {run}");
        let bodies: BTreeSet<String> = state.published.iter().map(|event| event.body.to_string()).collect();
        assert!(bodies.len() <= 2, "G4: repeats are the same; {run}");
        let new = state.removed.iter().any(|method| method.digest.as_deref() == Some("new number"));
        assert!(!new, "G2: a phone registered later was removed; {run}");
        let removed: BTreeSet<_> = state.removed.iter().map(|method| &method.id).collect();
        assert_eq!(removed.len(), state.removed.len(), "G2: removed once; {run}");
        let published = state.journal.iter().position(|line| line.starts_with("published mfa-reset"));
        let settled = state.journal.iter().position(|line| line == "settled");
        assert!(published < settled, "G3: settled after the result was published; {run}");
        let first_change = state.journal.iter().position(|line| line.starts_with("removed") || line == "revoked");
        let intent = state.journal.iter().position(|line| line == "intent");
        assert!(first_change.is_none() || intent < first_change, "G9: intent before the first change; {run}");
        assert!(state.held.is_empty(), "the user is released; {run}");
        let doubt = state.rows.values().any(world::in_doubt);
        let told = state.published.iter().any(|event| event.outcome() == Some(OutcomeKind::Partial));
        assert!(!doubt || told, "G5: nothing is left in doubt unsaid; {run}");
    });
}

#[tokio::test]
async fn every_effect_of_the_ports_is_met_by_some_scenario() {
    let ports = include_str!("../src/ports.rs");
    let declared = ports.lines().filter(|line| line.starts_with("    fn ")).count();
    assert_eq!(declared, EFFECTS.len() + 4, "now, call_id, digest and calls have no effect; every other is in EFFECTS");
    let mut met: BTreeSet<&str> = BTreeSet::new();
    for (_, profile, prepare) in scenarios() {
        let world = World::new();
        prepare(&world);
        drive(&world, job("1", profile), 0).await;
        met.extend(world.with(|state| state.effects.clone()));
    }
    let stranger = World::new();
    let mut forbidden = job("1", "lost-phone");
    forbidden.envelope.producer = None;
    drive(&stranger, forbidden, 0).await;
    met.extend(stranger.with(|state| state.effects.clone()));
    let busy = World::new();
    busy.with(|state| state.held.insert("user".into(), 99));
    let _ = run(&busy, &job("1", "lost-phone")).await;
    met.extend(busy.with(|state| state.effects.clone()));
    assert_eq!(met, EFFECTS.into_iter().collect());
}

#[tokio::test]
async fn a_redelivery_after_the_end_repeats_the_result_and_removes_nothing() {
    let world = World::new();
    drive(&world, job("1", "lost-phone"), 0).await;
    world.with(|state| state.now += 3600);
    register_anew(&world);
    drive(&world, job("1", "lost-phone"), 0).await;
    promises(&world, "redelivered an hour later");
    world.with(|state| assert_eq!(state.published.len(), 2));
}

#[tokio::test]
async fn the_same_number_registered_again_is_not_guessed_at() {
    let world = World::new();
    // The answer to the removal of the mobile phone is lost with the process, then the user registers it again.
    let effects = {
        let clean = World::new();
        drive(&clean, job("1", "lost-phone"), 0).await;
        clean.with(|state| state.effects.clone())
    };
    let mut removals = effects.iter().enumerate().filter(|(_, name)| **name == "remove");
    // Alternate mobile, Authenticator (refused as the default), mobile.
    let (mobile, _) = removals.nth(2).unwrap();
    world.with(|state| state.strike = Some((mobile, Strike::CrashAfter)));
    let dead = run(&world, &job("1", "lost-phone")).await;
    assert!(matches!(dead, Err(Fault::Stopped) | Ok(Settlement::GivenBack)));
    world.restart(3600);
    world.with(|state| state.methods.push(method(MethodType::PhoneMobile, "mobile", Some("old number"))));
    drive(&world, job("1", "lost-phone"), 0).await;
    world.with(|state| {
        assert!(state.methods.iter().any(|method| method.id == "mobile"), "the phone stays");
        assert_eq!(state.published[0].reason(), Some(Reason::Ambiguous));
    });
}

#[tokio::test]
async fn a_method_under_the_same_id_with_another_number_before_its_turn_stays() {
    let world = World::new();
    world.with(|state| state.strike = Some((5, Strike::CrashAfter)));
    let _ = run(&world, &job("1", "lost-phone")).await;
    world.restart(3600);
    world.with(|state| {
        let phone = state.methods.iter_mut().find(|method| method.id == "mobile").unwrap();
        phone.digest = Some("new number".into());
    });
    drive(&world, job("1", "lost-phone"), 0).await;
    promises(&world, "replaced before its turn");
    world.with(|state| assert!(state.methods.iter().any(|method| method.digest.as_deref() == Some("new number"))));
}

#[tokio::test]
async fn a_phone_registered_while_the_job_waits_its_turn_stays() {
    // Sessions, alternate mobile, then the mobile phone's turn or the one before it.
    for admission in [1, 2, 3, 4] {
        let world = World::new();
        world.with(|state| state.slow_admission = Some(admission));
        let kinds = drive(&world, job("1", "lost-phone"), 0).await;
        promises(&world, &format!("a slow turn {admission}"));
        world.with(|state| {
            assert!(state.methods.iter().any(|method| method.digest.as_deref() == Some("new number")));
            assert_eq!(kinds.len(), 1);
        });
    }
}

#[tokio::test]
async fn a_request_sent_again_after_its_copy_vanished_is_worked_on() {
    let world = World::new();
    world.with(|state| state.held.insert("user".into(), 99));
    let waiting = run(&world, &job("1", "lost-phone")).await;
    assert!(matches!(waiting, Ok(Settlement::Deferred(_))), "{waiting:?}");
    wait(&world);
    world.with(|state| (state.held.clear(), state.copies.clear()));
    assert_eq!(drive(&world, job("1", "lost-phone"), 0).await, [OutcomeKind::Succeeded]);
}

#[tokio::test]
async fn a_job_left_by_its_message_is_ended_and_frees_its_user() {
    let world = World::new();
    world.with(|state| state.strike = Some((12, Strike::CrashAfter)));
    let _ = run(&world, &job("1", "lost-phone")).await;
    world.restart(100_000);
    let (lease, plan) = world.with(|state| {
        let row = state.rows.values_mut().next().unwrap();
        row.leased = true;
        row.lease.fence += 1;
        (row.lease.clone(), row.plan.clone())
    });
    let job = job("1", "lost-phone");
    let ended = Reset { ports: &world, job: &job, rules: &rules() }.abandon(lease, Some("user".into()), plan).await;
    assert!(matches!(ended, Ok(Settlement::Concluded(Concluded { told: true, .. }))), "{ended:?}");
    world.with(|state| {
        assert_eq!(state.published[0].reason(), Some(Reason::DeadlineExceeded));
        assert_eq!(state.published[0].outcome(), Some(OutcomeKind::Partial));
        assert!(state.held.is_empty());
    });
}

#[tokio::test]
async fn who_becomes_an_administrator_meanwhile_is_not_reset_any_further() {
    for (effect, kind, removed) in [("write_plan", OutcomeKind::Denied, 0), ("remove", OutcomeKind::Partial, 1)] {
        let world = World::new();
        let clean = World::new();
        drive(&clean, job("1", "all"), 0).await;
        let at = clean.with(|state| state.effects.iter().position(|name| *name == effect)).unwrap();
        world.with(|state| state.strike = Some((at, Strike::CrashAfter)));
        let _ = run(&world, &job("1", "all")).await;
        world.restart(600);
        let role = vec![Membership::Role(Some("global administrator".into()))];
        world.with(|state| state.memberships = Some(Lookup::Complete(role)));
        assert_eq!(drive(&world, job("1", "all"), 0).await, [kind], "{effect}");
        world.with(|state| {
            assert_eq!(state.removed.len(), removed, "{effect}");
            assert_eq!(state.published[0].reason(), Some(Reason::ProtectedTarget));
        });
    }
}

#[tokio::test]
async fn two_deliveries_of_one_request_at_once_are_safe() {
    let world = World::new();
    tokio::join!(drive_one(&world, job("1", "lost-phone")), drive_one(&world, job("1", "lost-phone")));
    drive(&world, job("1", "lost-phone"), 0).await;
    promises(&world, "two deliveries at once");
    world.with(|state| assert_eq!(state.revoked, 2));
}

#[tokio::test]
async fn two_deliveries_at_once_are_safe_whatever_effect_crashes_repeats_or_fails() {
    let clean = World::new();
    tokio::join!(drive_one(&clean, job("1", "lost-phone")), drive_one(&clean, job("1", "lost-phone")));
    let effects = clean.with(|state| state.effects.len());
    for strike in STRIKES {
        for at in 0..effects {
            let world = World::new();
            world.with(|state| state.strike = Some((at, strike)));
            tokio::join!(drive_one(&world, job("1", "lost-phone")), drive_one(&world, job("1", "lost-phone")));
            world.restart(3600);
            register_anew(&world);
            drive(&world, job("1", "lost-phone"), 0).await;
            promises(&world, &format!("two deliveries, {strike:?} at {at} of {effects}"));
        }
    }
}

#[tokio::test]
async fn two_requests_for_one_user_take_turns() {
    let world = World::new();
    tokio::join!(drive_one(&world, job("1", "lost-phone")), drive_one(&world, job("2", "all")));
    world.with(|state| assert_eq!(std::mem::take(&mut state.copies), [1], "one of them waits"));
    let waiting = [job("1", "lost-phone"), job("2", "all")];
    for job in waiting {
        drive(&world, job, 0).await;
    }
    world.with(|state| {
        let ids: BTreeSet<_> = state.published.iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), 2);
        assert_eq!(state.removed.len(), 4, "each method went once");
        assert!(state.held.is_empty());
    });
}

async fn drive_one(world: &World, job: Job) {
    let _ = run(world, &job).await;
}

#[tokio::test]
async fn the_same_id_with_another_fingerprint_is_rejected_under_an_id_of_its_own() {
    let world = World::new();
    drive(&world, job("1", "lost-phone"), 0).await;
    let kinds = drive(&world, job("1", "all"), 0).await;
    assert_eq!(kinds, [OutcomeKind::Succeeded, OutcomeKind::Rejected]);
    world.with(|state| assert_ne!(state.published[0].id, state.published[1].id));
}

#[tokio::test]
async fn an_expired_request_is_never_surveyed() {
    let world = World::new();
    world.with(|state| state.now += 25 * 3600);
    let kinds = drive(&world, job("1", "lost-phone"), 0).await;
    assert_eq!(kinds, [OutcomeKind::Expired]);
    world.with(|state| assert!(!state.effects.contains(&"resolve")));
}

#[tokio::test]
async fn a_method_that_graph_calls_absent_and_still_lists_is_not_called_removed() {
    let world = World::new();
    world.with(|state| state.methods.push(method(MethodType::SoftwareOath, "stuck", None)));
    // The pretended Graph removes by place: take the method away and let every list still show it.
    world.with(|state| state.not_found = true);
    drive(&world, job("1", "lost-phone"), 0).await;
    world.with(|state| assert_eq!(state.published[0].reason(), Some(Reason::NotFoundButListed)));
}

#[tokio::test]
async fn a_replay_is_let_in_as_if_it_came_first_and_a_deferred_copy_is_not_asked_again() {
    for (replayed, effects) in [(true, &["record_refusal", "publish"][..]), (false, &["recall"])] {
        let (world, mut job) = (World::new(), job("1", "lost-phone"));
        job.envelope.first_seen = Some(jiff::Timestamp::from_second(1_000_000).unwrap());
        (job.envelope.producer, job.envelope.replayed) = (None, replayed);
        drive(&world, job, 0).await;
        world.with(|state| assert!(state.effects.starts_with(effects), "{replayed}: {:?}", state.effects));
    }
}

fn job(id: &str, profile: &str) -> Job {
    let steps = match profile {
        "set-phones" => json!([
            {"remove_methods": {"types": ["fido2"]}},
            {"set_phones": {"mobile": "+1 5550101", "office": "+1 5550102"}},
            {"set_per_user_mfa": {"state": "enabled"}}, {"revoke_sessions": {}},
        ]),
        "list" => json!([{"list_methods": {}}]),
        _ => serde_json::Value::Null,
    };
    let profile = steps.is_null().then_some(profile);
    let body = json!({
        "id": id, "ticket": {"system": "servicenow", "number": "INC1"}, "target": {"upn": "ada@contoso.test"},
        "profile": profile, "steps": steps, "requested_by": "sam@contoso.test", "requested_at": "1970-01-12T13:46:40Z",
    });
    let envelope = Envelope { producer: Some("itsm".into()), ..Envelope::bare(Lane::Tickets) };
    let request = Request::parse(body.to_string().as_bytes(), &envelope, &Profiles::default()).unwrap();
    Job { request, envelope }
}

fn rules() -> Rules {
    let policy = Policy {
        producers: Some(["itsm".to_owned()].into()),
        protected_users: BTreeSet::new(),
        protected_groups: BTreeSet::new(),
        harmless_roles: HARMLESS_ROLES.map(str::to_owned).into(),
        cool_down: Duration::ZERO,
        max_resets_per_hour: 600,
        enabled_steps: GRANTING.map(str::to_owned).into(),
    };
    let limits = Limits { max_attempts: 8, deadline: Duration::from_secs(86_400) };
    Rules { policy, limits, app: "app".into(), profiles: Profiles::default() }
}

#[tokio::test]
async fn steps_are_carried_out_in_order_and_told_one_by_one() {
    let world = World::new();
    assert_eq!(drive(&world, job("1", "set-phones"), 0).await, [OutcomeKind::Succeeded]);
    world.with(|state| {
        let data = &state.published[0].body["data"];
        let told: Vec<_> =
            data["steps"].as_array().unwrap().iter().map(|step| (&step["step"], &step["result"])).collect();
        let (phones, done) = (json!("set_phones"), json!("done"));
        let expected = [
            (&phones, &done),
            (&phones, &done),
            (&json!("set_per_user_mfa"), &done),
            (&json!("revoke_sessions"), &done),
        ];
        assert_eq!(told, expected);
        assert_eq!((&data["verified"], &data["methods_removed"]), (&json!(true), &json!(2)));
        let record = state.audit.iter().map(ToString::to_string).collect::<String>();
        assert!(
            !state.published[0].body.to_string().contains("555") && !record.contains("+1 555"),
            "no number is told"
        );
    });
}

#[tokio::test]
async fn a_list_changes_nothing_and_a_step_that_is_not_enabled_is_denied_at_the_door() {
    let world = World::new();
    assert_eq!(drive(&world, job("1", "list"), 0).await, [OutcomeKind::Succeeded]);
    world.with(|state| {
        assert_eq!(state.published[0].body["data"]["methods_left"], 4);
        assert!(!state.effects.iter().any(|name| ["write_plan", "advance", "remove", "change"].contains(name)));
    });
    let (mut rules, asked) = (rules(), job("2", "set-phones"));
    rules.policy.enabled_steps.clear();
    let refused = Reset { ports: &world, job: &asked, rules: &rules }.run(0.5).await;
    assert!(matches!(refused, Ok(Settlement::Refused(outcome, _)) if outcome.reason == Reason::StepNotEnabled));
}

#[tokio::test]
async fn the_default_is_changed_before_it_goes() {
    let world = World::new();
    world.with(|state| (state.preference, state.tells_preference) = (Some(Preference::Push), true));
    assert_eq!(drive(&world, job("1", "authenticator"), 0).await, [OutcomeKind::Succeeded]);
    world.with(|state| assert_eq!(state.default_method.as_deref(), Some("mobile")));
    let (catch, untold) = (World::new(), World::new());
    for (world, tells) in [(&catch, true), (&untold, false)] {
        world.with(|state| {
            state.default_method = Some("alternate".into());
            (state.preference, state.tells_preference) = (Some(Preference::VoiceAlternateMobile), tells);
        });
    }
    assert_eq!(drive(&catch, job("1", "all"), 0).await, [OutcomeKind::Succeeded]);
    catch.with(|state| assert_eq!(state.methods.len(), 1, "all but the password"));
    assert_eq!(drive(&untold, job("1", "all"), 0).await, [OutcomeKind::Partial]);
    untold.with(|state| assert_eq!(state.published[0].reason(), Some(Reason::BlockedDefault)));
}
