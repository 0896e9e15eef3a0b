//! The address of an actor that stays valid when the actor is restarted.

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;

/// Refers to the latest incarnation of an actor that may be restarted. Cheap to clone; the handle of an actor
/// (`scheduler.place(wanted)`) wraps one.
pub struct Address<M> {
    current: watch::Sender<Option<ActorRef<M>>>,
}

/// Reasons why a call to an actor brought no answer. Whether the call had an effect is unknown, except with `Absent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor does not run at the moment, so the message was not delivered. Try again later.
    #[error("the actor does not run at the moment")]
    Absent,
    /// The actor ended, or dropped the reply port, before it answered.
    #[error("the actor ended before it answered")]
    Dropped,
    /// The actor did not answer within the deadline of the call.
    #[error("the actor did not answer in time")]
    Timeout,
}

impl<M: Message> Address<M> {
    /// An address at which no actor runs yet.
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// The running incarnation of the actor, or `None` between a failure and the restart.
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.current.borrow().clone()
    }

    /// Waits until the actor runs, and returns it.
    pub async fn wait(&self) -> ActorRef<M> {
        let mut current = self.current.subscribe();
        loop {
            if let Some(actor) = current.borrow_and_update().clone() {
                return actor;
            }
            // The watch cannot be closed: its sender lives in `self`.
            let _ = current.changed().await;
        }
    }

    /// Makes `actor` the incarnation that this address refers to.
    pub fn set(&self, actor: ActorRef<M>) {
        self.current.send_replace(Some(actor));
    }

    /// Makes the address refer to no actor.
    pub fn clear(&self) {
        self.current.send_replace(None);
    }

    /// Sends a message without waiting for an answer. `Absent` when no actor runs at this address.
    pub fn cast(&self, message: M) -> Result<(), CallError> {
        self.get().ok_or(CallError::Absent)?.cast(message).map_err(|_| CallError::Absent)
    }

    /// Sends a question and waits for the answer, at most for `within`.
    pub async fn call<R: Send + 'static>(
        &self,
        ask: impl FnOnce(RpcReplyPort<R>) -> M + Send,
        within: Duration,
    ) -> Result<R, CallError> {
        let actor = self.get().ok_or(CallError::Absent)?;
        match actor.call(ask, Some(within)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout) => Err(CallError::Timeout),
            Ok(CallResult::SenderError) => Err(CallError::Dropped),
            Err(_) => Err(CallError::Absent),
        }
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone() }
    }
}

impl<M: Message> Default for Address<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The actor's id is left out: it is a process-global counter and would make traces differ from run to run.
        write!(f, "Address({})", if self.current.borrow().is_some() { "set" } else { "empty" })
    }
}
