//! Cuts changes into proposals that fit, by their bytes.
//!
//! A proposal is bounded ([`PROPOSAL_BYTES_MAX`]) and what a leader decides is not: ten thousand nodes can be lost at once.
//! Changes that do not have to be made together are proposed one piece after the other ([`Store::change_in_pieces`]).
//! Changes that do (a plan for one service, say) are cut by whoever makes them, with a [`Room`].

use super::PROPOSAL_BYTES_MAX;
use crate::store::Store;
use essaim_model::{Change, Refusal};
use essaim_wire::{Term, encoded_len};

/// The bytes of a proposal beside its changes (request, date, fence, length of the list; at most 61), with a margin.
const ENVELOPE: usize = 128;

/// How many changes one proposal has at most. The store keeps 65,536 events for those that follow the log: a proposal
/// that makes more at once would leave every one of them behind.
const CHANGES_MAX: usize = 10_000;

/// What still fits into one proposal.
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

    /// Takes up the room of `change`. Says no, and takes up nothing, when it does not fit any more.
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

/// Cuts changes into lists that fit a proposal each, in their order. A change that fits into no proposal at all is a
/// list of its own: it alone is refused.
pub fn pieces(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut room = Room::new();
    for change in changes {
        if !room.take(&change) {
            if !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
            }
            room = Room::new();
            // One that does not fit an empty proposal either takes up all of it.
            if !room.take(&change) {
                room = Room { bytes: 0, changes: 0 };
            }
        }
        piece.push(change);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

impl Store {
    /// Proposes changes that need not be made together, in as few proposals as they fit into, one after the other. The
    /// first refusal ends it: what was proposed before that is made, and the rest is not.
    pub async fn change_in_pieces(&self, changes: Vec<Change>, fence: Option<Term>) -> Result<(), Refusal> {
        for piece in pieces(changes) {
            self.change(piece, fence).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Command;
    use essaim_model::{Proposal, TaskId};
    use essaim_wire::{Generation, NodeId, RequestId, Timestamp, encode};

    fn change(id: u128, why: usize) -> Change {
        Change::WriteOffTask { id: TaskId::from_bits(id), why: "x".repeat(why) }
    }

    /// As large as a proposal of these changes can become.
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
        let ids: Vec<usize> = pieces(changes).iter().map(Vec::len).collect();
        assert_eq!(ids, [1, 1, 2]);
        assert_eq!(pieces(vec![]), Vec::<Vec<Change>>::new());
    }
}
