//! The supervision tree: one entry for each living actor.

use crate::path::Path;
use bincode::{Decode, Encode};
use essaim_wire::Timestamp;
use essaim_wire::record;
use ractor::ActorCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

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
    /// Actors that are shown under another path than the one they were started with, by the latter.
    shown: BTreeMap<Path, Path>,
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
        self.shown.remove(path);
        below
    }

    /// Removes everything below `path`. Returns the removed actors, parents first.
    pub(crate) fn take_below(&mut self, path: &Path) -> Vec<ActorCell> {
        let below: Vec<Path> = self.below(path).map(|(path, _)| path.clone()).collect();
        below.iter().for_each(|path| drop(self.shown.remove(path)));
        below.iter().filter_map(|path| self.actors.remove(path)?.1).collect()
    }

    /// Shows the actor at `path`, and everything below it, under another label for as long as the actor lives.
    pub(crate) fn relabel(&mut self, path: &Path, label: &str) {
        if let Some(parent) = path.parent().filter(|_| self.actors.contains_key(path)) {
            self.shown.insert(path.clone(), parent.child(label));
        }
    }

    /// The path under which the actor at `path` is shown.
    pub(super) fn shown(&self, path: &Path) -> Path {
        let mut above = (!self.shown.is_empty()).then(|| path.clone());
        while let Some(from) = above {
            if let Some(to) = self.shown.get(&from) {
                return path.moved(&from, to).unwrap_or_else(|| path.clone());
            }
            above = from.parent();
        }
        path.clone()
    }

    /// The path of the actor that is shown under this path.
    pub(super) fn find(&self, shown: &Path) -> Path {
        if self.actors.contains_key(shown) {
            return shown.clone();
        }
        let found = self.shown.iter().find_map(|(from, to)| shown.moved(to, from));
        found.unwrap_or_else(|| shown.clone())
    }

    /// The entries below `path`, parents first. They follow `path` in the order of the map, so the cost does not grow
    /// with the tree: a manager that loses ten thousand links has as many actors that end.
    fn below(&self, path: &Path) -> impl Iterator<Item = (&Path, &(Entry, Option<ActorCell>))> {
        let after = (Bound::Excluded(path.clone()), Bound::Unbounded);
        let path = path.clone();
        self.actors.range(after).take_while(move |(other, _)| other.is_within(&path))
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.actors.values().map(|(entry, _)| self.show(entry)).collect()
    }

    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        self.actors.get(&self.find(path)).map(|(entry, _)| self.show(entry))
    }

    fn show(&self, entry: &Entry) -> Entry {
        Entry { path: self.shown(&entry.path), ..entry.clone() }
    }

    /// The actors below `path`, children before their parents, and then the actor at `path`; empty when there is none.
    pub(super) fn cells_within(&self, path: &Path) -> Vec<ActorCell> {
        let path = &self.find(path);
        let own = self.actors.get(path).and_then(|(_, cell)| cell.clone());
        let Some(own) = own else { return Vec::new() };
        let below = self.below(path).filter_map(|(_, (_, cell))| cell.clone()).collect::<Vec<_>>();
        below.into_iter().rev().chain([own]).collect()
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
    fn a_new_label_is_shown_until_the_actor_ends_and_leads_to_it() {
        let mut tree = Tree::default();
        let root = Path::root("n");
        let (actor, other) = (root.child("node.4f2x"), root.child("node.n2"));
        for path in [&root, &actor, &actor.child("guard"), &other] {
            enter(&mut tree, path);
        }
        let shown = |tree: &Tree| tree.entries().iter().map(|entry| entry.path.to_string()).collect::<Vec<_>>();
        tree.relabel(&actor, "node.n3");
        assert_eq!(shown(&tree), ["/n", "/n/node.n3", "/n/node.n3/guard", "/n/node.n2"]);
        let guard = root.child("node.n3").child("guard");
        assert_eq!((tree.find(&guard), tree.shown(&actor.child("guard"))), (actor.child("guard"), guard.clone()));
        assert_eq!(tree.entry(&guard).map(|entry| entry.path), Some(guard));
        assert_eq!((tree.find(&other), tree.shown(&other)), (other.clone(), other));
        tree.set_waiting(Timestamp::default(), &actor, "boom");
        enter(&mut tree, &actor);
        assert_eq!(tree.entry(&actor).map(|entry| entry.path), Some(root.child("node.n3")), "also after a restart");
        tree.take_within(&actor);
        enter(&mut tree, &actor);
        assert_eq!(shown(&tree), ["/n", "/n/node.4f2x", "/n/node.n2"], "the next actor at this path is another one");
    }

    #[test]
    fn what_ends_is_found_without_a_look_at_the_rest_of_the_tree() {
        let mut tree = Tree::default();
        let root = Path::root("n");
        for path in ["a", "a.b", "b", "c"].map(|label| root.child(label)) {
            enter(&mut tree, &path);
            enter(&mut tree, &path.child("x"));
        }
        let below: Vec<_> = tree.below(&root.child("a")).map(|(path, _)| path.to_string()).collect();
        assert_eq!(below, ["/n/a/x"]);
        assert_eq!(tree.below(&root).count(), 8);
        assert_eq!(tree.below(&root.child("nobody")).count(), 0);
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
