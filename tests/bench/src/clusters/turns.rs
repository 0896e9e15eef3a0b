//! Rounds of both contenders in turn, in the same run.
//!
//! A round of the peer takes up to a minute, one of ours seconds, so the peer has three rounds where Essaim has five. A
//! round at whose end the machine was starved, or that failed, is repeated a few times; a round that is still missing
//! then is missing in the table, with a note.

use std::panic::{AssertUnwindSafe, catch_unwind};

use essaim_cluster_tests::harness::{Dockerd, sweep, turn};

use super::Contender;
use super::swarm;
use crate::calm;
use crate::figure::{Figure, Goal, Peer, Samples, Unit};

/// Number of times that a round is repeated before it is left out.
const AGAIN_MAX: u32 = 3;

/// When the calm of the machine is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Before the round, because the round makes the machine busy by itself.
    Before,
    /// Before and after the round, because the round measures a delay.
    AtEnd,
}

/// A measurement: one round gives a number for each line of the table.
pub(crate) trait Measure<const N: usize> {
    /// Lines of the table: text, unit and goal.
    const LINES: [(&'static str, Unit, Goal); N];
    /// When the calm of the machine is checked.
    const JUDGED: Judged;

    /// Essaim, with the engine that the measurement is about.
    type Ours: Contender;

    /// One round of one contender. Notes for the reader of the table are added once.
    fn round<C: Contender>(notes: &mut Vec<String>) -> Result<[f64; N], String>;
}

/// Measures this many rounds of Essaim, with the peer's rounds between them.
pub(crate) fn by_turns<M: Measure<N>, const N: usize>(rounds: u32) -> Vec<Figure> {
    let mut ours = Tally::<N>::new(M::Ours::NAME);
    let mut theirs = Tally::<N>::new(Dockerd::NAME);
    let mut notes = Vec::new();
    let cannot = M::Ours::missing();
    let no_peer = Dockerd::missing();
    if let Some(why) = &cannot {
        eprintln!("  not measured: {why}");
        notes.push(format!("not measured: {why}"));
    } else {
        let _turn = turn();
        sweep::sweep_abandoned();
        // The peer's first round follows Essaim's first.
        let peers = (rounds * 3).div_ceil(5);
        for round in 0..rounds {
            ours.add(M::JUDGED, M::round::<M::Ours>);
            if round < peers && no_peer.is_none() {
                theirs.add(M::JUDGED, M::round::<Dockerd>);
            }
        }
    }
    notes.extend(no_peer.clone());
    let (theirs_are, ours_are) = (Dockerd::TASKS, M::Ours::TASKS);
    notes.push(format!(
        "3 managers and 2 workers on one machine, all of which run tasks; theirs are {theirs_are}, ours {ours_are}"
    ));
    notes.extend(ours.notes());
    notes.extend(theirs.notes());
    let is_peer_here = cannot.is_none() && no_peer.is_none();
    let samples = ours.samples.into_iter().zip(theirs.samples);
    let line = |((what, unit, goal), (ours, samples)): ((&str, Unit, Goal), (Samples, Samples))| Figure {
        what: what.to_owned(),
        unit,
        ours,
        peer: is_peer_here.then(|| Peer { name: swarm::name(), samples }),
        goal,
        notes: notes.clone(),
    };
    M::LINES.into_iter().zip(samples).map(line).collect()
}

struct Tally<const N: usize> {
    name: &'static str,
    samples: [Samples; N],
    said: Vec<String>,
    void: u32,
    failed: Vec<String>,
}

impl<const N: usize> Tally<N> {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            samples: std::array::from_fn(|_| Samples::default()),
            said: Vec::new(),
            void: 0,
            failed: Vec::new(),
        }
    }

    fn add(&mut self, judged: Judged, round: impl Fn(&mut Vec<String>) -> Result<[f64; N], String>) {
        for _ in 0..=AGAIN_MAX {
            calm::wait();
            let mut said = Vec::new();
            match caught(|| round(&mut said)) {
                Ok(numbers) if judged == Judged::AtEnd && !calm::is_calm() => {
                    eprintln!("  {}: {numbers:.0?}, void", self.name);
                    self.void += 1;
                }
                Ok(numbers) => {
                    eprintln!("  {}: {numbers:.0?}", self.name);
                    for (samples, number) in self.samples.iter_mut().zip(numbers) {
                        samples.add(number);
                    }
                    self.said = said;
                    return;
                }
                Err(why) => {
                    eprintln!("  {}: {why}", self.name);
                    self.failed.push(why);
                }
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        let void = (self.void > 0).then(|| format!("{} rounds of {} were void", self.void, self.name));
        let failed = self.failed.iter().map(|why| format!("a round of {} failed: {why}", self.name));
        self.said.iter().cloned().chain(void).chain(failed).collect()
    }
}

/// Runs a round and turns a panic of the test harness into an error, so that the next round can be tried.
pub(crate) fn caught<T>(round: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(round)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}
