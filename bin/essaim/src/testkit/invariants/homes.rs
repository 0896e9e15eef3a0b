//! Homes: a slot of a service with `essaim.sticky` that has run on a node gets its next task there, and on no other node
//! while that node belongs to the cluster and the time that the service sets has not passed. Otherwise a database would
//! start on an empty volume, and take writes that are lost when its own node is back.
//!
//! The log is followed change by change. A slot's home is the node on which a task of it that keeps data was last reported
//! running for the first time. Programs of the first level record no homes, so a slot whose tasks have all been forgotten
//! when the level rises begins anew.

use essaim_model::service::Sticky;
use essaim_model::{Event, Proposal, ServiceId, Slot, State, Task};
use essaim_wire::{Level, NodeId, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Age up to which a leader may decide on an outdated state; as for the course of a task.
const SETTLED: Duration = Duration::from_millis(500);

/// The level from which managers record where the data of slots is.
const RECORDED_FROM: Level = Level(2);

/// The node on which each slot's data is, and since when that is recorded.
#[derive(Debug, Default)]
pub struct Homes {
    homes: BTreeMap<(ServiceId, Slot), (NodeId, Timestamp)>,
}

impl Homes {
    /// Returns what is wrong with the nodes that tasks are given in the step from one state to the next.
    pub(crate) fn judge(
        &mut self,
        before: &State,
        after: &State,
        events: &[Event],
        proposal: &Proposal,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for event in events {
            match event {
                Event::Task { old, new: Some(new) } => {
                    let had_node = old.as_ref().is_some_and(|old| old.node().is_some());
                    if !had_node && proposal.fence.is_some() {
                        wrong.extend(self.misplaced(before, after, new, proposal.at));
                    }
                    self.learn(after, old.as_deref(), new, proposal.at);
                }
                Event::Service { old: Some(old), new: None } => self.homes.retain(|(id, _), _| *id != old.id),
                Event::Node { old: Some(old), new: None } => self.homes.retain(|_, (node, _)| *node != old.id),
                _ => (),
            }
        }
        if before.level() < RECORDED_FROM && after.level() >= RECORDED_FROM {
            let has_run = |task: &Task, node| task.node() == Some(node) && task.began_at.is_some();
            self.homes.retain(|(id, slot), (node, _)| after.tasks_in(*id, *slot).any(|task| has_run(task, *node)));
        }
        let index = after.applied().index.0;
        wrong.into_iter().map(|why| format!("at index {index}: {why}")).collect()
    }

    fn learn(&mut self, state: &State, old: Option<&Task>, new: &Task, at: Timestamp) {
        let begins = new.began_at.is_some() && old.is_none_or(|old| old.began_at.is_none());
        let keeps_data = state.spec(new.service, new.spec_version).is_some_and(|spec| spec.keeps_data());
        if let Some(node) = new.node().filter(|_| begins && keeps_data) {
            self.homes.insert((new.service, new.slot), (node, at));
        }
    }

    /// Why a task may not have the node that it is given.
    fn misplaced(&self, before: &State, after: &State, task: &Task, at: Timestamp) -> Option<String> {
        let node = task.node()?;
        let (home, since) = *self.homes.get(&(task.service, task.slot))?;
        let waits = match after.spec(task.service, task.spec_version)?.sticky()? {
            Sticky::Wait => true,
            Sticky::For(patience) => at < task.meta.created_at + patience,
        };
        if node == home || !waits || at < since + SETTLED {
            return None;
        }
        let home = before.node(home)?;
        let (slot, to) = (task.slot, before.node(node).map_or_else(|| node.to_string(), |node| node.name()));
        let name = before.service(task.service).map_or_else(String::new, |service| service.spec.name.to_string());
        Some(format!(
            "slot {slot} of {name} gets a task on {to}, and shall wait for {}, where its data is",
            home.name()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{self, HOUR, SERVICE};
    use essaim_model::fixtures::{service, volume, worker};
    use essaim_model::service::labels::STICKY_LABEL;
    use essaim_model::{Assigned, Change, Observed, TaskId, TaskState};

    /// Complaints about a second task of a slot that is given node 3 when it has waited for this long; the first one ran on
    /// node 2. `between` happens before the second one is created.
    fn check(patience: &str, waited: Duration, between: Option<Change>) -> usize {
        let mut spec = service("db", 1);
        spec.task.container.mounts = volume("data");
        spec.labels.insert(STICKY_LABEL.into(), patience.into());
        let mut state = fixture::world(service("web", 1), &[]);
        let mut homes = Homes::default();
        let mut play = |at: Timestamp, change: Change| {
            let before = state.clone();
            let (events, proposal) = fixture::apply(&mut state, at, vec![change]);
            homes.judge(&before, &state, &events, &proposal)
        };
        let early = Timestamp::from_micros(20);
        play(early, Change::RaiseLevel(RECORDED_FROM));
        let service = ServiceId::from_bits(9);
        assert_ne!(service, SERVICE);
        play(early, Change::CreateService { id: service, spec: Box::new(spec) });
        play(early, Change::AcceptNode(Box::new(worker(3))));
        let version = essaim_wire::Index(5);
        let task = |number, node| Task {
            service,
            spec_version: version,
            assigned: Assigned::Node(NodeId::from_bits(node)),
            ..fixture::task(number, TaskState::New)
        };
        play(early, Change::CreateTask(Box::new(task(7, 2))));
        let running = Observed { state: TaskState::Running, ..Observed::nothing(early) };
        let reports = vec![(TaskId::from_bits(7), running)];
        assert_eq!(play(early, Change::Observe { node: NodeId::from_bits(2), reports }), [""; 0]);
        if let Some(change) = between {
            play(early, change);
        }
        let waits = Assigned::Pending { reason: "waits".into() };
        play(HOUR, Change::CreateTask(Box::new(Task { assigned: waits, ..task(8, 3) })));
        let (id, node) = (TaskId::from_bits(8), NodeId::from_bits(3));
        let assign = Change::AssignTask { id, node, spec_version: version, generic: Default::default() };
        play(HOUR + waited, assign).len()
    }

    #[test]
    fn a_slot_that_starts_elsewhere_before_its_time_is_seen() {
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(601));
        assert_eq!(check("wait", late, None), 1);
        assert_eq!(check("10m", soon, None), 1);
        assert_eq!(check("10m", late, None), 0);
    }

    #[test]
    fn a_node_that_was_removed_is_not_waited_for() {
        let id = NodeId::from_bits(2);
        let removal = Change::RemoveNode { id, until: Timestamp::default(), force: true };
        assert_eq!(check("wait", Duration::ZERO, Some(removal)), 0);
    }
}
