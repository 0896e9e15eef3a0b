//! The state: everything the managers agree on, as one value that is cheap to copy.
//!
//! The maps are persistent: a clone shares all it can. So a reader, a watcher or the builder of a snapshot holds a
//! frozen state without a lock while `apply` goes on. Beside the objects the state has indexes for the common questions
//! (tasks of a service, tasks of a node, a service by name); only `apply` writes them.

use crate::noun::Tables;
use crate::requests::Requests;
use crate::{
    Allocation, AnyObject, Cluster, ConfigSpec, EngineKind, IngressPort, NetworkId, Node, Noun, Object, Payload,
    PayloadId, PortKey, Position, SecretSpec, Service, ServiceId, ServiceSpec, Slot, Task, TaskId,
};
use essaim_wire::{Index, NodeId, Removals, Role, Timestamp};
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

/// Everything the managers agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub(crate) applied: Position,
    pub(crate) at: Timestamp,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) specs: OrdMap<(ServiceId, Index), KeptSpec>,
    pub(crate) tasks: OrdMap<TaskId, Arc<Task>>,
    pub(crate) removed: Removals,
    /// The removed nodes by the time at which each removal is forgotten.
    pub(crate) removed_until: OrdSet<(Timestamp, NodeId)>,
    pub(crate) requests: OrdMap<NodeId, Requests>,
    /// Version of each node's assignment: the log index at which the set of the node's tasks, or what is wanted of one
    /// of them, last changed.
    pub(crate) assignments: OrdMap<NodeId, Index>,
    /// The node on which each slot's data is: the last one on which a task of the slot ran, for services whose tasks keep
    /// data there. It outlives the slot's tasks, so that a slot that is scaled away and back finds its data.
    pub(crate) homes: OrdMap<(ServiceId, Slot), NodeId>,
    /// Log index at which the last plan for each service was carried out.
    pub(crate) plans: OrdMap<ServiceId, Index>,
    pub(crate) service_by_name: OrdMap<String, ServiceId>,
    pub(crate) tasks_by_service: OrdSet<(ServiceId, Slot, TaskId)>,
    pub(crate) tasks_by_node: OrdSet<(NodeId, TaskId)>,
    pub(crate) tables: Tables,
    /// What each removed network had, by the time of its removal.
    pub(crate) quarantine: OrdMap<(Timestamp, NetworkId), Arc<Allocation>>,
    /// The nodes that are managers now: at most seven among ten thousand.
    pub(crate) manager_nodes: OrdSet<NodeId>,
    /// The services that publish a port under a number, by that number.
    pub(crate) publishers: OrdSet<(PortKey, ServiceId)>,
    /// The ports that every node publishes.
    pub(crate) ingress: OrdMap<PortKey, IngressPort>,
}

/// A spec that is in force, or that a remembered task follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptSpec {
    pub(crate) spec: Arc<ServiceSpec>,
    /// Remembered tasks that follow the spec.
    pub(crate) tasks: u32,
}

impl State {
    /// Records that the log advanced without a proposal, as it does when a leader begins or the Raft group changes.
    pub fn pass(&mut self, position: Position) {
        self.applied = position;
    }

    /// The last position of the log that this state contains.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    /// The state's own time: that of the latest proposal. It never goes back.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The cluster; `None` before it is founded.
    pub const fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// Every node, in the order of ids.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// The nodes that are managers now.
    pub fn managers(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.manager_nodes.iter().filter_map(|id| self.nodes.get(id))
    }

