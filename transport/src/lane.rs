//! Lanes: what a stream is for. One closed enum, judged before a byte of payload is decoded.
//!
//! A lane says which role its two ends must have, and whether it runs on the control connection of a pair or on
//! the bulk connection, so that megabytes never delay a heartbeat.

use bincode::{Decode, Encode};
use essaim_wire::{Role, WireVersion};
use std::fmt;

/// The purpose of a stream. New lanes go to the end: the number of each is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Lane {
    /// Typed traffic of actors: a worker opens it to the manager that it is linked to.
    Link,
    /// Push-pull of the whole membership.
    Members,
    /// The supervision tree and the journal of a node, for a manager that asks.
    View,
    /// Raft between managers.
    Raft,
    /// A proposal of one manager on its way to the leader.
    Propose,
    /// Requests for certificates: of joiners, forwarded by a manager; for renewal, from the node itself. Whoever
    /// serves it looks at the peer, since a worker may ask for nothing but its own renewal.
    Enrol,
    /// A snapshot of the state, from the leader to a manager that lags behind.
    Snapshot,
    /// The logs of tasks: a manager asks the node that keeps them.
    Logs,
    /// Who is linked to a manager and whom each node accuses, from that manager to the leader.
    Ballots,
}

/// Who opens a lane, as seen by the one who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer opens it to this node.
    Incoming,
    /// This node opens it to the peer.
    Outgoing,
}

/// Which of the two connections of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Traffic {
    /// Small and urgent: links, Raft, membership.
    Control,
    /// Large and patient: logs, snapshots. Opened when first needed.
    Bulk,
}

impl Lane {
    /// Every lane, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Link,
        Self::Members,
        Self::View,
        Self::Raft,
        Self::Propose,
        Self::Enrol,
        Self::Snapshot,
        Self::Logs,
        Self::Ballots,
    ];

    /// The least role the peer must have.
    pub const fn least_role(self, direction: Direction) -> Role {
        match (self, direction) {
            (Self::Raft | Self::Propose | Self::Snapshot | Self::Ballots, _) => Role::Manager,
            // Only a manager serves links and signs certificates; any node asks for them.
            (Self::Link | Self::Enrol, Direction::Outgoing) => Role::Manager,
            (Self::Link | Self::Enrol, Direction::Incoming) => Role::Worker,
            // What tasks print may be secret, and a tree and a journal name tasks and say why they failed: managers
            // alone ask for them.
            (Self::Logs | Self::View, Direction::Incoming) => Role::Manager,
            (Self::Logs | Self::View, Direction::Outgoing) => Role::Worker,
            (Self::Members, _) => Role::Worker,
        }
    }

    /// The wire version that the lane came with.
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
            | Self::Ballots => WireVersion(1),
        }
    }

    /// Whether the lane may be opened on a session of this version: a peer of an older one would not know it.
    pub const fn is_known_to(self, version: WireVersion) -> bool {
        self.since().0 <= version.0
    }

    /// The connection it runs on.
    pub const fn traffic(self) -> Traffic {
        match self {
            Self::Link | Self::Members | Self::View | Self::Raft | Self::Propose | Self::Enrol | Self::Ballots => {
                Traffic::Control
            }
            Self::Snapshot | Self::Logs => Traffic::Bulk,
        }
    }

    /// Whether both ends must belong to the same history of the log.
    pub const fn needs_one_lineage(self) -> bool {
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
    fn a_worker_may_open_no_lane_between_managers_and_no_logs() {
        let closed: Vec<Lane> =
            Lane::ALL.into_iter().filter(|lane| lane.least_role(Direction::Incoming) > Role::Worker).collect();
        assert_eq!(closed, [Lane::View, Lane::Raft, Lane::Propose, Lane::Snapshot, Lane::Logs, Lane::Ballots]);
    }
}
