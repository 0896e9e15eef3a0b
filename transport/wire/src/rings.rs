//! Rings of observers: which nodes observe which. Each of the K rings orders all nodes by a hash of its own.
//!
//! The observers of a node are, ring by ring, the next node after it that no earlier ring has chosen: d = min(K, n − 1)
//! *distinct* nodes. (Rings that may repeat a node leave most subjects of a cluster of five to ten below the quorum.)
//! The subjects of a node are those that it observes, so the two relations are each other's inverse by construction.
//!
//! Each detector builds its rings from its own view of the members, and the leader builds those by which it counts
//! votes from the committed nodes. Where views differ, for the time that news takes to spread, a subject may have an
//! observer too many, never none. A join or a leave moves only the neighbours in each ring.

use crate::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Rings of one view of the cluster.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Rings, each sorted by (hash, node). An entry contains the node's seat instead of its id, so that it takes eight
    /// bytes.
    rings: Vec<Vec<(u32, u32)>>,
    seats: Vec<NodeId>,
    seat_of: BTreeMap<NodeId, u32>,
    free: Vec<u32>,
}

impl Rings {
    /// Creates `count` empty rings.
    pub fn new(count: usize) -> Self {
        Self { rings: vec![Vec::new(); count], seats: Vec::new(), seat_of: BTreeMap::new(), free: Vec::new() }
    }

    /// Number of nodes on the rings.
    pub fn len(&self) -> usize {
        self.seat_of.len()
    }

    /// Whether no node is on the rings.
    pub fn is_empty(&self) -> bool {
        self.seat_of.is_empty()
    }

    /// Nodes on the rings, sorted by id.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.seat_of.keys().copied()
    }

    /// Whether a node is on the rings.
    pub fn contains(&self, node: NodeId) -> bool {
        self.seat_of.contains_key(&node)
    }

    /// Number of observers that each node has.
    pub(crate) fn observer_count(&self) -> usize {
        self.rings.len().min(self.len().saturating_sub(1))
    }

    /// Adds a node to the rings. Returns whether it was new.
    pub fn insert(&mut self, node: NodeId) -> bool {
        if self.contains(node) {
            return false;
        }
        let seat = match self.free.pop() {
            Some(seat) => {
                self.seats[seat as usize] = node;
                seat
            }
            None => {
                self.seats.push(node);
                (self.seats.len() - 1) as u32
            }
        };
        for ring in 0..self.rings.len() {
            let at = self.place(ring, node).unwrap_or_else(|at| at);
            self.rings[ring].insert(at, (hash(node, ring), seat));
        }
        self.seat_of.insert(node, seat);
        true
    }

    /// Removes a node from the rings. Returns whether it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let Some(&seat) = self.seat_of.get(&node) else { return false };
        for ring in 0..self.rings.len() {
            let at = self.place(ring, node).expect("a seated node is on every ring");
            self.rings[ring].remove(at);
        }
        self.seat_of.remove(&node);
        self.free.push(seat);
        true
    }

    /// Distinct observers of a node, at most one per ring, in the order of the rings. Bit i of an accusation belongs to
    /// the i-th of them.
    pub fn observers(&self, subject: NodeId) -> Vec<NodeId> {
        let mut chosen = Vec::with_capacity(self.observer_count());
        if !self.contains(subject) {
            return chosen;
        }
        for (ring, entries) in self.rings.iter().enumerate() {
            if chosen.len() == self.observer_count() {
                break;
            }
            let start = self.place(ring, subject).expect("a seated node is on every ring");
            let next = entries[start + 1..]
                .iter()
                .chain(&entries[..start])
                .map(|&(_, seat)| self.seats[seat as usize])
                .find(|node| !chosen.contains(node));
            chosen.extend(next);
        }
        chosen
    }

    /// Nodes that a node observes. Only its K predecessors on each ring are candidates: an observer is found within K
    /// steps, since fewer than K nodes were chosen before it.
    pub fn subjects(&self, observer: NodeId) -> BTreeSet<NodeId> {
        let mut subjects = BTreeSet::new();
        if !self.contains(observer) {
            return subjects;
        }
        let mut asked = BTreeSet::from([observer]);
        for (ring, entries) in self.rings.iter().enumerate() {
            let start = self.place(ring, observer).expect("a seated node is on every ring");
            let back = entries[..start].iter().rev().chain(entries[start + 1..].iter().rev());
            for &(_, seat) in back.take(self.rings.len()) {
                let node = self.seats[seat as usize];
                if asked.insert(node) && self.observers(node).contains(&observer) {
                    subjects.insert(node);
                }
            }
        }
        subjects
    }

    /// Position of a node on a ring, or the position where it would be inserted. Equal hashes are ordered by id.
    fn place(&self, ring: usize, node: NodeId) -> Result<usize, usize> {
        let key = hash(node, ring);
        self.rings[ring].binary_search_by(|&(hash, seat)| (hash, self.seats[seat as usize]).cmp(&(key, node)))
    }
}

