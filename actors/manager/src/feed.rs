//! The change feed of a manager: one cursor over the applied log entries, and the actors that follow it.
//!
//! A follower receives no message per entry. The events are merged into the [`Notifier`] of the follower (coalescing),
//! and at most one notification lies in its mailbox until it looks. The events come together with the state that
//! contains them, so a follower never waits for that state. A subscription begins with the state from which its events
//! go on, so a follower misses no event and sees none twice.

use essaim_model::State;
use essaim_store::{Advance, Cursor, Store};
use essaim_system::Notifier;
use parking_lot::Mutex;
use ractor::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What happened since a follower looked last; `None` when nothing was applied.
pub(crate) type Followed = Option<Advance>;

/// Handle of the change feed; clones share one cursor and one set of followers.
#[derive(Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// Locked while an advance is handed out, so that all followers receive advances in the same order.
    inner: Mutex<Inner>,
}

/// Merges an advance into the notifier of one follower.
type Follow = Box<dyn Fn(&Advance) + Send>;

struct Inner {
    cursor: Cursor,
    /// Followers by the number of their subscription. There are only a few: the manager, the leader and its scheduler.
    followers: BTreeMap<u64, Follow>,
    subscriptions: u64,
}

/// Keeps an actor subscribed to the feed until it is dropped.
pub(crate) struct Subscription {
    feed: Feed,
    number: u64,
}

impl Feed {
    /// Opens the feed of this store, from the entry that is applied now.
    pub(crate) fn open(store: &Store) -> Self {
        let cursor = store.events(store.state().applied().index);
        let inner = Mutex::new(Inner { cursor, followers: BTreeMap::new(), subscriptions: 0 });
        Self { shared: Arc::new(Shared { store: store.clone(), inner }) }
    }

    /// Hands out an advance each time the store applies an entry. It runs until the manager's actor aborts it.
    pub(crate) async fn pump(self) {
        let mut applied = self.shared.store.applied();
        while applied.changed().await.is_ok() {
            applied.borrow_and_update();
            self.pull();
        }
    }

    /// Hands out everything that is applied by now, and returns the state that contains it. It serves a follower that
    /// cannot wait for its notification: its own proposal was answered, and it must not decide from a state that lacks
    /// it.
    pub(crate) fn pull(&self) -> Arc<State> {
        let mut inner = self.shared.inner.lock();
        inner.pull()
    }

    /// Subscribes an actor: from now on, events are merged into what the actor takes from `notifier`. Returns also the
    /// state from which those events go on.
    pub(crate) fn subscribe<M: Message>(&self, notifier: &Notifier<M, Followed>) -> (Arc<State>, Subscription) {
        let mut inner = self.shared.inner.lock();
        let state = inner.pull();
        // Events that an earlier run of this actor has not taken are already part of that state.
        notifier.take();
        let notifier = notifier.clone();
        inner.subscriptions += 1;
        let number = inner.subscriptions;
        let follow = move |advance: &Advance| {
            notifier.merge(|followed| match followed {
                Some(followed) => followed.extend(advance),
                None => *followed = Some(advance.clone()),
            });
        };
        inner.followers.insert(number, Box::new(follow));
        (state, Subscription { feed: self.clone(), number })
    }
}

impl Inner {
    fn pull(&mut self) -> Arc<State> {
        let advance = self.cursor.advance();
        if !advance.is_empty() {
            self.followers.values().for_each(|follow| follow(&advance));
        }
        advance.state
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inner = self.feed.shared.inner.lock();
        inner.followers.remove(&self.number);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}
