//! The log storage for openraft: an entry is readable as soon as it is appended, and called back when it is durable.
//!
//! The tail of the log is held in memory, so followers that keep up and the state machine never touch the disk; older
//! entries are read from the backend. Every write goes through the one [`Writer`], which keeps their order.

use super::convert::{entry, entry_in, log_id, log_id_in, vote, vote_in};
use super::{Entry, LogId, Types, Vote};
use crate::format::{self, StoredEntry};
use crate::log::writer::Writer;
use crate::log::{Found, LogBackend, Op};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Term, encode};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the log's tail kept in memory, where entries take a multiple of their bytes on disk. It is what a busy cluster
/// writes in a second or two; a follower that lags further behind costs reads.
const TAIL_BYTES_MAX: usize = 4 << 20;

/// Bytes of entries per message to a follower: far enough below the limit of a frame for one more entry.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Handle on the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn LogBackend>,
    writer: Writer,
    tail: Mutex<Tail>,
    /// Index below which every entry is durable, and so may be dropped from memory.
    durable: Arc<AtomicU64>,
    /// Bytes of the entries found when this log was opened, plus those appended since.
    grown: AtomicU64,
}

#[derive(Default)]
struct Tail {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the oldest entry on disk, or of the next entry when there is none.
    oldest: u64,
    /// The last entries, with the size of each in bytes.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl LogStore {
    /// Creates the log from what was found on disk.
    pub(crate) fn new(backend: Arc<dyn LogBackend>, writer: Writer, found: Found) -> io::Result<Self> {
        let mut tail = Tail {
            vote: found.vote.map(vote_in),
            committed: found.committed.map(log_id_in),
            purged: found.purged.map(log_id_in),
            ..Tail::default()
        };
        tail.last = tail.purged;
        tail.oldest = tail.next();
        let mut grown = 0;
        for (_, bytes) in found.entries {
            let read = StoredEntry::open(&bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            grown += bytes.len() as u64;
            tail.push(entry_in(read)?, bytes.len());
        }
        // The stored committed index may be beyond the last entry, if a torn end of the log took entries along.
        tail.committed = tail.committed.min(tail.last);
        let durable = tail.next();
        tail.shrink(durable);
        let durable = Arc::new(AtomicU64::new(durable));
        let grown = AtomicU64::new(grown);
        Ok(Self { shared: Arc::new(Shared { backend, writer, tail: Mutex::new(tail), durable, grown }) })
    }

    /// Bytes of entries appended so far; only differences of this number are meaningful.
    pub(crate) fn grown(&self) -> u64 {
        self.shared.grown.load(Ordering::Relaxed)
    }

    /// The existing entries from `start` to before `end`.
    pub(crate) fn between(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, usize::MAX)
    }

    /// The term of the vote on disk.
    pub(crate) fn voted(&self) -> Term {
        Term(self.tail().vote.map_or(0, |given| vote(&given).term))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.shared.tail.lock()
    }

    /// The existing entries from `start` to before `end`; stops after the entry that reaches `bytes_max`.
    fn entries(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (start, held_from, end) = {
            let tail = self.tail();
            (start.max(tail.oldest), tail.first(), end.min(tail.next()))
        };
        let mut found = Vec::new();
        let mut bytes = 0;
        if start < held_from.min(end) {
            // Entries for a follower that is far behind are read in pieces, to bound memory.
            const PIECE: u64 = 64;
            let mut at = start;
            while at < held_from.min(end) && bytes < bytes_max {
                let until = (at + PIECE).min(held_from).min(end);
                for (index, record) in self.shared.backend.read(at..until)? {
                    if index != at || bytes >= bytes_max {
                        break;
                    }
                    let read =
                        StoredEntry::open(&record).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
                    bytes += record.len();
                    found.push(entry_in(read)?);
                    at += 1;
                }
                if at < until && bytes < bytes_max {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("entry {at} is missing")));
                }
            }
        }
        let tail = self.tail();
        let from = found.last().map_or(start, |entry| entry.log_id.index() + 1).max(tail.first());
        let skipped = usize::try_from(from - tail.first()).unwrap_or(usize::MAX);
        for (entry, len) in tail.entries.iter().skip(skipped) {
            if entry.log_id.index() >= end || bytes >= bytes_max {
                break;
            }
            bytes += len;
            found.push(entry.clone());
        }
        Ok(found)
    }
}

impl Tail {
    /// Index of the first entry in memory, or of the next entry when there is none.
    fn first(&self) -> u64 {
        self.entries.front().map_or_else(|| self.next(), |(entry, _)| entry.log_id.index())
    }

    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index() + 1)
    }

    fn push(&mut self, entry: Entry, len: usize) {
        if self.last.is_none_or(|last| last.index() < self.oldest) {
            self.oldest = entry.log_id.index();
        }
        self.last = Some(entry.log_id);
        self.bytes += len;
        self.entries.push_back((entry, len));
    }

    /// Drops the oldest entries from memory that exceed the bound and are durable.
    fn shrink(&mut self, durable: u64) {
        while self.bytes > TAIL_BYTES_MAX
            && self.entries.front().is_some_and(|(entry, _)| entry.log_id.index() < durable)
        {
            let dropped = self.entries.pop_front();
            self.bytes -= dropped.map_or(0, |(_, len)| len);
        }
    }

    fn truncate(&mut self, last: Option<LogId>) {
        let next = last.map_or(0, |id| id.index() + 1);
        while self.entries.back().is_some_and(|(entry, _)| entry.log_id.index() >= next) {
            let dropped = self.entries.pop_back();
            self.bytes -= dropped.map_or(0, |(_, len)| len);
        }
        self.last = self.last.min(last).max(self.purged);
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|(entry, _)| entry.log_id.index() <= upto.index()) {
            let dropped = self.entries.pop_front();
            self.bytes -= dropped.map_or(0, |(_, len)| len);
        }
        self.purged = Some(upto);
        self.oldest = upto.index() + 1;
        self.last = self.last.max(self.purged);
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, MESSAGE_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.tail().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let tail = self.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, given: &Vote) -> io::Result<()> {
        if !planted(Bug::VoteNotKept) {
            self.shared.writer.commit(vec![Op::Vote(vote(given))]).await?;
        }
        self.tail().vote = Some(*given);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.tail().committed = committed;
        self.shared.writer.submit(vec![Op::Committed(committed.as_ref().map(log_id))], None).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = <Types as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (records, next) = {
            let mut tail = self.tail();
            let mut records = Vec::new();
            for new in entries {
                let index = new.log_id.index();
                let record = encode(&StoredEntry::V1(entry(&new)));
                self.shared.grown.fetch_add(record.len() as u64, Ordering::Relaxed);
                tail.push(new, record.len());
                records.push((index, record));
            }
            tail.shrink(self.shared.durable.load(Ordering::Acquire));
            (records, tail.next())
        };
        if planted(Bug::AckBeforeFsync) {
            callback.io_completed(Ok(()));
            self.shared.writer.submit(vec![Op::Append(records)], None).await;
            return Ok(());
        }
        let durable = Arc::clone(&self.shared.durable);
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                durable.store(next, Ordering::Release);
            }
            callback.io_completed(result);
        };
        self.shared.writer.submit(vec![Op::Append(records)], Some(Box::new(done))).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index() + 1);
        self.tail().truncate(last);
        self.shared.writer.commit(vec![Op::TruncateFrom(from)]).await?;
        self.shared.durable.store(from, Ordering::Release);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.tail().purge(upto);
        let upto: format::LogId = log_id(&upto);
        self.shared.writer.commit(vec![Op::Purge(upto)]).await
    }
}
