//! What happens, for one client: a cursor over the store's events.
//!
//! A client that fell behind the ring goes on from what is still kept: Docker's streams have no word for a gap.

use essaim_manager::Control;
use essaim_model::Event;
use essaim_store::{Compacted, Cursor, CursorError};
use essaim_wire::Index;
use std::sync::Arc;

/// A client's place among the events.
pub(crate) struct Follower {
    control: Control,
    cursor: Cursor,
    /// Where the log was when the client asked.
    asked_at: Index,
}

/// What happened at one place of the log.
pub(crate) struct Happened {
    /// The events, in order.
    pub(crate) events: Arc<[Event]>,
    /// Whether they happened before the client asked: then only the objects themselves tell when.
    pub(crate) replayed: bool,
}

impl Follower {
    /// From now on; with `replay`, from the oldest that is kept.
    pub(crate) fn new(control: Control, replay: bool) -> Self {
        // From the very first on means from the oldest that is kept.
        let asked_at = control.last_known().applied().index;
        let cursor = control.events(if replay { Index(0) } else { asked_at });
        Self { control, cursor, asked_at }
    }

    /// What happened next at one place of the log; nothing when there will be no more. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Happened> {
        loop {
            match self.cursor.next().await {
                Ok(place) => {
                    let replayed = place.index <= self.asked_at;
                    return Some(Happened { events: place.events, replayed });
                }
                Err(CursorError::Compacted(Compacted { oldest })) => {
                    self.cursor = self.control.events(Index(oldest.0.saturating_sub(1)));
                }
                Err(CursorError::Closed) => return None,
            }
        }
    }
}
