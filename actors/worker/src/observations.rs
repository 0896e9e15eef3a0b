//! The latest observation of each task, and which of them the managers do not know yet.
//!
//! Shared by the task actors, which write observations, and the uplink, which reports them. It belongs to neither, so
//! that the death of either loses nothing. It keeps one observation per task (coalescing): a worker reports only the
//! latest states.

use essaim_model::task::may_follow;
use essaim_model::{Observed, TaskId};
use essaim_wire::encoded_len;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Approximate upper bound on the bytes of one report: a quarter of a proposal, so that a manager commits it at once,
/// and far less than a frame. A report has at least one task, however large its observation is.
const REPORT_BYTES: usize = 256 << 10;

/// Bytes of a task's message or error that are kept: these are for a table that an operator reads; the log has the
/// whole text.
const WORDS_MAX: usize = 4 << 10;

/// Handle on the latest observations; clones share them.
#[derive(Clone)]
pub(crate) struct Observations {
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<BTreeMap<TaskId, Entry>>,
    /// Counter that rises with every observation to report.
    changed: watch::Sender<u64>,
}

struct Entry {
    seen: Observed,
    /// Latest observation that the managers have.
    known: Option<Observed>,
}

impl Observations {
    pub(crate) fn new() -> Self {
        let shared = Shared { seen: Mutex::new(BTreeMap::new()), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Records an observation of a task. A state that would lead backwards is ignored: states of a task only move
    /// forward.
    pub(crate) fn observe(&self, task: TaskId, mut seen: Observed) {
        shorten(&mut seen.message);
        seen.error.iter_mut().for_each(shorten);
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

    /// Records what the managers know of a task, as its order says. It is also the latest observation if there is no
    /// newer one.
    pub(crate) fn learn(&self, task: TaskId, known: &Observed) {
        let mut observations = self.lock();
        let entry = observations.entry(task).or_insert_with(|| Entry { seen: known.clone(), known: None });
        if may_follow(entry.seen.state, known.state) {
            entry.seen = known.clone();
        }
        entry.known = Some(known.clone());
    }

    /// Removes a task that the managers no longer want reports about.
    pub(crate) fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    /// The latest observation of a task.
    pub(crate) fn seen(&self, task: TaskId) -> Option<Observed> {
        self.lock().get(&task).map(|entry| entry.seen.clone())
    }

    /// Every task with its latest observation.
    pub(crate) fn all(&self) -> Vec<(TaskId, Observed)> {
        self.lock().iter().map(|(task, entry)| (*task, entry.seen.clone())).collect()
    }

    /// Up to `max` tasks whose latest observation the managers do not have, as many as fit into one report.
    pub(crate) fn pending(&self, max: usize) -> Vec<(TaskId, Observed)> {
        let observations = self.lock();
        let unknown = observations.iter().filter(|(_, entry)| entry.known.as_ref() != Some(&entry.seen));
        let mut bytes = 0;
        let fits = |(_, entry): &(&TaskId, &Entry)| {
            let before = bytes;
            bytes += encoded_len(&entry.seen);
            before == 0 || bytes <= REPORT_BYTES
        };
        unknown.take(max).take_while(fits).map(|(task, entry)| (*task, entry.seen.clone())).collect()
    }

    /// Marks observations as known to the managers.
    pub(crate) fn acknowledge(&self, reported: &[(TaskId, Observed)]) {
        let mut observations = self.lock();
        for (task, observed) in reported {
            if let Some(entry) = observations.get_mut(task) {
                entry.known = Some(observed.clone());
            }
        }
    }

    /// Watches for observations to report.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.shared.seen.lock()
    }
}

/// Truncates a text that is too long, and marks it as truncated.
fn shorten(words: &mut String) {
    if words.len() > WORDS_MAX {
        let end = (0..=WORDS_MAX).rev().find(|end| words.is_char_boundary(*end)).unwrap_or_default();
        words.truncate(end);
        words.push_str(" …");
    }
}

impl fmt::Debug for Observations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observations({} tasks)", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, seen};
    use essaim_model::TaskState;

    #[test]
    fn only_the_latest_is_pending_and_only_until_it_is_acknowledged() {
        let (observations, task) = (Observations::new(), order(1).id);
        for state in [TaskState::Accepted, TaskState::Preparing, TaskState::Running] {
            observations.observe(task, seen(state));
        }
        let first = observations.pending(10);
        assert_eq!(first, [(task, seen(TaskState::Running))]);
        observations.observe(task, seen(TaskState::Failed));
        observations.acknowledge(&first);
        assert_eq!(
            observations.pending(10),
            [(task, seen(TaskState::Failed))],
            "it changed while the report travelled"
        );
        observations.acknowledge(&observations.pending(10));
        assert_eq!(observations.pending(10), []);
    }

    #[test]
    fn what_does_not_fit_one_report_comes_with_the_next_and_long_words_are_cut() {
        let observations = Observations::new();
        let failed = Observed { error: Some("é".repeat(WORDS_MAX)), ..seen(TaskState::Failed) };
        for task in 0..200 {
            observations.observe(TaskId::from_bits(task), failed.clone());
        }
        let mut told = 0;
        loop {
            let batch = observations.pending(1_000);
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() < 100 && encoded_len(&batch) < REPORT_BYTES + WORDS_MAX);
            assert!(batch.iter().all(|(_, seen)| seen.error.as_ref().is_some_and(|error| error.ends_with("é …"))));
            told += batch.len();
            observations.acknowledge(&batch);
        }
        assert_eq!(told, 200);
    }

    #[test]
    fn a_task_never_goes_back() {
        let (observations, task) = (Observations::new(), order(1).id);
        observations.observe(task, seen(TaskState::Failed));
        observations.observe(task, seen(TaskState::Running));
        assert_eq!(observations.seen(task), Some(seen(TaskState::Failed)));
    }

    #[test]
    fn what_the_managers_know_is_not_reported_again() {
        let (observations, task) = (Observations::new(), order(1).id);
        observations.learn(task, &seen(TaskState::Running));
        assert_eq!(observations.pending(10), []);
        observations.observe(task, seen(TaskState::Running));
        assert_eq!(observations.pending(10), []);
        // After a restart the worker may have observed more than the managers know.
        observations.observe(task, seen(TaskState::Complete));
        observations.learn(task, &seen(TaskState::Running));
        assert_eq!(observations.pending(10), [(task, seen(TaskState::Complete))]);
        observations.forget(task);
        assert_eq!(observations.pending(10), []);
    }
}
