//! Where an actor is found, restarts included.

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;

/// The place of an actor that may be restarted: always the one that was started last. Cheap to clone; the handle of
/// an actor (`scheduler.place(wanted)`) wraps one.
pub struct Address<M> {
    current: watch::Sender<Option<ActorRef<M>>>,
}

/// Why a call brought no answer. Whether it had an effect is unknown, except with `Absent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor does not run at the moment: nothing happened, try again later.
    #[error("the actor does not run at the moment")]
    Absent,
    /// It ended, or dropped the question, before it answered.
    #[error("the actor ended before it answered")]
    Dropped,
    /// It did not answer in time.
    #[error("the actor did not answer in time")]
    Timeout,
}

impl<M: Message> Address<M> {
    /// A place where nobody is yet.
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// Whoever was started last.
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.current.borrow().clone()
    }

    /// The actor, as soon as there is one.
    pub async fn wait(&self) -> ActorRef<M> {
        let mut current = self.current.subscribe();
        loop {
            if let Some(actor) = current.borrow_and_update().clone() {
                return actor;
            }
            // Cannot fail: the sender lives in `self`.
            let _ = current.changed().await;
        }
    }

    /// From now on this is the actor.
    pub fn set(&self, actor: ActorRef<M>) {
        self.current.send_replace(Some(actor));
    }

    /// From now on there is none.
    pub fn clear(&self) {
        self.current.send_replace(None);
    }

    /// Sends a message. `Absent` when nobody could take it.
    pub fn cast(&self, message: M) -> Result<(), CallError> {
        self.get().ok_or(CallError::Absent)?.cast(message).map_err(|_| CallError::Absent)
    }

    /// Asks, and waits for the answer no longer than `within`.
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
        // Without the actor's id: it is a process-global counter, and would differ from run to run.
        write!(f, "Address({})", if self.current.borrow().is_some() { "set" } else { "empty" })
    }
}
