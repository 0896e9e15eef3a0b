//! One timer of an actor: a message to itself after a delay. Armed again, it forgets the delay before.
//!
//! ractor's `send_after` leaves a sleeping task behind for every call, also when the actor has another look due by
//! then; an actor that is told of much would collect thousands. Here the task of the former delay is aborted. A message
//! that was sent already is in the mailbox, though: where that matters, the message carries the number of its delay,
//! and the actor ignores an older one.

use ractor::{ActorRef, Message};
use std::fmt;
use std::time::Duration;
use tokio::task::JoinHandle;

/// At most one message that is to come. Dropped, it sends nothing any more.
#[derive(Default)]
pub struct Timer(Option<JoinHandle<()>>);

impl Timer {
    /// Sends `message` to `actor` after `delay`, and forgets what was armed before.
    pub fn arm<M: Message>(
        &mut self,
        actor: &ActorRef<M>,
        delay: Duration,
        message: impl FnOnce() -> M + Send + 'static,
    ) {
        self.disarm();
        let actor = actor.clone();
        self.0 = Some(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // An actor that has ended needs no message.
            let _ = actor.cast(message());
        }));
    }

    /// Sends nothing.
    pub(crate) fn disarm(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Timer(armed)" } else { "Timer" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Ear;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_armed_again_and_again_sends_once_and_leaves_one_task() {
        let (actor, mut heard) = Ear::<u64>::start().await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let mut timer = Timer::default();
        for number in 0..1_000 {
            timer.arm(&actor, Duration::from_secs(3_600), move || number);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tasks(), before + 1);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(heard.recv().await, Some(999));
        timer.arm(&actor, Duration::from_secs(1), || 1_000);
        drop(timer);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(heard.try_recv().is_err());
    }
}
