//! Faults of a run as values drawn by a seed: when, what, and for how long.

use rand::RngExt;
use rand::rngs::StdRng;
use std::fmt;
use std::time::Duration;

/// A node's number in the run, from 1. Wide enough for the growth bench's thousands.
pub type Number = u16;

/// A fault, or an operator's wish, that lasts for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A daemon is killed without a goodbye, and started again at the end. Its tasks keep running.
    Crash(Number),
    /// All daemons are killed at once, and started again at the end. Tasks keep running.
    CrashAll,
    /// A daemon ends in order and says that it will be back, as `systemctl restart` does.
    Restart(Number),
    /// All daemons end in order at once, and say that they will be back.
    RestartAll,
    /// A machine loses its power: the daemon, the tasks, and everything that its disk had not synced; some of it is
    /// torn.
    PowerCut(Number),
    /// All machines lose their power at once.
    Blackout,
    /// No packet passes between two nodes.
    Cut(Number, Number),
    /// No packet passes from the first node to the second.
    CutOneWay(Number, Number),
    /// No packet passes between one node and all others.
    Isolate(Number),
    /// A partition: no packet passes between these nodes and the others.
    Split(Vec<Number>),
    /// The packets to and from a daemon wait, and all of them arrive at once at the end.
    Freeze(Number),
    /// This many of a thousand packets are lost, everywhere.
    Loss(u32),
    /// Packets take up to this long, everywhere.
    Slow(Duration),
    /// Every sync of a node's disk takes this long.
    SlowDisk(Number, Duration),
    /// Every write to a node's disk fails; reads work.
    FailingDisk(Number),
    /// Every sync of a node's disk fails.
    FailingSyncs(Number),
    /// Every write to a node's disk stops half-way and fails.
    TornWrites(Number),
    /// A node's disk is full: writes that need more room fail.
    FullDisk(Number),
    /// A node's clock is wrong by so many seconds, and right again at the end: two jumps.
    ClockJump(Number, i64),
    /// One actor of a node is made to fail; the number draws which one.
    KillActor(Number, u64),
    /// A node lies: over its own sessions and its own link it says every falsehood about other nodes that can be said.
    Liar(Number),
    /// A node's engine answers no call.
    EngineHangs(Number),
    /// A node's engine answers no call and no ping.
    EngineHangsAsAWhole(Number),
    /// A node's engine is restarted, and every call of it fails meanwhile. Its tasks survive, or end with it.
    EngineRestarts(Number, Survive),
    /// Somebody removes the container of a running task behind the daemon's back; the number draws which one.
    EngineForgets(Number, u64),
    /// Somebody restarts the container of a task behind the daemon's back, or starts it again when the task has ended; the
    /// number draws which one.
    EngineRevives(Number, u64),
    /// The leader hands its leadership over.
    HandOver,
    /// An operator drains a node, and activates it again at the end.
    Drain(Number),
    /// An operator promotes a node, and demotes it again at the end.
    Promote(Number),
    /// An operator demotes a node, and promotes it again at the end.
    Demote(Number),
    /// A node, worker or manager, leaves the cluster in order; at the end it joins as a new node of the same role.
    Leave(Number),
    /// A daemon ends in order and says that it will be back; the newest program is started in its place at the end.
    Upgrade(Number),
}

/// Whether tasks survive a restart of their engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// The tasks go on, as with dockerd's live-restore.
    Yes,
    /// The tasks end with the engine.
    No,
}

/// A fault with its time in the course of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// Start of the fault, from the beginning of the phase of faults.
    pub at: Duration,
    /// The fault.
    pub fault: Fault,
    /// Duration of the fault.
    pub lasts: Duration,
}

/// Draws so many faults over a time, for nodes 1 to `nodes`; faults of engines only with `engines`.
///
/// All kinds of faults are drawn except what an operator sets of a node ([`Drain`](Fault::Drain),
/// [`Promote`](Fault::Promote), [`Demote`](Fault::Demote)). The [client](crate::testkit::client) of a run draws those
/// and remembers them, so that it knows which answers were given about the node. Leaving ([`Leave`](Fault::Leave))
/// changes nothing of that.
pub fn draw(rng: &mut StdRng, nodes: Number, faults: u32, over: Duration, engines: bool) -> Vec<Strike> {
    let each = over / faults.max(1);
    (0..faults)
        .map(|count| {
            let at = each * count + jitter(rng, each);
            let fault = draw_fault(rng, nodes, engines);
            let lasts = if rng.random_bool(0.5) {
                // A short fault, on the scale of leases, elections and patience: the node is back in the middle of the
                // reaction to its loss.
                rng.random_range(100..1_500)
            } else {
                let longest = match &fault {
                    // A longer fault shows nothing new: no node is there to notice.
                    fault if fault.downs_everybody() => 4_000,
                    // A task waits ten seconds for an engine that is gone before it is given up.
                    Fault::EngineRestarts(..) => 30_000,
                    // It is known after 5 to 10 s, and a task waits 15 s more before it is given up.
                    Fault::EngineHangsAsAWhole(_) => 40_000,
                    _ => 14_000,
                };
                rng.random_range(1_500..longest)
            };
            Strike { at, fault, lasts: Duration::from_millis(lasts) }
        })
        .collect()
}

