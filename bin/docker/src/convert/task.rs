//! Conversion of tasks: Docker's single state, computed from what managers decided and what the worker observed.

use super::node::show_generic;
use super::{Context, spec};
use crate::network::{Driver, Network, NetworkAttachment, NetworkSpec};
use crate::service::{PortConfig, TaskSpec};
use crate::task::{ContainerStatus, PortStatus, STATES, Task, TaskStatus};
use crate::{Filters, Labels, ObjectVersion, Time, resolve};
use essaim_model as model;
use essaim_model::{Assigned, Desired, PublishMode, Refusal, Service, Slot, State, TaskState};
use essaim_wire::{NodeId, Reachability, Timestamp};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Filter keys that a list of tasks accepts; the CLI's progress bar uses `_up-to-date`.
pub(crate) const FILTERS: [&str; 8] =
    ["_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service"];

/// Error of a task that does not fit its node any more, in Swarm's words.
const NO_LONGER_FITS: &str = "assigned node no longer meets constraints";

/// The task in Docker's shape.
pub fn show(task: &model::Task, context: &Context<'_>) -> Task {
    let followed = context.state.spec(task.service, task.spec_version);
    Task {
        id: task.id.to_string(),
        version: ObjectVersion { index: task.meta.version.0 },
        created_at: task.meta.created_at.into(),
        updated_at: task.meta.updated_at.into(),
        name: String::new(),
        labels: Labels::new(),
        spec: followed.map_or_else(TaskSpec::default, |followed| spec::show_task(&followed.task, false)),
        service_id: task.service.to_string(),
        slot: match task.slot {
            Slot::Number(number) => u64::from(number),
            Slot::Node(_) => 0,
        },
        node_id: task.node().map(|node| node.to_string()).unwrap_or_default(),
        status: show_status(task, context),
        desired_state: desired(task).into(),
        networks_attachments: task.observed.address.map(loopback).into_iter().collect(),
        generic_resources: show_generic(&task.generic),
        job_iteration: task.job_iteration.map(|index| ObjectVersion { index }),
        volumes: None,
    }
}

/// The state of a task in Docker's words.
///
/// A task of a node that cannot be reached is never shown as simply running, because its state is unknown. Docker's
/// word for that is `orphaned`, and the error says why.
fn show_status(task: &model::Task, context: &Context<'_>) -> TaskStatus {
    let state = context.state;
    let observed = &task.observed;
    let is_open = task.written_off.is_none() && !observed.state.is_final();
    let cut_off = task.node().filter(|_| is_open).and_then(|node| out_of_reach(state, node));
    let Step { word, at, message, error } = match cut_off {
        Some((at, error)) => Step { word: "orphaned", at, message: "node lost", error },
        None if is_misplaced(task, state) => Step { error: NO_LONGER_FITS.into(), ..step(task) },
        None => step(task),
    };
    // A port that its node, or another node, cannot listen on is the task's fault that is shown when it has no other.
    let error = if error.is_empty() { context.fault_of_ports(task.id).to_owned() } else { error };
    TaskStatus {
        timestamp: Time::from(at),
        state: word.into(),
        message: message.into(),
        err: error,
        container_status: Some(ContainerStatus {
            container_id: match observed.container {
                Some(container) => container.to_string(),
                // A task without a container is known by its own id.
                None => observed.pid.map(|_| task.id.to_string()).unwrap_or_default(),
            },
            pid: observed.pid.map_or(0, i64::from),
            exit_code: observed.exit_code.map_or(0, i64::from),
        }),
        port_status: PortStatus { ports: published(task, state) },
    }
}

