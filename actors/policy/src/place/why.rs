//! Why a service runs where it runs, or does not run: for each node the filter that refuses the next task or the node's
//! rank, and for each slot that has no running task what it waits for.
//!
//! Everything is computed from the state, so every manager gives the same answer. Two things that only the leader knows
//! are missing: how long it holds a slot of a lost node back, and bookings that are not committed yet.

use super::board::Board;
use super::filter::Reason;
use super::needs::Needs;
use super::seat::Seat;
use crate::restart;
use essaim_model::{
    Assigned, Availability, Departure, Desired, Mode, Node, RestartCondition, Service, Slot, State, Stock, Task,
    TaskId, TaskState, loopback,
};
use essaim_wire::{NodeId, Reachability, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Slots without a running task that an answer lists at most; further ones are counted.
const SLOTS_MAX: usize = 100;

/// What keeps the tasks of a service where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Slots without a running task, in order.
    pub slots: Vec<WhySlot>,
    /// Number of further slots without a running task.
    pub more: usize,
    /// All nodes: those that may have the next task, best first, then the others by name.
    pub nodes: Vec<WhyNode>,
}

/// A slot that has no running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhySlot {
    /// The slot.
    pub slot: Slot,
    /// The task that is to fill the slot, or the last one that did; `None` when there was none yet.
    pub task: Option<TaskId>,
    /// What the slot waits for.
    pub reason: String,
}

/// A node as the next task of the service sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyNode {
    /// Id of the node.
    pub node: NodeId,
    /// Name of the node.
    pub name: String,
    /// Place in the order in which nodes would get the next tasks, from 1; `None` when the node may have none.
    pub rank: Option<u32>,
    /// The first filter that refuses the task, in words, with the numbers or the constraint.
    pub refusal: Option<String>,
    /// Tasks of this service on the node.
    pub of_service: u32,
    /// Tasks of all services on the node.
    pub tasks: u32,
    /// Recent failures of this spec on the node, if there are so many that the node is avoided.
    pub failures: u32,
    /// How the last task of this spec on the node ended, in the engine's words, if it was rejected or failed: an image or
    /// a path that is not there is missing on some nodes only.
    pub fault: Option<String>,
    /// Ports of the service that the node does not publish, with the reasons; `None` when it publishes all of them.
    pub unpublished: Option<String>,
}

/// Explains where the next task of a service would go, and why slots have no running task.
pub fn why(state: &State, service: &Service, now: Timestamp) -> Why {
    let mut board = Board::new(state);
    let group = (service.id, service.spec_version);
    let Some(needs) = board.needs_of(state, group) else {
        let (slots, more) = slots(state, service, &[], now);
        return Why { slots, more, nodes: Vec::new() };
    };
    let failing = board.failing(group, now);
    let mut faults = faults(state, service);
    let unpublished = state.unpublished();
    let mut ranks: BTreeMap<NodeId, u32> = BTreeMap::new();
    for node in board.spread(group, &needs, now, state.nodes().count(), None) {
        let next = ranks.len() as u32 + 1;
        ranks.entry(node).or_insert(next);
    }
    let mut nodes: Vec<WhyNode> = Vec::new();
    for (place, seat, node) in board.seats.iter() {
        let of_service = board.count_of(service.id, node.id);
        let refusal = needs.refused_by(seat, of_service).map(|reason| detail(reason, &needs, seat, node));
        nodes.push(WhyNode {
            node: node.id,
            name: node.name(),
            // A node that may have the task and comes after as many tasks as there are nodes is one of the last.
            rank: refusal.is_none().then(|| ranks.get(&node.id).copied().unwrap_or(ranks.len() as u32 + 1)),
            refusal,
            of_service,
            tasks: board.seats.standings()[place as usize].load(),
            failures: failing.get(&place).copied().unwrap_or_default(),
            fault: faults.remove(&node.id),
            unpublished: service.unpublished_on(node, &unpublished),
        });
    }
    nodes.sort_by(|a, b| {
        let key = |it: &WhyNode| (it.rank.unwrap_or(u32::MAX), it.name.clone(), it.node);
        key(a).cmp(&key(b))
    });
    let (slots, more) = slots(state, service, &nodes, now);
    Why { slots, more, nodes }
}

