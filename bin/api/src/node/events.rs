//! What happens, for one client: a cursor over the store's events.
//!
//! A client that fell behind the ring goes on from what is still kept: Docker's streams have no word for a gap.

use crate::cluster::{EventBatches, Happened};
use essaim_manager::Control;
use essaim_store::{Compacted, Cursor, CursorError};
use essaim_wire::Index;
use futures::FutureExt;
use futures::future::BoxFuture;

pub(super) struct Follower {
    control: Control,
    cursor: Cursor,
    /// Where the log was when the client asked.
    asked_at: Index,
}

impl Follower {
    /// From now on, or from the oldest that is kept.
    pub(super) fn new(control: Control, replay: bool) -> Self {
        // From the very first on means from the oldest that is kept.
        let asked_at = control.last_known().applied().index;
        let cursor = control.events(if replay { Index(0) } else { asked_at });
        Self { control, cursor, asked_at }
    }
}

impl EventBatches for Follower {
    fn next(&mut self) -> BoxFuture<'_, Option<Happened>> {
        async move {
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
        .boxed()
    }
}
