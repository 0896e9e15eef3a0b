//! The nodes that were removed from a cluster, as a persistent map: a copy shares all it can, and two copies are
//! compared at the cost of their differences. So a removal costs a node the same, however many were removed before.

use crate::{NodeId, Timestamp};
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::collections::BTreeMap;
use std::fmt;

/// The removed nodes, each with the time until which its certificate would be valid. Encoded as a map.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Removals(OrdMap<NodeId, Timestamp>);

impl Removals {
    /// Every removed node, in the order of ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, Timestamp)> + '_ {
        self.0.iter().map(|(id, until)| (*id, *until))
    }

    /// Number of removed nodes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no node was removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this node was removed.
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Adds a removal, or sets its time anew. Returns its former time.
    pub fn insert(&mut self, node: NodeId, until: Timestamp) -> Option<Timestamp> {
        self.0.insert(node, until)
    }

    /// Forgets a removal.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// Removals that were added or changed since `earlier`, and nodes whose removal was forgotten. The cost is that of
    /// the differences when one map was derived from the other.
    pub fn since(&self, earlier: &Self) -> (Vec<(NodeId, Timestamp)>, Vec<NodeId>) {
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        if self.0.ptr_eq(&earlier.0) {
            return (come, gone);
        }
        for item in earlier.0.diff(&self.0) {
            match item {
                DiffItem::Add(id, until) | DiffItem::Update { new: (id, until), .. } => come.push((*id, *until)),
                DiffItem::Remove(id, _) => gone.push(*id),
            }
        }
        (come, gone)
    }

    /// Applies the differences that [`Removals::since`] returns.
    pub fn apply(&mut self, come: impl IntoIterator<Item = (NodeId, Timestamp)>, gone: &[NodeId]) {
        self.0.extend(come);
        gone.iter().for_each(|node| self.forget(*node));
    }
}

impl fmt::Debug for Removals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(NodeId, Timestamp)> for Removals {
    fn from_iter<T: IntoIterator<Item = (NodeId, Timestamp)>>(removals: T) -> Self {
        Self(removals.into_iter().collect())
    }
}

impl<const N: usize> From<[(NodeId, Timestamp); N]> for Removals {
    fn from(removals: [(NodeId, Timestamp); N]) -> Self {
        removals.into_iter().collect()
    }
}

impl Encode for Removals {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.len() as u64).encode(encoder)?;
        self.iter().try_for_each(|removal| removal.encode(encoder))
    }
}

impl<Context> Decode<Context> for Removals {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(BTreeMap::<NodeId, Timestamp>::decode(decoder)?.into_iter().collect())
    }
}

bincode::impl_borrow_decode!(Removals);

#[cfg(test)]
essaim_wire::golden_bytes!("removals": Removals);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    fn removal(node: u128) -> (NodeId, Timestamp) {
        (NodeId::from_bits(node), Timestamp::from_micros(node as u64))
    }

    #[test]
    fn differences_turn_the_earlier_map_into_the_later_one() {
        let earlier: Removals = (1..100).map(removal).collect();
        let mut later = earlier.clone();
        later.insert(NodeId::from_bits(7), Timestamp::from_micros(900));
        later.insert(NodeId::from_bits(200), Timestamp::default());
        later.forget(NodeId::from_bits(50));
        let (come, gone) = later.since(&earlier);
        assert_eq!((come.len(), gone.as_slice()), (2, [NodeId::from_bits(50)].as_slice()));
        let mut known = earlier;
        known.apply(come, &gone);
        assert_eq!(known, later);
        assert_eq!(later.since(&known), (vec![], vec![]));
    }

    #[test]
    fn removals_are_encoded_as_a_map() {
        let removals: Removals = (1..300).map(removal).collect();
        let map: BTreeMap<NodeId, Timestamp> = removals.iter().collect();
        assert_eq!(encode(&removals), encode(&map));
        assert_eq!(decode::<Removals>(&encode(&map)), Ok(removals));
    }
}
