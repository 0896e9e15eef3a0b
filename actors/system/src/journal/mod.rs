//! The journal of a node: its last records, and the tree of its living actors.
//!
//! The two belong together, because every change of the tree is a record. The *ring* keeps the last [`CAPACITY`]
//! records in the order in which they were written. A reader holds a number, not a queue, so a slow reader costs no
//! memory; one that was overtaken is told where the ring begins now. The *tree* has one entry for each living actor:
//! its path, its source folder, its state, its number of restarts, and the reason of the last one.
//!
//! The journal is a handle on shared memory and no actor, because an actor that is about to die must still be able to
//! write a record. It has a place in the tree all the same (`/n3/journal`), and lives as long as the daemon. It is not
//! in Raft and not on disk; `essaim journal` asks every node over the `view` lane.

mod record;
mod ring;
mod tree;

pub use record::{Record, RecordKind};
pub use ring::{Compacted, Page};
pub use tree::{Entry, State};

pub(crate) use tree::NewEntry;

use crate::env::Env;
use crate::path::Path;
use parking_lot::{Mutex, MutexGuard};
use ractor::ActorCell;
use ring::Ring;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tree::Tree;

/// Records that a node keeps: ten minutes at a thousand a minute, in about 2 MiB.
pub const CAPACITY: usize = 10_000;

/// Records of one page at most, so that a page fits into a frame.
pub(crate) const PAGE_MAX: usize = 1_000;

/// Bytes of a record's reason at most; the rest is cut.
const REASON_MAX: usize = 1_024;

/// A handle on the node's journal. Clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    inner: Mutex<Inner>,
    /// Number of the last record. A watch channel keeps one value, however many records were written.
    last: watch::Sender<u64>,
}

struct Inner {
    ring: Ring,
    tree: Tree,
}

/// No actor runs at this path, or the entry at this path is no actor that can be killed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no actor at {path}: `essaim tree` shows the paths")]
pub struct NoSuchActor {
    path: Path,
}

impl Journal {
    /// The journal of a node whose root actor has the path `root`.
    pub fn new(root: &Path, env: Env) -> Self {
        let now = env.utc();
        let mut tree = Tree::default();
        tree.enter(now, NewEntry { path: root.clone(), source: "actors/node/src/".into(), cell: None });
        let own = NewEntry { path: root.child("journal"), source: "actors/system/src/journal/".into(), cell: None };
        tree.enter(now, own);
        let inner = Mutex::new(Inner { ring: Ring::new(CAPACITY), tree });
        Self { shared: Arc::new(Shared { env, inner, last: watch::Sender::new(0) }) }
    }

    /// Writes a record and returns its number. `cause` is the number of the record from which this one follows.
    pub fn record(&self, path: &Path, kind: RecordKind, reason: impl Into<String>, cause: Option<u64>) -> u64 {
        let mut reason = reason.into();
        if reason.len() > REASON_MAX {
            let cut = reason.floor_char_boundary(REASON_MAX);
            reason.truncate(cut);
            reason.push('…');
        }
        let path = self.inner().tree.shown(path);
        tracing::info!(actor = %path, kind = kind.text(), cause, "{reason}");
        let at = self.shared.env.utc();
        let seq = self.inner().ring.push(|seq| Record { seq, at, kind, path, reason, cause });
        // Two writers may arrive in the wrong order; `send_if_modified` keeps the greater number.
        self.shared.last.send_if_modified(|last| {
            let newer = seq > *last;
            *last = (*last).max(seq);
            newer
        });
        seq
    }

    /// Up to `limit` records, beginning with number `from`. The first record is 1; 0 means the oldest that is kept.
    pub fn read(&self, from: u64, limit: usize) -> Result<Page, Compacted> {
        self.inner().ring.read(from, limit.min(PAGE_MAX))
    }

    /// Number of the last record; 0 when none was written.
    pub fn last(&self) -> u64 {
        *self.shared.last.borrow()
    }

    /// A reader that returns the records from number `from` on as they are written.
    pub fn follow(&self, from: u64) -> Follower {
        Follower { journal: self.clone(), next: from, last: self.shared.last.subscribe() }
    }

    /// The entries of all living actors, parents before their children.
    pub fn tree(&self) -> Vec<Entry> {
        self.inner().tree.entries()
    }

    /// The tree's entry of the actor at `path`.
    pub fn entry(&self, path: &Path) -> Option<Entry> {
        self.inner().tree.entry(path)
    }

