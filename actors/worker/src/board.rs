//! The board: what was seen of each task last, and which of it the managers do not know yet.
//!
//! Shared by the task actors, which write, and the uplink, which reports; it belongs to neither, so that the death of
//! either loses nothing. It keeps one value a task however many there were: a worker reports the latest states only.

use essaim_model::task::may_follow;
use essaim_model::{Observed, TaskId};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// A handle on the board.
#[derive(Clone)]
pub(crate) struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<BTreeMap<TaskId, Entry>>,
    /// Counts changes that are to be reported.
    changed: watch::Sender<u64>,
}

struct Entry {
    seen: Observed,
    /// What the managers have.
    known: Option<Observed>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let shared = Shared { seen: Mutex::new(BTreeMap::new()), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Something new was seen. What would lead backwards is ignored: a task only moves forward.
    pub(crate) fn observe(&self, task: TaskId, seen: Observed) {
        match self.lock().entry(task) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Entry { seen, known: None });
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                let entry = place.get_mut();
                if entry.seen.state != seen.state && !may_follow(entry.seen.state, seen.state) {
                    return;
                }
                entry.seen = seen;
            }
        }
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// What the managers know of a task, as an order says it. It counts as seen when nothing newer was.
    pub(crate) fn learn(&self, task: TaskId, known: &Observed) {
        let mut board = self.lock();
        let entry = board.entry(task).or_insert_with(|| Entry { seen: known.clone(), known: None });
        if may_follow(entry.seen.state, known.state) {
            entry.seen = known.clone();
        }
        entry.known = Some(known.clone());
    }

    /// Nobody wants to hear of the task any more.
    pub(crate) fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    /// What was seen of the task last.
    pub(crate) fn seen(&self, task: TaskId) -> Option<Observed> {
        self.lock().get(&task).map(|entry| entry.seen.clone())
    }

    /// Every task with what was seen of it last.
    pub(crate) fn all(&self) -> Vec<(TaskId, Observed)> {
        self.lock().iter().map(|(task, entry)| (*task, entry.seen.clone())).collect()
    }

    /// Up to `max` tasks of which the managers do not know the latest.
    pub(crate) fn pending(&self, max: usize) -> Vec<(TaskId, Observed)> {
        let board = self.lock();
        let unknown = board.iter().filter(|(_, entry)| entry.known.as_ref() != Some(&entry.seen));
        unknown.take(max).map(|(task, entry)| (*task, entry.seen.clone())).collect()
    }

    /// The managers have these.
    pub(crate) fn acknowledge(&self, reported: &[(TaskId, Observed)]) {
        let mut board = self.lock();
        for (task, observed) in reported {
            if let Some(entry) = board.get_mut(task) {
                entry.known = Some(observed.clone());
            }
        }
    }

    /// Notices changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.shared.seen.lock()
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Board({} tasks)", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, seen};
    use essaim_model::TaskState;

    #[test]
    fn only_the_latest_is_pending_and_only_until_it_is_acknowledged() {
        let (board, task) = (Board::new(), order(1).id);
        for state in [TaskState::Accepted, TaskState::Preparing, TaskState::Running] {
            board.observe(task, seen(state));
        }
        let first = board.pending(10);
        assert_eq!(first, [(task, seen(TaskState::Running))]);
        board.observe(task, seen(TaskState::Failed));
        board.acknowledge(&first);
        assert_eq!(board.pending(10), [(task, seen(TaskState::Failed))], "it changed while the report travelled");
        board.acknowledge(&board.pending(10));
        assert_eq!(board.pending(10), []);
    }

    #[test]
    fn a_task_never_goes_back() {
        let (board, task) = (Board::new(), order(1).id);
        board.observe(task, seen(TaskState::Failed));
        board.observe(task, seen(TaskState::Running));
        assert_eq!(board.seen(task), Some(seen(TaskState::Failed)));
    }

    #[test]
    fn what_the_managers_know_is_not_reported_again() {
        let (board, task) = (Board::new(), order(1).id);
        board.learn(task, &seen(TaskState::Running));
        assert_eq!(board.pending(10), []);
        board.observe(task, seen(TaskState::Running));
        assert_eq!(board.pending(10), []);
        // After a restart the worker may have seen more than they know.
        board.observe(task, seen(TaskState::Complete));
        board.learn(task, &seen(TaskState::Running));
        assert_eq!(board.pending(10), [(task, seen(TaskState::Complete))]);
        board.forget(task);
        assert_eq!(board.pending(10), []);
    }
}
