//! The change feed of a manager: its one cursor over what is applied, and the actors that follow it.
//!
//! Whoever follows is not told each entry. What happened is merged into what its [`Notifier`] holds for it, and one mark
//! lies in its mailbox until it looks. The events come with the state that contains them, so nobody waits for it; and a
//! subscription begins with the state from which it goes on, so nothing is missed or seen twice.

use essaim_model::State;
use essaim_store::{Advance, Cursor, Store};
use essaim_system::Notifier;
use parking_lot::Mutex;
use ractor::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What happened since a follower looked last; nothing, if nothing did.
pub(crate) type Followed = Option<Advance>;

/// The change feed. Clones are the same.
#[derive(Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// Locked while an advance is handed out, so that all followers have them in the same order.
    inner: Mutex<Inner>,
}

/// Takes over what happened, for one follower.
type Follow = Box<dyn Fn(&Advance) + Send>;

struct Inner {
    cursor: Cursor,
    /// By the number of their subscriptions. A handful: the manager, the leader and its scheduler.
    followers: BTreeMap<u64, Follow>,
    subscriptions: u64,
}

/// Follows the feed until it is dropped.
pub(crate) struct Subscription {
    feed: Feed,
    number: u64,
}

impl Feed {
    /// The feed of this store, from now on.
    pub(crate) fn open(store: &Store) -> Self {
        let cursor = store.events(store.state().applied().index);
        let inner = Mutex::new(Inner { cursor, followers: BTreeMap::new(), subscriptions: 0 });
        Self { shared: Arc::new(Shared { store: store.clone(), inner }) }
    }

    /// Hands out what happened whenever anything is applied. Runs until it is aborted, by the manager's actor.
    pub(crate) async fn pump(self) {
        let mut applied = self.shared.store.applied();
        while applied.changed().await.is_ok() {
            applied.borrow_and_update();
            self.pull();
        }
    }

    /// Hands out what has happened by now, and returns the state that contains it. For a follower that cannot wait until
    /// it is notified: its own proposal was answered, and it must not decide from a state without it.
    pub(crate) fn pull(&self) -> Arc<State> {
        let mut inner = self.shared.inner.lock();
        inner.pull()
    }

    /// Has an actor follow from now on: events are merged into what it takes from `notifier`. Also the state from which
    /// it goes on.
    pub(crate) fn subscribe<M: Message>(&self, notifier: &Notifier<M, Followed>) -> (Arc<State>, Subscription) {
        let mut inner = self.shared.inner.lock();
        let state = inner.pull();
        // What a predecessor of the actor has not looked at is part of that state.
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
