//! What every actor is handed when it starts: where it stands, what it lives in, and where it reports.

use crate::env::Env;
use crate::journal::{Journal, RecordKind};
use crate::path::Path;
use essaim_wire::{Moment, Timestamp};

/// An actor's place, its [`Env`] and its [`Journal`].
#[derive(Debug, Clone)]
pub struct Scope {
    /// Where the actor stands.
    pub path: Path,
    /// What it lives in.
    pub env: Env,
    /// Where it reports.
    pub journal: Journal,
}

impl Scope {
    /// The scope of a node's root actor, which it enters in the tree as started.
    pub fn root(label: &str, env: Env) -> Self {
        let path = Path::root(label);
        let journal = Journal::new(&path, env.clone());
        Self { path, env, journal }
    }

    /// The scope of a child.
    #[must_use]
    pub fn child(&self, label: &str) -> Self {
        Self { path: self.path.child(label), env: self.env.clone(), journal: self.journal.clone() }
    }

    /// Writes a record about this actor; returns its number, which a record that follows from it names as its cause.
    pub fn record(&self, kind: RecordKind, reason: impl Into<String>) -> u64 {
        self.journal.record(&self.path, kind, reason, None)
    }

    /// Writes a record that follows from an earlier one.
    pub fn record_because(&self, cause: u64, kind: RecordKind, reason: impl Into<String>) -> u64 {
        self.journal.record(&self.path, kind, reason, Some(cause))
    }

    /// This node's monotonic time.
    pub fn now(&self) -> Moment {
        self.env.now()
    }

    /// UTC, for what is stored or shown.
    pub fn utc(&self) -> Timestamp {
        self.env.utc()
    }
}
