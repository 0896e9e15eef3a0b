//! What must be true once everything is whole again and some time has passed.

use crate::testkit::world::{World, name};
use essaim_membership::State as MemberState;
use essaim_model::{Availability, Desired, Mode, Service, Slot, State, Task};
use essaim_store::Leadership;
use essaim_wire::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every node's view of who is alive is the same: everybody. `Err` says who differs.
pub fn rosters(world: &World) -> Result<(), String> {
    let mut ids = BTreeMap::new();
    for number in 1..=world.nodes {
        let id = world.node_id(number).ok_or_else(|| format!("{} has no part in the cluster", name(number)))?;
        ids.insert(id, number);
    }
    for number in 1..=world.nodes {
        let handle = world.running(number).ok_or_else(|| format!("{} does not run", name(number)))?;
        let standing = handle.standing();
        let part = standing.membership().ok_or_else(|| format!("{} has no part", name(number)))?;
        let roster = part.roster.current();
        for (id, other) in ids.iter().filter(|(id, _)| **id != part.node) {
            let state = roster.state(*id);
            if state != Some(MemberState::Alive) {
                return Err(format!("{} takes {} for {state:?}", name(number), name(*other)));
            }
        }
        // A liar may have told of members that do not exist; nobody who speaks for itself is one of them.
        let strangers = roster.members.values().filter(|view| view.proven).map(|view| view.member.node);
        if let Some(stranger) = strangers.into_iter().find(|id| !ids.contains_key(id)) {
            return Err(format!("{} knows of {stranger}, which is nobody", name(number)));
        }
    }
    Ok(())
}

/// Everything is as it is wished: in the state of the leader, of the other managers, and on the machines.
pub fn wishes(world: &World) -> Result<Arc<State>, String> {
    let mut states = Vec::new();
    let mut leads = None;
    for number in 1..=world.nodes {
        let handle = world.running(number).ok_or_else(|| format!("{} does not run", name(number)))?;
        let Ok(control) = handle.control() else { continue };
        let store = control.store();
        states.push((number, store.state()));
        if let Leadership::Active(_) = *store.leadership().borrow() {
            leads = Some(store.state());
        }
    }
    let state = leads.ok_or("nobody leads")?;
    let managers = state.nodes().filter(|node| node.spec.role == Role::Manager).count();
    if states.len() != managers {
        return Err(format!("{} nodes have a part in the group, which shall have {managers} managers", states.len()));
    }
    if let Some((number, other)) = states.iter().find(|(_, other)| other.applied() != state.applied()) {
        return Err(format!(
            "{} has applied {:?}, the leader {:?}",
            name(*number),
            other.applied().index,
            state.applied().index
        ));
    }
    for node in state.nodes() {
        if !node.is_ready() {
            return Err(format!("{} is recorded as {:?}: {}", node.name(), node.reachability, node.message));
        }
    }
    for node in state.nodes() {
        let votes = node.manager.is_some_and(|manager| manager.voter);
        if node.role != node.spec.role || votes != (node.role == Role::Manager) {
            return Err(format!(
                "{} shall be a {}, is a {}, {:?}",
                node.name(),
                node.spec.role,
                node.role,
                node.manager
            ));
        }
    }
    for service in state.services() {
        of_service(&state, service)?;
    }
    let orphan = state.tasks().find(|task| !task.has_ended() && state.service(task.service).is_none());
    if let Some(task) = orphan {
        return Err(format!("task {} of a removed service has not ended: {}", task.id, how(task)));
    }
    machines(world, &state)?;
    Ok(state)
}

fn of_service(state: &State, service: &Service) -> Result<(), String> {
    let slots: BTreeSet<Slot> = match service.spec.mode {
        Mode::Replicated { replicas } => (0..replicas).map(|_| ()).enumerate().map(|(n, ())| n).map(slot_of).collect(),
        Mode::ReplicatedJob { .. } | Mode::GlobalJob => BTreeSet::new(),
        Mode::Global => {
            let active = state.nodes().filter(|node| node.spec.availability == Availability::Active);
            active.map(|node| Slot::Node(node.id)).collect()
        }
    };
    let mut filled = BTreeSet::new();
    for task in state.tasks_of(service.id).filter(|task| !task.has_ended()) {
        let is_right = task.desired == Desired::Running && task.is_running();
        if !is_right {
            return Err(format!("task {} of {} is not at rest: {}", task.id, service.spec.name, how(task)));
        }
        let drained = task
            .node()
            .and_then(|node| state.node(node))
            .is_none_or(|node| node.spec.availability == Availability::Drain);
        if drained {
            return Err(format!("task {} of {} runs on a node that gives its tasks away", task.id, service.spec.name));
        }
        let follows =
            state.spec(service.id, task.spec_version).is_some_and(|spec| Service::same_task(spec, &service.spec));
        if !follows {
            return Err(format!("task {} of {} follows an old spec", task.id, service.spec.name));
        }
        if !filled.insert(task.slot) {
            return Err(format!("slot {} of {} is filled twice", task.slot, service.spec.name));
        }
    }
    let replicated = matches!(service.spec.mode, Mode::Replicated { .. });
    // Which numbers the slots have is the leader's business; how many there are is the operator's.
    if replicated && filled.len() == slots.len() || filled == slots {
        return Ok(());
    }
    Err(format!("{} has {} of {} tasks", service.spec.name, filled.len(), slots.len()))
}

fn slot_of(count: usize) -> Slot {
    Slot::Number(u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1))
}

/// On each machine there runs what the state says, and nothing else.
fn machines(world: &World, state: &State) -> Result<(), String> {
    for number in 1..=world.nodes {
        let id = world.node_id(number).ok_or_else(|| format!("{} has no part in the cluster", name(number)))?;
        let wanted: BTreeSet<_> = state.tasks_on(id).filter(|task| task.is_running()).map(|task| task.id).collect();
        let running: BTreeSet<_> = world.machine(number).running().into_iter().collect();
        if let Some(task) = running.difference(&wanted).next() {
            let known = state.task(*task).map_or("nobody knows it".into(), |task| how(task));
            return Err(format!("{} runs task {task}, which it should not: {known}", name(number)));
        }
        if let Some(task) = wanted.difference(&running).next() {
            return Err(format!("{} does not run task {task}, and is said to", name(number)));
        }
    }
    Ok(())
}

fn how(task: &Task) -> String {
    let off = if task.written_off.is_some() { ", written off" } else { "" };
    format!("wanted {:?}, seen {}{off}, {:?}", task.desired, task.observed.state.as_str(), task.assigned)
}
