//! Streams to the leader that are kept for the next question, since opening a stream takes a round trip.

use crate::peers::Pipe;
use essaim_wire::NodeId;
use parking_lot::Mutex;

/// Streams kept for later questions: as many as a busy manager asks at the same time, at a few KiB each.
const IDLE_MAX: usize = 64;

/// Streams to the present leader without a question under way.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    leader: Option<NodeId>,
    pipes: Vec<Pipe>,
}

impl Idle {
    /// Takes a kept stream to `leader`. Streams to another leader are dropped.
    pub(crate) fn take(&self, leader: NodeId) -> Option<Pipe> {
        let mut kept = self.0.lock();
        if kept.leader != Some(leader) {
            *kept = Kept { leader: Some(leader), pipes: Vec::new() };
        }
        kept.pipes.pop()
    }

    /// Keeps a stream on which a question of `leader` was answered, if that is still the leader.
    pub(crate) fn keep(&self, leader: NodeId, pipe: Pipe) {
        let mut kept = self.0.lock();
        if kept.leader == Some(leader) && kept.pipes.len() < IDLE_MAX {
            kept.pipes.push(pipe);
        }
    }

    /// Drops all kept streams.
    pub(crate) fn forget(&self) {
        *self.0.lock() = Kept::default();
    }
}