/// Gives every disk a sync time, as real disks have: without it, no write would ever be lost before its sync.
pub(crate) fn draw_syncs(rng: &mut StdRng, nodes: Number, over: Duration) -> Vec<Strike> {
    let mut sync = |node| {
        let fault = Fault::SlowDisk(node, Duration::from_micros(rng.random_range(1_000..12_000)));
        Strike { at: Duration::ZERO, fault, lasts: over }
    };
    (1..=nodes).map(&mut sync).collect()
}

fn draw_fault(rng: &mut StdRng, nodes: Number, engines: bool) -> Fault {
    let one = rng.random_range(1..=nodes);
    let other = (one + rng.random_range(0..nodes.max(2) - 1)) % nodes + 1;
    match rng.random_range(0..if engines { 124 } else { 100u8 }) {
        0..18 => Fault::Crash(one),
        18..20 => Fault::CrashAll,
        20..26 => Fault::Restart(one),
        26..28 => Fault::RestartAll,
        28..35 => Fault::PowerCut(one),
        35..38 => Fault::Blackout,
        38..45 => Fault::Cut(one, other),
        45..51 => Fault::CutOneWay(one, other),
        51..60 => Fault::Isolate(one),
        60..66 => Fault::Split((1..=nodes).filter(|_| rng.random_bool(0.4)).collect()),
        66..72 => Fault::Freeze(one),
        72..75 => Fault::Loss(rng.random_range(20..150)),
        75..77 => Fault::Slow(Duration::from_millis(rng.random_range(5..40))),
        77..79 => Fault::SlowDisk(one, Duration::from_millis(rng.random_range(5..60))),
        79..81 => Fault::FailingDisk(one),
        81..83 => Fault::FailingSyncs(one),
        83..85 => Fault::TornWrites(one),
        85..88 => Fault::FullDisk(one),
        88..92 => Fault::ClockJump(one, rng.random_range(-3_600..=3_600)),
        92..94 => Fault::HandOver,
        94..97 => Fault::Liar(one),
        97..98 => Fault::Leave(one),
        100..104 => Fault::EngineHangs(one),
        104..112 => Fault::EngineRestarts(one, if rng.random_bool(0.5) { Survive::Yes } else { Survive::No }),
        112..116 => Fault::EngineForgets(one, rng.random()),
        116..120 => Fault::EngineHangsAsAWhole(one),
        120..124 => Fault::EngineRevives(one, rng.random()),
        _ => Fault::KillActor(one, rng.random()),
    }
}

fn jitter(rng: &mut StdRng, below: Duration) -> Duration {
    Duration::from_millis(rng.random_range(0..u64::try_from(below.as_millis()).unwrap_or(u64::MAX).max(1)))
}

impl Fault {
    /// Whether the fault is an event without duration.
    pub const fn is_a_moment(&self) -> bool {
        matches!(self, Self::KillActor(..) | Self::HandOver | Self::EngineForgets(..) | Self::EngineRevives(..))
    }

    /// Whether the fault lies in a node's engine alone: no other node notices it.
    pub(crate) const fn is_of_an_engine(&self) -> bool {
        let hangs = matches!(self, Self::EngineHangs(_) | Self::EngineHangsAsAWhole(_));
        hangs || matches!(self, Self::EngineRestarts(..) | Self::EngineForgets(..) | Self::EngineRevives(..))
    }

    /// Whether the engine of this node does not answer because of the fault.
    pub(crate) fn silences_the_engine_of(&self, node: Number) -> bool {
        match self {
            Self::EngineHangs(one) | Self::EngineHangsAsAWhole(one) | Self::EngineRestarts(one, _) => *one == node,
            _ => false,
        }
    }

    /// Whether the daemon of this node is down because of the fault.
    pub(crate) fn downs(&self, node: Number) -> bool {
        match self {
            Self::Crash(one) | Self::Restart(one) | Self::PowerCut(one) | Self::Upgrade(one) => *one == node,
            _ => self.downs_everybody(),
        }
    }

