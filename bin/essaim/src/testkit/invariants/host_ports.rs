//! Ports in host mode: a machine has each of them once.
//!
//! No task is given a node on which another one, which has not ended, has one of its ports. A task that waits for the end of
//! the other one in its slot takes that one's port over.

use super::updates::{created, given};
use essaim_model::{Desired, Event, PortKey, Proposal, PublishMode, State, Task};
use std::collections::BTreeSet;

/// Returns what is wrong with the nodes that tasks are given in the step to this state.
pub fn judge(after: &State, events: &[Event], proposal: &Proposal) -> Vec<String> {
    // Only a leader's decisions are judged: they carry its term.
    if proposal.fence.is_none() {
        return Vec::new();
    }
    let index = after.applied().index.0;
    let tasks = created(events).chain(given(events));
    tasks.filter_map(|task| clashes(after, task)).map(|why| format!("at index {index}: {why}")).collect()
}

/// The ports in host mode to which the spec that a task follows gives numbers.
fn ports(state: &State, task: &Task) -> BTreeSet<PortKey> {
    let spec = state.spec(task.service, task.spec_version);
    let ports = spec.and_then(|spec| spec.endpoint.as_ref()).map(|endpoint| &endpoint.ports);
    let of_host = ports.into_iter().flatten().filter(|port| port.mode == PublishMode::Host);
    of_host.filter_map(|port| port.key()).collect()
}

fn clashes(state: &State, new: &Task) -> Option<String> {
    let (node, own) = (new.node()?, ports(state, new));
    if own.is_empty() {
        return None;
    }
    let takes_over =
        |other: &Task| new.desired == Desired::Ready && (other.service, other.slot) == (new.service, new.slot);
    let holds = |other: &Task| other.id != new.id && !other.observed.state.is_final() && other.written_off.is_none();
    let others = state.tasks_on(node).filter(|other| holds(other) && !takes_over(other));
    let mut shared = others.filter_map(|other| Some((other.id, *ports(state, other).intersection(&own).next()?)));
    let (other, port) = shared.next()?;
    let node = state.node(node).map_or_else(|| "a node".to_owned(), |node| node.name());
    Some(format!("task {} is given {node}, where {other} has its port {port}", new.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{self, HOUR, apply};
    use essaim_model::fixtures::service;
    use essaim_model::{Change, EndpointSpec, PortConfig, PortProtocol, Slot, TaskState};

    #[test]
    fn a_task_that_is_given_a_node_whose_port_another_one_has_is_seen() {
        let mut spec = service("web", 2);
        let (protocol, mode) = (PortProtocol::Tcp, PublishMode::Host);
        let port = PortConfig { name: String::new(), protocol, target: 81, published: 9_001, mode };
        spec.endpoint = Some(EndpointSpec { dns_round_robin: false, ports: vec![port] });
        let running = fixture::task(1, TaskState::Running);
        for (slot, desired, count) in [(2, Desired::Running, 1), (1, Desired::Ready, 0), (1, Desired::Running, 1)] {
            let mut state = fixture::world(spec.clone(), std::slice::from_ref(&running));
            let new = Task { slot: Slot::Number(slot), desired, ..fixture::task(11, TaskState::New) };
            let (events, proposal) = apply(&mut state, HOUR, vec![Change::CreateTask(Box::new(new))]);
            let wrong = judge(&state, &events, &proposal);
            assert_eq!(wrong.len(), count, "{wrong:?}");
            assert!(wrong.iter().all(|it| it.contains("has its port 9001/tcp")), "{wrong:?}");
        }
    }
}