/// By node how the last task of the spec in force ended there, if it was rejected or failed. A task on its way to running
/// says nothing yet.
fn faults(state: &State, service: &Service) -> BTreeMap<NodeId, String> {
    let mut last: BTreeMap<NodeId, &Task> = BTreeMap::new();
    let followed = |task: &&Arc<Task>| task.spec_version == service.spec_version;
    for task in state.tasks_of(service.id).filter(followed).filter(|task| task.has_ended() || task.is_running()) {
        let Some(node) = task.node() else { continue };
        let known = last.entry(node).or_insert(task);
        if (task.meta.created_at, task.id) > (known.meta.created_at, known.id) {
            *known = task;
        }
    }
    let failed = |task: &Task| matches!(task.observed.state, TaskState::Rejected | TaskState::Failed);
    last.into_iter().filter(|(_, task)| failed(task)).map(|(node, task)| (node, said(task))).collect()
}

/// What a task's worker said last of it.
fn said(task: &Task) -> String {
    let words = task.observed.error.as_ref().unwrap_or(&task.observed.message);
    format!("{}: {words}", task.observed.state.as_str())
}

/// The slots without a running task, and the number of those that are left out. `nodes` is what the nodes say of the next
/// task.
fn slots(state: &State, service: &Service, nodes: &[WhyNode], now: Timestamp) -> (Vec<WhySlot>, usize) {
    let mut by_slot: BTreeMap<Slot, Vec<&Task>> = BTreeMap::new();
    for task in state.tasks_of(service.id) {
        by_slot.entry(task.slot).or_default().push(task);
    }
    for tasks in by_slot.values_mut() {
        tasks.sort_by_key(|task| (task.is_wanted(), task.meta.created_at, task.id));
    }
    if let Mode::Replicated { replicas } = service.spec.mode {
        let is_wanted = |tasks: &[&Task]| tasks.last().is_some_and(|task| task.is_wanted());
        by_slot.retain(|slot, tasks| is_wanted(tasks) || matches!(slot, Slot::Number(number) if *number <= replicas));
    }
    let runs = |tasks: &[&Task]| tasks.iter().any(|task| task.is_running() && task.is_wanted());
    let scene = Waiting { state, service, nodes, now };
    let mut slots: Vec<WhySlot> = by_slot
        .iter()
        .filter(|(_, tasks)| !runs(tasks))
        .filter_map(|(slot, tasks)| {
            let (newest, earlier) = tasks.split_last()?;
            let reason = scene.waits_for(newest, earlier.last().copied());
            Some(WhySlot { slot: *slot, task: Some(newest.id), reason })
        })
        .collect();
    if let Mode::Replicated { replicas } = service.spec.mode {
        let lacking = (replicas as usize).saturating_sub(by_slot.len());
        let absent = (1..=replicas).map(Slot::Number).filter(|slot| !by_slot.contains_key(slot)).take(lacking);
        let reason = || "no task was created for the slot yet".to_owned();
        slots.extend(absent.map(|slot| WhySlot { slot, task: None, reason: reason() }));
        slots.sort_by_key(|it| it.slot);
    }
    let more = slots.len().saturating_sub(SLOTS_MAX);
    slots.truncate(SLOTS_MAX);
    (slots, more)
}

/// What is known when a slot without a running task is explained.
struct Waiting<'a> {
    state: &'a State,
    service: &'a Service,
    nodes: &'a [WhyNode],
    now: Timestamp,
}

