//! A reference to an actor that the peer exported.
//!
//! Messages go into the link's outbox at once, in the order in which they are sent, without a detour through the
//! mailbox of the proxy. They are refused while too much waits.

use super::Shared;
use super::outbox::Refused;
use super::proxy;
use crate::supervisor::CallError;
use ractor::{ActorRef, ActorStatus, Message, RpcReplyPort};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Reasons why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// The outbox is above its soft limit, because the peer reads too slowly. Drop the message or try again later.
    #[error("the peer reads too slowly: too much waits already")]
    Stalled,
    /// The actor, or the link to it, has ended.
    #[error("the actor or the link to it has ended")]
    Ended,
    /// It is larger than any frame may be. It was not sent and never will be: whoever makes it must cut it.
    #[error("the message is larger than a frame may be")]
    TooLong,
}

/// A reference to an actor that the peer exported. Sending fails when the link cannot take more at the moment.
pub struct Remote<M> {
    actor: ActorRef<M>,
    key: u64,
    shared: Arc<Shared>,
}

impl<M: Message> Remote<M> {
    pub(super) fn new(actor: ActorRef<M>, key: u64, shared: Arc<Shared>) -> Self {
        Self { actor, key, shared }
    }

    /// Sends a message without waiting for an answer; refused while too much waits.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        self.find_room()?;
        self.send(message)
    }

    /// Waits until there is room for a message; says no when the link has ended. A peer that takes nothing for long ends it.
    pub async fn wait_for_room(&self) -> bool {
        self.shared.outbox.wait_for_room().await;
        !self.shared.outbox.is_closed()
    }

    /// Whether a message would be taken now, or why not: for a sender that does not make one in vain.
    pub fn find_room(&self) -> Result<(), CastError> {
        if self.shared.ended.borrow().is_some() || self.actor.get_status() >= ActorStatus::Stopping {
            return Err(CastError::Ended);
        }
        if self.shared.outbox.has_room() { Ok(()) } else { Err(CastError::Stalled) }
    }

    /// Sends a question and waits for the answer, at most for `within`.
    pub async fn call<R: Send + 'static>(
        &self,
        ask: impl FnOnce(RpcReplyPort<R>) -> M + Send,
        within: Duration,
    ) -> Result<R, CallError> {
        self.find_room().map_err(|_| CallError::Absent)?;
        let (reply, answer) = oneshot::channel();
        self.send(ask(RpcReplyPort::from((reply, within)))).map_err(|why| match why {
            CastError::TooLong => CallError::Dropped,
            CastError::Stalled | CastError::Ended => CallError::Absent,
        })?;
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Dropped),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// The ordinary reference to the proxy, to monitor it or to hand it on. Messages sent through it are not refused: a
    /// flood ends the link. They may arrive after messages that were sent later through this `Remote`.
    pub const fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    fn send(&self, message: M) -> Result<(), CastError> {
        let message = message.serialize().map_err(|_| CastError::Ended)?;
        proxy::send(&self.shared, self.key, message).map_err(|refused| match refused {
            Refused::TooLong => CastError::TooLong,
            Refused::Closed | Refused::Overflow => CastError::Ended,
        })
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), key: self.key, shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} at {})", super::type_name::<M>(), self.shared.peer)
    }
}