    /// Whether all daemons are down because of the fault.
    pub(crate) const fn downs_everybody(&self) -> bool {
        matches!(self, Self::CrashAll | Self::RestartAll | Self::Blackout)
    }

    /// Whether the fault lets the daemon of this node end in order.
    pub(crate) fn ends_in_order(&self, node: Number) -> bool {
        match self {
            Self::Restart(one) | Self::Upgrade(one) => *one == node,
            _ => *self == Self::RestartAll,
        }
    }

    /// Whether this node loses its power because of the fault.
    pub(crate) fn darkens(&self, node: Number) -> bool {
        match self {
            Self::PowerCut(one) => *one == node,
            _ => *self == Self::Blackout,
        }
    }

    /// Whether the fault makes writes to this node's disk fail, so that its daemon may fail or end.
    pub(crate) fn spoils_the_disk_of(&self, node: Number) -> bool {
        match self {
            Self::FailingDisk(one) | Self::FailingSyncs(one) | Self::TornWrites(one) | Self::FullDisk(one) => {
                *one == node
            }
            _ => false,
        }
    }

    /// Whether the fault takes the node away from the rest, for whatever reason.
    pub fn takes_away(&self, node: Number, nodes: Number) -> bool {
        match self {
            Self::Isolate(one) | Self::Freeze(one) | Self::Leave(one) | Self::Liar(one) => *one == node,
            // The smaller side of a partition is away; of two equal sides both are.
            Self::Split(side) => {
                let own = if side.contains(&node) { side.len() } else { usize::from(nodes) - side.len() };
                own * 2 <= usize::from(nodes)
            }
            _ => self.downs(node) || self.spoils_the_disk_of(node),
        }
    }

    /// Whether the node's daemon does not look after its tasks because of the fault.
    pub(crate) fn stops_the_care_of(&self, node: Number) -> bool {
        *self == Self::Freeze(node) || self.downs(node) || self.spoils_the_disk_of(node)
    }

    /// Whether the fault leaves the node running within reach of less than half of all nodes.
    pub(crate) fn cuts_off(&self, node: Number, nodes: Number) -> bool {
        match self {
            Self::Isolate(one) => *one == node,
            Self::Split(side) => {
                let own = if side.contains(&node) { side.len() } else { usize::from(nodes) - side.len() };
                own * 2 < usize::from(nodes)
            }
            _ => false,
        }
    }

    /// Whether the fault cuts exactly one network path of the node.
    pub(crate) fn cuts_a_link_of(&self, node: Number) -> bool {
        matches!(self, Self::Cut(a, b) | Self::CutOneWay(a, b) if *a == node || *b == node)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "n{node} is killed"),
            Self::CrashAll => f.write_str("everybody is killed"),
            Self::Restart(node) => write!(f, "n{node} is restarted in order"),
            Self::RestartAll => f.write_str("everybody is restarted in order"),
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
            Self::FailingDisk(node) => write!(f, "the disk of n{node} cannot be written"),
            Self::FailingSyncs(node) => write!(f, "the disk of n{node} does not sync"),
            Self::TornWrites(node) => write!(f, "the disk of n{node} tears what is written"),
            Self::FullDisk(node) => write!(f, "the disk of n{node} is full"),
            Self::ClockJump(node, seconds) => write!(f, "the clock of n{node} is wrong by {seconds} s"),
            Self::KillActor(node, _) => write!(f, "an actor of n{node} fails"),
            Self::Liar(node) => write!(f, "n{node} lies about all others"),
            Self::EngineHangs(node) => write!(f, "the engine of n{node} hangs"),
            Self::EngineHangsAsAWhole(node) => write!(f, "the engine of n{node} hangs as a whole"),
            Self::EngineRestarts(node, Survive::Yes) => write!(f, "the engine of n{node} is restarted"),
            Self::EngineRestarts(node, Survive::No) => {
                write!(f, "the engine of n{node} is restarted, and its tasks end")
            }
            Self::EngineForgets(node, _) => write!(f, "the engine of n{node} forgets a task"),
            Self::EngineRevives(node, _) => write!(f, "a container of n{node} is started again"),
            Self::HandOver => f.write_str("the leader is to hand over"),
            Self::Drain(node) => write!(f, "n{node} is to give its tasks away"),
            Self::Promote(node) => write!(f, "n{node} is to be a manager"),
            Self::Demote(node) => write!(f, "n{node} is to be a worker"),
            Self::Leave(node) => write!(f, "n{node} is to leave"),
            Self::Upgrade(node) => write!(f, "n{node} is upgraded"),
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
            let draw = || draw(&mut StdRng::seed_from_u64(seed), 5, 10, Duration::from_secs(60), seed % 2 == 0);
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
