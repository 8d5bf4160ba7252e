//! The trouble-makers, one for each front, so that all can be at work at once. Each makes one kind of trouble and heals it.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::crew::Member;
use crate::people::Notes;
use crate::postgres::Postgres;
use crate::proxy::{Line, Proxy};
use crate::rabbit::Rabbit;

/// How long a broker or a database may take to come back.
const BACK: Duration = Duration::from_secs(120);

/// All fronts of one run.
pub struct Fronts<'b> {
    pub workers: Workers<'b>,
    pub lines: Lines,
    pub database: Database<'b>,
    pub nodes: Nodes<'b>,
    pub clock: Clock,
}

/// Tells how long the trouble lasts: as long as requests keep coming.
#[derive(Clone, Copy)]
pub struct Clock(pub Instant);

impl Clock {
    /// Whether requests keep coming.
    pub fn runs(self) -> bool {
        Instant::now() < self.0
    }
}

/// Lets a random time pass, in seconds.
pub async fn wait(random: &mut Rng, seconds: std::ops::Range<f64>) {
    let span = seconds.end - seconds.start;
    sleep(Duration::from_secs_f64(seconds.start + span * random.f64())).await;
}

/// The workers.
pub struct Workers<'b> {
    pub random: Rng,
    pub crew: &'b mut [Member],
    pub notes: Notes,
}

impl Workers<'_> {
    /// Kills one, and starts it again a little later.
    pub async fn kill(&mut self) {
        let number = self.random.usize(..self.crew.len());
        self.crew[number].kill();
        wait(&mut self.random, 0.0..3.0).await;
        self.crew[number].start();
    }

    /// Asks one to stop, and starts it again.
    pub async fn stop(&mut self) {
        let number = self.random.usize(..self.crew.len());
        if let Some(fault) = self.crew[number].stop().await {
            self.notes.lock().remarks.push(format!("worker {}: {fault}", number + 1));
        }
        wait(&mut self.random, 0.0..1.0).await;
        self.crew[number].start();
    }
}

/// The lines of workers and clients.
pub struct Lines {
    pub random: Rng,
    pub links: Vec<Arc<Proxy>>,
}

impl Lines {
    /// Cuts, stalls or slows a line for a while; a line that stalled goes on as if nothing had been, or is cut.
    pub async fn disturb(&mut self) {
        let link = self.links[self.random.usize(..self.links.len())].clone();
        let kinds = [&[Line::Cut][..], &[Line::Stalled], &[Line::Stalled, Line::Cut], &[Line::Slow]];
        for state in kinds[self.random.usize(..kinds.len())] {
            link.set(*state);
            // Long enough to be noticed, or not.
            let most = if *state == Line::Cut { 1.0 } else { 16.0 };
            wait(&mut self.random, 0.0..most).await;
        }
        link.set(Line::Whole);
    }
}

/// The database.
pub struct Database<'b> {
    pub random: Rng,
    pub postgres: &'b Postgres,
}

impl Database<'_> {
    /// Kills it, and starts it again.
    pub async fn restart(&mut self) {
        self.postgres.kill();
        wait(&mut self.random, 0.0..4.0).await;
        self.postgres.again();
        self.postgres.wait(BACK).await;
    }
}

/// The nodes of the broker.
pub struct Nodes<'b> {
    pub random: Rng,
    pub rabbit: &'b Rabbit,
    /// The ways to it.
    pub links: Vec<Arc<Proxy>>,
}

impl Nodes<'_> {
    /// Kills one, and starts it again.
    pub async fn restart(&mut self) {
        let node = self.random.usize(..self.rabbit.count());
        self.rabbit.kill(node);
        wait(&mut self.random, 0.0..3.0).await;
        self.rabbit.again(node);
        self.rabbit.wait(BACK).await;
    }

    /// Cuts one off from the two others, for longer than the broker needs to notice. Clients reach all three, and the
    /// minority pauses.
    pub async fn minority(&mut self) {
        self.part_one();
        wait(&mut self.random, 22.0..28.0).await;
        self.heal().await;
    }

    /// The same, and clients reach the minority only: whatever it takes in must not be lost, and nothing gets through.
    pub async fn majority_out_of_reach(&mut self) {
        let (alone, all) = (self.part_one(), self.rabbit.addresses());
        self.reach(&all[alone..=alone]);
        wait(&mut self.random, 12.0..18.0).await;
        self.reach(&all);
        wait(&mut self.random, 6.0..10.0).await;
        self.heal().await;
    }

    /// Cuts all three off from each other: no side has a majority.
    pub async fn all_apart(&mut self) {
        self.rabbit.part(&[&[0], &[1], &[2]]);
        wait(&mut self.random, 18.0..24.0).await;
        self.heal().await;
    }

    fn part_one(&mut self) -> usize {
        let alone = self.random.usize(..3);
        let others: Vec<usize> = (0..3).filter(|node| *node != alone).collect();
        self.rabbit.part(&[&[alone], &others]);
        alone
    }

    async fn heal(&self) {
        self.rabbit.heal();
        self.rabbit.wait(BACK).await;
    }

    fn reach(&self, servers: &[String]) {
        self.links.iter().for_each(|link| link.reach(servers.to_vec()));
    }
}