/// The ports in host mode of a running task. (Swarm shows each twice, because its engine reports one for each version of
/// IP.) The number of one that has none in the spec is what the worker has reported: one, or two where the engine has chosen
/// another one for version 6.
fn published(task: &model::Task, state: &State) -> Vec<PortConfig> {
    let spec = state.spec(task.service, task.spec_version).filter(|_| task.is_running());
    let ports = spec.iter().flat_map(|spec| &spec.endpoint).flat_map(|endpoint| &endpoint.ports);
    let named: BTreeSet<_> = ports.clone().filter_map(model::PortConfig::key).collect();
    let mut shown = Vec::new();
    for port in ports.filter(|port| port.mode == PublishMode::Host) {
        let of_port = task.observed.ports.iter().filter(|it| (it.protocol, it.target) == (port.protocol, port.target));
        let mut numbers: Vec<_> = match port.published {
            0 => of_port.map(|it| it.published).collect(),
            number => vec![number],
        };
        // What the spec names is another port of it that leads to the same target.
        numbers.retain(|number| {
            port.published != 0 || !named.contains(&model::PortKey { protocol: port.protocol, number: *number })
        });
        numbers.dedup();
        shown.extend(
            numbers.into_iter().map(|published| spec::show_port(&model::PortConfig { published, ..port.clone() })),
        );
    }
    shown
}

/// Where a task is on its way, in Docker's words.
pub(super) struct Step<'a> {
    /// Docker's state of the task.
    pub(super) word: &'static str,
    at: Timestamp,
    pub(super) message: &'a str,
    /// What went wrong; empty when nothing did.
    pub(super) error: String,
}

/// Where a task is by what managers decided and its worker saw.
pub(super) fn step(task: &model::Task) -> Step<'_> {
    let observed = &task.observed;
    match (&task.assigned, &task.written_off) {
        (_, Some(lost)) if !observed.state.is_final() => {
            Step { word: "orphaned", at: lost.at, message: "node lost", error: lost.why.clone() }
        }
        (Assigned::Pending { reason }, _) if observed.state == TaskState::New => Step {
            word: "pending",
            at: task.meta.updated_at,
            message: "pending task scheduling",
            error: reason.clone(),
        },
        (Assigned::Node(_), _) if observed.state == TaskState::New => Step {
            word: "assigned",
            at: task.meta.updated_at,
            message: "scheduler assigned task to node",
            error: String::new(),
        },
        _ => match rejected_at(task) {
            Some(at) => Step {
                word: "rejected",
                at,
                message: "task rejected by constraint enforcer",
                error: NO_LONGER_FITS.into(),
            },
            None => Step {
                word: observed.state.as_str(),
                at: observed.at,
                message: &observed.message,
                error: observed.error.clone().unwrap_or_default(),
            },
        },
    }
}

/// The time at which managers told a task to end because it no longer fits its node. While it ends, it is shown as what it
/// is; one that had done its work by then is complete.
fn rejected_at(task: &model::Task) -> Option<Timestamp> {
    let was_ended = matches!(task.observed.state, TaskState::Shutdown | TaskState::Failed);
    task.rejected_at.filter(|_| was_ended)
}

/// Whether the task goes on although its node no longer satisfies the constraints: another one is to run first.
fn is_misplaced(task: &model::Task, state: &State) -> bool {
    let node = task.node().filter(|_| task.is_wanted()).and_then(|node| state.node(node));
    let Some((node, service)) = node.zip(state.service(task.service)) else { return false };
    let Some(followed) = state.spec(task.service, task.spec_version) else { return false };
    task.is_misplaced(node, &service.spec.task.placement(), || followed.task.placement())
}

/// The time since which a node cannot be reached, and the reason; `None` when the node can be reached.
fn out_of_reach(state: &State, node: NodeId) -> Option<(Timestamp, String)> {
    let node = state.node(node)?;
    let tier = match node.reachability {
        Reachability::Unknown | Reachability::Reachable => return None,
        Reachability::Unreachable => "unreachable",
        Reachability::Down => "down",
    };
    let why = if node.message.is_empty() { String::new() } else { format!(": {}", node.message) };
    Some((node.since, format!("node {} is {tier}{why}", node.name())))
}

/// Docker's word for what managers want of the task. The task of a job is wanted to complete.
pub(super) const fn desired(task: &model::Task) -> &'static str {
    match task.desired {
        Desired::Ready => "ready",
        Desired::Running if task.job_iteration.is_some() => "complete",
        Desired::Running => "running",
        Desired::Shutdown => "shutdown",
        Desired::Remove => "remove",
    }
}

