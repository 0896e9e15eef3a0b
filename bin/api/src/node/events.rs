//! What happens, for one client: a cursor over the store's events.
//!
//! A client that fell behind the ring goes on from what is still kept: Docker's streams have no word for a gap.

use crate::cluster::EventBatches;
use essaim_manager::Control;
use essaim_model::Event;
use essaim_store::{Compacted, Cursor, CursorError};
use essaim_wire::Index;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;

pub(super) struct Follower {
    control: Control,
    cursor: Cursor,
}

impl Follower {
    /// From now on, or from the oldest that is kept.
    pub(super) fn new(control: Control, replay: bool) -> Self {
        // From the very first on means from the oldest that is kept.
        let from = if replay { Index(0) } else { control.last_known().applied().index };
        let cursor = control.events(from);
        Self { control, cursor }
    }
}

impl EventBatches for Follower {
    fn next(&mut self) -> BoxFuture<'_, Option<Arc<[Event]>>> {
        async move {
            loop {
                match self.cursor.next().await {
                    Ok(happened) => return Some(happened.events),
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
