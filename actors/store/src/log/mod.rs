//! The log on disk: votes, entries, and how far they are committed.
//!
//! [`LogBackend`] is all that is asked of whatever keeps it: read everything once, commit a group of operations as
//! one, read a range. [`database`] does that with redb on a [`Disk`](essaim_system::env::Disk) file; [`writer`] is
//! the one that commits: it drains its queue, commits once, and only then calls back, so a hundred waiting proposals
//! cost one sync.
//!
//! A backend sees bytes and places, no entries: those are frozen in `format`, and sealed before they are stored.

pub(crate) mod database;
pub(crate) mod file;
pub(crate) mod writer;

use crate::format::{LogId, Vote};
use std::io;
use std::ops::Range;

/// One change of the log. A group of them is committed in order, and as one.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Entries, encoded, at their places. They follow on what is there.
    Append(Vec<(u64, Vec<u8>)>),
    /// Everything from this place on is void.
    TruncateFrom(u64),
    /// Everything up to here is in a snapshot.
    Purge(LogId),
    /// A vote was promised.
    Vote(Vote),
    /// So far the log is committed. It rides along, now and then, with a group that has another reason to sync.
    Committed(Option<LogId>),
}

/// What was found when the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last vote.
    pub(crate) vote: Option<Vote>,
    /// How far the log was known to be committed.
    pub(crate) committed: Option<LogId>,
    /// How far it was purged.
    pub(crate) purged: Option<LogId>,
    /// The entries, encoded, at their places, without a hole.
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
}

/// Why the log cannot be used; nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk did not answer.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// Something in the log is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Whatever keeps the log.
pub(crate) trait LogBackend: Send + Sync + 'static {
    /// Everything, verified.
    fn load(&self) -> Result<Found, LogError>;

    /// Makes the operations durable, all or none, and returns when they are.
    fn commit(&self, ops: &[Op]) -> io::Result<()>;

    /// The committed entries with places in `range`, in order.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Vec<u8>)>>;
}