/// Quorum of observers: the number of distinct observers that must miss a node. It is ⌈5d/8⌉: 5 of 8 gave no false
/// verdict in any cell of Lifeguard's fault grid (simulated).
pub const fn quorum(observers: usize) -> usize {
    (5 * observers).div_ceil(8)
}

/// Position of a node on a ring as a hash: the same on every machine and in every version. The mixer is splitmix64's.
fn hash(node: NodeId, ring: usize) -> u32 {
    let bits = node.bits();
    let mixed = mix((bits as u64) ^ mix(((bits >> 64) as u64) ^ mix(ring as u64 + 1)));
    (mixed >> 32) as u32
}

const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rings(count: usize, nodes: impl IntoIterator<Item = u128>) -> Rings {
        let mut rings = Rings::new(count);
        for node in nodes {
            rings.insert(NodeId::from_bits(node));
        }
        rings
    }

    /// Checks the rule for every node of the rings: as many distinct observers as possible, and subjects as their
    /// inverse.
    fn check(rings: &Rings) {
        let nodes: Vec<NodeId> = rings.seat_of.keys().copied().collect();
        let wanted = rings.rings.len().min(nodes.len().saturating_sub(1));
        let mut watched: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for &node in &nodes {
            let observers = rings.observers(node);
            let distinct: BTreeSet<NodeId> = observers.iter().copied().collect();
            assert_eq!(distinct.len(), wanted, "distinct observers of {node} among {}", nodes.len());
            assert_eq!(observers.len(), wanted);
            assert!(!distinct.contains(&node), "nobody observes itself");
            for observer in distinct {
                watched.entry(observer).or_default().insert(node);
            }
        }
        for &node in &nodes {
            assert_eq!(rings.subjects(node), watched.remove(&node).unwrap_or_default(), "subjects of {node}");
        }
    }

    #[test]
    fn everybody_has_as_many_distinct_observers_as_there_can_be() {
        for count in [0, 1, 2, 3, 5, 8, 9, 10, 40] {
            check(&rings(8, 0..count));
            check(&rings(4, 0..count));
        }
    }

    #[test]
    fn a_thousand_nodes_have_eight_observers_each() {
        check(&rings(8, (0..1000).map(|i| i * 7919)));
    }

    #[test]
    fn one_node_more_changes_few_observers() {
        // Stability: a join among 200 may move the neighbours in each ring, not the rest.
        let before = rings(8, 0..200);
        let mut after = before.clone();
        after.insert(NodeId::from_bits(777));
        let changed =
            (0..200).map(NodeId::from_bits).filter(|&node| before.observers(node) != after.observers(node)).count();
        assert!(changed <= 16, "{changed} of 200 nodes have other observers");
    }

    #[test]
    fn the_order_of_joining_does_not_matter() {
        let (one, other) = (rings(8, 0..50), rings(8, (0..50).rev()));
        for node in (0..50).map(NodeId::from_bits) {
            assert_eq!(one.observers(node), other.observers(node));
        }
    }

    #[test]
    fn the_places_on_the_rings_never_change() {
        // Nodes of two versions must agree on which node observes which.
        assert_eq!(hash(NodeId::from_bits(1), 0), 0x6c57_95e1);
    }

    #[test]
    fn the_quorum_is_five_eighths() {
        let quorums: Vec<usize> = (0..=8).map(quorum).collect();
        assert_eq!(quorums, [0, 1, 2, 2, 3, 4, 4, 5, 5]);
    }

    proptest! {
        #[test]
        fn the_law_holds_on_any_churn(count in 1usize..9, steps: Vec<(bool, u8)>) {
            let mut rings = Rings::new(count);
            for (join, node) in steps {
                let node = NodeId::from_bits(u128::from(node) << 90);
                if join { rings.insert(node); } else { rings.remove(node); }
            }
            check(&rings);
        }
    }
}
