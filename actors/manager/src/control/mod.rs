//! Requests of operators, one file a noun.
//!
//! [`Control`] is what the API holds: each method reads the state linearizably where the answer depends on it,
//! proposes, and answers when the change is committed and this manager has applied it, so that whoever asked reads
//! what they wrote. It is a handle and no actor: a request waits for the store and for nobody else's request.
//!
//! What a request may not do is refused in Swarm's words where Swarm has words for it; clients look for them.

mod cluster;
mod logs;
mod node;
mod object;
mod service;

pub use cluster::Rotate;
pub use logs::{LogStreamOf, LogsQuery, TaskLine};

use essaim_model::{Change, Refusal, State};
use essaim_presence::endpoint::Endpoint;
use essaim_store::{Cursor, Store};
use essaim_system::Scope;
use essaim_wire::Index;
use std::sync::Arc;

/// What operators may ask of a manager.
#[derive(Clone)]
pub struct Control {
    store: Store,
    endpoint: Endpoint,
    scope: Scope,
}

impl Control {
    /// Over this store, asking other nodes through this endpoint.
    pub const fn new(store: Store, endpoint: Endpoint, scope: Scope) -> Self {
        Self { store, endpoint, scope }
    }

    /// The state as of now: whatever was acknowledged before this call is in it. Without a quorum it is refused
    /// within a second, in words that say who is missing.
    pub async fn read(&self) -> Result<Arc<State>, Refusal> {
        Ok(self.store.read().await?)
    }

    /// The state as far as this manager has applied it, whether or not there is a quorum.
    pub fn last_known(&self) -> Arc<State> {
        self.store.state()
    }

    /// What happened after `after`, a place in the log; the state's own for what happens from now on.
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
