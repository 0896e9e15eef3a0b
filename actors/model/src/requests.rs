//! Which requests were applied already: a retry is byte for byte the same, and has its effect once.
//!
//! For each proposing node the last outcomes are kept by sequence number. A retry finds its outcome there; one
//! that is older than all of them is refused, because nobody can tell any more whether it was applied.

use crate::{Outcome, Refusal, RefusalKind};
use essaim_wire::{Generation, RequestId};
use imbl::OrdMap;

/// How many outcomes are kept for each proposing node: more than can be in flight, since a proposer has at most
/// 256 requests under way.
pub const KEPT: usize = 1024;

/// The outcomes of one node's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// The start of the node that they belong to; a new start begins anew.
    pub generation: Generation,
    /// Outcomes by sequence number.
    pub outcomes: OrdMap<u64, Outcome>,
    /// Nothing below this is remembered.
    pub floor: u64,
}

impl Requests {
    /// What became of `request`, if it was seen before.
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

    /// Remembers what became of `request`.
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
