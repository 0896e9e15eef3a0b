//! Events of the cluster for one client: a cursor over the store's events.
//!
//! The store keeps the latest events since the daemon started, in one ring of 4 MiB for all clients, so a client that
//! reads slowly costs no memory. When the ring has gone on past a client, the client is told that events are lost, and
//! continues from the oldest event that is still kept.

use essaim_manager::Control;
use essaim_model::Event;
use essaim_store::{Compacted, Cursor, CursorError, EventsAt};
use essaim_wire::Index;
use std::sync::Arc;

/// A client's position among the events.
pub(crate) struct Follower {
    control: Control,
    cursor: Cursor,
    /// Last index of the log when the client asked.
    asked_at: Index,
}

/// What a client's position yields next.
pub(crate) enum Next {
    /// Events happened.
    Happened(Happened),
    /// The client fell behind: older events than the next ones are lost to it.
    Lost,
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

    /// The events at the next index of the log that are kept already; `None` when there are none yet.
    pub(crate) fn try_next(&mut self) -> Option<Next> {
        match self.cursor.try_next() {
            Ok(place) => Some(self.happened(place?)),
            Err(Compacted { oldest }) => Some(self.lost(oldest)),
        }
    }

    /// The events at the next index of the log; `None` when there will be no more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Next> {
        match self.cursor.next().await {
            Ok(place) => Some(self.happened(place)),
            Err(CursorError::Compacted(Compacted { oldest })) => Some(self.lost(oldest)),
            Err(CursorError::Closed) => None,
        }
    }

    fn happened(&self, place: EventsAt) -> Next {
        Next::Happened(Happened { events: place.events, replayed: place.index <= self.asked_at })
    }

    fn lost(&mut self, oldest: Index) -> Next {
        self.cursor = self.control.events(Index(oldest.0.saturating_sub(1)));
        Next::Lost
    }
}
