//! Death before and after every effect that a reset can have, against both real ledgers, a real broker and a Graph that
//! remembers. A victim for each point; when all are dead, one worker finishes what they left.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lapin::options::BasicGetOptions;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::crashing::{self, POINT, Point, REQUEST, Side, TRACE};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::rabbit::Rabbit;
use crate::scene::{Scene, fault};
use crate::stage::until;

/// How a reset goes, and at which of its effects victims die.
struct Story {
    name: &'static str,
    who: Who,
    /// What goes wrong with the first removal or setting.
    fault: fn() -> Option<Value>,
    /// The effects at which victims die: in a row, from the first one of the reset that has the first name.
    effects: &'static [&'static str],
}

/// Who asks for what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// One who may, for somebody new each time.
    Producer,
    /// One who may, to set the phones of somebody new each time.
    Setter,
    /// One who may, again and again what the plain story's survivor has done.
    Again,
    /// One who may not.
    Stranger,
}

/// The copies of the first wait for a minute, in which the others are told.
const STORIES: [Story; 7] = [
    Story {
        name: "throttled",
        who: Who::Producer,
        fault: || Some(json!({"operation": "delete_method", "retry_after": "61"})),
        effects: &["publish", "record_deferral", "pause", "publish_copy", "record_deferral"],
    },
    Story {
        name: "plain",
        who: Who::Producer,
        fault: || None,
        effects: &[
            "recall",
            "resolve",
            "take_user",
            "survey",
            "write_plan",
            "admit",
            "advance",
            "revoke_sessions",
            "admit",
            "advance",
            "remove",
            "admit",
            "advance",
            "revoke_sessions",
            "advance",
            "pause",
            "list_methods",
            "record_outcome",
            "publish",
            "mark_published",
        ],
    },
    Story {
        name: "unanswered",
        who: Who::Producer,
        fault: || Some(fault("delete_method", "drop_after_apply")),
        effects: &["remove", "list_methods"],
    },
    Story {
        name: "set",
        who: Who::Setter,
        fault: || None,
        effects: &["admit", "advance", "change", "admit", "advance", "change", "advance", "pause", "list_methods"],
    },
    Story {
        name: "unheard",
        who: Who::Setter,
        fault: || Some(fault("change_method", "drop_after_apply")),
        effects: &["change", "list_methods"],
    },
    Story { name: "refused", who: Who::Stranger, fault: || None, effects: &["record_refusal", "publish"] },
    Story { name: "repeated", who: Who::Again, fault: || None, effects: &["recall", "publish", "mark_published"] },
];
/// Before and after each of these effects.
const POINTS: usize = 2 * (5 + 20 + 2 + 9 + 2 + 2 + 3);

const PROFILE: &str = "lost-phone";
/// The request that the story of repeats tells again.
const SURVIVOR: &str = "plain:lives";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_at_every_effect_with_a_ledger_in_sqlite() {
    let rabbit = Rabbit::start(1).await;
    let scene = Scene::new("sqlite", &rabbit, None, 1).await;
    Massacre::begin(scene).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_at_every_effect_with_a_ledger_in_postgresql() {
    let (rabbit, postgres) = tokio::join!(Rabbit::start(1), Postgres::start());
    postgres.make("crashes").await;
    let scene = Scene::new("crashes", &rabbit, Some(&postgres), 1).await;
    Massacre::begin(scene).await.run().await;
}

/// What a victim runs; nothing for a person to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is started by the other tests of this file, once for each point"]
async fn victim() {
    crashing::handle_one().await;
}

struct Massacre<'a> {
    scene: Scene<'a>,
    /// Holds every delivery that came back, until all victims are dead.
    holder: Connection,
    channel: Channel,
    users: usize,
    /// Whose reset is told again and again.
    survivor: usize,
    victims: usize,
    /// Where victims died.
    met: BTreeSet<(String, Side)>,
    deaths: usize,
    /// Requests whose removal was on its way or not, and of which nobody can say.
    in_doubt: BTreeSet<String>,
}

impl<'a> Massacre<'a> {
    async fn begin(mut scene: Scene<'a>) -> Self {
        // As many as there are messages: no wait is paid twice.
        scene.crew[0].set("BROKER__PREFETCH_TICKETS", "200");
        scene.crew[0].set("POLICY__ENABLED_STEPS", "set_phones");
        // It declares what victims find.
        scene.start(0).await;
        scene.stop(0).await;
        let holder = Connection::connect(&scene.queues.url, ConnectionProperties::default()).await.unwrap();
        let channel = holder.create_channel().await.unwrap();
        Self {
            scene,
            holder,
            channel,
            users: 0,
            survivor: 0,
            victims: 0,
            met: BTreeSet::new(),
            deaths: 0,
            in_doubt: BTreeSet::new(),
        }
    }

    async fn run(mut self) {
        for story in &STORIES {
            self.tell(story).await;
        }
        assert_eq!((self.deaths, self.met.len()), (POINTS, 2 * EFFECTS), "points, and effects before and after");
        let met: BTreeSet<&str> = self.met.iter().map(|(effect, _)| effect.as_str()).collect();
        assert_eq!(met, effects_of_the_ports(), "every effect that a reset can have");
        println!("{}: {} victims, dead at {POINTS} points", self.scene.name, self.victims);

        self.holder.close(200, "done".into()).await.unwrap();
        self.scene.start(0).await;
        self.scene.answered(Duration::from_secs(120)).await;
        self.scene.quiet(Duration::from_secs(120)).await;
        self.scene.stop(0).await;
        for (id, outcome, reason) in self.scene.outcomes() {
            let done = outcome == "succeeded" || reason == "producer_not_allowed";
            let doubted = reason == "ambiguous" && self.in_doubt.contains(&id);
            assert!(done || doubted, "{id}: {outcome}, {reason}");
        }
        self.scene.judge().await;
    }

