//! Events of the cluster for one client: a cursor over the store's events.
//!
//! A client that fell behind the ring of kept events continues from the oldest event that is still kept, because
//! Docker's streams have no way to report a gap.

use essaim_manager::Control;
use essaim_model::Event;
use essaim_store::{Compacted, Cursor, CursorError};
use essaim_wire::Index;
use std::sync::Arc;

/// A client's position among the events.
pub(crate) struct Follower {
    control: Control,
    cursor: Cursor,
    /// Last index of the log when the client asked.
    asked_at: Index,
}

/// The events at one index of the log.
pub(crate) struct Happened {
    /// The events, in order.
    pub(crate) events: Arc<[Event]>,
    /// Whether the events happened before the client asked. Their time is then known from the objects only.
    pub(crate) replayed: bool,
}

impl Follower {
    /// A follower of new events; with `replay`, of all events from the oldest that is kept.
    pub(crate) fn new(control: Control, replay: bool) -> Self {
        // A cursor from index 0 starts at the oldest event that is kept.
        let asked_at = control.last_known().applied().index;
        let cursor = control.events(if replay { Index(0) } else { asked_at });
        Self { control, cursor, asked_at }
    }

    /// The events at the next index of the log; `None` when there will be no more. Cancel-safe.
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
