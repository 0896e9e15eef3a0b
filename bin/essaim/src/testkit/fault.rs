//! What goes wrong, as values drawn by a seed: when, what, and for how long.

use rand::RngExt;
use rand::rngs::StdRng;
use std::fmt;
use std::time::Duration;

/// A node's number in the run, from 1.
pub type Number = u8;

/// Something that is wrong for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A daemon is killed without a word, and started again at the end. Its tasks live on.
    Crash(Number),
    /// A machine loses its power: daemon, tasks, and whatever its disk had not synced.
    PowerCut(Number),
    /// All machines lose their power at once.
    Blackout,
    /// Nothing passes between two.
    Cut(Number, Number),
    /// Nothing passes from the one to the other.
    CutOneWay(Number, Number),
    /// Nothing passes between one and all others.
    Isolate(Number),
    /// Nothing passes between these and the others.
    Split(Vec<Number>),
    /// A daemon hears nothing and what it says waits; then all of it arrives at once.
    Freeze(Number),
    /// This many of a thousand packets are lost, everywhere.
    Loss(u32),
    /// Every packet takes this long at most, everywhere.
    Slow(Duration),
    /// Every sync of a node's disk takes this long.
    SlowDisk(Number, Duration),
    /// One actor of a node is made to fail; which one, this number draws.
    KillActor(Number, u64),
}

/// A fault in the course of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// When it begins, from the beginning of the phase of faults.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Draws so many faults over a time, for nodes 1 to `nodes`.
pub fn draw(rng: &mut StdRng, nodes: Number, faults: u32, over: Duration) -> Vec<Strike> {
    let each = over / faults.max(1);
    (0..faults)
        .map(|count| {
            let at = each * count + jitter(rng, each);
            let fault = draw_fault(rng, nodes);
            let longest = if fault == Fault::Blackout { 4_000 } else { 14_000 };
            Strike { at, fault, lasts: Duration::from_millis(rng.random_range(300..longest)) }
        })
        .collect()
}

fn draw_fault(rng: &mut StdRng, nodes: Number) -> Fault {
    let one = rng.random_range(1..=nodes);
    let other = (one + rng.random_range(0..nodes - 1)) % nodes + 1;
    match rng.random_range(0..100u8) {
        0..26 => Fault::Crash(one),
        26..36 => Fault::PowerCut(one),
        36..40 => Fault::Blackout,
        40..50 => Fault::Cut(one, other),
        50..58 => Fault::CutOneWay(one, other),
        58..70 => Fault::Isolate(one),
        70..78 => Fault::Split((1..=nodes).filter(|_| rng.random_bool(0.4)).collect()),
        78..86 => Fault::Freeze(one),
        86..90 => Fault::Loss(rng.random_range(20..150)),
        90..92 => Fault::SlowDisk(one, Duration::from_millis(rng.random_range(5..60))),
        92..94 => Fault::Slow(Duration::from_millis(rng.random_range(5..40))),
        _ => Fault::KillActor(one, rng.random()),
    }
}

fn jitter(rng: &mut StdRng, below: Duration) -> Duration {
    Duration::from_millis(rng.random_range(0..u64::try_from(below.as_millis()).unwrap_or(u64::MAX).max(1)))
}

impl Fault {
    /// Whether the daemon of this node is down because of it.
    pub fn downs(&self, node: Number) -> bool {
        match self {
            Self::Crash(one) | Self::PowerCut(one) => *one == node,
            Self::Blackout => true,
            _ => false,
        }
    }

    /// Whether the power of this node is gone because of it.
    pub fn darkens(&self, node: Number) -> bool {
        match self {
            Self::PowerCut(one) => *one == node,
            Self::Blackout => true,
            _ => false,
        }
    }

    /// Whether it takes the node away from the rest, for whatever reason.
    pub fn takes_away(&self, node: Number, nodes: Number) -> bool {
        match self {
            Self::Isolate(one) | Self::Freeze(one) => *one == node,
            // Of two halves the smaller is away; of two equal ones both are.
            Self::Split(side) => {
                let own = if side.contains(&node) { side.len() } else { usize::from(nodes) - side.len() };
                own * 2 <= usize::from(nodes)
            }
            _ => self.downs(node),
        }
    }

    /// Whether it touches one link of the node only.
    pub fn cuts_a_link_of(&self, node: Number) -> bool {
        matches!(self, Self::Cut(a, b) | Self::CutOneWay(a, b) if *a == node || *b == node)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "n{node} is killed"),
            Self::PowerCut(node) => write!(f, "n{node} loses its power"),
            Self::Blackout => f.write_str("everybody loses the power"),
            Self::Cut(a, b) => write!(f, "n{a} and n{b} are cut apart"),
            Self::CutOneWay(from, to) => write!(f, "nothing gets from n{from} to n{to}"),
            Self::Isolate(node) => write!(f, "n{node} is cut off"),
            Self::Split(side) => write!(f, "nodes {side:?} are cut off from the others"),
            Self::Freeze(node) => write!(f, "n{node} stands still"),
            Self::Loss(per_mille) => write!(f, "{per_mille} of a thousand packets are lost"),
            Self::Slow(delay) => write!(f, "packets take up to {delay:?}"),
            Self::SlowDisk(node, lag) => write!(f, "the disk of n{node} takes {lag:?} for a sync"),
            Self::KillActor(node, _) => write!(f, "an actor of n{node} fails"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_same_seed_draws_the_same_faults_and_every_one_fits_into_the_cluster() {
        for seed in 0..50 {
            let draw = || draw(&mut StdRng::seed_from_u64(seed), 5, 10, Duration::from_secs(60));
            let strikes = draw();
            assert_eq!(strikes, draw());
            assert_eq!(strikes.len(), 10);
            for strike in strikes {
                assert!(strike.at < Duration::from_secs(60));
                if let Fault::Cut(a, b) | Fault::CutOneWay(a, b) = strike.fault {
                    assert!(a != b && (1..=5).contains(&a) && (1..=5).contains(&b));
                }
            }
        }
    }
}