    /// Enters something that no supervisor watches (a listener, a root actor) into the tree, as running.
    pub fn enter(&self, path: &Path, source: &str, cell: Option<ActorCell>) {
        let now = self.shared.env.utc();
        self.inner().tree.enter(now, NewEntry { path: path.clone(), source: source.into(), cell });
    }

    /// Removes an entry that was made by [`Journal::enter`], with everything below it.
    pub fn leave(&self, path: &Path) {
        self.inner().tree.take_within(path);
    }

    /// Shows the actor at `path`, and everything below it, under another label in the tree and in records from now on. For
    /// an actor that was started before the name of what it serves was known.
    pub fn relabel(&self, path: &Path, label: &str) {
        self.inner().tree.relabel(path, label);
    }

    /// Kills the actor at `path` with everything below it, so that its supervisor sees a failure and acts. For tests
    /// and `essaim debug kill-actor`.
    pub fn kill(&self, path: &Path) -> Result<(), NoSuchActor> {
        // ractor kills the children of an actor in the order of a hash map; the order of the tree is the same in every
        // run. The deepest actors are killed first, so that each one can still kill what it holds outside of the tree.
        let cells = self.inner().tree.cells_within(path);
        if cells.is_empty() {
            return Err(NoSuchActor { path: path.clone() });
        }
        self.record(path, RecordKind::Note, "killed on purpose, by request", None);
        for cell in cells {
            cell.kill();
        }
        Ok(())
    }

    /// Kills every actor of the node without a record, as the death of the process does, in an order that is the same
    /// in every run. For the simulator.
    pub fn kill_all(&self) {
        let cells = self.inner().tree.all_cells();
        for cell in cells {
            cell.kill();
        }
    }

    /// UTC by the clock that stamps records.
    pub fn utc(&self) -> essaim_wire::Timestamp {
        self.shared.env.utc()
    }

    /// Time since the node started, by the clock that stamps records.
    pub fn now(&self) -> essaim_wire::Moment {
        self.shared.env.now()
    }

    /// Changes the tree under the journal's lock; the closure gets the time of the change in UTC.
    pub(crate) fn with_tree<T>(&self, change: impl FnOnce(&mut Tree, essaim_wire::Timestamp) -> T) -> T {
        let now = self.shared.env.utc();
        change(&mut self.inner().tree, now)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock()
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal(last {})", self.last())
    }
}

/// A reader that follows the journal. It holds the number of the next record, and no queue.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    next: u64,
    last: watch::Receiver<u64>,
}

impl Follower {
    /// Waits for the next records and returns them. `Compacted` when the ring has dropped records that this reader had
    /// not read; the reader then goes on from the oldest record that is kept.
    pub async fn next(&mut self) -> Result<Vec<Arc<Record>>, Compacted> {
        loop {
            self.last.borrow_and_update();
            match self.journal.read(self.next, PAGE_MAX) {
                Ok(page) if page.records.is_empty() => {
                    // The watch cannot be closed: its sender lives in the journal that this reader holds.
                    let _ = self.last.changed().await;
                }
                Ok(page) => {
                    self.next = page.next;
                    return Ok(page.records);
                }
                Err(compacted) => {
                    self.next = compacted.oldest;
                    return Err(compacted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_follower_gets_what_is_written_while_it_waits_and_then_waits_again() {
        let scope = scope();
        scope.record(RecordKind::Note, "one");
        let mut follower = scope.journal.follow(1);
        assert_eq!(follower.next().await.expect("there").len(), 1);
        let next = tokio::spawn(async move { follower.next().await.map(|records| records[0].seq) });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!next.is_finished());
        scope.record(RecordKind::Note, "two");
        assert_eq!(next.await.expect("no panic"), Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_was_overtaken_hears_of_it_once_and_goes_on() {
        let scope = scope();
        let mut follower = scope.journal.follow(1);
        for _ in 0..CAPACITY + 5 {
            scope.record(RecordKind::Note, "");
        }
        assert_eq!(follower.next().await, Err(Compacted { oldest: 6 }));
        assert_eq!(follower.next().await.expect("there")[0].seq, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_reason_is_cut_between_two_letters() {
        let scope = scope();
        scope.record(RecordKind::Note, "é".repeat(1_000));
        let page = scope.journal.read(0, 1).expect("there");
        assert_eq!(page.records[0].reason, format!("{}…", "é".repeat(512)));
    }
}
