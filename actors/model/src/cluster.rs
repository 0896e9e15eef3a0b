//! The cluster object: the identity of the cluster, its root of trust, its join secrets, and the settings that hold for
//! all nodes.

use crate::{AddressPools, EngineKind, Labels, Meta, Refusal};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{ClusterId, Level, Lineage, Role, Timestamp};
use std::fmt;
use std::time::Duration;

/// The cluster. A state has exactly one once it is founded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Identity of the cluster: drawn at init, and part of every certificate.
    pub id: ClusterId,
    /// Lineage of the log that this state comes from.
    pub lineage: Lineage,
    /// Version and dates of the cluster object.
    pub meta: Meta,
    /// Settings made by operators.
    pub spec: ClusterSpec,
    /// Root of trust: the CA of the cluster.
    pub authority: RootCa,
    /// Secrets that the join tokens prove knowledge of.
    pub join: JoinSecrets,
    /// Engine of services that name none: the engine of the node that founded the cluster.
    pub default_engine: EngineKind,
    /// Level of the cluster: which changes all its managers understand (module `level`). It never goes down.
    pub level: Level,
    /// Latest expiry of the certificates that were issued with a longer lifetime than the present one. Written by
    /// `apply` when `spec.certificate_expiry` changes; zero until then.
    pub issued_until: Timestamp,
    /// Where the subnets of networks come from.
    pub pools: AddressPools,
}
record!(Cluster { 1: id, lineage, meta, spec, authority, join, default_engine, level, issued_until, pools });

impl Cluster {
    /// The time at which every certificate issued until `now` has expired, whatever its lifetime was when it was
    /// issued.
    pub(crate) fn certificates_expired_at(&self, now: Timestamp) -> Timestamp {
        self.issued_until.max(now + self.spec.certificate_expiry)
    }
}

/// Ended tasks of a slot that are kept at most, whatever the setting: at some 300 bytes each, 300 KB of every manager's
/// memory for a slot that fails all the time.
pub const TASK_HISTORY_MAX: usize = 1_000;

/// Settings that an operator may make for the whole cluster, with Swarm's words and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Name of the cluster: always `default`, as in Swarm.
    pub name: String,
    /// Labels of the cluster, chosen by operators.
    pub labels: Labels,
    /// Ended tasks of each slot that are kept as history. Negative means [`TASK_HISTORY_MAX`], which is also the
    /// largest value accepted.
    pub task_history: i64,
    /// Swarm's heartbeat of workers to managers. Kept and shown only: failures are detected by gossip.
    pub heartbeat: Duration,
    /// Lifetime of a node's certificate.
    pub certificate_expiry: Duration,
    /// Grace period: time that a node may be unreachable before its tasks are written off.
    pub grace: Duration,
    /// Swarm's Raft setting: entries between two snapshots. Kept and shown only.
    pub snapshot_interval: u64,
    /// Swarm's Raft setting: snapshots kept beside the newest. Kept and shown only.
    pub keep_old_snapshots: u64,
    /// Swarm's Raft setting: entries kept for slow followers. Kept and shown only.
    pub slow_follower_entries: u64,
}
record!(ClusterSpec {
    1: name,
    labels,
    task_history,
    heartbeat,
    certificate_expiry,
    grace,
    snapshot_interval,
    keep_old_snapshots,
    slow_follower_entries
});

/// Shortest lifetime of a certificate that can be set, as in Swarm.
const CERTIFICATE_EXPIRY_MIN: Duration = Duration::from_secs(3600);

/// Label of the cluster that says how long the record of a node that left is kept (`90s`, `24h`, `1h30m`). It is a
/// label because the docker CLI has no flag for it.
pub const LEFT_NODES_KEPT_LABEL: &str = "essaim.left-nodes-kept";

/// Time that the record of a node that left is kept unless an operator sets another: long enough that an operator who
/// comes to work in the morning sees which nodes left in the night.
const LEFT_NODES_KEPT: Duration = Duration::from_secs(24 * 3600);

impl ClusterSpec {
    /// Refuses settings that no cluster can have. Called by `apply`, and before a cluster is founded.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.name != "default" {
            return Err(Refusal::invalid("swarm spec must be named \"default\""));
        }
        if self.certificate_expiry < CERTIFICATE_EXPIRY_MIN {
            return Err(Refusal::invalid("minimum certificate expiry time is: 1h0m0s"));
        }
        if self.heartbeat.is_zero() {
            return Err(Refusal::invalid("heartbeat time period cannot be a negative duration"));
        }
        Ok(())
    }

    /// Time that the record of a node that left is kept.
    pub fn left_nodes_kept(&self) -> Duration {
        self.labels.get(LEFT_NODES_KEPT_LABEL).and_then(|text| parse_span(text)).unwrap_or(LEFT_NODES_KEPT)
    }
}

/// Parses a duration as operators write it: whole numbers of `h`, `m` and `s`, one after the other.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut number = String::new();
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        let count: u64 = std::mem::take(&mut number).parse().ok()?;
        seconds = seconds.checked_add(count.checked_mul(unit)?)?;
    }
    (number.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            labels: Labels::new(),
            task_history: 5,
            heartbeat: Duration::from_secs(5),
            certificate_expiry: Duration::from_secs(90 * 24 * 3600),
            grace: Duration::from_secs(3),
            snapshot_interval: 10_000,
            keep_old_snapshots: 0,
            slow_follower_entries: 500,
        }
    }
}

/// Root certificate of the cluster and its key. Only managers hold this state, and their disks keep it encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCa {
    /// Root certificate, PEM.
    pub certificate: String,
    /// Private key of the root certificate, PEM.
    pub key: String,
    /// Times that an operator asked for a new root; Docker's `ForceRotate`.
    pub rotations: u64,
}
record!(RootCa { 1: certificate, key, rotations });

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCa").field("rotations", &self.rotations).finish_non_exhaustive()
    }
}

/// Secret halves of the two join tokens.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct JoinSecrets {
    /// Secret of the token that grants the role of worker.
    pub worker: [u8; 16],
    /// Secret of the token that grants the role of manager.
    pub manager: [u8; 16],
}

impl JoinSecrets {
    /// The secret of the join token for `role`.
    pub const fn of(&self, role: Role) -> &[u8; 16] {
        match role {
            Role::Worker => &self.worker,
            Role::Manager => &self.manager,
        }
    }
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecrets")
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("cluster": JoinSecrets, Cluster, ClusterSpec, RootCa);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_hours_minutes_and_seconds_and_nothing_else() {
        let seconds = |text| parse_span(text).map(|span| span.as_secs());
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(seconds("1h30m5s"), Some(5_405));
        for text in ["", "h", "5", "5x", "-1s", "1.5h", "99999999999999999999s", "9999999999999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_record_of_a_node_that_left_is_kept_for_a_day_unless_the_cluster_says_otherwise() {
        let mut spec = ClusterSpec::default();
        assert_eq!(spec.left_nodes_kept(), Duration::from_secs(86_400));
        spec.labels.insert(LEFT_NODES_KEPT_LABEL.into(), "10m".into());
        assert_eq!(spec.left_nodes_kept(), Duration::from_secs(600));
    }
}