    /// The nodes that were removed, and the time until which each one's certificate would be valid.
    pub fn removed(&self) -> impl ExactSizeIterator<Item = (NodeId, Timestamp)> + '_ {
        self.removed.iter()
    }

    /// The removals of this state, to be kept and compared with those of a later state.
    pub const fn removals(&self) -> &Removals {
        &self.removed
    }

    /// Remembers a removal until this time.
    pub(crate) fn put_removal(&mut self, id: NodeId, until: Timestamp) {
        if let Some(before) = self.removed.insert(id, until) {
            self.removed_until.remove(&(before, id));
        }
        self.removed_until.insert((until, id));
    }

    /// Forgets the removals whose time is over. The cost is that of the removals that are forgotten.
    pub(crate) fn forget_removals(&mut self, now: Timestamp) {
        while let Some((until, id)) = self.removed_until.get_min().copied().filter(|(until, _)| *until <= now) {
            self.removed_until.remove(&(until, id));
            self.removed.forget(id);
        }
    }

    /// Inserts or replaces a node, and updates the index of managers.
    pub(crate) fn put_node(&mut self, node: Arc<Node>) {
        // Both change a shared set only where it differs: to write to it is to copy a part of it.
        match (node.role == Role::Manager, self.manager_nodes.contains(&node.id)) {
            (true, false) => drop(self.manager_nodes.insert(node.id)),
            (false, true) => drop(self.manager_nodes.remove(&node.id)),
            _ => (),
        }
        self.nodes.insert(node.id, node);
    }

    /// Every service, in the order of ids.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The service with this id.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// The service with this name.
    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.service_by_name.get(name).and_then(|id| self.services.get(id))
    }

    /// A spec of a service by its version. A spec is kept for as long as a task follows it.
    pub fn spec(&self, service: ServiceId, version: Index) -> Option<&Arc<ServiceSpec>> {
        self.specs.get(&(service, version)).map(|kept| &kept.spec)
    }

    /// The engine that runs the tasks of a spec: the engine that the spec names, or the cluster's default.
    pub fn engine_of(&self, spec: &ServiceSpec) -> EngineKind {
        let default = || self.cluster.as_ref().map_or(EngineKind::Process, |cluster| cluster.default_engine);
        spec.engine().unwrap_or_else(default)
    }

    /// The ports that every node publishes, and what they lead to. A persistent map: to keep it, and to compare it with that
    /// of a later state, costs little.
    pub const fn ingress(&self) -> &OrdMap<PortKey, IngressPort> {
        &self.ingress
    }

    /// Every task, in the order of ids.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// The task with this id.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// The tasks of a service, in the order of slots and ids.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let first = (service, Slot::Number(0), TaskId::from_bits(0));
        self.tasks_by_service
            .range(first..)
            .take_while(move |(of, _, _)| *of == service)
            .filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The tasks of one slot of a service, in the order of ids.
    pub fn tasks_in(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_by_service
            .range((service, slot, TaskId::from_bits(0))..=(service, slot, TaskId::from_bits(u128::MAX)))
            .filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The node on which the data of a service's slot is; `None` when no task of the slot ran yet, or none that keeps data.
    pub fn home(&self, service: ServiceId, slot: Slot) -> Option<NodeId> {
        self.homes.get(&(service, slot)).copied()
    }

    /// The tasks that were given to a node, in the order of ids.
    pub fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_by_node
            .range((node, TaskId::from_bits(0))..=(node, TaskId::from_bits(u128::MAX)))
            .filter_map(|(_, task)| self.tasks.get(task))
    }

    /// Every object of the noun `N`, in the order of ids.
    pub fn all<N: Noun>(&self) -> impl ExactSizeIterator<Item = &Arc<Object<N>>> {
        N::table(&self.tables).all()
    }

    /// The object of the noun `N` with this id.
    pub fn object<N: Noun>(&self, id: N::Id) -> Option<&Arc<Object<N>>> {
        N::table(&self.tables).object(id)
    }

    /// The object of the noun `N` with this name.
    pub fn object_named<N: Noun>(&self, name: &str) -> Option<&Arc<Object<N>>> {
        N::table(&self.tables).named(name)
    }

    /// The payload of a secret or config; `None` when the object was removed.
    pub fn payload(&self, id: PayloadId) -> Option<&Payload> {
        match id {
            PayloadId::Secret(id) => self.object::<SecretSpec>(id).map(|secret| &secret.spec.data),
            PayloadId::Config(id) => self.object::<ConfigSpec>(id).map(|config| &config.spec.data),
        }
    }

    /// Every object of every noun.
    pub fn objects(&self) -> impl Iterator<Item = AnyObject> + '_ {
        self.tables.objects()
    }

    /// Version of a node's assignment: the log index at which it last changed.
    pub fn assignment_version(&self, node: NodeId) -> Index {
        self.assignments.get(&node).copied().unwrap_or_default()
    }
}
