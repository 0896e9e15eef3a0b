//! An actor on the other side, as its users hold it.

use super::Shared;
use super::proxy::Load;
use crate::supervisor::CallError;
use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// The peer reads too slowly, and too much waits already. Drop the message, or try again later.
    #[error("the peer reads too slowly: too much waits already")]
    Stalled,
    /// The actor, or the link to it, has ended.
    #[error("the actor or the link to it has ended")]
    Ended,
}

/// An actor that the peer exported. Refuses what the link cannot take at the moment.
pub struct Remote<M> {
    actor: ActorRef<M>,
    load: Arc<Load>,
    shared: Arc<Shared>,
}

impl<M: Message> Remote<M> {
    pub(super) fn new(actor: ActorRef<M>, load: Arc<Load>, shared: Arc<Shared>) -> Self {
        Self { actor, load, shared }
    }

    /// Sends a message, unless too much waits already.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        self.take_room()?;
        self.actor.cast(message).map_err(|_| CastError::Ended)
    }

    /// Asks, and waits for the answer no longer than `within`.
    pub async fn call<R: Send + 'static>(
        &self,
        ask: impl FnOnce(RpcReplyPort<R>) -> M + Send,
        within: Duration,
    ) -> Result<R, CallError> {
        self.take_room().map_err(|_| CallError::Absent)?;
        match self.actor.call(ask, Some(within)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout) => Err(CallError::Timeout),
            Ok(CallResult::SenderError) => Err(CallError::Dropped),
            Err(_) => Err(CallError::Absent),
        }
    }

    /// The ordinary reference, to monitor it or to hand it on. What is sent through it is not counted: a flood ends
    /// the link instead of being refused.
    pub const fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    fn take_room(&self) -> Result<(), CastError> {
        if self.shared.ended.borrow().is_some() {
            return Err(CastError::Ended);
        }
        if !self.shared.outbox.has_room(self.load.get()) {
            return Err(CastError::Stalled);
        }
        self.load.add();
        Ok(())
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), load: Arc::clone(&self.load), shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} at {})", super::type_name::<M>(), self.shared.peer)
    }
}
