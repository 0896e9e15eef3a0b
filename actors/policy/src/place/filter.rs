//! Placement filters: which nodes may have a task, in the order in which Swarm applies them, and the texts of refusals.

use super::needs::Needs;
use super::seat::Seat;
use essaim_model::{Node, loopback};
use essaim_wire::planted::{Bug, planted};
use std::collections::BTreeMap;
use std::fmt;

/// Nodes that an explanation names at most; further ones are counted.
const NAMED_MAX: usize = 3;

impl Needs {
    /// The first filter that refuses such a task on this node; none if all accept it.
    pub(super) fn refused_by(&self, seat: &Seat, of_service: u32) -> Option<Reason> {
        let lacks = self.lacks_room(seat, of_service);
        if let Some(Reason::NotAvailable | Reason::Resources) = lacks {
            return lacks;
        }
        let node = seat.node.as_ref()?;
        // A node is not ready without a description, so this one has a description.
        let description = node.description.as_ref()?;
        let terrain = &self.terrain;
        if !terrain.has_plugins(node) {
            return Some(Reason::Plugin);
        }
        if !description.engines.contains(&terrain.engine) {
            return Some(Reason::Engine);
        }
        if node.level < terrain.level {
            return Some(Reason::Older);
        }
        if lacks == Some(Reason::Addresses) {
            return lacks;
        }
        if !terrain.placement.allows(node) {
            return Some(Reason::Constraints);
        }
        if !terrain.placement.supports(node) {
            return Some(Reason::Platform);
        }
        lacks
    }

    /// The first filter that depends on more than the node's record and refuses such a task. Whether the record suits
    /// is asked by [`Terrain::suits`](super::needs::Terrain::suits).
    pub(super) fn lacks_room(&self, seat: &Seat, of_service: u32) -> Option<Reason> {
        if !seat.is_open {
            return Some(Reason::NotAvailable);
        }
        let hardware = seat.hardware;
        let (cpus, memory) = (self.reservation.nano_cpus, self.reservation.memory_bytes);
        if (cpus > 0 && seat.used.nano_cpus.saturating_add(cpus) > hardware.nano_cpus)
            || (memory > 0 && seat.used.memory_bytes.saturating_add(memory) > hardware.memory_bytes)
            || !(self.generic.is_empty() || seat.has_generic(&self.generic))
        {
            return Some(Reason::Resources);
        }
        if self.addresses > 0 && seat.addresses + self.addresses > loopback::ADDRESSES {
            return Some(Reason::Addresses);
        }
        if self.host_ports.iter().any(|port| seat.ports.contains_key(port)) && !planted(Bug::HostPortGivenTwice) {
            return Some(Reason::HostPort);
        }
        if self.most_per_node > 0 && u64::from(of_service) >= self.most_per_node {
            return Some(Reason::MaxReplicas);
        }
        None
    }
}

/// Why a node may not have a task, in the order of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The node cannot be reached, was unsteady lately, restarts, or was set to pause or drain.
    NotAvailable,
    /// The node has fewer free resources, generic ones included, than the task reserves.
    Resources,
    /// The node's engine lacks a plugin: the driver of a volume or of the task's log.
    Plugin,
    /// The node lacks the task's engine.
    Engine,
    /// The node's program is older than the spec: it could not read the order.
    Older,
    /// Every task address of the node is in use.
    Addresses,
    /// The node does not satisfy a constraint of the service.
    Constraints,
    /// The image has no variant for the node's platform.
    Platform,
    /// A task on the node publishes the same host port.
    HostPort,
    /// The node has as many tasks of this service as one node may have.
    MaxReplicas,
}

impl Reason {
    /// The refusal as text: Swarm's, where Swarm has one. `named` are the names of the first of these nodes, for a refusal
    /// after which an operator has to do something on the node.
    fn words(self, nodes: u32, named: &[String]) -> String {
        let on = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        match self {
            Self::NotAvailable => format!("{on} not available for new tasks"),
            Self::Resources => format!("insufficient resources on {on}"),
            Self::Plugin => format!("missing plugin on {on}"),
            Self::Engine => format!("missing engine on {on}"),
            Self::Older => {
                let others = nodes as usize - named.len().min(nodes as usize);
                let names = named.join(", ");
                match (named.len(), others) {
                    (1, 0) => format!("node {names} runs an older essaim"),
                    (_, 0) => format!("nodes {names} run an older essaim"),
                    _ => format!("nodes {names} and {others} others run an older essaim"),
                }
            }
            Self::Addresses => format!("no address left on {on}"),
            Self::Constraints => format!("scheduling constraints not satisfied on {on}"),
            Self::Platform => format!("unsupported platform on {on}"),
            Self::HostPort => format!("host-mode port already in use on {on}"),
            Self::MaxReplicas => "max replicas per node limit exceed".into(),
        }
    }
}

/// Why no node may have a task: the number of nodes that each filter refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// Number of nodes by the first filter that refused them.
    pub nodes: BTreeMap<Reason, u32>,
    /// Names of the first nodes that run an older program: an operator has to upgrade them.
    pub older: Vec<String>,
    /// Name of the node on which the slot's data is, if the task waits for that node.
    pub home: Option<String>,
}

impl Explanation {
    pub(super) fn count(&mut self, reason: Reason, node: &Node) {
        *self.nodes.entry(reason).or_default() += 1;
        if reason == Reason::Older && self.older.len() < NAMED_MAX {
            self.older.push(node.name());
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.home {
            Some(home) => write!(f, "waits for node {home}, where its data is")?,
            None => f.write_str("no suitable node")?,
        }
        let mut reasons: Vec<(Reason, u32)> = self.nodes.iter().map(|(reason, nodes)| (*reason, *nodes)).collect();
        // The filter that refused most nodes comes first; ties go to the earlier filter.
        reasons.sort_by_key(|(reason, nodes)| (std::cmp::Reverse(*nodes), *reason));
        let words: Vec<String> = reasons.into_iter().map(|(reason, nodes)| reason.words(nodes, &self.older)).collect();
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join("; ")) }
    }
}