impl Waiting<'_> {
    /// What a slot waits for whose newest task does not run. `before` is the task before it.
    fn waits_for(&self, newest: &Task, before: Option<&Task>) -> String {
        match &newest.assigned {
            Assigned::Pending { reason } if newest.is_wanted() => reason.clone(),
            Assigned::Node(node) if newest.is_wanted() => {
                let lost = self
                    .state
                    .node(*node)
                    .filter(|node| matches!(node.reachability, Reachability::Unreachable | Reachability::Down));
                match lost {
                    Some(node) => format!("its task is on {}, which cannot be reached", node.name()),
                    None => self.on_its_way(newest, before),
                }
            }
            _ => self.ended(newest),
        }
    }

    /// What a task waits for that has a node which answers.
    fn on_its_way(&self, task: &Task, before: Option<&Task>) -> String {
        let node = self.place_of(task);
        let Some(before) = before.filter(|before| before.spec_version == task.spec_version || !before.has_ended())
        else {
            return format!("its task{node} is {}", said(task));
        };
        let waits = task.desired == Desired::Ready;
        match (restart::ended_by_itself(before), self.order_to_end(before)) {
            (true, _) if waits => {
                let delay = restart::delay(&self.service.spec, task.restarts.saturating_sub(1));
                let ended = format!("its last task{} has ended ({})", self.place_of(before), said(before));
                format!("{ended}; the next one{node} starts after a delay of {} s", delay.as_secs_f64())
            }
            (true, _) => {
                format!("its task{node} is {}; the one before ended ({})", said(task), said(before))
            }
            (false, Some(cause)) if waits && !before.has_ended() => {
                format!("its task{node} starts when the one before has ended, which was told to end because {cause}")
            }
            (false, Some(cause)) => format!("its task{node} is {}; the one before ended because {cause}", said(task)),
            (false, None) => format!("its task{node} is {}", said(task)),
        }
    }

    /// What a slot waits for whose newest task has ended, or is told to end.
    fn ended(&self, last: &Task) -> String {
        if let Some(lost) = &last.written_off {
            return format!("its last task is lost ({}), and was not replaced yet", lost.why);
        }
        let cause = self.order_to_end(last);
        let because = cause.map_or_else(String::new, |cause| format!(" because {cause}"));
        let mut words = match (last.has_ended(), restart::ended_by_itself(last)) {
            (false, _) => format!("its task{} was told to end{because}", self.place_of(last)),
            (true, false) => format!("its last task was told to end{because}"),
            (true, true) => format!("its last task{} has ended ({})", self.place_of(last), said(last)),
        };
        if let Slot::Node(node) = last.slot
            && let Some(refusal) = self.nodes.iter().find(|it| it.node == node).and_then(|it| it.refusal.as_ref())
        {
            words.push_str(&format!("; the node gets no other: {refusal}"));
        } else if restart::ended_by_itself(last) {
            words.push_str(&self.policy(last));
        } else {
            words.push_str("; the next one was not created yet");
        }
        words
    }

    /// What the restart policy says of the successor of a task that ended by itself.
    fn policy(&self, last: &Task) -> String {
        let policy = self.service.spec.restart();
        if self.service.spec.mode.is_job() && last.observed.state == TaskState::Complete {
            return "; the job needs no other in this slot".into();
        }
        if restart::is_due(&policy, last, self.now) {
            return "; the next one was not created yet".into();
        }
        match policy.condition() {
            RestartCondition::None => "; the restart policy starts no other (condition none)".into(),
            RestartCondition::OnFailure if last.observed.state == TaskState::Complete => {
                "; the restart policy starts no other (condition on-failure)".into()
            }
            RestartCondition::OnFailure | RestartCondition::Any => {
                let most = policy.max_attempts.unwrap_or_default();
                format!("; the restart policy starts no other (all {most} attempts are used)")
            }
        }
    }

    /// Why managers told a task to end, as far as the state tells it.
    fn order_to_end(&self, task: &Task) -> Option<String> {
        if task.desired < Desired::Shutdown || restart::ended_by_itself(task) {
            return None;
        }
        let node = task.node().and_then(|node| self.state.node(node));
        if task.rejected_at.is_some() {
            let name = node.map_or_else(|| "its node".into(), |node| node.name());
            return Some(format!("{name} no longer satisfies its constraints or reservations"));
        }
        match node {
            Some(node) if node.spec.availability == Availability::Drain => Some(format!("{} drains", node.name())),
            Some(node) if node.departure.is_some() => Some(format!("{} leaves", node.name())),
            _ if task.spec_version != self.service.spec_version => Some("it followed a former spec".into()),
            _ => None,
        }
    }

    /// The node of a task as part of a sentence; empty for a global service, whose slots are the nodes.
    fn place_of(&self, task: &Task) -> String {
        match (task.slot, task.node()) {
            (Slot::Number(_), Some(id)) => {
                format!(" on {}", self.state.node(id).map_or_else(|| id.to_string(), |node| node.name()))
            }
            _ => String::new(),
        }
    }
}

