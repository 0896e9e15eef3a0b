//! Convergence: what must be true some time after the last fault has ended.

use crate::testkit::fault::Number;
use crate::testkit::invariants::lock;
use crate::testkit::nodes::name;
use crate::testkit::world::World;
use essaim_membership::MemberState;
use essaim_model::service::Sticky;
use essaim_model::{
    Assigned, Availability, Desired, Mode, Node, PortKey, PublishMode, Service, ServiceSpec, Slot, State, Stock, Task,
};
use essaim_store::Leadership;
use essaim_wire::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Checks that every roster shows all nodes as alive; `Err` names a node whose roster differs.
pub(crate) fn rosters(world: &World) -> Result<(), String> {
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
        // Only members that have spoken for themselves count: a liar may have told of members that do not exist. A node
        // that left is remembered for a while.
        let strangers = roster.members.values().filter(|view| view.proven && view.state == MemberState::Alive);
        if let Some(stranger) = strangers.map(|view| view.member.node).find(|id| !ids.contains_key(id)) {
            return Err(format!("{} knows of {stranger}, which is nobody", name(number)));
        }
    }
    Ok(())
}

/// Checks that everything is as wished: in the state of the leader, of the other managers, and on the machines.
pub(crate) fn wishes(world: &World) -> Result<Arc<State>, String> {
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
    let managers = state.nodes().filter(|node| node.spec.role == Role::Manager && !node.has_left()).count();
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
    for node in state.nodes().filter(|node| !node.has_left()) {
        if !node.is_ready() {
            return Err(format!("{} is recorded as {:?}: {}", node.name(), node.reachability, node.message));
        }
    }
    for node in state.nodes() {
        let votes = node.manager.is_some_and(|manager| manager.voter);
        let shall = if node.has_left() { Role::Worker } else { node.spec.role };
        if node.role != shall || votes != (node.role == Role::Manager) {
            return Err(format!("{} shall be a {}, is a {}, {:?}", node.name(), shall, node.role, node.manager));
        }
    }
    voters(world, &state)?;
    for service in state.services() {
        of_service(&state, service)?;
        balanced(&state, service)?;
    }
    let orphan = state.tasks().find(|task| !task.has_ended() && state.service(task.service).is_none());
    if let Some(task) = orphan {
        return Err(format!("task {} of a removed service has not ended: {}", task.id, how(task)));
    }
    machines(world, &state)?;
    Ok(state)
}

/// Checks that the voters of the group are the managers by record, so that no node that left counts towards the quorum.
fn voters(world: &World, state: &State) -> Result<(), String> {
    let leader = world.leader().and_then(|number| world.running(number)).and_then(|handle| handle.control().ok());
    let Some(control) = leader else { return Err("nobody leads".into()) };
    let members = control.store().status().members;
    let votes: BTreeSet<_> = members.iter().filter(|it| it.voter).map(|it| (it.node, it.raft_id)).collect();
    let managers: BTreeSet<_> = state.managers().filter_map(|node| Some((node.id, node.manager?.raft_id))).collect();
    if votes == managers { Ok(()) } else { Err(format!("{votes:?} vote, and {managers:?} are managers")) }
}

/// Checks that a service has the tasks that it asks for, on nodes that its placement allows, or says a true reason why
/// not.
fn of_service(state: &State, service: &Service) -> Result<(), String> {
    let name = &service.spec.name;
    let placement = service.spec.task.placement();
    let tasks: Vec<&Arc<Task>> = state.tasks_of(service.id).filter(|task| !task.has_ended()).collect();
    let (mut running, mut waiting) = (BTreeSet::new(), BTreeSet::new());
    for task in &tasks {
        match &task.assigned {
            Assigned::Node(_) if task.desired != Desired::Running || !task.is_running() => {
                return Err(format!("task {} of {name} is not at rest: {}", task.id, how(task)));
            }
            Assigned::Node(_) if !running.insert(task.slot) => {
                return Err(format!("slot {} of {name} is filled twice", task.slot));
            }
            Assigned::Node(_) => (),
            Assigned::Pending { .. } if task.spec_version != service.spec_version => {
                return Err(format!("task {} of {name} waits for what an older spec asks for: {}", task.id, how(task)));
            }
            Assigned::Pending { .. } => {
                if let Some(node) = places(state, service, task).next() {
                    return Err(format!(
                        "task {} of {name} waits, and {} could have it: {}",
                        task.id,
                        node.name(),
                        how(task)
                    ));
                }
                waiting.insert(task.slot);
            }
        }
    }
    let in_progress =
        service.update.as_ref().is_some_and(|update| update.message.contains("; what runs goes on until "));
    let says_why = !waiting.is_empty() || in_progress;
    for task in tasks.iter().filter(|task| !waiting.contains(&task.slot)) {
        let Some(node) = task.node().and_then(|node| state.node(node)) else { continue };
        if node.spec.availability == Availability::Drain {
            return Err(format!("task {} of {name} runs on a node that gives its tasks away", task.id));
        }
        let follows =
            state.spec(service.id, task.spec_version).is_some_and(|spec| Service::same_task(spec, &service.spec));
        if !says_why && !follows {
            return Err(format!("task {} of {name} follows an old spec", task.id));
        }
        if !says_why && !placement.allows(node) {
            return Err(format!("task {} of {name} is on {}, where it may not be", task.id, node.name()));
        }
        if state.spec(service.id, task.spec_version).is_some_and(|spec| spec.level() > node.level) {
            return Err(format!("task {} of {name} is on {}, which cannot read its order", task.id, node.name()));
        }
    }
    let filled: BTreeSet<Slot> = running.union(&waiting).copied().collect();
    let due: BTreeSet<Slot> = match service.spec.mode {
        // The slots of a replicated service may have any numbers; only their count is the operator's wish.
        Mode::Replicated { replicas } if filled.len() == replicas as usize => return Ok(()),
        Mode::Replicated { replicas } => {
            return Err(format!("{name} has {} of {replicas} tasks", filled.len()));
        }
        Mode::ReplicatedJob { .. } => return of_replicated_job(state, service, filled.len() as u64),
        Mode::GlobalJob if service.job.as_ref().is_some_and(|status| status.idle) => BTreeSet::new(),
        Mode::Global | Mode::GlobalJob => {
            let active = state.nodes().filter(|node| node.is_ready() && node.spec.availability == Availability::Active);
            active
                .filter(|node| placement.allows(node) && placement.supports(node))
                .map(|node| Slot::Node(node.id))
                .collect()
        }
    };
    let filled = if service.spec.mode.is_job() { &filled | &ended(state, service) } else { filled };
    let strays = filled.difference(&due).count();
    if !due.is_subset(&filled) || (strays > 0 && !says_why && !service.spec.mode.is_job()) {
        return Err(format!("{name} has {} tasks on {} nodes and {strays} elsewhere", filled.len(), due.len()));
    }
    Ok(())
}

