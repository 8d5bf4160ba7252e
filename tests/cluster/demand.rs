//! What producers ask for in one run: drawn from a seed, each at its time.

use std::time::Duration;

use fastrand::Rng;

use crate::record::Kind;
use crate::requests::{PROFILES, request};

/// One message to be published.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The request id, and the correlation id.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The routing key.
    pub lane: &'static str,
    /// The message.
    pub body: Vec<u8>,
    /// When, from the start of the run.
    pub at: Duration,
    /// Whether its producer publishes it again until the broker confirms it; others give up after the first try.
    pub stubborn: bool,
}

/// Wishes for so many requests within this time, in order of time. The user with number N is asked for by requests whose
/// ids begin with N; most users by one, some by two. Some requests are published twice.
pub fn draw(random: &mut Rng, requests: usize, span: Duration) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    let mut user = 0;
    for number in 0..requests {
        let before = wishes.last().filter(|wish| matches!(wish.kind, Kind::Reset(_)) && random.u8(..100) < 5);
        if before.is_none() {
            user += 1;
        }
        let mut wish = one(random, number, user);
        wish.at = span.mul_f64(random.f64());
        if random.u8(..100) < 6 {
            wishes.push(Wish { at: span.mul_f64(random.f64()), ..wish.clone() });
        }
        wishes.push(wish);
    }
    wishes.sort_by_key(|wish| wish.at);
    wishes
}

fn one(random: &mut Rng, number: usize, user: usize) -> Wish {
    let profile = PROFILES[random.usize(..PROFILES.len())];
    let kind = match random.u8(..100) {
        0..4 => Kind::Malformed,
        4..7 => Kind::Stranger,
        _ => Kind::Reset(profile),
    };
    let id = format!("{user}:{number}:{profile}");
    let good = request(&id, user, profile);
    let body = match (kind, random.u8(..3)) {
        (Kind::Malformed, 0) => good.to_string()[..random.usize(20..100)].to_owned(),
        (Kind::Malformed, 1) => good.to_string().replacen('{', "{\"colour\":\"blue\",", 1),
        (Kind::Malformed, _) => format!("[\"{id}\"]"),
        _ => good.to_string(),
    };
    let lane = if random.bool() { "reset" } else { "batch" };
    Wish { id, kind, lane, body: body.into_bytes(), at: Duration::ZERO, stubborn: random.u8(..100) >= 5 }
}

/// The users that are asked for once: what they register stays theirs.
pub fn asked_once(wishes: &[Wish]) -> std::collections::BTreeSet<usize> {
    let user = |id: &str| id.split(':').next().and_then(|user| user.parse().ok()).unwrap_or(0);
    let ids: std::collections::BTreeSet<&str> = wishes.iter().map(|wish| wish.id.as_str()).collect();
    let mut count = std::collections::BTreeMap::<usize, u32>::new();
    ids.iter().for_each(|id| *count.entry(user(id)).or_default() += 1);
    count.into_iter().filter(|(_, count)| *count == 1).map(|(user, _)| user).collect()
}