/// The loopback address of a process task in Docker's shape: clients expect a network and a mask.
fn loopback(address: IpAddr) -> NetworkAttachment {
    let bits = if address.is_ipv4() { 8 } else { 128 };
    NetworkAttachment {
        network: Network {
            id: "loopback".into(),
            version: ObjectVersion::default(),
            created_at: Time::zero(),
            updated_at: Time::zero(),
            spec: NetworkSpec { name: "loopback".into(), scope: "local".into(), ..NetworkSpec::default() },
            driver_state: Driver { name: "loopback".into(), options: Labels::new() },
            ipam_options: None,
        },
        addresses: vec![format!("{address}/{bits}")],
    }
}

/// Whether Docker counts the task as running.
pub fn is_running(task: &model::Task, state: &State) -> bool {
    task.is_running() && task.node().is_none_or(|node| out_of_reach(state, node).is_none())
}

/// Whether the task follows the service's present spec and runs where that spec allows; of a job, whether it belongs to the
/// present iteration. The CLI's progress bar asks for this.
pub(crate) fn is_up_to_date(task: &model::Task, state: &State) -> bool {
    let Some(service) = state.service(task.service) else { return false };
    if task.job_iteration != service.iteration() {
        return false;
    }
    let node = task.node().and_then(|node| state.node(node));
    let is_alike =
        || state.spec(task.service, task.spec_version).is_some_and(|it| Service::same_task(it, &service.spec));
    (task.spec_version == service.spec_version || is_alike())
        && node.is_none_or(|node| service.spec.task.placement().allows(node))
}

