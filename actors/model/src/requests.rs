//! Deduplication of requests: a retry is byte for byte the same, and is applied once.
//!
//! For each proposing node the last outcomes are kept by sequence number. A retry finds its outcome there. A request
//! older than all of them is refused, because it is no longer known whether it was applied.

use crate::{Outcome, Refusal, RefusalKind};
use essaim_wire::{Generation, RequestId};
use imbl::OrdMap;

/// Outcomes kept for each proposing node: more than can be in flight, since a proposer has at most 256 requests under
/// way.
pub const KEPT: usize = 1024;

/// Outcomes of the requests of one proposing node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Start of the node's daemon that sent these requests; a newer start discards them.
    pub generation: Generation,
    /// Outcomes by sequence number.
    pub outcomes: OrdMap<u64, Outcome>,
    /// Lowest sequence number that may still be remembered; the outcomes of lower ones are forgotten.
    pub floor: u64,
}

impl Requests {
    /// The outcome of `request` if it was applied before; a refusal if that is no longer known.
    pub fn find(&self, request: RequestId) -> Option<Outcome> {
        let forgotten = || {
            let text = "this request was sent so long ago that its outcome is forgotten; read the state and ask again";
            Some(Outcome::Refused(Refusal::new(RefusalKind::Unknown, text)))
        };
        if request.generation < self.generation {
            return forgotten();
        }
        if request.generation > self.generation {
            return None;
        }
        match self.outcomes.get(&request.seq) {
            Some(outcome) => Some(outcome.clone()),
            None if request.seq < self.floor => forgotten(),
            None => None,
        }
    }

    /// Remembers the outcome of `request`, and forgets the oldest outcomes beyond [`KEPT`].
    pub fn keep(&mut self, request: RequestId, outcome: Outcome) {
        if request.generation > self.generation {
            *self = Self { generation: request.generation, ..Self::default() };
        }
        self.outcomes.insert(request.seq, outcome);
        while self.outcomes.len() > KEPT {
            if let Some(oldest) = self.outcomes.get_min().map(|(seq, _)| *seq) {
                self.outcomes.remove(&oldest);
                self.floor = oldest + 1;
            }
        }
    }
}
