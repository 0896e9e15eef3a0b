//! Admission: the rights that the replicated table takes away from what certificates grant.
//!
//! A certificate grants rights, and a manager's is signed only after the commit that promoted it. The table holds the
//! exceptions: which nodes are managers today, and which removed nodes still hold certificates that have not expired.
//! Ten thousand joins do not change it. A table names its place in the log, (lineage, index), and is never replaced by
//! an older one.
//!
//! The table must not judge what it cannot know. A manager that was away has an old table, and if it refused the leader
//! because the leader was promoted in the meantime, it would never hear of that promotion. So a certificate contains
//! the index at which it was granted, and one that is newer than the table is accepted.
//!
//! Pure: no clock and no socket; callers pass in both the time and the peer.

use crate::lane::{Direction, Lane};
use crate::trust::PeerIdentity;
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{ClusterId, Index, Lineage, NodeId, Removals, Role, Timestamp};
use std::collections::BTreeSet;

/// Table of the exceptions in force. The default is empty and lets certificates alone decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// Lineage of the log that the table comes from.
    pub lineage: Lineage,
    /// Index in the log whose state the table shows.
    pub index: Index,
    /// Nodes that are managers at that index.
    pub managers: BTreeSet<NodeId>,
    /// Removed nodes, each with the time at which its last certificate expires.
    pub removed: Removals,
}
record!(Admission { 1: lineage, index, managers, removed });

/// Difference between two admission tables of one lineage, so that a removal costs a node the same, however many nodes
/// were removed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionChange {
    /// Lineage of the log that both tables come from.
    pub lineage: Lineage,
    /// Index in the log of the later table.
    pub index: Index,
    /// All managers of the later table.
    pub managers: BTreeSet<NodeId>,
    /// Removals of the later table that the earlier one does not have, or with another time.
    pub removed: Vec<(NodeId, Timestamp)>,
    /// Nodes whose removal was forgotten since the earlier table.
    pub lapsed: Vec<NodeId>,
}
record!(AdmissionChange { 1: lineage, index, managers, removed, lapsed });

/// Reasons why a peer may not do what it asks, or what this node would ask of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Denied {
    /// The peer shows a certificate of another cluster.
    #[error("the certificate of {node} is of another cluster")]
    OtherCluster {
        /// Peer with that certificate.
        node: NodeId,
    },
    /// The peer's certificate has expired.
    #[error("the certificate of {node} has expired; it must join again")]
    Expired {
        /// Peer with that certificate.
        node: NodeId,
    },
    /// The node was removed from the cluster.
    #[error("{node} was removed from the cluster; it must join again")]
    Removed {
        /// Removed node.
        node: NodeId,
    },
    /// The lane requires a manager, and the peer's certificate is a worker's.
    #[error("{node} is a worker, and the lane {lane} is for managers")]
    Worker {
        /// Worker that was denied.
        node: NodeId,
        /// Lane that requires a manager.
        lane: Lane,
    },
    /// The lane requires a manager, and the peer was demoted since its certificate was signed.
    #[error("{node} was demoted, and the lane {lane} is for managers")]
    Demoted {
        /// Demoted node.
        node: NodeId,
        /// Lane that requires a manager.
        lane: Lane,
    },
    /// The two nodes belong to different lineages of the log: one of them went through `--force-new-cluster` or
    /// `restore`.
    #[error("{node} belongs to another history of the cluster ({theirs:?}, here {ours:?})")]
    OtherLineage {
        /// Peer of the other lineage.
        node: NodeId,
        /// Lineage that the peer stated.
        theirs: Lineage,
        /// Lineage of this node.
        ours: Lineage,
    },
    /// No server is registered for the lane on this node, perhaps not yet.
    #[error("nobody serves the lane {lane} on this node")]
    Unserved {
        /// Lane without a server.
        lane: Lane,
    },
    /// The lane was opened on the wrong connection of the pair (control or bulk): bulk traffic must not delay control
    /// traffic.
    #[error("the lane {lane} does not run on this connection")]
    OtherTraffic {
        /// Lane that was opened there.
        lane: Lane,
    },
    /// The peer has as many streams of the lane open as it may have.
    #[error("{node} has too many streams of the lane {lane} open already")]
    TooMany {
        /// Peer with too many streams.
        node: NodeId,
        /// Lane of these streams.
        lane: Lane,
    },
    /// The wire version of the session is older than the lane.
    #[error("{node} runs an older essaim, which does not know the lane {lane}: upgrade it")]
    Older {
        /// Peer of the session.
        node: NodeId,
        /// Lane that is newer than the session's wire version.
        lane: Lane,
    },
}

