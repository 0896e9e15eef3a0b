//! What a node tells of its machine and of its own part in the cluster, for `essaim doctor`. The node judges nothing.

use essaim_wire::{NodeId, Timestamp, record};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// Collects the facts of this node.
pub trait Gather: Send + Sync {
    /// The facts as they are now. Returns within two seconds: what takes longer counts as not known.
    fn facts(&self) -> BoxFuture<'_, Facts>;
}

/// A node that tells nothing of itself: for tests of other things.
#[derive(Debug, Clone, Copy)]
pub struct NoFacts;

impl Gather for NoFacts {
    fn facts(&self) -> BoxFuture<'_, Facts> {
        std::future::ready(Facts::default()).boxed()
    }
}

/// The facts of one node. What the machine does not tell is `None` or missing from its list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Address on which the node listens for the cluster's traffic; `None` outside of a cluster.
    pub listen: Option<SocketAddr>,
    /// Address that other nodes are told; `None` outside of a cluster.
    pub advertise: Option<SocketAddr>,
    /// Whether the kernel says that its clock is kept in step with others.
    pub clock_synchronised: Option<bool>,
    /// The folders that must not run full.
    pub folders: Vec<FolderFacts>,
    /// Microseconds that a write of a small file to the data folder took until it would survive a power cut.
    pub sync_micros: Option<u64>,
    /// Files that the daemon has open.
    pub open_files: Option<u64>,
    /// Files that the daemon may have open.
    pub open_files_max: Option<u64>,
    /// Bytes that the kernel grants the receive buffer of a socket at most.
    pub receive_buffer_max: Option<u64>,
    /// The engines of the node.
    pub engines: Vec<EngineFacts>,
    /// Published ports that the node cannot listen on, with the reasons.
    pub unpublished: Vec<(String, String)>,
    /// End of the validity of the node's certificate; `None` outside of a cluster.
    pub certificate_until: Option<Timestamp>,
    /// End of the validity of the root certificate that the node trusts; `None` outside of a cluster.
    pub root_until: Option<Timestamp>,
    /// The ways over UDP from this node to the managers.
    pub ways: Vec<WayFacts>,
    /// The interface of the node's address and the bytes that a packet there may have (MTU).
    pub mtu: Option<(String, u32)>,
    /// The systemd unit that the daemon runs in and its `KillMode`; `None` outside of a unit.
    pub kill_mode: Option<(String, String)>,
    /// Why tasks that run as processes can have no limits; `None` when they can.
    pub cgroup_fault: Option<String>,
}
record!(Facts {
    1: listen,
    advertise,
    clock_synchronised,
    folders,
    sync_micros,
    open_files,
    open_files_max,
    receive_buffer_max,
    engines,
    unpublished,
    certificate_until,
    root_until,
    ways,
    mtu,
    kill_mode,
    cgroup_fault
});

/// A folder and the file system that it is on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderFacts {
    /// What the folder holds: `data folder`, `docker engine`.
    pub what: String,
    /// Path of the folder.
    pub path: String,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub all_bytes: u64,
    /// Files that can still be made.
    pub free_inodes: u64,
    /// Files that the file system can have; 0 when it has no limit.
    pub all_inodes: u64,
}
record!(FolderFacts { 1: what, path, free_bytes, all_bytes, free_inodes, all_inodes });

/// An engine of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineFacts {
    /// Kind of the engine, in its word.
    pub kind: String,
    /// Version of the engine; empty when it does not answer.
    pub version: String,
    /// Whether the engine is part of a Docker swarm of its own.
    pub in_swarm: bool,
    /// Reason why the engine does not answer; empty when it does.
    pub fault: String,
}
record!(EngineFacts { 1: kind, version, in_swarm, fault });

/// A way over UDP to another node, tried a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayFacts {
    /// The other node.
    pub node: NodeId,
    /// The address that the other node advertises.
    pub addr: SocketAddr,
    /// Reason why nothing answered; empty when an answer came.
    pub fault: String,
}
record!(WayFacts { 1: node, addr, fault });

/// The clock of another node beside this one's, measured over a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Microseconds by which the other clock is ahead; negative when it is behind.
    pub micros: i64,
    /// Microseconds by which the measurement may be wrong: half of the round trip.
    pub within_micros: u64,
}

impl Skew {
    /// The skew by a clock that read `other` somewhere between `asked` and `heard` of this node's clock.
    pub fn between(asked: Timestamp, other: Timestamp, heard: Timestamp) -> Self {
        let [asked, other, heard] =
            [asked, other, heard].map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let within = heard.saturating_sub(asked).max(0) / 2;
        Self { micros: other.saturating_sub(asked.saturating_add(within)), within_micros: within.unsigned_abs() }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("view-facts": Facts, FolderFacts, EngineFacts, WayFacts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_of_a_clock_is_known_up_to_half_of_the_round_trip() {
        let skew = |asked, other, heard| {
            let [asked, other, heard] = [asked, other, heard].map(Timestamp::from_micros);
            let Skew { micros, within_micros } = Skew::between(asked, other, heard);
            (micros, within_micros)
        };
        assert_eq!(skew(1_000, 1_100, 1_200), (0, 100));
        assert_eq!(skew(1_000, 9_100, 1_200), (8_000, 100));
        assert_eq!(skew(10_000, 100, 10_000), (-9_900, 0));
        // This node's own clock was set back meanwhile.
        assert_eq!(skew(10_000, 100, 9_000), (-9_900, 0));
    }
}
