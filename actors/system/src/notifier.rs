//! A coalescing notifier: tells an actor to look, with one notification in its mailbox however often it is called.
//!
//! A notification does not say what happened; the actor looks at the newest state (level-triggered). So its mailbox
//! holds one notification at most, and an actor that is slow or was restarted misses nothing. Beside the notification
//! the notifier holds a value of type `D`, which says what to look at: every call merges into it until the actor takes
//! it. `D` must be bounded by what exists (a set of ids), never by how often something happens.

use crate::Address;
use parking_lot::Mutex;
use ractor::Message;
use std::fmt;
use std::sync::Arc;

/// Handle that notifies one actor, across its restarts. Clones notify the same actor.
pub struct Notifier<M: Message, D = ()> {
    address: Address<M>,
    pending: Arc<Mutex<Pending<D>>>,
    mark: fn() -> M,
}

/// What an actor has not looked at yet, and whether it was notified of that.
struct Pending<D> {
    merged: D,
    /// Whether a notification lies in the actor's mailbox.
    is_marked: bool,
}

impl<M: Message, D: Default> Notifier<M, D> {
    /// A notifier of an actor that may start later; `mark` makes the message that the actor receives.
    pub fn new(mark: fn() -> M) -> Self {
        let pending = Pending { merged: D::default(), is_marked: false };
        Self { address: Address::new(), pending: Arc::new(Mutex::new(pending)), mark }
    }

    /// The address of the actor, which is set when the actor starts.
    pub const fn address(&self) -> &Address<M> {
        &self.address
    }

    /// Tells the actor to look.
    pub fn notify(&self) {
        self.merge(|_| ());
    }

    /// Merges news, by `add`, into what the actor takes next, and tells the actor to look.
    pub fn merge(&self, add: impl FnOnce(&mut D)) {
        let mut pending = self.pending.lock();
        add(&mut pending.merged);
        // While no actor runs, no message is sent: an actor looks at everything when it starts.
        pending.is_marked = pending.is_marked || self.address.cast((self.mark)()).is_ok();
    }

    /// Takes what the actor should look at. The next [`merge`](Self::merge) sends a new notification.
    ///
    /// An actor also calls this when it starts, because a notification may have been lost with its predecessor, and no
    /// call would send another.
    pub fn take(&self) -> D {
        let mut pending = self.pending.lock();
        pending.is_marked = false;
        std::mem::take(&mut pending.merged)
    }
}

impl<M: Message, D> Clone for Notifier<M, D> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), pending: Arc::clone(&self.pending), mark: self.mark }
    }
}

impl<M: Message, D> fmt::Debug for Notifier<M, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notifier({:?})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Ear;
    use ractor_cluster::RactorMessage;
    use std::collections::BTreeSet;

    #[derive(Debug, PartialEq, RactorMessage)]
    struct Look;

    #[tokio::test]
    async fn many_notifications_are_one_mark_with_all_that_was_merged() {
        let notifier = Notifier::<Look, BTreeSet<u32>>::new(|| Look);
        let (actor, mut marks) = Ear::start().await;
        notifier.address().set(actor);
        for number in [3, 1, 3, 2] {
            notifier.merge(|seen| seen.extend([number]));
        }
        assert_eq!((marks.recv().await, notifier.take()), (Some(Look), [1, 2, 3].into()));
        notifier.notify();
        assert_eq!((marks.recv().await, notifier.take()), (Some(Look), [].into()), "what was taken is taken");
        assert!(marks.try_recv().is_err(), "one mark at a time");
    }

    #[tokio::test]
    async fn what_is_merged_while_nobody_is_there_is_kept_for_the_actor_that_comes() {
        let notifier = Notifier::<Look, BTreeSet<u32>>::new(|| Look);
        notifier.merge(|seen| seen.extend([1]));
        let (actor, mut marks) = Ear::start().await;
        notifier.address().set(actor.clone());
        notifier.merge(|seen| seen.extend([2]));
        assert_eq!((marks.recv().await, notifier.take()), (Some(Look), [1, 2].into()));
        actor.stop(None);
        actor.wait(None).await.expect("it ends");
        notifier.merge(|seen| seen.extend([3]));
        let (successor, mut marks) = Ear::start().await;
        notifier.address().set(successor);
        assert_eq!(notifier.take(), [3].into());
        notifier.notify();
        assert_eq!((marks.recv().await, notifier.take()), (Some(Look), [].into()));
    }
}
