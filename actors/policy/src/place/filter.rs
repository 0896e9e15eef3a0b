//! Who may sit where: the filters, in the order in which Swarm asks them, and the words for a no.

use super::board::Seat;
use essaim_model::{
    Availability, Constraint, EngineKind, PortProtocol, PublishMode, ServiceId, ServiceSpec, Share, loopback,
};
use std::collections::BTreeMap;
use std::fmt;

/// What the tasks of one version of a service ask of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) service: ServiceId,
    pub(super) reservation: Share,
    pub(super) engine: EngineKind,
    constraints: Vec<Constraint>,
    pub(super) host_ports: Vec<(PortProtocol, u16)>,
    /// How many of the node's addresses each task takes.
    pub(super) addresses: u32,
    per_node_max: u64,
}

impl Needs {
    pub(super) fn of(service: ServiceId, spec: &ServiceSpec, engine: EngineKind) -> Self {
        let placement = spec.task.placement();
        let ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        Self {
            service,
            reservation: spec.task.reservation(),
            engine,
            constraints: placement.constraints,
            host_ports: ports
                .filter(|port| port.mode == PublishMode::Host && port.published != 0)
                .map(|port| (port.protocol, port.published))
                .collect(),
            addresses: u32::from(engine.claims_addresses()),
            per_node_max: placement.replicas_max_per_node,
        }
    }

    /// Whether what other tasks take up on a node may keep such a task off it, its addresses apart: of these there are
    /// enough nearly always.
    pub(super) fn take_room(&self) -> bool {
        self.reservation.nano_cpus > 0
            || self.reservation.memory_bytes > 0
            || !self.host_ports.is_empty()
            || self.per_node_max > 0
    }

    /// The first filter that keeps such a task off this node, if one does.
    pub(super) fn refused_by(&self, seat: &Seat, of_service: u32) -> Option<Reason> {
        let node = &seat.node;
        if !node.is_ready() || node.unsteady || node.spec.availability != Availability::Active {
            return Some(Reason::NotAvailable);
        }
        // Not ready without a description, so it has one.
        let description = node.description.as_ref()?;
        let hardware = description.hardware;
        let (cpus, memory) = (self.reservation.nano_cpus, self.reservation.memory_bytes);
        if (cpus > 0 && seat.used.nano_cpus.saturating_add(cpus) > hardware.nano_cpus)
            || (memory > 0 && seat.used.memory_bytes.saturating_add(memory) > hardware.memory_bytes)
        {
            return Some(Reason::Resources);
        }
        if !description.engines.contains(&self.engine) {
            return Some(Reason::Engine);
        }
        if self.addresses > 0 && seat.addresses + self.addresses > loopback::ADDRESSES {
            return Some(Reason::Addresses);
        }
        if !self.constraints.iter().all(|constraint| constraint.matches(node)) {
            return Some(Reason::Constraints);
        }
        if self.host_ports.iter().any(|port| seat.ports.contains_key(port)) {
            return Some(Reason::HostPort);
        }
        if self.per_node_max > 0 && u64::from(of_service) >= self.per_node_max {
            return Some(Reason::MaxReplicas);
        }
        None
    }
}

/// Why a node may not have a task. The order is that of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It cannot be reached, was unsteady lately, restarts, or was set to pause or drain.
    NotAvailable,
    /// What it has left is less than what is to be set aside.
    Resources,
    /// It lacks the engine.
    Engine,
    /// Every address that it has for tasks is taken.
    Addresses,
    /// A constraint keeps the service off it.
    Constraints,
    /// A task there listens on the same port of the host.
    HostPort,
    /// It has as many tasks of this service as one node may have.
    MaxReplicas,
}

impl Reason {
    /// Swarm's words, where it has some.
    fn words(self, nodes: u32) -> String {
        let on = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        match self {
            Self::NotAvailable => format!("{on} not available for new tasks"),
            Self::Resources => format!("insufficient resources on {on}"),
            Self::Engine => format!("missing engine on {on}"),
            Self::Addresses => format!("no address left on {on}"),
            Self::Constraints => format!("scheduling constraints not satisfied on {on}"),
            Self::HostPort => format!("host-mode port already in use on {on}"),
            Self::MaxReplicas => "max replicas per node limit exceed".into(),
        }
    }
}

/// Why no node may have a task: how many nodes each filter kept it off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// Nodes by the first filter that said no.
    pub nodes: BTreeMap<Reason, u32>,
}

impl Explanation {
    pub(super) fn count(&mut self, reason: Reason) {
        *self.nodes.entry(reason).or_default() += 1;
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no suitable node")?;
        let mut reasons: Vec<(Reason, u32)> = self.nodes.iter().map(|(reason, nodes)| (*reason, *nodes)).collect();
        // The filter that kept off most nodes is named first; of equals, the one that was asked first.
        reasons.sort_by_key(|(reason, nodes)| (std::cmp::Reverse(*nodes), *reason));
        let words: Vec<String> = reasons.into_iter().map(|(reason, nodes)| reason.words(nodes)).collect();
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join("; ")) }
    }
}
