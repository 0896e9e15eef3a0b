//! Areas: which nodes suit a kind of task by their records alone, and over which branches they are spread.
//!
//! Constraints, platforms, plugins, engines and levels depend on the node's record only, which seldom changes, while
//! tasks come and go all the time. So the nodes that suit are remembered for each distinct set of such needs, and a
//! change of a node costs one look at it for each set. Ten thousand tasks of a thousand services with the same
//! constraints ask each node once.
//!
//! Spread preferences sort the nodes into *branches*: one for each value of the first label, within it one for each
//! value of the second, and so on. The nodes of a last branch are a *leaf*. Nodes without a label form a branch of
//! their own, which comes after all others.

use super::needs::{AreaName, Needs, Terrain};
use super::seat::{Place, Seats};
use essaim_model::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Areas that are remembered at most. With a hundred thousand nodes an area takes about a megabyte.
const AREAS_MAX: usize = 1_000;

/// A branch: a value of a label; nodes without the label come last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Branch {
    /// Nodes with this value of the label.
    Value(String),
    /// Nodes without the label.
    Missing,
}

/// The nodes that suit a kind of task, by leaf.
#[derive(Debug, Clone)]
pub(super) struct Area {
    terrain: Arc<Terrain>,
    /// The leaf of each sequence of branches.
    pub(super) paths: BTreeMap<Vec<Branch>, u32>,
    /// Places of the suitable nodes of each leaf.
    pub(super) leaves: Vec<Vec<Place>>,
    /// Branch and suitability of the node at each place. Nodes that do not suit have a branch too, because the tasks on
    /// them count in it.
    spots: Vec<Spot>,
}

/// What an area knows of one place on the board: the branch of the spread preferences that its node is in, and whether
/// the node may have the tasks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    /// Leaf of the node; `None` for a place that no node has.
    pub(super) leaf: Option<u32>,
    /// Whether constraints, platforms, engine and plugins let the node have the tasks.
    pub(super) suits: bool,
}

impl Area {
    fn new(terrain: &Arc<Terrain>, seats: &Seats) -> Self {
        let (terrain, spots) = (Arc::clone(terrain), Vec::with_capacity(seats.bound()));
        let mut area = Self { terrain, paths: BTreeMap::new(), leaves: Vec::new(), spots };
        for (place, _, node) in seats.iter() {
            area.set(place, Some(node));
        }
        area
    }

    /// Branch and suitability of the node at this place; those of no node when the place is empty.
    pub(super) fn spot(&self, place: Place) -> Spot {
        self.spots.get(place as usize).copied().unwrap_or_default()
    }

    /// Looks at the node of a place again.
    fn set(&mut self, place: Place, node: Option<&Node>) {
        let before = self.spot(place);
        let leaf = node.map(|node| self.leaf(node));
        let now = Spot { leaf, suits: node.is_some_and(|node| self.terrain.suits(node)) };
        if let (true, Some(leaf)) = (before.suits, before.leaf) {
            let nodes = &mut self.leaves[leaf as usize];
            if let Some(at) = nodes.iter().position(|it| *it == place) {
                nodes.swap_remove(at);
            }
        }
        if let (true, Some(leaf)) = (now.suits, now.leaf) {
            self.leaves[leaf as usize].push(place);
        }
        if self.spots.len() <= place as usize {
            self.spots.resize(place as usize + 1, Spot::default());
        }
        self.spots[place as usize] = now;
    }

    fn leaf(&mut self, node: &Node) -> u32 {
        let preferences = self.terrain.preferences();
        if preferences.is_empty() && !self.leaves.is_empty() {
            return 0;
        }
        let branch = |value: Option<&str>| value.map_or(Branch::Missing, |value| Branch::Value(value.to_owned()));
        let path: Vec<Branch> = preferences.iter().map(|label| branch(label.value(node))).collect();
        *self.paths.entry(path).or_insert_with(|| {
            self.leaves.push(Vec::new());
            (self.leaves.len() - 1) as u32
        })
    }
}

/// The areas that are remembered, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Areas(BTreeMap<AreaName, Area>);

impl Areas {
    /// The area of these needs, which is computed when it is not remembered.
    pub(super) fn of(&mut self, needs: &Needs, seats: &Seats) -> &Area {
        if self.0.len() >= AREAS_MAX && !self.0.contains_key(&needs.area) {
            self.0.clear();
        }
        self.0.entry(Arc::clone(&needs.area)).or_insert_with(|| Area::new(&needs.terrain, seats))
    }

    /// Looks at the node of a place again, if what areas depend on has changed.
    pub(super) fn note(&mut self, place: Place, old: Option<&Node>, new: Option<&Node>) {
        let is_same = |old: &Node, new: &Node| {
            old.description == new.description
                && old.spec.labels == new.spec.labels
                && (old.role, old.level) == (new.role, new.level)
                && old.addr.map(|it| it.ip()) == new.addr.map(|it| it.ip())
        };
        if !matches!((old, new), (Some(old), Some(new)) if is_same(old, new)) {
            self.0.values_mut().for_each(|area| area.set(place, new));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets areas that no needs name any more.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|name, _| Arc::strong_count(name) > 1);
    }
}
