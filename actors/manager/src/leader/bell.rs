//! How an actor is told that it should look: one mark in its mailbox, however often it is rung.
//!
//! What happened is not said; whoever is rung looks at the state. So a mailbox holds one mark at most, and an actor
//! that is slow or was restarted misses nothing.

use essaim_system::Address;
use ractor::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rings one actor.
pub(super) struct Bell<M: Message> {
    address: Address<M>,
    rung: Arc<AtomicBool>,
    look: fn() -> M,
}

impl<M: Message> Bell<M> {
    /// The bell of an actor that is yet to come; `look` is what it hears.
    pub(super) fn new(look: fn() -> M) -> Self {
        Self { address: Address::new(), rung: Arc::default(), look }
    }

    /// Where the actor is found.
    pub(super) const fn address(&self) -> &Address<M> {
        &self.address
    }

    /// Tells the actor to look, unless it was told and has not looked yet.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) && self.address.cast((self.look)()).is_err() {
            // Nobody is there; whoever comes looks first.
            self.rung.store(false, Ordering::Release);
        }
    }

    /// The actor begins to look: whatever happens from now on rings again.
    pub(super) fn answer(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl<M: Message> Clone for Bell<M> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), rung: Arc::clone(&self.rung), look: self.look }
    }
}
