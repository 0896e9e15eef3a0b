//! The numbers of the detector, with their origin. A cluster uses one profile everywhere: the quorum counts rings.

use std::time::Duration;

/// The most rings that a record has bits for.
pub(crate) const MAX_RINGS: usize = 16;

/// How the detector is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many rings, and so how many observers a node has at most. Eight keep the quorum sharp at 10,000 nodes
    /// for 7 kB/s each; four cost 3.7 kB/s and are a little slower (simulated).
    pub rings: usize,
    /// How often an observer asks each of its subjects.
    pub heartbeat: Duration,
    /// Silence of this length is an accusation: three heartbeats.
    pub miss: Duration,
    /// How long an `Unreachable` node has to come back before it is `Down`.
    pub grace: Duration,
    /// foca's slow probe, the net under the rings.
    pub probe_period: Duration,
    /// How long a slow probe waits before it asks others to try.
    pub probe_timeout: Duration,
    /// A suspicion of the slow probe lasts at least this long (times log10 of the cluster's size), and three times
    /// as long while nobody confirms it.
    pub suspicion: Duration,
    /// A wake-up that is late by more than this means that this node stood still: everybody is forgiven, and what
    /// queued up meanwhile is read first.
    pub stall: Duration,
    /// How long a learned member may stay unheard before it is `Down`.
    pub patience: Duration,
    /// This many times `Unreachable` within [`flap_window`](Self::flap_window) make a node flapping.
    pub flap_count: usize,
    /// See [`flap_count`](Self::flap_count).
    pub flap_window: Duration,
    /// A flapping node that was steady for this long is trusted again.
    pub flap_pause: Duration,
    /// How often the whole table is compared with that of one other member.
    pub push_pull: Duration,
    /// How often one member that is `Down` is asked whether it is really gone, so that halves of a cut find each
    /// other again.
    pub reconnect: Duration,
    /// When a member that is gone is forgotten.
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
    /// For small machines and metered links: half the rings, heartbeats every 500 ms, detection in about 1.8 s.
    pub fn economy() -> Self {
        Self {
            rings: 4,
            heartbeat: Duration::from_millis(500),
            miss: Duration::from_millis(1500),
            stall: Duration::from_millis(500),
            ..Self::default()
        }
    }

    /// How often the detector looks at its subjects: a quarter of a heartbeat, so that heartbeats are spread out
    /// and a late one is noticed long before the next is due.
    pub(crate) fn tick(&self) -> Duration {
        self.heartbeat / TICKS_PER_HEARTBEAT
    }

    /// Rings that can be told apart in a record.
    pub(crate) fn ring_count(&self) -> usize {
        self.rings.clamp(1, MAX_RINGS)
    }
}

/// See [`Config::tick`].
pub(crate) const TICKS_PER_HEARTBEAT: u32 = 4;
