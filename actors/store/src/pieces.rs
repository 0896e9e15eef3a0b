//! Splits changes into proposals that fit, by their size in bytes.
//!
//! A proposal is bounded ([`PROPOSAL_BYTES_MAX`]), and the changes that a leader decides are not: ten thousand nodes
//! can be lost at once. Changes that do not have to be made together are proposed one piece after the other
//! ([`Store::change_in_pieces`](crate::Store::change_in_pieces)). Changes that do (a plan for one service, say) are split by their maker, with a
//! [`Room`].

use essaim_model::Change;
use essaim_wire::encoded_len;

/// Upper bound on an encoded proposal, in bytes: what a follower takes in one message with room to spare.
pub const PROPOSAL_BYTES_MAX: usize = 1 << 20;

/// Bytes of a proposal beside its changes (request, date, fence, length of the list; at most 61), with a margin.
const ENVELOPE: usize = 128;

/// Upper bound on the changes in one proposal, which bounds the time that applying it takes. Its events are kept for
/// watchers together, however many they are.
const CHANGES_MAX: usize = 10_000;

/// Remaining room in one proposal.
#[derive(Debug, Clone)]
pub struct Room {
    bytes: usize,
    changes: usize,
}

impl Room {
    /// The room of an empty proposal.
    pub const fn new() -> Self {
        Self { bytes: PROPOSAL_BYTES_MAX - ENVELOPE, changes: CHANGES_MAX }
    }

    /// Takes up the room of `change`. Returns false, and takes up nothing, when the change does not fit.
    pub fn take(&mut self, change: &Change) -> bool {
        let bytes = encoded_len(change);
        let fits = bytes <= self.bytes && self.changes > 0;
        if fits {
            self.bytes -= bytes;
            self.changes -= 1;
        }
        fits
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Splits changes into lists that fit a proposal each, in order. A change that fits into no proposal is a list of its
/// own, which alone is refused.
pub fn pieces(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut changes = changes.into_iter();
    let mut pieces = Vec::new();
    while !changes.as_slice().is_empty() {
        let fitting = count_fitting(changes.as_slice());
        pieces.push(changes.by_ref().take(fitting).collect());
    }
    pieces
}

/// The first of the [`pieces`] of these changes, for a leader that decides about the others anew, by the state that the
/// first ones lead to.
pub fn first_piece(mut changes: Vec<Change>) -> Vec<Change> {
    changes.truncate(count_fitting(&changes));
    changes
}

/// Number of changes, from the first on, that fit one proposal: at least one.
fn count_fitting(changes: &[Change]) -> usize {
    let mut room = Room::new();
    changes.iter().take_while(|change| room.take(change)).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Command;
    use essaim_model::{Proposal, TaskId};
    use essaim_wire::{Generation, NodeId, RequestId, Term, Timestamp, encode};

    fn change(id: u128, why: usize) -> Change {
        Change::WriteOffTask { id: TaskId::from_bits(id), why: "x".repeat(why) }
    }

    /// Upper bound on the encoded size of a proposal of these changes, in bytes.
    fn proposal_len(changes: &[Change]) -> usize {
        let request =
            RequestId { origin: NodeId::from_bits(u128::MAX), generation: Generation(u64::MAX), seq: u64::MAX };
        let (at, fence) = (Timestamp::from_micros(u64::MAX), Some(Term(u64::MAX)));
        encode(&Command::Proposal(Proposal { request, at, fence, changes: changes.to_vec() })).len()
    }

    #[test]
    fn every_piece_fits_a_proposal_and_nothing_is_lost_or_moved() {
        let changes: Vec<_> = (0..9_000).map(|id| change(id, 300 + (id as usize * 7) % 900)).collect();
        let pieces = pieces(changes.clone());
        assert_eq!(first_piece(changes.clone()), pieces[0]);
        assert!(pieces.len() > 5, "{}", pieces.len());
        assert!(pieces.iter().all(|piece| proposal_len(piece) <= PROPOSAL_BYTES_MAX));
        assert!(
            pieces[..pieces.len() - 1].iter().all(|piece| proposal_len(piece) > PROPOSAL_BYTES_MAX - 2_000),
            "full"
        );
        assert_eq!(pieces.concat(), changes);
    }

    #[test]
    fn small_changes_are_bounded_by_their_number() {
        let pieces = pieces((0..25_000).map(|id| Change::ForgetTask { id: TaskId::from_bits(id) }).collect());
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
    }

    #[test]
    fn a_change_that_fits_no_proposal_is_alone() {
        let changes = vec![change(1, 9), change(2, PROPOSAL_BYTES_MAX), change(3, 9), change(4, 9)];
        assert_eq!(first_piece(changes[1..].to_vec()).len(), 1);
        let ids: Vec<usize> = pieces(changes).iter().map(Vec::len).collect();
        assert_eq!(ids, [1, 1, 2]);
        assert_eq!((pieces(vec![]), first_piece(vec![])), (vec![], vec![]));
    }
}
