//! The log on disk: votes, entries, and the committed index.
//!
//! [`LogBackend`] is the interface to the storage: read everything once, commit a group of operations atomically, read
//! a range. [`database`] implements it with redb on a [`Disk`](essaim_system::env::Disk) file. [`writer`] is the only
//! committer (group commit): it drains its queue, commits once, and only then calls back, so a hundred waiting
//! proposals cost one sync.
//!
//! A backend sees bytes and indices, not entries: entries are encoded by `format`, and sealed before they are stored.

pub(crate) mod database;
pub(crate) mod file;
pub(crate) mod writer;

use crate::format::{LogId, Vote};
use std::io;
use std::ops::Range;

/// One change of the log. A group of changes is committed in order and atomically.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Appends encoded entries at these indices, directly after the present ones.
    Append(Vec<(u64, Vec<u8>)>),
    /// Removes all entries from this index on.
    TruncateFrom(u64),
    /// Removes all entries up to this one, which are in a snapshot.
    Purge(LogId),
    /// Stores a promised vote.
    Vote(Vote),
    /// Stores the committed index. It is written now and then, with a group that has another reason to sync.
    Committed(Option<LogId>),
}

/// Contents of the log when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last promised vote.
    pub(crate) vote: Option<Vote>,
    /// The last entry that was known to be committed.
    pub(crate) committed: Option<LogId>,
    /// The last entry that was purged.
    pub(crate) purged: Option<LogId>,
    /// Encoded entries with their indices, without a gap.
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
}

/// Why the log cannot be used; nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk returned an error.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// Part of the log differs from what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Storage of the log.
pub(crate) trait LogBackend: Send + Sync + 'static {
    /// Reads and verifies the whole log.
    fn load(&self) -> Result<Found, LogError>;

    /// Commits the operations, all or none, and returns when they are durable.
    fn commit(&self, ops: &[Op]) -> io::Result<()>;

    /// Reads the committed entries with indices in `range`, in order.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Vec<u8>)>>;
}