/// The tasks that a list with these filters contains, in the order of ids. An unknown service or node in a filter is
/// refused, as in Swarm.
pub fn list<'a>(filters: &Filters, state: &'a State) -> Result<Vec<&'a std::sync::Arc<model::Task>>, Refusal> {
    filters.expect(&FILTERS)?;
    if let Some(unknown) = filters.get("desired-state").find(|value| !STATES.contains(value)) {
        return Err(Refusal::invalid(format!("invalid desired-state filter: '{unknown}'")));
    }
    let services = filters
        .get("service")
        .map(|text| resolve::service(state, text).map(|service| service.id))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let nodes = filters
        .get("node")
        .map(|text| resolve::node(state, text).map(|node| node.id))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let up_to_date = filters.has("_up-to-date");
    let no_labels = Labels::new();
    let matches = |task: &model::Task| {
        (services.is_empty() || services.contains(&task.service))
            && (nodes.is_empty() || task.node().is_some_and(|node| nodes.contains(&node)))
            && (!up_to_date || is_up_to_date(task, state))
            && filters.begins("id", &task.id.to_string())
            && filters.equals("desired-state", desired(task))
            && filters.equals("runtime", "container")
            && (!filters.has("name") || filters.begins("name", &resolve::name_of_task(state, task)))
            && filters.labels("label", state.spec(task.service, task.spec_version).map_or(&no_labels, |it| &it.labels))
    };
    // When a service or a node is named, an index of the state avoids walking over every task.
    let candidates: Vec<_> = if !services.is_empty() {
        services.iter().flat_map(|service| state.tasks_of(*service)).collect()
    } else if !nodes.is_empty() {
        nodes.iter().flat_map(|node| state.tasks_on(*node)).collect()
    } else {
        state.tasks().collect()
    };
    Ok(candidates.into_iter().filter(|task| matches(task)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Observed, ServiceId, TaskId, fixtures};
    use essaim_wire::Index;

    #[test]
    fn a_port_in_host_mode_is_shown_once_under_each_number_that_its_node_chose() {
        let mut state = State::default();
        fixtures::done(&mut state, Timestamp::default(), vec![model::Change::Found(Box::new(fixtures::founding()))]);
        let port = |target, published| model::PortConfig {
            name: String::new(),
            protocol: model::PortProtocol::Tcp,
            target,
            published,
            mode: PublishMode::Host,
        };
        let endpoint =
            model::EndpointSpec { ports: vec![port(80, 0), port(80, 8080), port(81, 0)], ..Default::default() };
        let spec = model::ServiceSpec { endpoint: Some(endpoint), ..fixtures::service("web", 1) };
        let id = ServiceId::from_bits(100);
        let create = model::Change::CreateService { id, spec: Box::new(spec) };
        fixtures::done(&mut state, Timestamp::default(), vec![create]);
        let version = state.service(id).expect("there").spec_version;
        let mut task = fixtures::task(TaskId::from_bits(1), id, version, NodeId::from_bits(1));
        let chosen = |target, published| model::HostPort { protocol: model::PortProtocol::Tcp, target, published };
        task.observed.ports =
            vec![chosen(80, 8080), chosen(80, 49_153), chosen(80, 49_153), chosen(81, 49_154), chosen(81, 49_155)];
        assert_eq!(published(&task, &state), [], "it does not run");
        task.observed.state = TaskState::Running;
        let shown: Vec<_> = published(&task, &state).iter().map(|it| (it.published_port, it.target_port)).collect();
        let of = |published, target| (published, target);
        assert_eq!(shown, [of(49_153, 80), of(8080, 80), of(49_154, 81), of(49_155, 81)]);
    }

    #[test]
    fn a_task_that_no_longer_fits_its_node_reads_as_in_swarm_when_it_has_ended() {
        let task = |state, rejected_at| {
            let (service, node) = (ServiceId::from_bits(1), NodeId::from_bits(1));
            let observed = Observed { state, ..Observed::nothing(Timestamp::from_micros(9)) };
            let task = fixtures::task(TaskId::from_bits(1), service, Index(1), node);
            model::Task { desired: Desired::Shutdown, observed, rejected_at, ..task }
        };
        let at = Some(Timestamp::from_micros(5));
        let word = |state, rejected_at| step(&task(state, rejected_at)).word;
        assert_eq!(word(TaskState::Shutdown, None), "shutdown");
        assert_eq!(word(TaskState::Running, at), "running", "it has not ended yet");
        assert_eq!(word(TaskState::Complete, at), "complete", "it had done its work");
        let ended = task(TaskState::Shutdown, at);
        let Step { word, at, message, error } = step(&ended);
        assert_eq!((word, message), ("rejected", "task rejected by constraint enforcer"));
        assert_eq!((at, error.as_str()), (Timestamp::from_micros(5), NO_LONGER_FITS));
    }

    #[test]
    fn a_port_that_a_node_cannot_listen_on_is_the_error_of_its_running_task() {
        let (mut state, at) = (State::default(), Timestamp::from_micros(1));
        let (service, node, id) = (ServiceId::from_bits(1), NodeId::from_bits(1), TaskId::from_bits(1));
        let port = model::PortConfig {
            name: String::new(),
            protocol: model::PortProtocol::Tcp,
            target: 8080,
            published: 80,
            mode: PublishMode::Ingress,
        };
        let mut founding = fixtures::founding();
        let description = founding.node.description.as_mut().expect("described");
        let key = port.key().expect("numbered");
        description.unpublished =
            vec![model::UnpublishedPort { port: key, why: "held by nginx (pid 7) (at 10.0.0.1)".into() }];
        let mut spec = fixtures::service("web", 1);
        spec.endpoint.get_or_insert_default().ports = vec![port];
        fixtures::done(&mut state, at, vec![model::Change::Found(Box::new(founding))]);
        fixtures::done(&mut state, at, vec![model::Change::CreateService { id: service, spec: Box::new(spec) }]);
        let version = state.applied().index;
        let task = fixtures::task(id, service, version, node);
        fixtures::done(&mut state, at, vec![model::Change::CreateTask(Box::new(task))]);
        let error = |state: &State| show(state.task(id).expect("created"), &Context::new(state, None)).status.err;
        assert_eq!(error(&state), "", "it does not run yet");
        let observed = Observed { state: TaskState::Running, ..Observed::nothing(at) };
        fixtures::done(&mut state, at, vec![model::Change::Observe { node, reports: vec![(id, observed)] }]);
        assert_eq!(error(&state), "port 80/tcp is not published on n1: held by nginx (pid 7) (at 10.0.0.1)");
    }
}
