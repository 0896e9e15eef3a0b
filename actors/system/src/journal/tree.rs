//! The supervision tree: one entry for each living actor.

use crate::path::Path;
use bincode::{Decode, Encode};
use essaim_wire::Timestamp;
use essaim_wire::record;
use ractor::ActorCell;
use std::collections::BTreeMap;
use std::fmt;

/// One actor of the supervision tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path of the actor.
    pub path: Path,
    /// Folder of the actor's source: `actors/worker/src/uplink/`.
    pub source: String,
    /// State of the actor.
    pub state: State,
    /// Number of restarts since the actor was first started.
    pub restarts: u64,
    /// When the actor entered its present state, in UTC.
    pub since: Timestamp,
    /// Reason of the last failure or restart; empty when there was none.
    pub reason: String,
}
record!(Entry { 1: path, source, state, restarts, since, reason });

/// State of an actor in the supervision tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum State {
    /// The actor's `pre_start` has not returned yet.
    Starting,
    /// The actor runs.
    Running,
    /// The actor failed and waits for its back-off delay.
    Waiting,
    /// The actor was asked to stop and has not ended yet.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
        })
    }
}

/// An actor that was just started, to be entered into the tree.
pub(crate) struct NewEntry {
    pub(crate) path: Path,
    pub(crate) source: String,
    pub(crate) cell: Option<ActorCell>,
}

#[derive(Default)]
pub(crate) struct Tree {
    actors: BTreeMap<Path, (Entry, Option<ActorCell>)>,
}

impl Tree {
    /// Enters an actor as running. An entry that was there before keeps its count of restarts and its last reason.
    pub(crate) fn enter(&mut self, now: Timestamp, new: NewEntry) {
        let (restarts, reason) = match self.actors.get(&new.path) {
            Some((old, _)) => (old.restarts, old.reason.clone()),
            None => (0, String::new()),
        };
        let entry =
            Entry { path: new.path.clone(), source: new.source, state: State::Running, restarts, since: now, reason };
        self.actors.insert(new.path, (entry, new.cell));
    }

    /// Sets the state of the actor at `path`.
    pub(crate) fn set_state(&mut self, now: Timestamp, path: &Path, state: State) {
        if let Some((entry, _)) = self.actors.get_mut(path) {
            entry.state = state;
            entry.since = now;
        }
    }

    /// Marks the actor at `path` as failed and waiting for its restart.
    pub(crate) fn set_waiting(&mut self, now: Timestamp, path: &Path, reason: &str) {
        self.set_state(now, path, State::Waiting);
        if let Some((entry, cell)) = self.actors.get_mut(path) {
            reason.clone_into(&mut entry.reason);
            *cell = None;
        }
    }

    /// Counts a restart of the actor at `path`.
    pub(crate) fn count_restart(&mut self, path: &Path) {
        if let Some((entry, _)) = self.actors.get_mut(path) {
            entry.restarts += 1;
        }
    }

    /// Removes the actor at `path` and everything below it. Returns the removed actors, parents first.
    pub(crate) fn take_within(&mut self, path: &Path) -> Vec<ActorCell> {
        let below = self.take_below(path);
        self.actors.remove(path);
        below
    }

    /// Removes everything below `path`. Returns the removed actors, parents first.
    pub(crate) fn take_below(&mut self, path: &Path) -> Vec<ActorCell> {
        let below: Vec<Path> =
            self.actors.keys().filter(|other| other.is_within(path) && *other != path).cloned().collect();
        below.iter().filter_map(|path| self.actors.remove(path)?.1).collect()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.actors.values().map(|(entry, _)| entry.clone()).collect()
    }

    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        self.actors.get(path).map(|(entry, _)| entry.clone())
    }

    /// The actors below `path`, children before their parents, and then the actor at `path`; empty when there is none.
    pub(super) fn cells_within(&self, path: &Path) -> Vec<ActorCell> {
        let own = self.actors.get(path).and_then(|(_, cell)| cell.clone());
        let Some(own) = own else { return Vec::new() };
        let below = self.actors.iter().rev().filter(|(other, _)| other.is_within(path) && *other != path);
        below.filter_map(|(_, (_, cell))| cell.clone()).chain([own]).collect()
    }

    /// All actors of the tree, children before their parents.
    pub(super) fn all_cells(&self) -> Vec<ActorCell> {
        self.actors.values().rev().filter_map(|(_, cell)| cell.clone()).collect()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("journal-tree": State, Entry);

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(tree: &mut Tree, path: &Path) {
        tree.enter(Timestamp::default(), NewEntry { path: path.clone(), source: String::new(), cell: None });
    }

    #[test]
    fn an_actor_keeps_its_count_and_its_reason_over_a_restart() {
        let mut tree = Tree::default();
        let path = Path::root("n").child("worker");
        enter(&mut tree, &path);
        tree.set_waiting(Timestamp::from_micros(1), &path, "boom");
        tree.count_restart(&path);
        tree.enter(Timestamp::from_micros(2), NewEntry { path: path.clone(), source: String::new(), cell: None });
        let entry = tree.entry(&path).expect("it is there");
        assert_eq!((entry.restarts, entry.reason.as_str(), entry.state), (1, "boom", State::Running));
        assert_eq!(entry.since, Timestamp::from_micros(2));
    }

    #[test]
    fn whoever_goes_takes_all_below_along_and_no_namesake() {
        let mut tree = Tree::default();
        let root = Path::root("n");
        for path in [root.clone(), root.child("a"), root.child("a").child("x"), root.child("a.b")] {
            enter(&mut tree, &path);
        }
        tree.take_within(&root.child("a"));
        let left: Vec<_> = tree.entries().into_iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(left, ["/n", "/n/a.b"]);
    }
}
