//! Returns: a dead node is never recorded as reachable again, and no running replacement of its tasks gives way to them.
//!
//! A node whose daemon does not run says nothing and opens no link. Once it is recorded as unreachable or down, only a
//! return ends that, and a return takes a later incarnation or a new link. A leader may learn late what the node said
//! before its death; then the roster of a manager shows the node as living, for a moment at least. So the check is that
//! no manager has shown the node as living for [`HEARD_LATELY`], and that its daemon has been dead for as long. Rosters
//! of managers that are cut off do not count: such a manager takes nobody for lost.
//!
//! Both are read from the log, because a node may be recorded as reachable for a few milliseconds only. Entries of
//! earlier terms are left out: they may be seen long after they were decided.

use super::Snapshot;
use crate::testkit::fault::Number;
use essaim_membership::MemberState;
use essaim_model::{Availability, Desired, Event, Proposal, State, Task, TaskId};
use essaim_wire::{NodeId, Reachability, Term, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Time within which a leader may act on the last word of a node that has died: until its commit, also with a slow disk.
const HEARD_LATELY: Duration = Duration::from_secs(2);

/// Time after a change of its service within which a task may be stopped because of the change.
const CHANGE_FELT: Duration = Duration::from_secs(5);

/// What an entry of the log takes for granted: that this node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    node: NodeId,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The node was recorded as lost, and is recorded as reachable.
    Returned,
    /// This running task gives way to an older task of its slot, on the node.
    Replaces(TaskId),
}

