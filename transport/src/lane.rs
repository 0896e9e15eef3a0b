//! Lanes: the purposes of streams. One closed enum, judged before a byte of payload is decoded.
//!
//! A lane determines which role its two ends must have, and whether it runs on the control connection of a pair or on
//! the bulk connection, so that megabytes never delay a heartbeat.

use bincode::{Decode, Encode};
use essaim_wire::{Role, WireVersion};
use std::fmt;

/// Purpose of a stream. New lanes are appended, because the number of each is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Lane {
    /// Typed traffic between actors: a worker opens it to the manager that it is linked to.
    Link,
    /// Push-pull of the whole membership table.
    Members,
    /// The supervision tree and the journal of a node, requested by a manager.
    View,
    /// Raft between managers.
    Raft,
    /// Proposals of one manager on their way to the leader.
    Propose,
    /// Requests for certificates: of joiners, forwarded by a manager; for renewal, from the node itself. The server of
    /// the lane checks the peer, since a worker may request only its own renewal.
    Enrol,
    /// A snapshot of the state, from the leader to a manager that lags behind.
    Snapshot,
    /// Logs of tasks: a manager requests them from the node that keeps them.
    Logs,
    /// Nodes that are linked to a manager and the accusations of each, from that manager to the leader.
    Ballots,
    /// A program that a manager executes inside a task, at the node on which the task runs.
    Exec,
    /// A connection to a published port, from the node that accepted it to the node of a task.
    Port,
}

/// Side that opens a lane, as seen by the node that judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer opens the lane to this node.
    Incoming,
    /// This node opens the lane to the peer.
    Outgoing,
}

/// The two connections of a pair of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Traffic {
    /// Small and urgent traffic: links, Raft, membership.
    Control,
    /// Large and patient traffic: logs, snapshots. Opened when first needed.
    Bulk,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Link,
        Self::Members,
        Self::View,
        Self::Raft,
        Self::Propose,
        Self::Enrol,
        Self::Snapshot,
        Self::Logs,
        Self::Ballots,
        Self::Exec,
        Self::Port,
    ];

    /// The least role that the peer must have.
    pub(crate) const fn least_role(self, direction: Direction) -> Role {
        match (self, direction) {
            (Self::Raft | Self::Propose | Self::Snapshot | Self::Ballots, _) => Role::Manager,
            // Only a manager serves links and signs certificates; any node may request them.
            (Self::Link | Self::Enrol, Direction::Outgoing) => Role::Manager,
            (Self::Link | Self::Enrol, Direction::Incoming) => Role::Worker,
            // Output of tasks may be secret, and a tree and a journal name tasks and the reasons of their failures:
            // only managers may request them.
            (Self::Logs | Self::View, Direction::Incoming) => Role::Manager,
            (Self::Logs | Self::View, Direction::Outgoing) => Role::Worker,
            // A worker that was taken over must not run programs on other nodes.
            (Self::Exec, Direction::Incoming) => Role::Manager,
            (Self::Exec, Direction::Outgoing) => Role::Worker,
            // Every node publishes every port, and leads to no port of a task that its service does not publish.
            (Self::Members | Self::Port, _) => Role::Worker,
        }
    }

    /// Wire version that introduced the lane.
    const fn since(self) -> WireVersion {
        match self {
            Self::Link
            | Self::Members
            | Self::View
            | Self::Raft
            | Self::Propose
            | Self::Enrol
            | Self::Snapshot
            | Self::Logs
            | Self::Ballots
            | Self::Exec
            | Self::Port => WireVersion(1),
        }
    }

    /// Whether the lane may be opened on a session of this wire version: a peer of an older one would not know it.
    pub(crate) const fn is_known_to(self, version: WireVersion) -> bool {
        self.since().0 <= version.0
    }

    /// Connection that the lane runs on.
    pub const fn traffic(self) -> Traffic {
        match self {
            Self::Link | Self::Members | Self::View | Self::Raft | Self::Propose | Self::Enrol | Self::Ballots => {
                Traffic::Control
            }
            Self::Snapshot | Self::Logs | Self::Exec | Self::Port => Traffic::Bulk,
        }
    }

    /// Whether both ends must belong to the same lineage of the log.
    pub(crate) const fn needs_one_lineage(self) -> bool {
        matches!(self, Self::Raft | Self::Propose | Self::Snapshot | Self::Ballots)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Link => "link",
            Self::Members => "members",
            Self::View => "view",
            Self::Raft => "raft",
            Self::Propose => "propose",
            Self::Enrol => "enrol",
            Self::Snapshot => "snapshot",
            Self::Logs => "logs",
            Self::Ballots => "ballots",
            Self::Exec => "exec",
            Self::Port => "port",
        })
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("lane": Lane, Traffic);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::encode;

    #[test]
    fn the_numbers_of_the_lanes_never_change() {
        for (number, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(encode(&lane), [u8::try_from(number).expect("few lanes")], "{lane}");
        }
    }

    #[test]
    fn every_lane_is_known_to_the_newest_version_and_to_none_before_its_own() {
        for lane in Lane::ALL {
            assert!(lane.is_known_to(WireVersion::NEWEST));
            assert!(!lane.is_known_to(WireVersion(lane.since().0 - 1)));
        }
    }

    #[test]
    fn a_worker_may_open_no_lane_between_managers_no_logs_and_no_exec() {
        let closed: Vec<Lane> =
            Lane::ALL.into_iter().filter(|lane| lane.least_role(Direction::Incoming) > Role::Worker).collect();
        let between = [Lane::Raft, Lane::Propose, Lane::Snapshot];
        assert_eq!(closed, [&[Lane::View][..], &between, &[Lane::Logs, Lane::Ballots, Lane::Exec]].concat());
    }
}
