//! Counted handles on the ends of simulated connections.

use super::Shared;
use super::packet::{ConnId, Side, What};
use super::state::State;
use crate::code;
use crate::network::Ended;
use std::sync::Arc;
use tokio::sync::watch;

/// A counted handle on one end of a connection. The connection is closed when its last handle is dropped, as in quinn.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnId,
    pub(super) side: Side,
    pub(super) ended: watch::Receiver<Option<Ended>>,
}

impl Handle {
    /// A handle on an end; `None` when the simulation has dropped the connection already.
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, side: Side) -> Option<Self> {
        let mut state = shared.state();
        let end = state.conns.get_mut(&id)?.end_mut(side);
        end.handles += 1;
        let ended = end.ended.subscribe();
        drop(state);
        Some(Self { shared: shared.clone(), id, side, ended })
    }

    /// Runs `act` on this end while the connection is open, or tells how the connection ended.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State, ConnId, Side) -> T) -> Result<T, Ended> {
        let mut state = self.shared.state();
        match state.conns.get(&self.id).map(|conn| conn.end(self.side)) {
            Some(end) if end.is_open() => {
                let acted = act(&mut state, self.id, self.side);
                drop(state);
                self.shared.queued.notify_one();
                Ok(acted)
            }
            Some(end) => Err(end.how().unwrap_or(Ended::TimedOut)),
            None => Err(Ended::TimedOut),
        }
    }

    pub(super) fn another(&self) -> Self {
        let (shared, id, side, ended) = (self.shared.clone(), self.id, self.side, self.ended.clone());
        if let Some(conn) = shared.state().conns.get_mut(&id) {
            conn.end_mut(side).handles += 1;
        }
        Self { shared, id, side, ended }
    }

    pub(super) fn close(&self, how: Ended, code: u32, reason: &str) {
        let _ = self.with(|state, id, side| {
            state.say(id, side, What::Close { code, reason: reason.into() });
            if let Some(conn) = state.conns.get_mut(&id) {
                conn.end_mut(side).end(how);
            }
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let last = match self.shared.state().conns.get_mut(&self.id) {
            Some(conn) => {
                let end = conn.end_mut(self.side);
                end.handles -= 1;
                end.handles == 0
            }
            None => false,
        };
        if last {
            self.close(Ended::Local { reason: "nobody holds the connection".into() }, code::GOING, "");
            self.shared.state().forget_ended();
        }
    }
}
