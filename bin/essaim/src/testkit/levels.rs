//! Mixed versions: a cluster in which programs of different age run side by side, and an operator who upgrades it node
//! by node.
//!
//! Every other node begins with [`Build::BEFORE`]: the same code with its newest level and wire version turned off, so
//! that it reads and says no more than the program of the release before would. In the course of the run each of them
//! is restarted with the newest program. Meanwhile an [`Impatient`] operator asks again and again for what needs the
//! newest level. That is refused in words until every manager understands it, and accepted from then on.

use crate::testkit::fault::{Fault, Number, Strike};
use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::nodes::Running;
use crate::testkit::trace::Trace;
use essaim_model::{AnyPut, Change, ConfigId, ConfigSpec, Labels, Put, RefusalKind, State};
use essaim_store::Store;
use essaim_wire::{Build, Level};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Pause between two requests of the impatient operator.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_millis(1_500);

/// Wait after which a request is given up; late answers are the business of the other clients.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Prefix of the names of the impatient operator's configs. The clients did not ask for them, and do not judge them.
pub(crate) const IMPATIENT: &str = "impatient-";

/// Texts of which a refusal for want of a level contains one: it names the older manager, or says that the level is
/// about to be raised.
const WORDS: [&str; 2] = ["runs an older essaim", "will be raised in a moment"];

/// The program that a node begins with: the older one on nodes 1, 3, 5, …, so that the founder and a majority of three
/// managers are among them.
pub(crate) const fn build_at_first(number: Number) -> Build {
    if number % 2 == 1 { Build::BEFORE } else { Build::NEWEST }
}

/// Draws the upgrades of all nodes that begin with the older program, one after the other, in an order of the seed.
pub(crate) fn draw_upgrades(seed: u64, nodes: Number, over: Duration) -> Vec<Strike> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7570_6772);
    let mut old: Vec<Number> = (1..=nodes).filter(|number| build_at_first(*number) != Build::NEWEST).collect();
    for place in (1..old.len()).rev() {
        old.swap(place, rng.random_range(0..=place));
    }
    // The upgrades end after two thirds of the time; the last third tests the upgraded cluster.
    let each = over.mul_f64(0.66) / u32::try_from(old.len().max(1)).unwrap_or(u32::MAX);
    let upgrade = |(count, number): (usize, Number)| {
        let at = each * u32::try_from(count).unwrap_or(u32::MAX) + each.mul_f64(rng.random_range(0.2..1.0));
        Strike { at, fault: Fault::Upgrade(number), lasts: Duration::from_millis(rng.random_range(200..2_000)) }
    };
    old.into_iter().enumerate().map(upgrade).collect()
}

/// Checks that the cluster is at the newest level, when every node was upgraded and everything is at rest.
pub(crate) fn upgraded(state: &State) -> Result<(), String> {
    if let Some(old) = state.nodes().find(|node| node.level != Level::NEWEST && !node.has_left()) {
        return Err(format!("{} is recorded at level {}, and was upgraded", old.name(), old.level));
    }
    match state.level() {
        Level::NEWEST => Ok(()),
        level => Err(format!("every manager was upgraded, and the cluster is still at level {level}")),
    }
}

/// An operator who asks for what needs the newest level, whether or not the cluster has reached it.
pub struct Impatient {
    running: Running,
    ledger: SharedLedger,
    trace: Trace,
    rng: StdRng,
    asked: u128,
}

impl Impatient {
    /// An impatient operator of these nodes.
    pub fn new(seed: u64, running: Running, ledger: SharedLedger, trace: Trace) -> Self {
        Self { running, ledger, trace, rng: StdRng::seed_from_u64(seed ^ 0x696d_7061), asked: 0 }
    }

    /// Sends requests until `stop` is set. Returns how many were refused for want of the level, and how many were done.
    pub(crate) async fn work(mut self, stop: Arc<AtomicBool>) -> (u64, u64) {
        let (mut refused, mut done) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            sleep(self.rng.random_range(PAUSE)).await;
            match self.ask().await {
                Some(true) => done += 1,
                Some(false) => refused += 1,
                None => (),
            }
        }
        (refused, done)
    }

    /// Sends one request. `Some(true)` when it was done, `Some(false)` when it was refused for want of the level,
    /// `None` when the outcome is unknown.
    async fn ask(&mut self) -> Option<bool> {
        let (number, store) = self.somebody()?;
        self.asked += 1;
        let name = format!("{IMPATIENT}{}", self.asked);
        let spec = ConfigSpec { name: name.clone(), labels: Labels::new(), data: name.as_bytes().into() };
        let put = Put { id: ConfigId::from_bits(self.asked << 64), expect: None, spec };
        let change = Change::PutObject(Box::new(AnyPut::Config(put)));
        let level = store.state().level();
        let answer = timeout(ANSWER_MAX, store.change(vec![change], None)).await.ok()?;
        let (words, outcome) = match answer {
            Ok(_) => ("done".to_owned(), Some(true)),
            Err(why) if why.kind == RefusalKind::Precondition => (format!("refused: {why}"), Some(false)),
            Err(why) => (format!("unknown: {why}"), None),
        };
        self.trace.note("impatient", format_args!("create config {name} (n{number}, level {level}): {words}"));
        if outcome == Some(false) && level == Level::NEWEST {
            let text = format!("n{number} has level {level} and refuses what needs no more: {words}");
            lock(&self.ledger).violated(text);
        }
        if outcome == Some(false) && !WORDS.iter().any(|known| words.contains(known)) {
            lock(&self.ledger).violated(format!("n{number} does not say who is in the way: {words}"));
        }
        outcome
    }

    fn somebody(&mut self) -> Option<(Number, Store)> {
        let managers: Vec<_> = {
            let running = self.running.lock();
            let store = |handle: &essaim_node::Handle| Some(handle.control().ok()?.store().clone());
            running.iter().filter_map(|(number, handle)| Some((*number, store(handle)?))).collect()
        };
        if managers.is_empty() { None } else { managers.get(self.rng.random_range(0..managers.len())).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_older_node_is_upgraded_once_and_in_time() {
        for seed in 0..50 {
            let over = Duration::from_secs(60);
            let strikes = draw_upgrades(seed, 5, over);
            assert_eq!(strikes, draw_upgrades(seed, 5, over));
            let mut nodes: Vec<_> = strikes.iter().map(|strike| strike.fault.to_string()).collect();
            nodes.sort();
            assert_eq!(nodes, ["n1 is upgraded", "n3 is upgraded", "n5 is upgraded"]);
            assert!(strikes.iter().all(|strike| strike.at + strike.lasts < over));
        }
    }
}
