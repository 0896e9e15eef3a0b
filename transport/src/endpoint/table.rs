//! The table of sessions, with the rule for which one stays when two compete. Pure.
//!
//! Both ends of a pair apply the same rule, so that they agree without a message: a higher generation of the peer
//! replaces all sessions with a lower one, control and bulk. Of two sessions with the same generation, a second dial of
//! the same side replaces its first, since a side that still has a session does not dial. Of two dials in opposite
//! directions, that of the smaller node id stays.

use super::SessionId;
use crate::lane::Traffic;
use essaim_wire::{Generation, NodeId};
use std::collections::BTreeMap;

/// A session, with the facts that the rule needs.
#[derive(Debug, Clone)]
pub(super) struct Entry<S> {
    pub(super) id: SessionId,
    pub(super) generation: Generation,
    pub(super) dialled_by: NodeId,
    pub(super) session: S,
}

#[derive(Debug)]
pub(super) struct Table<S> {
    entries: BTreeMap<(NodeId, Traffic), Entry<S>>,
}

/// Outcome of offering a session.
#[derive(Debug)]
pub(super) enum Offered<S> {
    /// The offered session is established; the listed ones were removed for it.
    Stands(Vec<(Entry<S>, Gone)>),
    /// The offered session is refused; this one stays in its place.
    Duplicate(Entry<S>),
    /// The offered session is refused: a later generation of the peer is known.
    Older(Generation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Replaced,
    Restarted,
}

impl<S: Clone> Table<S> {
    pub(super) const fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    pub(super) fn offer(&mut self, node: NodeId, traffic: Traffic, new: Entry<S>) -> Offered<S> {
        let known = [Traffic::Control, Traffic::Bulk]
            .into_iter()
            .filter_map(|traffic| Some(self.entries.get(&(node, traffic))?.generation))
            .max();
        if let Some(known) = known.filter(|known| *known > new.generation) {
            return Offered::Older(known);
        }
        let mut gone = Vec::new();
        for traffic in [Traffic::Control, Traffic::Bulk] {
            if self.entries.get(&(node, traffic)).is_some_and(|old| old.generation < new.generation) {
                gone.extend(self.entries.remove(&(node, traffic)).map(|old| (old, Gone::Restarted)));
            }
        }
        if let Some(old) = self.entries.get(&(node, traffic))
            && old.dialled_by < new.dialled_by
        {
            return Offered::Duplicate(old.clone());
        }
        if let Some(old) = self.entries.insert((node, traffic), new) {
            gone.push((old, Gone::Replaced));
        }
        Offered::Stands(gone)
    }

    /// Removes a session, unless another one has replaced it: the end of an old one changes nothing.
    pub(super) fn end(&mut self, node: NodeId, traffic: Traffic, id: SessionId) -> Option<Entry<S>> {
        let stands = self.entries.get(&(node, traffic)).is_some_and(|entry| entry.id == id);
        if stands { self.entries.remove(&(node, traffic)) } else { None }
    }

    pub(super) fn get(&self, node: NodeId, traffic: Traffic) -> Option<&S> {
        Some(&self.entries.get(&(node, traffic))?.session)
    }

    /// All sessions, sorted by node.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Traffic, &S)> {
        self.entries.iter().map(|((_, traffic), entry)| (*traffic, &entry.session))
    }

    pub(super) fn take_all(&mut self) -> Vec<S> {
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId::from_bits(5);
    const PEER: NodeId = NodeId::from_bits(7);

    fn entry(id: u64, generation: u64, dialled_by: NodeId) -> Entry<u64> {
        Entry { id: SessionId(id), generation: Generation(generation), dialled_by, session: id }
    }

    fn offer(table: &mut Table<u64>, traffic: Traffic, new: Entry<u64>) -> String {
        match table.offer(PEER, traffic, new) {
            Offered::Stands(gone) => {
                let gone: Vec<String> = gone.iter().map(|(old, why)| format!(" {} {why:?}", old.session)).collect();
                format!("stands{}", gone.concat())
            }
            Offered::Duplicate(old) => format!("duplicate of {}", old.session),
            Offered::Older(known) => format!("older than {}", known.0),
        }
    }

    #[test]
    fn of_two_dials_that_of_the_smaller_id_stays_in_either_order() {
        let mut table = Table::new();
        assert_eq!(offer(&mut table, Traffic::Control, entry(1, 1, ME)), "stands");
        assert_eq!(offer(&mut table, Traffic::Control, entry(2, 1, PEER)), "duplicate of 1");
        let mut table = Table::new();
        assert_eq!(offer(&mut table, Traffic::Control, entry(1, 1, PEER)), "stands");
        assert_eq!(offer(&mut table, Traffic::Control, entry(2, 1, ME)), "stands 1 Replaced");
    }

    #[test]
    fn a_second_dial_of_the_same_side_replaces_its_first() {
        let mut table = Table::new();
        assert_eq!(offer(&mut table, Traffic::Control, entry(1, 1, PEER)), "stands");
        assert_eq!(offer(&mut table, Traffic::Control, entry(2, 1, PEER)), "stands 1 Replaced");
    }

    #[test]
    fn a_higher_generation_replaces_control_and_bulk_and_a_lower_one_is_refused() {
        let mut table = Table::new();
        assert_eq!(offer(&mut table, Traffic::Control, entry(1, 1, ME)), "stands");
        assert_eq!(offer(&mut table, Traffic::Bulk, entry(2, 1, ME)), "stands");
        assert_eq!(offer(&mut table, Traffic::Control, entry(3, 2, PEER)), "stands 1 Restarted 2 Restarted");
        assert_eq!(offer(&mut table, Traffic::Bulk, entry(4, 1, ME)), "older than 2");
    }

    #[test]
    fn control_and_bulk_do_not_compete() {
        let mut table = Table::new();
        assert_eq!(offer(&mut table, Traffic::Control, entry(1, 1, ME)), "stands");
        assert_eq!(offer(&mut table, Traffic::Bulk, entry(2, 1, PEER)), "stands");
    }

    #[test]
    fn the_end_of_an_old_session_does_not_end_its_successor() {
        let mut table = Table::new();
        offer(&mut table, Traffic::Control, entry(1, 1, PEER));
        offer(&mut table, Traffic::Control, entry(2, 1, PEER));
        assert!(table.end(PEER, Traffic::Control, SessionId(1)).is_none());
        assert_eq!(table.get(PEER, Traffic::Control), Some(&2));
        assert!(table.end(PEER, Traffic::Control, SessionId(2)).is_some());
        assert_eq!(table.get(PEER, Traffic::Control), None);
    }
}
