//! Counts votes: which nodes are missed by a quorum of their observers.
//!
//! A vote is an accusation that reached a manager over the observer's own link. It counts if the observer is a
//! neighbour of the subject on the rings, which are computed here from the committed nodes. Each observer counts once,
//! whatever it says and however often. An observer that is itself lost cannot vote; it counts as having voted, provided
//! that at least one observer votes. Since only a quorum of others makes a node lost, fewer liars than a quorum make no
//! node lost, alone or in a chain.

use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Accusation, NodeId, Rings, quorum};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The nodes that are linked to any manager, each with its accusations.
pub type Ballots = BTreeMap<NodeId, Arc<[Accusation]>>;

/// Accusers of each node, by ballots: an observer appears once for each of its accusations.
pub(super) type Accusers = BTreeMap<NodeId, Vec<NodeId>>;

/// A quorum of observers misses a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) accusers: BTreeSet<NodeId>,
    /// Observers that did not vote but are lost themselves, and so count as votes.
    pub(super) implicit: Vec<NodeId>,
}

/// The rings of the committed nodes, on which observers are neighbours.
#[derive(Debug)]
pub(super) struct Census {
    rings: Rings,
}

impl Census {
    pub(super) fn new(rings: usize) -> Self {
        Self { rings: Rings::new(rings) }
    }

    /// Puts exactly these nodes on the rings.
    pub(super) fn retarget(&mut self, nodes: &BTreeSet<NodeId>) {
        let gone: Vec<NodeId> = self.rings.nodes().filter(|node| !nodes.contains(node)).collect();
        for node in gone {
            self.rings.remove(node);
        }
        for node in nodes {
            self.rings.insert(*node);
        }
    }

    /// The nodes that a quorum misses. A loss may complete the quorum of another one, which is found in the same count.
    pub(super) fn count(&self, accused: &Accusers, is_lost: impl Fn(NodeId) -> bool) -> BTreeMap<NodeId, Missed> {
        let mut found: BTreeMap<NodeId, Missed> = BTreeMap::new();
        loop {
            let before = found.len();
            for (&subject, by) in accused.iter().filter(|(_, by)| !by.is_empty()) {
                if !found.contains_key(&subject)
                    && let Some(missed) = self.judge(subject, by, |node| is_lost(node) || found.contains_key(&node))
                {
                    found.insert(subject, missed);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn judge(&self, subject: NodeId, by: &[NodeId], is_lost: impl Fn(NodeId) -> bool) -> Option<Missed> {
        let observers = self.rings.observers(subject);
        let accusers: BTreeSet<NodeId> = observers.iter().filter(|node| by.contains(node)).copied().collect();
        let implicit: Vec<NodeId> =
            observers.iter().filter(|node| !accusers.contains(node) && is_lost(**node)).copied().collect();
        let votes = if planted(Bug::VoteWithoutSender) { by.len() } else { accusers.len() };
        let is_quorum = votes > 0 && votes + implicit.len() >= quorum(observers.len()).max(1);
        (is_quorum && self.rings.contains(subject)).then_some(Missed { accusers, implicit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> NodeId {
        NodeId::from_bits(number)
    }

    fn census(nodes: u128) -> Census {
        let mut census = Census::new(8);
        census.retarget(&(1..=nodes).map(id).collect());
        census
    }

    fn accused(votes: &[(u128, &[u128])]) -> Accusers {
        votes.iter().map(|(subject, by)| (id(*subject), by.iter().map(|node| id(*node)).collect())).collect()
    }

    fn found(census: &Census, votes: &[(u128, &[u128])]) -> Vec<u128> {
        census.count(&accused(votes), |_| false).keys().map(|node| node.bits()).collect()
    }

    #[test]
    fn three_of_four_observers_are_a_quorum_and_one_of_them_three_times_is_not() {
        assert_eq!(found(&census(5), &[(5, &[1, 2, 3])]), [5]);
        assert_eq!(found(&census(5), &[(5, &[1, 1, 1])]), [0; 0]);
        assert_eq!(found(&census(5), &[(5, &[1, 2, 9])]), [0; 0], "9 observes nobody");
        assert_eq!(found(&census(2), &[(2, &[1])]), [2]);
    }

    #[test]
    fn who_does_not_stand_beside_a_node_has_no_vote_against_it() {
        let census = census(40);
        let observers = census.rings.observers(id(7));
        let strangers: Vec<u128> = (1..=40).filter(|node| *node != 7 && !observers.contains(&id(*node))).collect();
        assert_eq!(found(&census, &[(7, &strangers)]), [0; 0]);
        let five: Vec<u128> = observers[..5].iter().map(|node| node.bits()).collect();
        assert_eq!(found(&census, &[(7, &five)]), [7]);
    }

    #[test]
    fn two_liars_of_five_that_accuse_all_others_lose_nobody() {
        assert_eq!(found(&census(5), &[(1, &[4, 5]), (2, &[4, 5]), (3, &[4, 5])]), [0; 0]);
    }

    #[test]
    fn observers_that_are_lost_in_the_same_outage_do_not_hold_a_verdict_up() {
        // Four of twelve nodes are gone; each is missed by the eight others.
        let left: Vec<u128> = (5..=12).collect();
        let votes: Vec<(u128, &[u128])> = (1..=4).map(|node| (node, left.as_slice())).collect();
        assert_eq!(found(&census(12), &votes), [1, 2, 3, 4]);
    }
}
