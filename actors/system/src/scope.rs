//! The scope of an actor: its path, its environment and its journal, handed to it when it starts.

use crate::env::Env;
use crate::journal::{Journal, RecordKind};
use crate::path::Path;
use essaim_wire::{Moment, Timestamp};

/// An actor's [`Path`], its [`Env`] and the [`Journal`] it reports to.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The actor's place in the supervision tree.
    pub path: Path,
    /// Clock, seed, disk and network of the node.
    pub env: Env,
    /// The journal of the node.
    pub journal: Journal,
}

impl Scope {
    /// The scope of a node's root actor. Enters the root actor in the tree as started.
    pub fn root(label: &str, env: Env) -> Self {
        let path = Path::root(label);
        let journal = Journal::new(&path, env.clone());
        Self { path, env, journal }
    }

    /// The scope of this actor's child named `label`.
    #[must_use]
    pub fn child(&self, label: &str) -> Self {
        Self { path: self.path.child(label), env: self.env.clone(), journal: self.journal.clone() }
    }

    /// Writes a journal record about this actor. Returns the record's number, which a later record can name as its
    /// cause.
    pub fn record(&self, kind: RecordKind, reason: impl Into<String>) -> u64 {
        self.journal.record(&self.path, kind, reason, None)
    }

    /// Time since the node started, by its monotonic clock.
    pub fn now(&self) -> Moment {
        self.env.now()
    }

    /// UTC by the node's clock, for what is stored or shown.
    pub fn utc(&self) -> Timestamp {
        self.env.utc()
    }
}
