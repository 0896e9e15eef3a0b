//! Conversion between Docker's types and the nouns of `model`.
//!
//! Outwards, an object of the state becomes what Docker would show. Inwards, a request becomes a spec of `model`,
//! parsed so that an invalid one cannot exist. A setting of Swarm that has no effect yet is refused in words, unless it
//! is what the CLI sends in any case (`0.0.0.0:2377`). All settings of a service are parsed;
//! `model::service::support` refuses those that nothing honours.

mod container;
pub mod event;
pub mod network;
pub mod node;
pub mod service;
pub mod spec;
pub mod swarm;
pub mod task;
pub mod tls;

use crate::Nanos;
use essaim_model::{Cluster, Refusal, State, TaskId};
use essaim_wire::NodeId;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// What is needed beside an object to show it: the state it belongs to, the leader, and the root certificate.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// State that the shown objects belong to.
    pub state: &'a State,
    /// Leader of the managers, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Root certificate in Docker's shape.
    pub tls: crate::node::TlsInfo,
    /// Faults of published ports, by the task that shows them. Looked up when the first task is shown.
    faults: OnceLock<BTreeMap<TaskId, String>>,
}

impl<'a> Context<'a> {
    /// The context for objects of `state`, with the present leader.
    pub fn new(state: &'a State, leader: Option<NodeId>) -> Self {
        let root = state.cluster().map(|cluster: &std::sync::Arc<Cluster>| cluster.authority.certificate.as_str());
        Self { state, leader, tls: root.map(tls::info).unwrap_or_default(), faults: OnceLock::new() }
    }

    /// What is wrong with the published ports of a task; empty when nothing is.
    fn fault_of_ports(&self, task: TaskId) -> &str {
        self.faults.get_or_init(|| self.state.faults_of_ports()).get(&task).map_or("", String::as_str)
    }
}

/// Converts nanoseconds to a duration; a negative number is refused. `what` names the setting in the refusal.
fn duration(what: &str, nanos: Nanos) -> Result<Duration, Refusal> {
    match u64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => Err(Refusal::invalid(format!("{what} cannot be negative"))),
    }
}

/// Converts a duration to nanoseconds; one that does not fit becomes the largest number.
fn nanos(span: Duration) -> Nanos {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads a text field of Docker's, which is empty when it was left out.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