/// The refusal of one node, with what would have to change.
fn detail(reason: Reason, needs: &Needs, seat: &Seat, node: &Node) -> String {
    let terrain = &needs.terrain;
    let description = node.description.as_ref();
    match reason {
        Reason::NotAvailable => unavailable(node).into(),
        Reason::Resources => {
            let hardware = description.map(|it| it.hardware).unwrap_or_default();
            let mut lacks = Vec::new();
            let mut compare = |what: &str, wanted: f64, all: f64, used: f64, unit: &str| {
                if wanted > 0.0 && used + wanted > all {
                    let free = (all - used).max(0.0);
                    lacks.push(format!(
                        "{what}: reserves {wanted:.2}{unit}, {free:.2}{unit} of {all:.2}{unit} are free"
                    ));
                }
            };
            let (reserves, used) = (needs.reservation, seat.used);
            let (cpu, mib) = (1e9, f64::from(1 << 20));
            let cpus = [reserves.nano_cpus, hardware.nano_cpus, used.nano_cpus].map(|it| it as f64 / cpu);
            compare("processors", cpus[0], cpus[1], cpus[2], "");
            let memory = [reserves.memory_bytes, hardware.memory_bytes, used.memory_bytes].map(|it| it as f64 / mib);
            compare("memory", memory[0], memory[1], memory[2], " MiB");
            for (kind, count) in needs.generic.iter() {
                let one = essaim_model::service::GenericResources::parse(vec![(kind.clone(), *count as i64)]);
                if one.is_ok_and(|one| !seat.has_generic(&one)) {
                    let all = description.and_then(|it| it.generic.get(kind)).map_or(0, Stock::count);
                    lacks.push(format!("{kind}: reserves {count}, and the node has {all} in all"));
                }
            }
            format!("insufficient resources ({})", lacks.join("; "))
        }
        Reason::Plugin => {
            let lacks =
                terrain.plugins.iter().find(|(kind, name)| !description.is_some_and(|it| it.has_plugin(kind, name)));
            match lacks {
                Some((kind, name)) => format!("missing plugin ({} driver {name})", kind.to_lowercase()),
                None => "missing plugin".into(),
            }
        }
        Reason::Engine => {
            let missing = description.into_iter().flat_map(|it| &it.missing);
            match missing.into_iter().find(|(kind, _)| *kind == terrain.engine) {
                Some((kind, why)) => format!("missing engine ({kind} does not answer: {why})"),
                None => format!("missing engine ({})", terrain.engine),
            }
        }
        Reason::Older => "runs an older essaim, which could not read the spec".into(),
        Reason::Addresses => format!("no address left (all {} are in use)", loopback::ADDRESSES),
        Reason::Constraints => {
            let broken = terrain.placement.constraints.iter().find(|it| !it.matches(node));
            broken.map_or_else(String::new, |it| format!("scheduling constraints not satisfied ({it})"))
        }
        Reason::Platform => {
            let platform = description.map(|it| it.platform.clone()).unwrap_or_default();
            format!("unsupported platform ({}/{})", platform.os, platform.architecture)
        }
        Reason::HostPort => {
            let taken = needs.host_ports.iter().find(|port| seat.ports.contains_key(port));
            taken.map_or_else(String::new, |(_, port)| format!("host-mode port already in use ({port})"))
        }
        Reason::MaxReplicas => format!("max replicas per node limit exceed ({})", needs.most_per_node),
    }
}