/// Checks that no slot of a service with `essaim.rebalance` could move to a node with two slots fewer. With spread
/// preferences, the numbers on single nodes are not what counts.
fn balanced(state: &State, service: &Service) -> Result<(), String> {
    if service.spec.rebalance_pause().is_none() || !service.spec.task.placement().preferences.is_empty() {
        return Ok(());
    }
    let placed: Vec<&Arc<Task>> =
        state.tasks_of(service.id).filter(|task| !task.has_ended() && task.node().is_some()).collect();
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    placed.iter().filter_map(|task| task.node()).for_each(|node| *counts.entry(node).or_default() += 1);
    let on = |node| counts.get(&node).copied().unwrap_or_default();
    for task in placed {
        let here = task.node().map_or(0, on);
        if let Some(node) = places(state, service, task).find(|node| on(node.id) + 2 <= here) {
            return Err(format!(
                "{} has {here} slots on a node and {} on {}",
                service.spec.name,
                on(node.id),
                node.name()
            ));
        }
    }
    Ok(())
}

/// The slots in which a task of the present iteration of a job has ended.
fn ended(state: &State, service: &Service) -> BTreeSet<Slot> {
    let own = state.tasks_of(service.id).filter(|task| task.job_iteration == service.iteration());
    own.filter(|task| task.has_ended()).map(|task| task.slot).collect()
}

/// Checks that a replicated job has as many tasks as may run at a time, or that its other slots have all had theirs.
fn of_replicated_job(state: &State, service: &Service, live: u64) -> Result<(), String> {
    let (concurrent_max, completions) = service.spec.mode.of_replicated_job().unwrap_or_default();
    let name = &service.spec.name;
    let begun = ended(state, service).len() as u64;
    if service.job.as_ref().is_some_and(|status| status.idle) {
        return if live == 0 {
            Ok(())
        } else {
            Err(format!("job {name} has {live} tasks before its schedule says so"))
        };
    }
    if live > concurrent_max {
        return Err(format!("{live} tasks of job {name} run, and {concurrent_max} may"));
    }
    if live < concurrent_max && live + begun < completions {
        return Err(format!("job {name} has {live} tasks, and has begun {begun} of {completions} slots"));
    }
    Ok(())
}

