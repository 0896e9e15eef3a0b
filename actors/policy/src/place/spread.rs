//! Spreading: distributes a group of like tasks over the nodes that may have them, best node first.
//!
//! The rule, for one task after the other: with spread preferences, the task goes to the branch of the first label with
//! the fewest tasks of the service, there to the branch of the second label with the fewest, and so on. A branch
//! without any node that may have the task is passed over, and so are the nodes without a label while any other branch
//! has room. Swarm treats the nodes without a label as a branch like the others, which gives them too many tasks
//! (moby 35433). Within the last branch, the task goes to the node with the fewest failures of this spec if there were
//! five of them lately, then with the fewest tasks of its service, then with the fewest tasks in total, then with the
//! smaller id.
//!
//! Which nodes suit by their records comes from [`area`](super::area). The nodes of a branch become a heap when the
//! first task reaches the branch; after that each task costs one step of the heap. Whether a node has room is asked
//! when its turn comes. A node that has none is left out from then on, because tasks of this group only take room.
//!
//! Tasks that have waited already are offered only the nodes that have changed since (`waiting`), in the same way.

use super::area::Area;
use super::board::Board;
use super::needs::{Group, Needs};
use super::seat::{Place, Seats, Standing};
use essaim_wire::{NodeId, Timestamp};
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

/// Failures of a group within [`FAILURE_WINDOW`] from which a node is avoided, as in Swarm.
pub(super) const FAILURES_TO_AVOID: u32 = 5;

/// Time for which a failure counts against a node.
const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);

impl Board {
    /// The nodes for `count` tasks of a group, best first; fewer when the nodes do not suffice. With `among`, only
    /// those nodes are considered. The board is unchanged when this returns.
    pub(super) fn spread(
        &mut self,
        group: Group,
        needs: &Needs,
        now: Timestamp,
        count: usize,
        among: Option<&BTreeSet<NodeId>>,
    ) -> Vec<NodeId> {
        if count == 0 {
            return Vec::new();
        }
        let failing = self.failing(group, now);
        self.seats.rank();
        let area = self.areas.of(needs, &self.seats);
        let nodes = among.map(|among| sort_by_leaf(area, &self.seats, among));
        let mut of_leaf = vec![0; area.leaves.len()];
        let counts = self.of_service.get(&group.0);
        if counts.is_some() {
            self.tally.resize(self.seats.bound(), 0);
        }
        for (&place, &tasks) in counts.into_iter().flatten() {
            self.tally[place as usize] = tasks;
            if let Some(leaf) = area.spot(place).leaf {
                of_leaf[leaf as usize] += u64::from(tasks);
            }
        }
        let mut tree = Tree { nodes: Vec::new(), failing: &failing, counts: counts.map(|_| self.tally.as_slice()) };
        let source = |leaf: u32| match &nodes {
            None => area.leaves[leaf as usize].as_slice(),
            Some(nodes) => nodes.get(&leaf).map_or(&[][..], Vec::as_slice),
        };
        let paths: Vec<_> = area.paths.iter().map(|(path, leaf)| (path.as_slice(), *leaf)).collect();
        let root = tree.grow(&paths, 0, &of_leaf, &source);
        let mut chosen: Vec<Place> = Vec::with_capacity(count.min(self.seats.bound()));
        while chosen.len() < count {
            let Some(place) = tree.take(root, needs, &mut self.seats) else { break };
            chosen.push(place);
        }
        for place in &chosen {
            self.seats.at_mut(*place).take(needs, None, false);
        }
        for place in self.of_service.get(&group.0).into_iter().flat_map(BTreeMap::keys) {
            self.tally[*place as usize] = 0;
        }
        chosen.into_iter().map(|place| self.seats.at(place).id).collect()
    }

    /// The nodes to avoid, with the number of the group's recent failures there.
    pub(super) fn failing(&self, group: Group, now: Timestamp) -> BTreeMap<Place, u32> {
        let recent = |at: Timestamp| now.saturating_since(at) <= FAILURE_WINDOW;
        let nodes = self.failures.get(&group).into_iter().flatten();
        nodes
            .map(|(place, failures)| (*place, failures.iter().filter(|(at, _)| recent(*at)).count() as u32))
            .filter(|(_, failures)| *failures >= FAILURES_TO_AVOID)
            .collect()
    }
}

