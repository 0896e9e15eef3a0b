//! Timing and sizes of the detector, with the origin of each number. All nodes of a cluster use the same profile,
//! because the quorum depends on the number of rings.

use std::time::Duration;

/// Upper bound on rings: the bits of an accusation record.
pub(crate) const MAX_RINGS: usize = 16;

/// Timing and sizes of the detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of rings, and so of observers that a node has at most. Eight keep the quorum sharp at 10,000 nodes for 7
    /// kB/s each; four cost 3.7 kB/s and are a little slower (simulated).
    pub rings: usize,
    /// Interval at which an observer sends a heartbeat to each of its subjects.
    pub heartbeat: Duration,
    /// Silence of a subject after which its observer accuses it: three heartbeats.
    pub miss: Duration,
    /// Time that an `Unreachable` node has to come back before it is `Down`.
    pub grace: Duration,
    /// Interval of foca's slow probe, the safety net under the rings.
    pub probe_period: Duration,
    /// Time that a slow probe waits for an answer before it asks other members to probe.
    pub probe_timeout: Duration,
    /// Shortest duration of a suspicion by the slow probe (times log10 of the cluster's size); three times as long
    /// while no other member confirms it.
    pub suspicion: Duration,
    /// Lateness of a wake-up above which this node counts as stalled: all members are forgiven their silence, and what
    /// queued up meanwhile is read first.
    pub stall: Duration,
    /// Time that an expected member may stay unheard before it is `Down`.
    pub patience: Duration,
    /// Number of times `Unreachable` within [`flap_window`](Self::flap_window) that make a node flapping.
    pub flap_count: usize,
    /// Window in which [`flap_count`](Self::flap_count) losses make a node flapping.
    pub flap_window: Duration,
    /// Time without a loss after which a flapping node is trusted again.
    pub flap_pause: Duration,
    /// Interval at which the whole table is compared with that of one other member (push-pull).
    pub push_pull: Duration,
    /// Interval at which one `Down` member is called, so that the halves of a healed partition find each other again.
    pub reconnect: Duration,
    /// Time after which a member that is `Down` or has left is forgotten.
    pub forget: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rings: 8,
            heartbeat: Duration::from_millis(200),
            miss: Duration::from_millis(600),
            grace: Duration::from_secs(3),
            probe_period: Duration::from_secs(5),
            probe_timeout: Duration::from_millis(1500),
            suspicion: Duration::from_secs(5),
            stall: Duration::from_millis(250),
            patience: Duration::from_secs(10),
            flap_count: 3,
            flap_window: Duration::from_secs(60),
            flap_pause: Duration::from_secs(30),
            push_pull: Duration::from_secs(30),
            reconnect: Duration::from_secs(1),
            forget: Duration::from_secs(24 * 3600),
        }
    }
}

impl Config {
    /// Interval at which the detector looks at its subjects: a quarter of a heartbeat, so that heartbeats are spread
    /// out and a late answer is noticed long before the next heartbeat is due.
    pub(crate) fn tick(&self) -> Duration {
        self.heartbeat / TICKS_PER_HEARTBEAT
    }

    /// Number of rings in use: at least one, at most the bits of a record.
    pub(crate) fn ring_count(&self) -> usize {
        self.rings.clamp(1, MAX_RINGS)
    }
}

/// Ticks in one heartbeat; see [`Config::tick`].
pub(crate) const TICKS_PER_HEARTBEAT: u32 = 4;