/// The nodes that could run a waiting task, by the rules of `service create` and without the product's code. A task
/// that waits for the end of its predecessor may take the predecessor's room. A task that waits for the node of its data for
/// ever may have no other one while that node belongs to the cluster.
fn places<'a>(state: &'a State, service: &'a Service, task: &'a Task) -> impl Iterator<Item = &'a Arc<Node>> {
    let placement = service.spec.task.placement();
    let asks = service.spec.task.reservation();
    let home = state.home(service.id, task.slot).filter(|home| state.node(*home).is_some());
    let home = home.filter(|_| service.spec.sticky() == Some(Sticky::Wait));
    let replaces =
        |other: &Task| task.desired == Desired::Ready && (other.service, other.slot) == (task.service, task.slot);
    state.nodes().filter(move |node| {
        let others: Vec<_> = state.tasks_on(node.id).filter(|other| !other.has_ended() && !replaces(other)).collect();
        let of_service = others.iter().filter(|other| other.service == service.id && other.is_wanted()).count() as u64;
        let set_aside: u64 = others
            .iter()
            .filter_map(|other| state.spec(other.service, other.spec_version))
            .map(|spec| spec.task.reservation().memory_bytes)
            .sum();
        let memory = node.description.as_ref().map_or(0, |it| it.hardware.memory_bytes);
        let has = |(kind, wanted): &(String, u64)| {
            let all = node.description.as_ref().and_then(|it| it.generic.get(kind)).map_or(0, Stock::count);
            let held = others.iter().filter_map(|other| other.generic.get(kind)).map(Stock::count).sum::<u64>();
            held + wanted <= all
        };
        let host_ports = |spec: &ServiceSpec| -> BTreeSet<PortKey> {
            let ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
            ports.filter(|port| port.mode == PublishMode::Host).filter_map(|port| port.key()).collect()
        };
        let own = host_ports(&service.spec);
        let specs = others.iter().filter_map(|other| state.spec(other.service, other.spec_version));
        let has_its_port = specs.map(|spec| host_ports(spec)).any(|ports| !ports.is_disjoint(&own));
        node.is_ready()
            && !has_its_port
            && home.is_none_or(|home| home == node.id)
            && !node.unsteady
            && node.spec.availability == Availability::Active
            && placement.allows(node)
            && placement.supports(node)
            && service.spec.level() <= node.level
            && (placement.replicas_max_per_node == 0 || of_service < placement.replicas_max_per_node)
            && (asks.memory_bytes == 0 || set_aside + asks.memory_bytes <= memory)
            && service.spec.task.resources.iter().flat_map(|it| it.generic.iter()).all(has)
            && match task.slot {
                Slot::Node(slot) => slot == node.id,
                Slot::Number(_) => true,
            }
    })
}

/// Checks that each machine runs what the state says, and nothing else, and that it has the logs of every task that the
/// state remembers, and of no other.
fn machines(world: &World, state: &State) -> Result<(), String> {
    for number in 1..=world.nodes {
        let id = world.node_id(number).ok_or_else(|| format!("{} has no part in the cluster", name(number)))?;
        let wanted: BTreeSet<_> = state.tasks_on(id).filter(|task| task.is_running()).map(|task| task.id).collect();
        let running: BTreeSet<_> = world.machine(number).running().into_iter().collect();
        if let Some(task) = running.difference(&wanted).next() {
            let known = state.task(*task).map_or("nobody knows it".into(), |task| how(task));
            return Err(format!("{} runs task {task}, which it should not: {known}", name(number)));
        }
        let (kept, taken) = (world.machine(number).tasks(), world.machine(number).taken());
        if let Some(task) = kept.keys().find(|task| state.task(**task).is_none()) {
            return Err(format!("{} keeps what is left of task {task}, which no manager knows any more", name(number)));
        }
        let lost = state.tasks_on(id).find(|task| {
            let has_run = task.has_ended() && task.began_at.is_some();
            has_run && !kept.contains_key(&task.id) && !taken.contains(&task.id)
        });
        // A node that was stopped while it left has removed them.
        let was_leaving = lock(&world.ledger).has_begun_to_leave(id);
        if let Some(task) = lost.filter(|_| !was_leaving) {
            return Err(format!("{} has no logs of task {}, which the managers remember", name(number), task.id));
        }
        payloads(world, state, number)?;
        if let Some(task) = wanted.difference(&running).next() {
            return Err(format!("{} does not run task {task}, and is said to", name(number)));
        }
    }
    Ok(())
}

/// Checks that a machine has the secrets and configs of its running tasks, with the right data, and those of no ended one;
/// and that its node was sent no others.
fn payloads(world: &World, state: &State, number: Number) -> Result<(), String> {
    let mut used = BTreeSet::new();
    for (id, task) in world.machine(number).tasks() {
        let Some(record) = state.task(id).filter(|record| record.is_running()) else {
            match task.payloads.first_key_value() {
                None => continue,
                Some((payload, _)) => {
                    return Err(format!("{} has {} {payload} of ended task {id}", name(number), payload.word()));
                }
            }
        };
        let Some(spec) = state.spec(record.service, record.spec_version) else { continue };
        for (payload, of, _) in spec.task.container.files() {
            used.insert(payload);
            // A secret may be removed when no spec in force names it, and a running task keeps it.
            let removed = state.payload(payload).is_none();
            if !removed && task.payloads.get(&payload) != state.payload(payload) {
                return Err(format!("{} runs task {id} without the data of {} {of}", name(number), payload.word()));
            }
        }
    }
    let held = world.running(number).and_then(|handle| Some(handle.standing().membership()?.worker.payloads().held));
    match held.unwrap_or_default().difference(&used).next() {
        None => Ok(()),
        Some(payload) => Err(format!("{} still has {} {payload}", name(number), payload.word())),
    }
}

fn how(task: &Task) -> String {
    let off = if task.written_off.is_some() { ", written off" } else { "" };
    format!("wanted {:?}, seen {}{off}, {:?}", task.desired, task.observed.state.as_str(), task.assigned)
}
