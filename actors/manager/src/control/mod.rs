//! Requests of operators: one file for each noun.
//!
//! The API holds a [`Control`]. Each method reads the state linearizably where the answer depends on it, and proposes.
//! It answers when the change is committed and this manager has applied it, so that clients read what they wrote.
//! `Control` is a handle and no actor: a request waits for the store, and for no other request.
//!
//! A refusal uses Swarm's words where Swarm has words for it, because clients look for them.

mod cluster;
mod exec;
mod logs;
mod network;
mod node;
mod object;
mod service;

pub use cluster::Rotate;
pub use exec::{Executing, Execution};
pub use logs::{LogPart, LogStreamOf, LogsOf, LogsQuery, TaskLine};
pub use object::Rotated;

use essaim_model::{Change, Refusal, State};
use essaim_presence::endpoint::Endpoint;
use essaim_store::{Cursor, Store};
use essaim_system::Scope;
use essaim_wire::Index;
use std::sync::Arc;

/// Handle for the requests of operators to a manager.
#[derive(Clone)]
pub struct Control {
    store: Store,
    endpoint: Endpoint,
    scope: Scope,
}

impl Control {
    /// A handle over this store, which asks other nodes through this endpoint.
    pub const fn new(store: Store, endpoint: Endpoint, scope: Scope) -> Self {
        Self { store, endpoint, scope }
    }

    /// Reads the state linearizably: every change that was acknowledged before this call is in it. Without a quorum the
    /// read is refused within a second, in words that name the missing managers.
    pub async fn read(&self) -> Result<Arc<State>, Refusal> {
        Ok(self.store.read().await?)
    }

    /// The state as far as this manager has applied it, with or without a quorum.
    pub fn last_known(&self) -> Arc<State> {
        self.store.state()
    }

    /// The events after this place in the log; the place of the present state gives all later events.
    pub fn events(&self, after: Index) -> Cursor {
        self.store.events(after)
    }

    /// The store, for its status.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Index, Refusal> {
        self.store.change(changes, None).await
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.store.node())
    }
}