/// Those of these nodes that suit, by leaf.
fn sort_by_leaf(area: &Area, seats: &Seats, among: &BTreeSet<NodeId>) -> BTreeMap<u32, Vec<Place>> {
    let mut nodes: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    for place in among.iter().filter_map(|id| seats.place_of(*id)) {
        let spot = area.spot(place);
        if let (true, Some(leaf)) = (spot.suits, spot.leaf) {
            nodes.entry(leaf).or_default().push(place);
        }
    }
    nodes
}

/// The branches of one batch, with the counts as they become.
struct Tree<'a> {
    nodes: Vec<TreeNode<'a>>,
    failing: &'a BTreeMap<Place, u32>,
    /// Tasks of the service by place; `None` when it has none.
    counts: Option<&'a [u32]>,
}

enum TreeNode<'a> {
    /// Branches with their number of tasks, best first: nodes with the label, fewest tasks, order of the values.
    Branches(BinaryHeap<Reverse<(bool, u64, u32)>>),
    /// Nodes of a last branch that no task has reached yet.
    Leaf(&'a [Place]),
    /// Nodes of a last branch, best first; see [`key`].
    Heap(BinaryHeap<Reverse<u128>>),
}

/// What a node is chosen by, most important first: failures, tasks of the service, standing.
const fn key(failures: u32, of_service: u32, standing: Standing) -> u128 {
    (failures as u128) << 96 | (of_service as u128) << 64 | standing.0 as u128
}

/// One more task of the service on the node of a key.
const ONE_MORE: u128 = 1 << 64 | Standing::ONE_MORE as u128;

impl<'a> Tree<'a> {
    /// Adds the branches below a common path of this length, whose paths these are in order. Returns their number.
    fn grow<'n>(
        &mut self,
        paths: &[(&[super::area::Branch], u32)],
        depth: usize,
        of_leaf: &[u64],
        nodes: &impl Fn(u32) -> &'a [Place],
    ) -> u32 {
        let me = self.nodes.len();
        match paths {
            [] => self.nodes.push(TreeNode::Leaf(&[])),
            [(path, leaf)] if path.len() == depth => self.nodes.push(TreeNode::Leaf(nodes(*leaf))),
            _ => {
                self.nodes.push(TreeNode::Leaf(&[]));
                let mut branches = Vec::new();
                for branch in paths.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]) {
                    let tasks = branch.iter().map(|(_, leaf)| of_leaf[*leaf as usize]).sum();
                    let is_missing = branch[0].0[depth] == super::area::Branch::Missing;
                    // Numbers grow with the order of the values, so they break ties.
                    let number = self.grow(branch, depth + 1, of_leaf, nodes);
                    branches.push(Reverse((is_missing, tasks, number)));
                }
                self.nodes[me] = TreeNode::Branches(branches.into());
            }
        }
        me as u32
    }

    /// The best node of a branch that has room for one more such task, which it then takes up.
    fn take(&mut self, number: u32, needs: &Needs, seats: &mut Seats) -> Option<Place> {
        if let TreeNode::Leaf(places) = &self.nodes[number as usize] {
            let standings = seats.standings();
            let key_of = |place: &Place| {
                let failures =
                    if self.failing.is_empty() { 0 } else { self.failing.get(place).copied().unwrap_or_default() };
                let at = *place as usize;
                Reverse(key(failures, self.counts.map_or(0, |counts| counts[at]), standings[at]))
            };
            self.nodes[number as usize] = TreeNode::Heap(places.iter().map(key_of).collect::<Vec<_>>().into());
        }
        loop {
            match &mut self.nodes[number as usize] {
                TreeNode::Branches(branches) => {
                    let Reverse((is_missing, tasks, branch)) = *branches.peek()?;
                    let taken = self.take(branch, needs, seats);
                    let TreeNode::Branches(branches) = &mut self.nodes[number as usize] else { return None };
                    let mut best = branches.peek_mut()?;
                    if taken.is_some() {
                        *best = Reverse((is_missing, tasks + 1, branch));
                        return taken;
                    }
                    PeekMut::pop(best);
                }
                TreeNode::Heap(heap) => {
                    let mut best = heap.peek_mut()?;
                    let Reverse(key) = *best;
                    let place = seats.of_rank(key as u32);
                    let seat = seats.at_mut(place);
                    if needs.lacks_room(seat, (key >> 64) as u32).is_none() {
                        seat.take(needs, None, true);
                        *best = Reverse(key + ONE_MORE);
                        return Some(place);
                    }
                    PeekMut::pop(best);
                }
                TreeNode::Leaf(_) => return None,
            }
        }
    }
}