impl Admission {
    /// Whether this table shows a later state than `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.lineage.ordinal, self.index) > (other.lineage.ordinal, other.index)
    }

    /// Replaces this table by `next` if that is newer. Returns whether it was replaced; a table never goes back.
    pub fn advance(&mut self, next: Self) -> bool {
        let newer = next.is_newer_than(self);
        if newer {
            *self = next;
        }
        newer
    }

    /// The difference from an earlier table; none if that is a table of another lineage.
    pub fn since(&self, earlier: &Self) -> Option<AdmissionChange> {
        let (removed, lapsed) = self.removed.since(&earlier.removed);
        let (lineage, index, managers) = (self.lineage, self.index, self.managers.clone());
        let change = AdmissionChange { lineage, index, managers, removed, lapsed };
        (self.lineage == earlier.lineage).then_some(change)
    }

    /// Applies a difference to the table that it was made from. A difference that is not newer than the table is part of
    /// it already, and changes nothing.
    pub fn apply(&mut self, change: AdmissionChange) {
        let AdmissionChange { lineage, index, managers, removed, lapsed } = change;
        if lineage == self.lineage && index > self.index {
            (self.index, self.managers) = (index, managers);
            self.removed.apply(removed, &lapsed);
        }
    }

    /// Judges whether a session with the peer is allowed. Returns the peer's role on this node.
    pub(crate) fn judge_session(
        &self,
        cluster: ClusterId,
        peer: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Role, Denied> {
        let node = peer.node;
        if peer.cluster != cluster {
            return Err(Denied::OtherCluster { node });
        }
        if now > peer.not_after {
            return Err(Denied::Expired { node });
        }
        if self.removed.contains(node) {
            return Err(Denied::Removed { node });
        }
        Ok(self.role(peer))
    }

    /// Judges whether a lane between this node and the peer may be opened. `theirs` is the lineage that the peer
    /// states.
    pub(crate) fn judge_lane(
        &self,
        cluster: ClusterId,
        peer: &PeerIdentity,
        lane: Lane,
        direction: Direction,
        theirs: Lineage,
        now: Timestamp,
    ) -> Result<Role, Denied> {
        let node = peer.node;
        let role = self.judge_session(cluster, peer, now)?;
        if role < lane.least_role(direction) {
            return Err(match peer.role {
                Role::Worker => Denied::Worker { node, lane },
                Role::Manager => Denied::Demoted { node, lane },
            });
        }
        // A node without a lineage was just enrolled, and learns its lineage over these very lanes.
        let both_known = theirs != Lineage::default() && self.lineage != Lineage::default();
        if lane.needs_one_lineage() && both_known && theirs != self.lineage {
            return Err(Denied::OtherLineage { node, theirs, ours: self.lineage });
        }
        Ok(role)
    }

    /// Effective role of the peer: what its certificate grants, unless the table has taken it away since.
    pub fn role(&self, peer: &PeerIdentity) -> Role {
        let known = peer.serial.granted <= self.index && *self != Self::default();
        match peer.role {
            Role::Manager if known && !self.managers.contains(&peer.node) => Role::Worker,
            role => role,
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("admission": Denied, Admission, AdmissionChange);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Serial;

    const CLUSTER: ClusterId = ClusterId::from_bits(1);
    const NOW: Timestamp = Timestamp::from_micros(100);

    fn peer(node: u128, role: Role, granted: u64) -> PeerIdentity {
        PeerIdentity {
            cluster: CLUSTER,
            node: NodeId::from_bits(node),
            role,
            not_before: Timestamp::from_micros(0),
            not_after: Timestamp::from_micros(200),
            serial: Serial { granted: Index(granted), nonce: 0 },
        }
    }

    /// The table at index 10: node 1 is the manager and node 9 was removed.
    fn table() -> Admission {
        Admission {
            lineage: Lineage { ordinal: 1, nonce: 7 },
            index: Index(10),
            managers: [NodeId::from_bits(1)].into(),
            removed: [(NodeId::from_bits(9), Timestamp::from_micros(500))].into(),
        }
    }

    fn judge(peer: &PeerIdentity, lane: Lane) -> Result<Role, Denied> {
        table().judge_lane(CLUSTER, peer, lane, Direction::Incoming, table().lineage, NOW)
    }

    #[test]
    fn a_worker_is_refused_on_the_lanes_of_managers_and_on_no_other() {
        let worker = peer(2, Role::Worker, 5);
        assert_eq!(judge(&worker, Lane::Link), Ok(Role::Worker));
        for lane in [Lane::View, Lane::Raft, Lane::Propose, Lane::Snapshot, Lane::Logs] {
            assert_eq!(judge(&worker, lane), Err(Denied::Worker { node: worker.node, lane }));
        }
    }

    #[test]
    fn a_demoted_manager_is_a_worker_whatever_its_certificate_says() {
        let demoted = peer(2, Role::Manager, 5);
        let denied = judge(&demoted, Lane::Raft).expect_err("demoted");
        assert_eq!(denied, Denied::Demoted { node: demoted.node, lane: Lane::Raft });
        assert_eq!(judge(&demoted, Lane::Members), Ok(Role::Worker));
    }

    #[test]
    fn a_manager_whose_certificate_is_newer_than_the_table_is_one() {
        // This node was away while node 2 was promoted (index 11) and became the leader. Only the leader can tell this
        // node.
        assert_eq!(judge(&peer(2, Role::Manager, 11), Lane::Raft), Ok(Role::Manager));
    }

    #[test]
    fn a_removed_node_is_refused_everywhere_with_any_certificate() {
        for role in [Role::Worker, Role::Manager] {
            for lane in Lane::ALL {
                let removed = peer(9, role, 99);
                assert_eq!(judge(&removed, lane), Err(Denied::Removed { node: removed.node }));
            }
        }
    }

    #[test]
    fn another_cluster_and_an_expired_certificate_are_refused() {
        let stranger = PeerIdentity { cluster: ClusterId::from_bits(2), ..peer(1, Role::Manager, 5) };
        assert!(matches!(judge(&stranger, Lane::View), Err(Denied::OtherCluster { .. })));
        let expired = PeerIdentity { not_after: Timestamp::from_micros(99), ..peer(1, Role::Manager, 5) };
        assert!(matches!(judge(&expired, Lane::View), Err(Denied::Expired { .. })));
    }

    #[test]
    fn raft_of_another_history_is_refused_and_a_newcomer_has_none_yet() {
        let manager = peer(1, Role::Manager, 5);
        let with = |theirs, lane| table().judge_lane(CLUSTER, &manager, lane, Direction::Incoming, theirs, NOW);
        let old = Lineage { ordinal: 0, nonce: 3 };
        assert!(matches!(with(old, Lane::Raft), Err(Denied::OtherLineage { .. })));
        assert_eq!(with(old, Lane::View), Ok(Role::Manager));
        assert_eq!(with(Lineage::default(), Lane::Raft), Ok(Role::Manager));
    }

    #[test]
    fn a_table_and_its_differences_make_the_later_table() {
        let mut later = Admission { index: Index(12), managers: [NodeId::from_bits(2)].into(), ..table() };
        later.removed.insert(NodeId::from_bits(8), Timestamp::from_micros(700));
        later.removed.forget(NodeId::from_bits(9));
        let change = later.since(&table()).expect("of one lineage");
        assert_eq!((change.removed.len(), change.lapsed.len()), (1, 1));
        let mut known = table();
        known.apply(change.clone());
        assert_eq!(known, later);
        let newer = Admission { index: Index(13), ..later };
        known = newer.clone();
        known.apply(change);
        assert_eq!(known, newer, "what the table contains already is not applied again");
        let other = Admission { lineage: Lineage { ordinal: 2, nonce: 1 }, ..table() };
        assert_eq!(other.since(&table()), None);
    }

    #[test]
    fn a_table_never_goes_back() {
        let mut table = table();
        assert!(!table.advance(Admission { index: Index(9), ..table.clone() }));
        assert!(!table.advance(table.clone()), "the same is nothing new");
        assert!(table.advance(Admission { index: Index(11), ..table.clone() }));
        let next = Admission { lineage: Lineage { ordinal: 2, nonce: 1 }, index: Index(1), ..table.clone() };
        assert!(table.advance(next), "a new history wins over any index of the old one");
        assert!(!table.advance(Admission {
            lineage: Lineage { ordinal: 1, nonce: 7 },
            index: Index(99),
            ..table.clone()
        }));
    }
}
