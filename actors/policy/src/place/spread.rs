//! Spreading: distributes a group of like tasks over the nodes that may have them, best node first.
//!
//! There are two passes, because the common case must not look at every node. A node without any task of the service
//! ranks before all others, and among these the least loaded first. So the first pass walks the nodes by load and gives
//! each such node one task, until the group is placed. Only for remaining tasks, a heap of all nodes yields one node
//! after the other; the filters are asked when a node's turn comes, so that a single task does not cost a thousand
//! checks.
//!
//! Tasks that have waited already are offered only the nodes that have changed since (`waiting`), in the same way.

use super::board::Board;
use super::needs::{Group, Needs};
use super::seat::Seat;
use essaim_wire::{NodeId, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

/// Failures of a group within [`FAILURE_WINDOW`] from which a node is avoided, as in Swarm.
const FAILURES_TO_AVOID: u32 = 5;

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
        let of_service = self.of_service.get(&group.0);
        let is_new =
            |node: &NodeId| !failing.contains_key(node) && !of_service.is_some_and(|nodes| nodes.contains_key(node));
        let is_free = |node: &NodeId| needs.refused_by(&self.seats[node], 0).is_none();
        let mut chosen: Vec<NodeId> = Vec::new();
        if let Some(among) = among {
            let mut new: Vec<_> = among
                .iter()
                .filter(|node| is_new(node) && self.seats.contains_key(node) && is_free(node))
                .map(|node| (self.seats[node].load, *node))
                .collect();
            new.sort_unstable();
            chosen.extend(new.into_iter().map(|(_, node)| node).take(count));
        } else if of_service.map_or(0, |nodes| self.seated(nodes).count()) < self.seats.len() {
            // This pass is skipped for a service that has a task on every node.
            let new = self.by_load.iter().map(|(_, node)| *node).filter(is_new);
            chosen.extend(new.filter(is_free).take(count));
        }
        if chosen.len() < count {
            self.fill_up(needs, &failing, count, among, &mut chosen);
        }
        chosen
    }

    /// The second pass, over nodes that have tasks of the service already or are avoided for failures.
    fn fill_up(
        &mut self,
        needs: &Needs,
        failing: &BTreeMap<NodeId, u32>,
        count: usize,
        among: Option<&BTreeSet<NodeId>>,
        chosen: &mut Vec<NodeId>,
    ) {
        // Seats before this pass changed them, to be restored.
        let mut before = BTreeMap::new();
        let mut given: BTreeMap<NodeId, u32> = BTreeMap::new();
        for node in chosen.iter() {
            *given.entry(*node).or_default() += 1;
            let seat = self.seats.get_mut(node).expect("chosen from the seats");
            before.entry(*node).or_insert_with(|| seat.clone());
            seat.take(needs, true);
        }
        let extra = |given: &BTreeMap<NodeId, u32>, node: NodeId| given.get(&node).copied().unwrap_or_default();
        let failures = |node: NodeId| failing.get(&node).copied().unwrap_or_default();
        let place = |node: NodeId, seat: &Seat, count: u32| {
            let extra = extra(&given, node);
            Reverse((failures(node), count + extra, seat.load + extra, node))
        };
        let mut heap: BinaryHeap<_> = if let Some(among) = among {
            let seated = among.iter().filter_map(|node| Some((*node, self.seats.get(node)?)));
            seated.map(|(node, seat)| place(node, seat, self.count_of(needs.service, node))).collect()
        } else {
            let counts: Vec<(NodeId, u32)> = match self.of_service.get(&needs.service) {
                Some(nodes) => self.seated(nodes).collect(),
                None => Vec::new(),
            };
            let mut counts = counts.into_iter().peekable();
            let candidates = self.seats.iter().map(|(node, seat)| {
                let count = counts.next_if(|(of, _)| of == node).map_or(0, |(_, count)| count);
                place(*node, seat, count)
            });
            candidates.collect()
        };
        while chosen.len() < count {
            let Some(Reverse((failures, of_service, load, node))) = heap.pop() else { break };
            let seat = self.seats.get_mut(&node).expect("in the heap because it has a seat");
            if needs.refused_by(seat, of_service).is_some() {
                // Not put back into the heap: tasks placed in this pass only take room, so the node stays refused.
                continue;
            }
            chosen.push(node);
            before.entry(node).or_insert_with(|| seat.clone());
            seat.take(needs, true);
            heap.push(Reverse((failures, of_service + 1, load + 1, node)));
        }
        self.seats.extend(before);
    }

    /// Those of `nodes` that have a seat, in order: both maps are walked once.
    fn seated<'b>(&'b self, nodes: &'b BTreeMap<NodeId, u32>) -> impl Iterator<Item = (NodeId, u32)> + 'b {
        let mut seats = self.seats.keys().peekable();
        nodes.iter().filter_map(move |(node, count)| {
            while seats.next_if(|seat| *seat < node).is_some() {}
            seats.next_if(|seat| *seat == node).map(|_| (*node, *count))
        })
    }

    /// The nodes to avoid, with the number of the group's recent failures there.
    fn failing(&self, group: Group, now: Timestamp) -> BTreeMap<NodeId, u32> {
        let recent = |at: Timestamp| now.saturating_since(at) <= FAILURE_WINDOW;
        let nodes = self.failures.get(&group).into_iter().flatten();
        nodes
            .map(|(node, failures)| (*node, failures.iter().filter(|(at, _)| recent(*at)).count() as u32))
            .filter(|(_, failures)| *failures >= FAILURES_TO_AVOID)
            .collect()
    }
}
