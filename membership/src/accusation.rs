//! Accusations of one member, as one record that merges.
//!
//! An accusation is a bit: "the i-th observer misses this incarnation". All accusations of a subject travel as one
//! record, so a lost datagram costs one gossip item and not eight. Merging is a join in a semilattice (a record of a
//! newer incarnation replaces, one of the same incarnation is united), so records may arrive in any order, twice, and
//! over different paths.
//!
//! Which node the i-th observer is depends on the accuser's view of the rings. Where views differ for a moment, two
//! accusers may share a bit (then the quorum comes later) or one accuser may have two bits (then the quorum comes one
//! vote earlier, and the subject refutes it).

use crate::Incarnation;
use crate::config::MAX_RINGS;
use bincode::{Decode, Encode};
use essaim_wire::{Generation, NodeId};

/// Number of slow probers after which a further one confirms nothing more (Lifeguard's K).
pub(crate) const MAX_PROBERS: usize = 3;

/// All accusations of one incarnation of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) incarnation: Incarnation,
    /// Bit i: the i-th observer misses the member.
    rings: u16,
    /// Members whose slow probe of this one failed: sorted, and the smallest ids when there are more than
    /// [`MAX_PROBERS`].
    probers: Vec<NodeId>,
    /// Number of observers among which a member found a quorum; the largest number of all that found one, 0 when none
    /// did.
    sealed: u8,
}

/// Wire form of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WireRecord {
    node: NodeId,
    generation: Generation,
    incarnation: Incarnation,
    rings: u16,
    probers: Vec<NodeId>,
    sealed: u8,
}

impl Record {
    /// A record without accusations.
    pub(crate) const fn new(node: NodeId, generation: Generation, incarnation: Incarnation) -> Self {
        Self { node, generation, incarnation, rings: 0, probers: Vec::new(), sealed: 0 }
    }

    /// Adds the vote of the i-th observer.
    #[must_use]
    pub(crate) fn by_observer(mut self, i: usize) -> Self {
        assert!(i < MAX_RINGS, "there are no more rings than bits");
        self.rings |= 1 << i;
        self
    }

    /// Adds the failed slow probe of `prober`.
    #[must_use]
    pub(crate) fn by_prober(mut self, prober: NodeId) -> Self {
        self.probers.push(prober);
        self.tidy();
        self
    }

    /// Records that a quorum was found among `observers` observers. A member with no more observers than that in view
    /// adopts the finding, so that it does not stay behind when it has missed a vote or counts other implicit votes.
    /// The finding of a node that has just joined, and takes two nodes for the whole cluster, is adopted by no larger
    /// view.
    #[must_use]
    pub(crate) fn sealed(mut self, observers: usize) -> Self {
        self.sealed = self.sealed.max(observers as u8);
        self
    }

    /// Whether a member with at least `observers` observers in view found a quorum.
    pub(crate) const fn is_sealed(&self, observers: usize) -> bool {
        self.sealed > 0 && self.sealed as usize >= observers
    }

    /// Unites two records of the same member. Returns whether this record changed.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        debug_assert_eq!(self.node, other.node, "records of two members do not merge");
        let (mine, theirs) = (self.era(), other.era());
        if theirs != mine {
            if theirs > mine {
                *self = other.clone();
            }
            return theirs > mine;
        }
        let before = self.clone();
        self.rings |= other.rings;
        self.sealed = self.sealed.max(other.sealed);
        self.probers.extend(&other.probers);
        self.tidy();
        before != *self
    }

    /// Whether an honest member can have written the record: no member has more observers than there are rings.
    pub(crate) const fn is_possible(&self, rings: usize) -> bool {
        self.sealed as usize <= rings && (self.rings as u32) < 1 << rings
    }

    /// Start and incarnation of the member that the accusations are about.
    pub(crate) const fn era(&self) -> (Generation, Incarnation) {
        (self.generation, self.incarnation)
    }

    /// Number of observers that accuse the member.
    pub(crate) const fn votes(&self) -> usize {
        self.rings.count_ones() as usize
    }

    /// Whether the i-th observer accuses the member.
    pub(crate) const fn is_by(&self, i: usize) -> bool {
        i < MAX_RINGS && self.rings & (1 << i) != 0
    }

    pub(crate) fn probers(&self) -> &[NodeId] {
        &self.probers
    }

    /// Number of accusers: observers and slow probers.
    pub(crate) const fn voices(&self) -> usize {
        self.votes() + self.probers.len()
    }

    fn tidy(&mut self) {
        self.probers.sort_unstable();
        self.probers.dedup();
        self.probers.truncate(MAX_PROBERS);
    }
}

impl WireRecord {
    /// The accused member.
    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }
}

impl From<&Record> for WireRecord {
    fn from(record: &Record) -> Self {
        let Record { node, generation, incarnation, rings, probers, sealed } = record.clone();
        Self { node, generation, incarnation, rings, probers, sealed }
    }
}

impl From<WireRecord> for Record {
    /// Restores the invariants (sorted, unique, at most [`MAX_PROBERS`] probers) that a peer's bytes may break.
    fn from(wire: WireRecord) -> Self {
        let WireRecord { node, generation, incarnation, rings, probers, sealed } = wire;
        let mut record = Self { node, generation, incarnation, rings, probers, sealed };
        record.tidy();
        record
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("accusation": WireRecord);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        (0..2u64, 0..2u32, 0..256u16, proptest::collection::vec(0..6u128, 0..5), 0..3u8).prop_map(
            |(generation, incarnation, rings, probers, sealed)| {
                WireRecord {
                    node: NodeId::from_bits(1),
                    generation: Generation(generation),
                    incarnation: Incarnation(incarnation),
                    rings,
                    probers: probers.into_iter().map(NodeId::from_bits).collect(),
                    sealed,
                }
                .into()
            },
        )
    }

    fn merged(a: &Record, b: &Record) -> Record {
        let mut merged = a.clone();
        merged.merge(b);
        merged
    }

    #[test]
    fn two_observers_make_two_votes_and_one_observer_twice_makes_one() {
        let new = || Record::new(NodeId::from_bits(1), Generation(1), Incarnation(0));
        let mut record = new().by_observer(3);
        assert!(record.merge(&new().by_observer(5)));
        assert!(!record.merge(&new().by_observer(3)), "nothing new");
        assert_eq!(record.votes(), 2);
    }

    #[test]
    fn a_newer_incarnation_starts_afresh_and_an_older_one_says_nothing() {
        let old = Record::new(NodeId::from_bits(1), Generation(1), Incarnation(0)).by_observer(0).by_observer(1);
        let new = Record::new(NodeId::from_bits(1), Generation(1), Incarnation(1)).by_observer(2);
        assert_eq!(merged(&old, &new), new);
        assert_eq!(merged(&new, &old), new);
    }

    #[test]
    fn a_quorum_found_among_more_observers_convinces_and_one_among_fewer_does_not() {
        let record = Record::new(NodeId::from_bits(1), Generation(1), Incarnation(0)).by_observer(0).sealed(4);
        assert!(record.is_sealed(4) && record.is_sealed(3) && !record.is_sealed(5));
    }

    proptest! {
        #[test]
        fn merging_is_a_semilattice(a in record(), b in record(), c in record()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a), "commutative");
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)), "associative");
            prop_assert_eq!(merged(&a, &a), a, "idempotent");
        }

        #[test]
        fn a_merge_says_truly_whether_it_learned(a in record(), b in record()) {
            let mut after = a.clone();
            prop_assert_eq!(after.merge(&b), after != a);
        }
    }
}