/// Why a node takes no new tasks at all.
fn unavailable(node: &Node) -> &'static str {
    match (node.reachability, node.spec.availability) {
        (Reachability::Down, _) => "not available for new tasks (down)",
        (Reachability::Unreachable, _) => "not available for new tasks (unreachable)",
        (Reachability::Unknown, _) => "not available for new tasks (not heard of yet)",
        (_, Availability::Drain) => "not available for new tasks (drain)",
        (_, Availability::Pause) => "not available for new tasks (pause)",
        _ if matches!(node.departure, Some(Departure::Announced | Departure::Left { .. })) => {
            "not available for new tasks (it leaves)"
        }
        _ if node.unsteady => "not available for new tasks (unreachable too often lately)",
        _ => "not available for new tasks (it has not described itself yet)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{GIB, World, id};
    use essaim_model::{
        EngineKind, PortConfig, PortKey, PortProtocol, PublishMode, Resources, ServiceId, ServiceSpec, Share,
        UnpublishedPort,
    };

    fn reasons(world: &World, service: ServiceId) -> Vec<(String, Option<u32>, String)> {
        let service = world.state.service(service).expect("created");
        let nodes = why(&world.state, service, world.now()).nodes;
        nodes.into_iter().map(|it| (it.name, it.rank, it.refusal.unwrap_or_default())).collect()
    }

    fn constrain(spec: &mut ServiceSpec, constraint: &str) {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push(constraint.parse().expect("a constraint"));
    }

    #[test]
    fn each_node_says_what_it_refuses_and_the_others_are_ranked() {
        let mut world = World::of(5);
        world.set_node(2, |spec| spec.availability = Availability::Drain);
        world.describe(3, |it| it.hardware.memory_bytes = GIB);
        world.create("other", 1, |spec| constrain(spec, "node.hostname==n1"));
        world.settle();
        let web = world.create("web", 0, |spec| {
            let reservation = Some(Share { memory_bytes: 2 * GIB, ..Share::default() });
            spec.task.resources = Some(Resources { reservation, ..Resources::default() });
            constrain(spec, "node.hostname!=n5");
        });
        let memory = "insufficient resources (memory: reserves 2048.00 MiB, 1024.00 MiB of 1024.00 MiB are free)";
        assert_eq!(
            reasons(&world, web),
            [
                ("n4".into(), Some(1), String::new()),
                ("n1".into(), Some(2), String::new()),
                ("n2".into(), None, "not available for new tasks (drain)".into()),
                ("n3".into(), None, memory.into()),
                ("n5".into(), None, "scheduling constraints not satisfied (node.hostname!=n5)".into()),
            ]
        );
    }

    #[test]
    fn an_engine_that_does_not_answer_is_named_with_its_reason() {
        let mut world = World::of(1);
        world.describe(1, |it| {
            it.engines.clear();
            it.missing = vec![(EngineKind::Process, "it hangs".into())];
        });
        let web = world.create("web", 1, |_| ());
        let why = "missing engine (process does not answer: it hangs)";
        assert_eq!(reasons(&world, web), [("n1".into(), None, why.into())]);
    }

    #[test]
    fn each_node_says_how_the_last_task_of_the_spec_in_force_failed_there() {
        let mut world = World::of(2);
        let web = world.create("web", 2, |spec| spec.task.container.args = vec!["a".into()]);
        world.settle();
        let faults = |world: &World| {
            let service = world.state.service(web).expect("created");
            let nodes = why(&world.state, service, world.now()).nodes;
            nodes.into_iter().filter_map(|it| Some((it.node, it.fault?))).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(faults(&world), BTreeMap::new());
        world.end(id(1), TaskState::Failed);
        let task = world.state.tasks_of(web).find(|task| task.observed.state == TaskState::Failed);
        let node = task.and_then(|task| task.node()).expect("it was placed");
        assert!(faults(&world)[&node].starts_with("failed: "), "{:?}", faults(&world));
        // A newer spec has not failed anywhere.
        world.update(web, |spec| spec.task.container.args = vec!["b".into()]);
        assert_eq!(faults(&world), BTreeMap::new());
    }

    #[test]
    fn a_port_that_another_program_holds_is_shown_on_the_node_and_on_a_task() {
        let mut world = World::of(3);
        let publish = |mode, published| PortConfig {
            name: String::new(),
            protocol: PortProtocol::Tcp,
            target: 8080,
            published,
            mode,
        };
        let web = world.create("web", 2, |spec| {
            spec.endpoint.get_or_insert_default().ports = vec![publish(PublishMode::Ingress, 80)];
            constrain(spec, "node.hostname!=n3");
        });
        let log = world.create("log", 1, |spec| {
            spec.endpoint.get_or_insert_default().ports = vec![publish(PublishMode::Host, 514)];
            constrain(spec, "node.hostname==n3");
        });
        world.settle();
        let held = |number, by: &str| UnpublishedPort {
            port: PortKey { protocol: PortProtocol::Tcp, number },
            why: format!("held by {by}"),
        };
        world.describe(2, |it| it.unpublished = vec![held(80, "nginx (pid 7)"), held(81, "nobody's business")]);
        world.describe(3, |it| it.unpublished = vec![held(80, "caddy (pid 8)"), held(514, "syslogd (pid 9)")]);
        let of_nodes = |world: &World, service: ServiceId| {
            let service = world.state.service(service).expect("created");
            let nodes = why(&world.state, service, world.now()).nodes;
            nodes.into_iter().filter_map(|it| Some((it.name, it.unpublished?))).collect::<BTreeMap<_, _>>()
        };
        let words = |number: u16, by: &str| format!("port {number}/tcp is not published: held by {by}");
        let of_web = [("n2".into(), words(80, "nginx (pid 7)")), ("n3".into(), words(80, "caddy (pid 8)"))];
        assert_eq!(of_nodes(&world, web), BTreeMap::from(of_web));
        assert_eq!(of_nodes(&world, log), BTreeMap::from([("n3".into(), words(514, "syslogd (pid 9)"))]));
        // The task on n2 shows the fault of n2; n3 runs no task of the service, and the first task shows its fault.
        let of_tasks = |world: &World| {
            let faults = world.state.faults_of_ports();
            let on = |id| world.state.task(id).and_then(|task| task.node()).expect("it is placed");
            let of_web = faults.iter().filter(|(id, _)| world.state.task(**id).is_some_and(|it| it.service == web));
            of_web.map(|(task, words)| (on(*task), words.clone())).collect::<BTreeMap<_, _>>()
        };
        let faults = of_tasks(&world);
        let on_n2 = "port 80/tcp is not published on n2: held by nginx (pid 7)";
        let on_n3 = "port 80/tcp is not published on n3: held by caddy (pid 8)";
        assert!(faults[&id(2)].contains(on_n2), "{faults:?}");
        assert_eq!(faults.values().filter(|words| words.contains(on_n3)).count(), 1, "{faults:?}");
        // A node that is lost has a greater fault, and a port that is free again has none.
        world.reach(3, Reachability::Unreachable);
        assert_eq!(of_tasks(&world), BTreeMap::from([(id(2), on_n2.to_owned())]));
        world.describe(2, |it| it.unpublished.clear());
        assert_eq!(of_tasks(&world), BTreeMap::new());
    }

    #[test]
    fn a_slot_without_a_running_task_says_what_it_waits_for() {
        let mut world = World::of(2);
        let slots = |world: &World, service: ServiceId| {
            let service = world.state.service(service).expect("created");
            let slots = why(&world.state, service, world.now()).slots;
            slots.into_iter().map(|it| (it.slot, it.reason)).collect::<Vec<_>>()
        };
        let web = world.create("web", 3, |spec| {
            spec.task.placement.get_or_insert_default().replicas_max_per_node = 1;
            let condition = Some(RestartCondition::None);
            spec.task.restart = Some(essaim_model::RestartPolicy { condition, ..Default::default() });
        });
        assert_eq!(slots(&world, web).len(), 3, "no task was created yet");
        world.settle();
        let reason = "no suitable node (max replicas per node limit exceed)".to_owned();
        assert_eq!(slots(&world, web), [(Slot::Number(3), reason)]);
        world.end(id(1), TaskState::Failed);
        let ended = slots(&world, web);
        assert_eq!(ended.len(), 2);
        assert!(ended[0].1.starts_with("its last task on n1 has ended (failed: "), "{ended:?}");
        assert!(ended[0].1.ends_with("; the restart policy starts no other (condition none)"), "{ended:?}");
        world.reach(2, Reachability::Down);
        assert!(slots(&world, web).iter().all(|(_, reason)| !reason.is_empty()));
    }

    fn waiting(world: &World, service: ServiceId) -> Vec<String> {
        let service = world.state.service(service).expect("created");
        why(&world.state, service, world.now()).slots.into_iter().map(|it| it.reason).collect()
    }

    #[test]
    fn a_drain_is_named_as_the_cause_and_not_the_restart_policy() {
        let mut world = World::of(2);
        let agent = world.create("agent", 0, |spec| spec.mode = Mode::Global);
        let web = world.create("web", 1, |spec| constrain(spec, "node.hostname==n2"));
        world.settle();
        world.set_node(2, |spec| spec.availability = Availability::Drain);
        world.lead();
        let of_agent = waiting(&world, agent);
        let drains = "was told to end because n2 drains; the node gets no other: not available for new tasks (drain)";
        assert_eq!(of_agent, [format!("its task {drains}")]);
        world.settle();
        assert_eq!(waiting(&world, agent), [format!("its last task {drains}")]);
        assert_eq!(waiting(&world, web), [""; 0], "it runs until its replacement does");
    }

    #[test]
    fn a_restart_that_waits_says_how_the_last_task_ended_and_a_move_says_why_it_moves() {
        let mut world = World::of(2);
        let web = world.create("web", 1, |spec| constrain(spec, "node.hostname==n1"));
        world.settle();
        world.end(id(1), TaskState::Failed);
        world.lead();
        let [reason] = &waiting(&world, web)[..] else { panic!("one slot waits") };
        assert!(reason.starts_with("its last task on n1 has ended (failed: "), "{reason}");
        assert!(reason.ends_with("; the next one on n1 starts after a delay of 5 s"), "{reason}");

        let mut world = World::of(2);
        let web = world.create("web", 1, |spec| {
            constrain(spec, "node.hostname==n1");
            spec.labels.insert("essaim.drain".into(), "stop-first".into());
        });
        world.settle();
        world.update(web, |spec| spec.task.placement = None);
        world.settle();
        world.set_node(1, |spec| spec.availability = Availability::Drain);
        world.lead();
        let [reason] = &waiting(&world, web)[..] else { panic!("one slot waits") };
        assert!(reason.contains("which was told to end because n1 drains"), "{reason}");
    }

    #[test]
    fn a_slot_whose_attempts_are_used_or_whose_job_is_done_says_so() {
        let mut world = World::of(1);
        let web = world.create("web", 1, |spec| {
            let delay = Some(std::time::Duration::ZERO);
            spec.task.restart =
                Some(essaim_model::RestartPolicy { max_attempts: Some(1), delay, ..Default::default() });
        });
        let job = world.create("job", 0, |spec| {
            spec.mode = Mode::ReplicatedJob { concurrent_max: None, completions: Some(1) };
            let condition = Some(RestartCondition::OnFailure);
            spec.task.restart = Some(essaim_model::RestartPolicy { condition, ..Default::default() });
        });
        world.settle();
        let of_job = |world: &World| world.state.tasks_of(job).next().expect("it runs").id;
        let ran = of_job(&world);
        world.end(id(1), TaskState::Complete);
        world.settle();
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!(of_job(&world), ran);
        assert!(
            waiting(&world, web)[0].ends_with("starts no other (all 1 attempts are used)"),
            "{:?}",
            waiting(&world, web)
        );
        assert!(waiting(&world, job)[0].ends_with("the job needs no other in this slot"), "{:?}", waiting(&world, job));
    }
}
