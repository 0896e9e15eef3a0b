//! Snapshots: the whole state as a stream of pieces, so that a snapshot is never one large buffer; and as a hash, so
//! that two managers can tell whether they agree.
//!
//! A piece is one object, or one record beside the objects. Indexes are not part of the snapshot: they are rebuilt as
//! pieces are inserted. Pieces come in the order of the maps, so the same state gives the same pieces and the same
//! hash.

use crate::state::KeptSpec;
use crate::{
    Allocation, AnyObject, Cluster, NetworkId, Node, Outcome, Position, Service, ServiceId, ServiceSpec, Slot, State,
    Task,
};
use bincode::{Decode, Encode};
use essaim_wire::{Generation, Index, NodeId, Sum, Timestamp, encode};
use std::sync::Arc;

/// One part of a state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Piece {
    /// Position of the state in the log and in time.
    Head {
        /// Last position of the log that the state contains.
        applied: Position,
        /// The state's own time.
        at: Timestamp,
    },
    /// The cluster object.
    Cluster(Arc<Cluster>),
    /// A node.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A spec that is in force or that a task follows, by service and version.
    Spec(ServiceId, Index, Arc<ServiceSpec>),
    /// A task.
    Task(Arc<Task>),
    /// A node that was removed, and the time until which its certificate would be valid.
    Removed(NodeId, Timestamp),
    /// A node and the log index at which its assignment last changed.
    Assignment(NodeId, Index),
    /// The outcome of a request that was applied.
    Request {
        /// Node that proposed the request.
        origin: NodeId,
        /// Start of that node's daemon.
        generation: Generation,
        /// Sequence number of the request.
        seq: u64,
        /// What became of the request.
        outcome: Outcome,
        /// Sequence numbers below this one are no longer remembered.
        floor: u64,
    },
    /// A service and the log index at which the last plan for it was carried out.
    Plan(ServiceId, Index),
    /// An object of a plain noun.
    Object(AnyObject),
    /// A slot of a service, and the node on which its data is.
    Home(ServiceId, Slot, NodeId),
    /// A removed network, the time of its removal, and what it had, which no other network gets for a while.
    Quarantined(NetworkId, Timestamp, Arc<Allocation>),
}

impl State {
    /// The state, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        std::iter::once(Piece::Head { applied: self.applied, at: self.at })
            .chain(self.cluster.iter().cloned().map(Piece::Cluster))
            .chain(self.nodes.values().cloned().map(Piece::Node))
            .chain(self.services.values().cloned().map(Piece::Service))
            .chain(self.specs.iter().map(|((id, version), kept)| Piece::Spec(*id, *version, Arc::clone(&kept.spec))))
            .chain(self.tasks.values().cloned().map(Piece::Task))
            .chain(self.removed.iter().map(|(id, until)| Piece::Removed(id, until)))
            .chain(self.assignments.iter().map(|(id, index)| Piece::Assignment(*id, *index)))
            .chain(self.requests.iter().flat_map(|(origin, window)| {
                window.outcomes.iter().map(|(seq, outcome)| Piece::Request {
                    origin: *origin,
                    generation: window.generation,
                    seq: *seq,
                    outcome: outcome.clone(),
                    floor: window.floor,
                })
            }))
            .chain(self.plans.iter().map(|(id, index)| Piece::Plan(*id, *index)))
            .chain(self.objects().map(Piece::Object))
            .chain(self.homes.iter().map(|((id, slot), node)| Piece::Home(*id, *slot, *node)))
            .chain(self.quarantine.iter().map(|((at, id), had)| Piece::Quarantined(*id, *at, Arc::clone(had))))
    }

    /// Inserts a piece. Pieces may come in any order in which a spec precedes the tasks that follow it.
    pub fn insert(&mut self, piece: Piece) {
        match piece {
            Piece::Head { applied, at } => (self.applied, self.at) = (applied, at),
            Piece::Cluster(cluster) => self.cluster = Some(cluster),
            Piece::Node(node) => self.put_node(node),
            Piece::Service(service) => {
                self.service_by_name.insert(service.spec.name.as_str().to_owned(), service.id);
                self.index_ports(&service);
                self.services.insert(service.id, service);
            }
            Piece::Spec(id, version, spec) => {
                self.specs.insert((id, version), KeptSpec { spec, tasks: 0 });
            }
            Piece::Task(task) => {
                if let Some(kept) = self.specs.get_mut(&(task.service, task.spec_version)) {
                    kept.tasks += 1;
                }
                self.tasks_by_service.insert((task.service, task.slot, task.id));
                if let Some(node) = task.node() {
                    self.tasks_by_node.insert((node, task.id));
                }
                self.tasks.insert(task.id, task);
            }
            Piece::Removed(id, until) => self.put_removal(id, until),
            Piece::Assignment(id, index) => {
                self.assignments.insert(id, index);
            }
            Piece::Request { origin, generation, seq, outcome, floor } => {
                let window = self.requests.entry(origin).or_default();
                (window.generation, window.floor) = (generation, floor);
                window.outcomes.insert(seq, outcome);
            }
            Piece::Plan(id, index) => {
                self.plans.insert(id, index);
            }
            Piece::Object(object) => self.tables.insert(object),
            Piece::Home(id, slot, node) => {
                self.homes.insert((id, slot), node);
            }
            Piece::Quarantined(id, at, allocation) => {
                self.quarantine.insert((at, id), allocation);
            }
        }
    }

    /// Hash of the state: the sum of the bytes of its pieces. Equal states have equal hashes on every machine.
    pub fn hash(&self) -> u64 {
        let mut sum = Sum::default();
        self.pieces().for_each(|piece| sum.add(&encode(&piece)));
        sum.value()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("snapshot": Piece);