    /// One victim that lives, to learn what it meets; then one for each point.
    async fn tell(&mut self, story: &Story) {
        let lives = format!("{}:lives", story.name);
        let user = self.ask(story, &lives).await;
        let lives = self.subject(story, &lives);
        let (code, met) = self.victim(&lives, None);
        assert_eq!(code, Some(0), "{}: {met:?}", story.name);
        if story.who != Who::Setter {
            self.scene.register_anew(user).await;
        }
        let first = met.iter().position(|effect| effect == story.effects[0]).unwrap();
        let told = &met[first..][..story.effects.len()];
        assert_eq!(told, story.effects, "{}: {met:?}", story.name);
        for (at, effect) in met.iter().enumerate().skip(first).take(story.effects.len()) {
            for side in [Side::Before, Side::After] {
                let id = format!("{}:{at}:{side:?}", story.name);
                let user = self.ask(story, &id).await;
                let id = self.subject(story, &id);
                let (code, met) = self.victim(&id, Some(Point { at, side }));
                assert_eq!((code, met.last()), (None, Some(&format!("died {side:?} {effect}"))), "{id}: {met:?}");
                self.deaths += 1;
                self.met.insert((effect.clone(), side));
                self.scene.clear_faults().await;
                self.hold(&id).await;
                // Phones that are set are there, old or new, and a list tells which.
                let gone = story.who == Who::Setter || self.scene.register_anew(user).await;
                // Sent, as the ledger knows, and nobody knows with what effect: after a minute a list does not tell either.
                if !gone && met.iter().filter(|met| *met == "advance").count() >= 2 {
                    self.in_doubt.insert(id);
                }
            }
        }
    }

    fn subject(&self, story: &Story, id: &str) -> String {
        if story.who == Who::Again { SURVIVOR.to_owned() } else { id.to_owned() }
    }

    /// Publishes the request of a point; whom it is about.
    async fn ask(&mut self, story: &Story, id: &str) -> usize {
        if story.who == Who::Again {
            self.scene.ask_again(SURVIVOR).await;
            return self.survivor;
        }
        // The simulator's users with such numbers are nobody special.
        let user = self.users / 4 * 10 + 3 + self.users % 4;
        self.users += 1;
        if id == SURVIVOR {
            self.survivor = user;
        }
        self.scene.with_only_mobile(user).await;
        if let Some(fault) = (story.fault)() {
            self.scene.fault(user, fault).await;
        }
        match story.who {
            Who::Producer | Who::Again => self.scene.ask(id, user, PROFILE).await,
            Who::Setter => self.scene.ask_for_phones(id, user).await,
            Who::Stranger => self.scene.ask_as_a_stranger(id, user).await,
        }
        user
    }

    /// Runs a victim to its end: its exit code, where it has one, and what it met.
    fn victim(&mut self, request: &str, point: Option<Point>) -> (Option<i32>, Vec<String>) {
        self.victims += 1;
        let directory = self.scene.directory.path();
        let trace = directory.join(format!("trace-{}", self.victims));
        let mut settings = self.scene.crew[0].settings().to_vec();
        settings.push((REQUEST.into(), request.to_owned()));
        settings.push((TRACE.into(), trace.display().to_string()));
        settings.extend(point.map(|point| (POINT.into(), point.written())));
        let program = std::env::current_exe().unwrap();
        // Aborting leaves no core behind.
        let no_core = ["-c", "ulimit -c 0; exec \"$0\" \"$@\"", program.to_str().unwrap()];
        let entry = ["crash_points::victim", "--exact", "--ignored", "--nocapture"];
        let arguments = [&no_core[..], &entry].concat();
        let log = directory.join("victims.log");
        let mut process = Process::spawn(Path::new("/bin/sh"), &arguments, settings, &log);
        let code = process.exit_code(Duration::from_secs(60));
        let met = std::fs::read_to_string(trace).unwrap_or_else(|_| panic!("no victim: {}", process.output()));
        (code, met.lines().map(str::to_owned).collect())
    }

    /// Waits until the broker has the delivery back, and keeps it from the next victim: nothing is acknowledged early.
    async fn hold(&self, id: &str) {
        let lane = self.scene.queues.name("requests.tickets");
        let what = format!("the delivery of {id} comes back");
        until(Duration::from_secs(30), &what, async || {
            let got = self.channel.basic_get(lane.as_str().into(), BasicGetOptions::default()).await.unwrap();
            let body = got.map(|message| serde_json::from_slice::<Value>(&message.delivery.data).unwrap());
            body.is_some_and(|body| body["id"] == id)
        })
        .await;
    }
}

/// How many effects there are.
const EFFECTS: usize = 18;

/// Every method of the trait that is one, by name.
fn effects_of_the_ports() -> BTreeSet<&'static str> {
    let declared = include_str!("../../src/ports.rs").lines().filter_map(|line| line.strip_prefix("    fn "));
    let names = declared.map(|line| line.split('(').next().unwrap());
    names.filter(|name| !["now", "call_id", "calls", "digest"].contains(name)).collect()
}