/// What the events of one entry take for granted.
pub(super) fn trust(before: &State, after: &State, events: &[Event], proposal: &Proposal) -> Vec<Trust> {
    let of = |event: &Event| match event {
        Event::Node { old: Some(old), new: Some(new) } => {
            let was_lost = is_lost(old.reachability) && new.reachability == Reachability::Reachable;
            was_lost.then_some(Trust { node: new.id, why: Why::Returned })
        }
        Event::Task { old: Some(old), new: Some(new) } => {
            let node = gives_way(before, after, old, new, proposal.at)?;
            Some(Trust { node, why: Why::Replaces(old.id) })
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// The node of the older task in whose favour a running task is stopped as surplus. None if there may be another reason:
/// an operator changed the service lately, or the node of the task may not keep it.
fn gives_way(before: &State, after: &State, old: &Task, new: &Task, now: Timestamp) -> Option<NodeId> {
    let stops = old.desired == Desired::Running && new.desired == Desired::Shutdown && old.is_running();
    let home = before.node(old.node()?)?;
    let stays_put = home.spec.availability == Availability::Active && home.reachability == Reachability::Reachable;
    let service = before.service(old.service)?;
    let updates = service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
    let changed = updates || service.meta.updated_at + CHANGE_FELT > now || service.spec.rebalance_pause().is_some();
    let placement = service.spec.task.placement();
    let may_stay = stays_put && placement.allows(home) && placement.replicas_max_per_node == 0;
    if !stops || new.written_off.is_some() || changed || !may_stay || service.spec.replicas().is_none() {
        return None;
    }
    let rivals = after.tasks_in(old.service, old.slot).filter(|other| other.id != old.id && other.is_wanted());
    // A newer task replaces this one on purpose.
    let older = |other: &&std::sync::Arc<Task>| {
        other.is_running() && other.spec_version == old.spec_version && other.meta.created_at < old.meta.created_at
    };
    rivals.filter(older).find_map(|other| other.node())
}

const fn is_lost(recorded: Reachability) -> bool {
    matches!(recorded, Reachability::Unreachable | Reachability::Down)
}

/// The nodes whose daemon does not run, and when managers showed nodes as living.
#[derive(Debug, Default)]
pub struct Returns {
    dead: BTreeMap<NodeId, Death>,
    shown: BTreeMap<NodeId, Instant>,
}

/// A daemon that does not run.
#[derive(Debug)]
struct Death {
    since: Instant,
    /// Whether the node was recorded as unreachable or down since.
    lost: bool,
}

impl Returns {
    /// Checks what the entries since the last look take for granted, and returns what is wrong.
    pub fn look(
        &mut self,
        seen: &Snapshot,
        state: &State,
        numbers: &BTreeMap<NodeId, Number>,
        trusts: Vec<(Term, Trust)>,
    ) -> Vec<String> {
        let mut terms = BTreeSet::new();
        for handle in seen.running.values() {
            let standing = handle.standing();
            let Some(part) = standing.membership() else { continue };
            let Some(control) = &part.control else { continue };
            terms.extend(control.store().leadership().borrow().active());
            let roster = part.roster.current();
            if !roster.isolated {
                let living = roster.members.values().filter(|view| lives(&view.state));
                living.for_each(|view| self.shows(view.member.node));
            }
        }
        let is_current = |(term, trust): (Term, Trust)| terms.contains(&term).then_some(trust);
        let trusts: Vec<Trust> = trusts.into_iter().filter_map(is_current).collect();
        let mut wrong = Vec::new();
        for node in state.nodes() {
            let Some(number) = numbers.get(&node.id).copied() else { continue };
            let of_it = trusts.iter().filter(|trust| trust.node == node.id);
            let complaints = of_it.filter_map(|trust| self.judge(number, *trust));
            wrong.extend(complaints);
            self.record(node.id, seen.running.contains_key(&number), node.reachability);
        }
        wrong
    }

    /// A manager shows a node as living.
    fn shows(&mut self, node: NodeId) {
        self.shown.insert(node, Instant::now());
    }

    /// Notes whether a node's daemon runs, and what is recorded of the node.
    fn record(&mut self, node: NodeId, runs: bool, recorded: Reachability) {
        if runs {
            self.dead.remove(&node);
            return;
        }
        let death = self.dead.entry(node).or_insert_with(|| Death { since: Instant::now(), lost: false });
        death.lost |= is_lost(recorded);
    }

    fn judge(&self, number: Number, trust: Trust) -> Option<String> {
        let death = self.dead.get(&trust.node).filter(|death| death.lost)?;
        let is_over = |at: &Instant| at.elapsed() >= HEARD_LATELY;
        let silent = is_over(&death.since) && self.shown.get(&trust.node).is_none_or(is_over);
        let what = match trust.why {
            Why::Returned => "is recorded as reachable again".to_owned(),
            Why::Replaces(task) => format!("running task {task} is stopped in favour of one there"),
        };
        let dead = death.since.elapsed().as_secs_f64();
        silent.then(|| format!("n{number} has been dead for {dead:.1} s and was recorded as lost, and {what}"))
    }
}

/// Whether a roster shows the member as living.
const fn lives(state: &MemberState) -> bool {
    matches!(state, MemberState::Alive | MemberState::Suspected | MemberState::Restarting { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{HOUR, apply, task, world};
    use essaim_model::fixtures::service;
    use essaim_model::{Assigned, Change, TaskState};
    use essaim_wire::Generation;
    use tokio::time::sleep;

    const NODE: NodeId = NodeId::from_bits(2);
    const RETURNED: Trust = Trust { node: NODE, why: Why::Returned };

    #[tokio::test(start_paused = true)]
    async fn a_dead_node_that_is_recorded_as_reachable_again_is_seen() {
        let mut returns = Returns::default();
        returns.shows(NODE);
        returns.record(NODE, false, Reachability::Reachable);
        sleep(HEARD_LATELY).await;
        assert_eq!(returns.judge(2, RETURNED), None, "it was recorded as lost before its death");
        returns.record(NODE, false, Reachability::Down);
        let wrong = returns.judge(2, RETURNED).expect("seen");
        assert!(wrong.contains("n2 has been dead for 2.0 s") && wrong.contains("reachable again"), "{wrong}");
        returns.record(NODE, true, Reachability::Down);
        assert_eq!(returns.judge(2, RETURNED), None, "it runs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_last_word_was_heard_late_may_be_recorded_as_reachable() {
        let mut returns = Returns::default();
        returns.record(NODE, false, Reachability::Unreachable);
        sleep(HEARD_LATELY).await;
        returns.shows(NODE);
        assert_eq!(returns.judge(2, RETURNED), None);
    }

    #[test]
    fn the_return_of_a_lost_node_trusts_the_node() {
        let mut state = world(service("web", 1), &[]);
        let mut reach = |reachability| {
            let before = state.clone();
            let (id, generation) = (NODE, before.node(NODE).map_or(Generation(1), |node| node.generation));
            let change = Change::SetReachability { id, generation, reachability, message: String::new() };
            let (events, proposal) = apply(&mut state, HOUR, vec![change]);
            trust(&before, &state, &events, &proposal)
        };
        assert_eq!(reach(Reachability::Down), []);
        assert_eq!(reach(Reachability::Reachable), [RETURNED]);
    }

    #[test]
    fn a_replacement_that_gives_way_to_an_older_task_trusts_the_node_of_that_one() {
        let here = |number| Task { assigned: Assigned::Node(NodeId::from_bits(1)), ..task(number, TaskState::Running) };
        let stop = |number: u64| {
            let mut state = world(service("web", 1), &[task(7, TaskState::Running), here(8)]);
            let reach = |id, generation| Change::SetReachability {
                id,
                generation,
                reachability: Reachability::Reachable,
                message: String::new(),
            };
            let generations: Vec<_> = state.nodes().map(|node| (node.id, node.generation)).collect();
            apply(&mut state, HOUR, generations.into_iter().map(|(id, generation)| reach(id, generation)).collect());
            let before = state.clone();
            let id = TaskId::from_bits(number.into());
            let stop = Change::SetDesired { id, desired: Desired::Shutdown };
            let (events, proposal) = apply(&mut state, HOUR, vec![stop]);
            trust(&before, &state, &events, &proposal)
        };
        assert_eq!(stop(8), [Trust { node: NODE, why: Why::Replaces(TaskId::from_bits(8)) }]);
        assert_eq!(stop(7), [], "the other is newer");
    }
}
