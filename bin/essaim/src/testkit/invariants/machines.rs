//! Machines: what really runs on them, whatever the cluster's state says.
//!
//! - At most one task of a slot runs, with four exceptions: while a node of one of the tasks, or its engine, is, or was
//!   lately, in trouble (the task may run on there, unseen; but not a task with `essaim.on-disconnect=stop` whose daemon
//!   runs); while such a node is drained, since drain moves before it stops; in an update that starts the new task
//!   first; and while a slot of a service with `essaim.rebalance` moves.
//! - A task is started once, on one machine, and its engine is not asked for ever to start it. It is started again only
//!   when its container was removed before any manager knew of the start, and its daemon was down by then.
//! - A task whose end was reported does not run on, or again, for longer than a stop takes, while its daemon and its
//!   engine are well.
//! - Two running tasks of a machine have no named generic resource in common, and all of them no more counted ones than
//!   the machine has, whatever happened to the node or its engine.
//!
//! A container that somebody else than its worker starts counts for the second rule only: nobody can prevent its start.

use super::troubles::Troubles;
use crate::testkit::fault::Number;
use essaim_model::{
    Availability, Desired, ServiceId, ServiceSpec, Slot, State, Stock, Task, TaskId, TaskState, UpdateConfig,
    UpdateOrder,
};
use essaim_wire::{NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which a second task of a slot may live after the trouble or the drain that brought it: the return of its
/// node, an order, and a stop that takes its whole grace.
const SURPLUS_MAX: Duration = Duration::from_secs(30);

/// Time for which a task may run after the report of its end: a pause of its worker before the engine is asked again, a stop
/// that takes its whole grace, and a margin. The end is reported before that where the engine did not answer, or where
/// somebody else starts the container again.
const OUTLIVES_MAX: Duration = Duration::from_secs(25);

/// Times that an engine may be asked to start one task: five without an answer, and as many again after each of a few
/// restarts of the daemon.
const ATTEMPTS_MAX: u32 = 15;

/// Starts of tasks, drains and updates seen so far.
#[derive(Debug, Default)]
pub struct Machines {
    /// Machine and time of each task's start.
    started: BTreeMap<TaskId, (Number, Timestamp)>,
    /// When each node was last seen to take no tasks, or to run a task that its placement forbids: the replacement runs
    /// first.
    drained: BTreeMap<NodeId, Instant>,
    /// When each service was last seen to have updates that start the new task first, or to be rebalanced.
    doubling: BTreeMap<ServiceId, Instant>,
    /// When the engine of each node was last silent, so that its tasks were given up and may run on.
    silent: BTreeMap<Number, Instant>,
    /// Running tasks whose containers were started by somebody else than their workers.
    revived: BTreeSet<TaskId>,
    /// Since when each task runs on although its end was reported.
    outlives: BTreeMap<TaskId, Instant>,
}

impl Machines {
    /// Notes the nodes whose engines are silent at the moment.
    pub(crate) fn on_silence(&mut self, nodes: &[Number]) {
        self.silent.extend(nodes.iter().map(|number| (*number, Instant::now())));
    }

    /// Handles that somebody has removed the container of a task. Where no daemon ran and no manager knew that the task had
    /// been started, nobody can know it any more: the next daemon starts the task, as if for the first time.
    pub(crate) fn on_forgotten(&mut self, task: TaskId, daemon_runs: bool, state: &State) {
        let is_known = state.task(task).is_none_or(|task| task.observed.state >= TaskState::Starting);
        if !daemon_runs && !is_known {
            self.started.remove(&task);
        }
    }

    /// Notes the tasks that run at the moment because somebody else than their workers started them.
    pub(crate) fn on_revived(&mut self, tasks: &BTreeSet<TaskId>) {
        self.revived.clone_from(tasks);
    }

    /// Checks how often engines were asked to start each task.
    pub(crate) fn on_attempts(&self, attempts: &BTreeMap<Number, BTreeMap<TaskId, u32>>) -> Vec<String> {
        let all =
            attempts.iter().flat_map(|(number, tasks)| tasks.iter().map(move |(task, count)| (number, task, count)));
        let many = all.filter(|(_, _, count)| **count > ATTEMPTS_MAX);
        many.map(|(number, task, count)| format!("n{number} has asked its engine {count} times to start task {task}"))
            .collect()
    }

    /// Checks all machines at one moment, each with the tasks that run on it and since when, against the managers'
    /// state.
    pub fn look(
        &mut self,
        machines: impl Iterator<Item = (Number, Vec<(TaskId, Timestamp)>)>,
        state: &State,
        numbers: &BTreeMap<NodeId, Number>,
        troubles: &Troubles,
    ) -> Vec<String> {
        for node in state.nodes().filter(|node| node.spec.availability != Availability::Active) {
            self.drained.insert(node.id, Instant::now());
        }
        for service in state.services() {
            if doubles(&service.spec) {
                self.doubling.insert(service.id, Instant::now());
            }
        }
        let mut wrong = Vec::new();
        let mut slots: BTreeMap<(ServiceId, Slot), Vec<(TaskId, NodeId)>> = BTreeMap::new();
        let mut outlives = BTreeMap::new();
        for (number, mut running) in machines {
            let is_well = !self.was_silent(number, OUTLIVES_MAX) && troubles.is_attended(number, OUTLIVES_MAX);
            for (id, _) in
                running.iter().filter(|(id, _)| state.task(*id).is_some_and(|it| it.observed.state.is_final()))
            {
                let since = self.outlives.get(id).copied().unwrap_or_else(Instant::now);
                outlives.insert(*id, since);
                if is_well && since.elapsed() >= OUTLIVES_MAX {
                    wrong.push(format!("task {id} has ended, and its container runs on n{number}"));
                }
            }
            running.retain(|(id, _)| !self.revived.contains(id));
            wrong.extend(overbooked(state, &running).map(|what| format!("on n{number} {what}")));
            for (id, since) in running {
                let first = *self.started.entry(id).or_insert((number, since));
                if first != (number, since) {
                    wrong.push(format!("task {id} was started on n{} and again on n{number}", first.0));
                }
                let Some(task) = state.task(id) else { continue };
                if let Some(node) = task.node() {
                    slots.entry((task.service, task.slot)).or_default().push((id, node));
                }
            }
        }
        self.outlives = outlives;
        for ((service, _), tasks) in slots.iter().filter(|(_, tasks)| tasks.len() > 1) {
            let Some(placement) = state.service(*service).map(|service| service.spec.task.placement()) else {
                continue;
            };
            for (_, node) in tasks {
                if state.node(*node).is_some_and(|node| !placement.allows(node)) {
                    self.drained.insert(*node, Instant::now());
                }
            }
        }
        let is_drained = |node: NodeId| self.drained.get(&node).is_some_and(|at| at.elapsed() < SURPLUS_MAX);
        let number = |node: NodeId| numbers.get(&node).copied();
        let is_away =
            |node| number(node).is_none_or(|it| self.was_silent(it, SURPLUS_MAX) || !troubles.is_calm(it, SURPLUS_MAX));
        let is_unattended = |node| {
            number(node).is_none_or(|it| self.was_silent(it, SURPLUS_MAX) || !troubles.is_attended(it, SURPLUS_MAX))
        };
        for ((service, slot), tasks) in slots.into_iter().filter(|(_, tasks)| tasks.len() > 1) {
            let Some(service) = state.service(service) else { continue };
            let spec_of = |id: &TaskId| {
                let task = state.task(*id)?;
                state.spec(task.service, task.spec_version)
            };
            // The spec that the newer task follows may have been in force for a moment only, between two looks.
            let newest = tasks.iter().filter_map(|(id, _)| state.task(*id)).max_by_key(|task| task.meta.created_at);
            let may_double = newest.and_then(|task| spec_of(&task.id)).is_some_and(|spec| doubles(spec))
                || self.doubling.get(&service.id).is_some_and(|at| at.elapsed() < SURPLUS_MAX);
            let leased = |id: &TaskId| spec_of(id).is_some_and(|spec| spec.stops_on_disconnect());
            let may_run_on = |(id, node): &(TaskId, NodeId)| {
                if leased(id) { is_drained(*node) || is_unattended(*node) } else { is_drained(*node) || is_away(*node) }
            };
            if may_double || tasks.iter().any(may_run_on) {
                continue;
            }
            let what = |id: &TaskId| state.task(*id).map_or(Desired::Remove, |task| task.desired);
            let list: Vec<String> = tasks.iter().map(|(id, _)| format!("{id} ({:?})", what(id))).collect();
            wrong.push(format!("slot {slot} of {} has two running tasks: {}", service.spec.name, list.join(", ")));
        }
        wrong
    }

    /// Whether the engine of a node was silent at any moment of this time.
    fn was_silent(&self, number: Number, time: Duration) -> bool {
        self.silent.get(&number).is_some_and(|at| at.elapsed() < time)
    }
}

/// Whether a slot of a service with this spec may have two running tasks: its updates or rollbacks start the new one first, or
/// its slots move.
fn doubles(spec: &ServiceSpec) -> bool {
    let starts_first = |it: &Option<UpdateConfig>| it.as_ref().is_some_and(|it| it.order == UpdateOrder::StartFirst);
    starts_first(&spec.update) || starts_first(&spec.rollback) || spec.rebalance_pause().is_some()
}

/// The kinds of generic resources of which the running tasks of one machine hold too many.
fn overbooked(state: &State, running: &[(TaskId, Timestamp)]) -> impl Iterator<Item = String> {
    let tasks: Vec<_> = running.iter().filter_map(|(id, _)| state.task(*id)).collect();
    let node = tasks.first().and_then(|task| state.node(task.node()?));
    let stock = node.and_then(|node| Some(node.description.as_ref()?.generic.clone())).unwrap_or_default();
    let held: Vec<(String, Stock)> =
        tasks.iter().flat_map(|task| task.generic.iter().map(|(kind, held)| (kind.clone(), held.clone()))).collect();
    let is_too_much = move |(kind, had): &(String, Stock)| match had {
        Stock::Counted(count) => {
            held.iter().filter(|(other, _)| other == kind).map(|(_, held)| held.count()).sum::<u64>() > *count
        }
        Stock::Named(_) => {
            let names = held.iter().filter_map(|(other, held)| match held {
                Stock::Named(names) if other == kind => Some(names),
                _ => None,
            });
            let mut seen = BTreeSet::new();
            !names.flatten().all(|name| seen.insert(name.clone()))
        }
    };
    let all: Vec<(String, Stock)> = stock.iter().map(|(kind, had)| (kind.clone(), had.clone())).collect();
    let describe = move |kind: &str| {
        let holders = tasks.iter().filter(|task| task.generic.get(kind).is_some());
        let word = |task: &&Arc<Task>| {
            let (id, slot, desired, observed) = (task.id, task.slot, task.desired, task.observed.state.as_str());
            let off = if task.written_off.is_some() { ", written off" } else { "" };
            format!("{id} in slot {slot} of {} ({desired:?}, {observed}{off})", task.service)
        };
        holders.map(word).collect::<Vec<_>>().join(", ")
    };
    let too_much = all.into_iter().filter(is_too_much);
    too_much.map(move |(kind, _)| format!("running tasks hold more {kind} than there is: {}", describe(&kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{HOUR, SERVICE, apply, task, world};
    use essaim_model::fixtures::service;
    use essaim_model::{Change, GenericStock};

    /// A state with a service, and two tasks of its first slot on node 2.
    fn state() -> State {
        world(service("web", 1), &[7, 8].map(|number| task(number, TaskState::New)))
    }

    fn running(number: Number, tasks: &[(u128, u64)]) -> (Number, Vec<(TaskId, Timestamp)>) {
        let task = |(id, since): &(u128, u64)| (TaskId::from_bits(*id), Timestamp::from_micros(*since));
        (number, tasks.iter().map(task).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn two_of_a_slot_are_seen_unless_a_node_was_in_trouble() {
        let numbers = BTreeMap::from([(NodeId::from_bits(2), 1)]);
        let (mut machines, mut troubles, state) = (Machines::default(), Troubles::default(), state());
        let mut look =
            |troubles: &Troubles, tasks| machines.look([running(1, tasks)].into_iter(), &state, &numbers, troubles);
        assert_eq!(look(&troubles, &[(7, 1)]), [""; 0]);
        let wrong = look(&troubles, &[(7, 1), (8, 2)]);
        assert!(wrong.len() == 1 && wrong[0].contains("slot 1 of web has two running tasks"), "{wrong:?}");
        troubles.set(1, true);
        assert_eq!(look(&troubles, &[(7, 1), (8, 2)]), [""; 0]);
    }

    /// An update that starts the new task first, and the next one, which does not, a moment later: no look saw the first one
    /// in force.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_a_passing_spec_started_first_may_run_beside_the_older_one() {
        let numbers = BTreeMap::from([(NodeId::from_bits(2), 1)]);
        let (mut machines, troubles) = (Machines::default(), Troubles::default());
        let state = world(service("web", 1), &[task(7, TaskState::New)]);
        let update = |state: &mut State, order| {
            let found = state.service(SERVICE).expect("it is there");
            let (expect, mut spec) = (found.meta.version, found.spec.clone());
            spec.task.force_update += 1;
            spec.update = Some(UpdateConfig { order, ..UpdateConfig::default() });
            apply(state, HOUR, vec![Change::UpdateService { id: SERVICE, expect, spec: Some(Box::new(spec)) }]);
            state.service(SERVICE).expect("it is there").spec_version
        };
        for (order, count) in [(UpdateOrder::StartFirst, 0), (UpdateOrder::StopFirst, 1)] {
            let mut state = state.clone();
            let spec_version = update(&mut state, order);
            let new = Task { spec_version, ..task(8, TaskState::New) };
            apply(&mut state, HOUR, vec![Change::CreateTask(Box::new(new))]);
            update(&mut state, UpdateOrder::StopFirst);
            let wrong = machines.look([running(1, &[(7, 1), (8, 2)])].into_iter(), &state, &numbers, &troubles);
            assert_eq!(wrong.len(), count, "{order:?}: {wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_tried_for_ever_is_seen_and_silence_of_an_engine_excuses_a_second_task() {
        let numbers = BTreeMap::from([(NodeId::from_bits(2), 1)]);
        let (mut machines, troubles, state) = (Machines::default(), Troubles::default(), state());
        let attempts = |count| BTreeMap::from([(1, BTreeMap::from([(TaskId::from_bits(7), count)]))]);
        assert_eq!(machines.on_attempts(&attempts(ATTEMPTS_MAX)), [""; 0]);
        let wrong = machines.on_attempts(&attempts(ATTEMPTS_MAX + 1));
        assert!(wrong.len() == 1 && wrong[0].contains("16 times to start"), "{wrong:?}");
        let both = [(7, 1), (8, 2)];
        assert_eq!(machines.look([running(1, &both)].into_iter(), &state, &numbers, &troubles).len(), 1);
        machines.on_silence(&[1]);
        assert_eq!(machines.look([running(1, &both)].into_iter(), &state, &numbers, &troubles), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_task_that_runs_on_is_seen_once_its_engine_and_its_daemon_have_been_well_for_long_enough() {
        let numbers = BTreeMap::from([(NodeId::from_bits(2), 1)]);
        let (mut machines, mut troubles) = (Machines::default(), Troubles::default());
        let state = world(service("web", 1), &[task(7, TaskState::Failed)]);
        let look = |machines: &mut Machines, troubles: &Troubles, since| {
            machines.look([running(1, &[(7, since)])].into_iter(), &state, &numbers, troubles)
        };
        machines.on_silence(&[1]);
        assert_eq!(look(&mut machines, &troubles, 1), [""; 0]);
        // Its container was started again, which is no second start by its worker.
        machines.on_revived(&BTreeSet::from([TaskId::from_bits(7)]));
        assert_eq!(look(&mut machines, &troubles, 2), [""; 0]);
        tokio::time::sleep(OUTLIVES_MAX).await;
        let wrong = look(&mut machines, &troubles, 2);
        assert!(wrong.len() == 1 && wrong[0].contains("has ended, and its container runs on n1"), "{wrong:?}");
        troubles.set_unattended(1, true);
        assert_eq!(look(&mut machines, &troubles, 2), [""; 0]);
        troubles.set_unattended(1, false);
        tokio::time::sleep(OUTLIVES_MAX).await;
        assert_eq!(look(&mut machines, &troubles, 2).len(), 1);
        machines.on_silence(&[1]);
        assert_eq!(look(&mut machines, &troubles, 2), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_hold_the_same_named_resource_or_too_many_counted_ones_are_seen() {
        let stock = |terms: &str| GenericStock::parse([terms]).expect("generic resources");
        let check = |held: [&str; 2], words: &str| {
            let tasks = [(7, 1), (8, 2)].map(|(number, slot)| Task {
                slot: Slot::Number(slot),
                generic: stock(held[number as usize - 7]),
                ..task(number, TaskState::Running)
            });
            let mut state = world(service("web", 2), &tasks);
            let node = state.node(NodeId::from_bits(2)).expect("it is there");
            let mut description = node.description.clone().expect("it has one");
            description.generic = stock("gpu=a,gpu=b,ssd=3");
            let change = Change::DescribeNode {
                id: node.id,
                generation: node.generation,
                addr: "127.0.0.1:2377".parse().expect("an address"),
                level: node.level,
                description: Some(description),
            };
            apply(&mut state, Timestamp::from_micros(20), vec![change]);
            let wrong: Vec<_> = overbooked(&state, &running(1, &[(7, 1), (8, 1)]).1).collect();
            assert_eq!(wrong.len(), usize::from(!words.is_empty()), "{wrong:?}");
            assert!(wrong.iter().all(|why| why.contains(words)), "{wrong:?}");
        };
        check(["gpu=a", "gpu=b"], "");
        check(["gpu=a", "gpu=a,gpu=b"], "more gpu than there is");
        check(["ssd=1", "ssd=2"], "");
        check(["ssd=2", "ssd=2"], "more ssd than there is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_nobody_can_know_of_any_more_is_no_first_start() {
        let (numbers, troubles) = (BTreeMap::from([(NodeId::from_bits(2), 1)]), Troubles::default());
        let again = |daemon_runs, known| {
            let (mut machines, state) = (Machines::default(), world(service("web", 1), &[task(7, known)]));
            let look = |machines: &mut Machines, since| {
                machines.look([running(1, &[(7, since)])].into_iter(), &state, &numbers, &troubles).len()
            };
            assert_eq!(look(&mut machines, 1), 0);
            machines.on_forgotten(TaskId::from_bits(7), daemon_runs, &state);
            look(&mut machines, 5)
        };
        assert_eq!(again(false, TaskState::Preparing), 0);
        assert_eq!(again(false, TaskState::Starting), 1, "the managers know that it was started");
        assert_eq!(again(true, TaskState::Preparing), 1, "the daemon knows that it was started");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_started_again_or_elsewhere_is_seen() {
        let (mut machines, troubles) = (Machines::default(), Troubles::default());
        let mut look = |all: Vec<(Number, Vec<(TaskId, Timestamp)>)>| {
            machines.look(all.into_iter(), &State::default(), &BTreeMap::new(), &troubles).len()
        };
        assert_eq!(look(vec![running(1, &[(7, 1)])]), 0);
        assert_eq!(look(vec![running(1, &[])]), 0);
        assert_eq!(look(vec![running(1, &[(7, 5)])]), 1);
        assert_eq!(look(vec![running(2, &[(7, 1)])]), 1);
    }
}
