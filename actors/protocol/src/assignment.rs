//! Assignments: what a manager orders a node to do. A node is told its own tasks and nothing about other nodes' tasks.
//!
//! A node is told of every task of its own that the managers have a record of: an order for each task that has not ended,
//! and the ids of those that have ended. What is left of an ended task at its node (its container or folder, with the
//! logs) stays for as long as the managers keep the task's record, and no longer.
//!
//! An assignment carries the log index at which this node's orders last changed. A worker keeps on its disk the highest
//! version it has obeyed, and obeys no lower one. So an old leader, an old manager or an old message cannot turn it
//! back. After the first assignment of a link only the difference is sent.
//!
//! Orders travel in parts, so that no message comes near the size of a frame however many tasks a node has and however
//! large their specs are ([`Assignment::parts`]). The worker reassembles the parts ([`Assembly`]) and obeys the whole
//! assignment or nothing of it.

use bincode::{Decode, Encode};
use essaim_model::{
    Desired, EngineKind, GenericStock, Observed, Payload, PayloadId, ServiceId, ServiceSpec, Slot, TaskId,
};
use essaim_wire::record;
use essaim_wire::{ClusterId, Index, Lineage, encoded_len};
use std::mem::take;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Version of a node's orders: a log index within a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct AssignmentVersion {
    /// Lineage of the log.
    pub lineage: Lineage,
    /// Log index at which this node's orders last changed.
    pub index: Index,
}

/// The orders for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Version of these orders.
    pub version: AssignmentVersion,
    /// Version that these orders are the difference to. A worker that has another version says hello again. `None`:
    /// these are all tasks of the node, and the worker stops and removes whatever else it has.
    pub base: Option<AssignmentVersion>,
    /// Cluster that the node belongs to.
    pub cluster: ClusterId,
    /// The /24 of the loopback range from which the worker gives addresses to its process tasks.
    pub subnet: Ipv4Addr,
    /// Tasks that are new, or of which something else is wanted than before.
    pub tasks: Vec<TaskOrder>,
    /// Tasks that have ended for the managers, or were written off, and whose records they keep. The worker stops what
    /// still runs of them, reports on them no more, and keeps what is left of them with their logs.
    pub ended: Vec<TaskId>,
    /// Tasks of which the managers no longer have a record. The worker stops what still runs of them, and removes what
    /// is left of them with their logs.
    pub dropped: Vec<TaskId>,
    /// Specs that `tasks` follow and that the node was not sent yet.
    pub specs: Vec<(ServiceId, Index, Arc<ServiceSpec>)>,
    /// Payloads of the secrets and configs that `specs` name and that the node was not sent yet. The worker keeps them in
    /// memory only, for as long as one of its tasks follows a spec that names them.
    pub payloads: Vec<(PayloadId, Payload)>,
    /// Number of this part of the orders, counted from 0.
    pub part: u32,
    /// Whether another part of these orders follows.
    pub more: bool,
}
record!(Assignment { 1: version, base, cluster, subnet, tasks, ended, dropped, specs, payloads, part, more });

/// Bytes of orders that one part holds, about: enough for two hundred tasks or for 3,600 ids of ended ones (a node with
/// two hundred slots and the default history has a thousand), and little to wait behind. A spec or payload that is
/// larger (at most what a proposal holds, 1 MiB) is a part of its own.
const PART_BYTES: usize = 64 << 10;

impl Assignment {
    /// Splits the orders into parts, with specs before the tasks that follow them.
    pub fn parts(mut self) -> Vec<Self> {
        let (specs, payloads, tasks) = (take(&mut self.specs), take(&mut self.payloads), take(&mut self.tasks));
        let (ended, dropped) = (take(&mut self.ended), take(&mut self.dropped));
        let mut parts = vec![Self { part: 0, more: false, ..self.clone() }];
        let mut bytes = 0;
        let mut part_for = |more: usize| {
            let last = parts.len() - 1;
            if bytes > 0 && bytes + more > PART_BYTES {
                parts[last].more = true;
                parts.push(Self { part: parts[last].part + 1, more: false, ..self.clone() });
                bytes = 0;
            }
            bytes += more;
            parts.len() - 1
        };
        let specs: Vec<_> = specs.into_iter().map(|spec| (part_for(encoded_len(&spec)), spec)).collect();
        let payloads: Vec<_> = payloads.into_iter().map(|payload| (part_for(encoded_len(&payload)), payload)).collect();
        let tasks: Vec<_> = tasks.into_iter().map(|task| (part_for(encoded_len(&task)), task)).collect();
        let ended: Vec<_> = ended.into_iter().map(|task| (part_for(encoded_len(&task)), task)).collect();
        let dropped: Vec<_> = dropped.into_iter().map(|task| (part_for(encoded_len(&task)), task)).collect();
        specs.into_iter().for_each(|(part, spec)| parts[part].specs.push(spec));
        payloads.into_iter().for_each(|(part, payload)| parts[part].payloads.push(payload));
        tasks.into_iter().for_each(|(part, task)| parts[part].tasks.push(task));
        ended.into_iter().for_each(|(part, task)| parts[part].ended.push(task));
        dropped.into_iter().for_each(|(part, task)| parts[part].dropped.push(task));
        parts
    }
}

/// Reassembles the parts of orders. What it holds is at most one node's orders, so it needs no limit of its own.
#[derive(Debug, Default)]
pub struct Assembly {
    orders: Option<Assignment>,
}

/// The result of adding a part to an [`Assembly`].
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// The part was the last one: these are the complete orders.
    Whole(Box<Assignment>),
    /// Further parts follow.
    More,
    /// Parts before this one are missing; it was dropped.
    Gap,
}

impl Assembly {
    /// Adds a part. A part with number 0 starts anew and drops the parts so far.
    pub fn add(&mut self, part: Assignment) -> Assembled {
        let more = part.more;
        let orders = match (self.orders.take(), part.part) {
            (_, 0) => part,
            (Some(mut orders), number)
                if (orders.version, orders.base, orders.part + 1) == (part.version, part.base, number) =>
            {
                orders.part = number;
                orders.tasks.extend(part.tasks);
                orders.ended.extend(part.ended);
                orders.dropped.extend(part.dropped);
                orders.specs.extend(part.specs);
                orders.payloads.extend(part.payloads);
                orders
            }
            _ => return Assembled::Gap,
        };
        if more {
            self.orders = Some(orders);
            return Assembled::More;
        }
        Assembled::Whole(Box::new(Assignment { part: 0, more: false, ..orders }))
    }

    /// Drops the parts so far, because another link begins or all orders are requested again.
    pub fn clear(&mut self) {
        self.orders = None;
    }
}

/// The order for one task: what its worker needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOrder {
    /// Id of the task.
    pub id: TaskId,
    /// Service that the task belongs to.
    pub service: ServiceId,
    /// Version of the service's spec that the task follows.
    pub spec_version: Index,
    /// Slot that the task fills.
    pub slot: Slot,
    /// Engine that runs the task. The leader chooses it when it creates the task.
    pub engine: EngineKind,
    /// Generic resources of the node that the task was given.
    pub generic: GenericStock,
    /// What managers want of the task.
    pub desired: Desired,
    /// What the managers know of the task, so that the worker reports only what they do not know.
    pub observed: Observed,
}
record!(TaskOrder { 1: id, service, spec_version, slot, engine, generic, desired, observed });

#[cfg(test)]
essaim_wire::golden_bytes!("assignment": AssignmentVersion, Assignment, TaskOrder);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::SecretId;
    use essaim_model::fixtures::{environment, service};
    use essaim_wire::Timestamp;

    fn order(id: u128) -> TaskOrder {
        TaskOrder {
            id: TaskId::from_bits(id),
            service: ServiceId::from_bits(1),
            spec_version: Index(1),
            slot: Slot::Number(1),
            engine: EngineKind::Process,
            generic: GenericStock::default(),
            desired: Desired::Running,
            observed: Observed::nothing(Timestamp::default()),
        }
    }

    fn orders(tasks: u128, specs: &[usize]) -> Assignment {
        let spec = |(number, size): (u64, &usize)| {
            let mut spec = service("web", 1);
            spec.task.container.env = environment(*size);
            (ServiceId::from_bits(1), Index(number), Arc::new(spec))
        };
        Assignment {
            version: AssignmentVersion { lineage: Lineage::default(), index: Index(9) },
            base: None,
            cluster: ClusterId::from_bits(1),
            subnet: Ipv4Addr::LOCALHOST,
            tasks: (0..tasks).map(order).collect(),
            ended: (0..tasks).map(|id| TaskId::from_bits(1 << 91 | id)).collect(),
            dropped: (0..tasks).map(|id| TaskId::from_bits(1 << 90 | id)).collect(),
            specs: (1..).zip(specs).map(spec).collect(),
            payloads: specs
                .iter()
                .map(|size| (PayloadId::Secret(SecretId::from_bits(1)), vec![7; *size].into()))
                .collect(),
            part: 0,
            more: false,
        }
    }

    #[test]
    fn orders_of_any_size_travel_in_small_parts_and_arrive_whole() {
        let check = |whole: Assignment, parts_min: usize| {
            let parts = whole.clone().parts();
            assert!(parts.len() >= parts_min, "{}", parts.len());
            assert!(parts.iter().all(|part| encoded_len(part) < (1 << 20) + 2 * PART_BYTES));
            let mut assembly = Assembly::default();
            let (last, before) = parts.split_last().expect("at least one");
            assert!(before.iter().all(|part| assembly.add(part.clone()) == Assembled::More));
            assert_eq!(assembly.add(last.clone()), Assembled::Whole(Box::new(whole)));
        };
        check(orders(0, &[]), 1);
        check(orders(3, &[10]), 1);
        check(orders(20_000, &[10, 1 << 20, 90_000, 1 << 20]), 10);
    }

    #[test]
    fn a_part_whose_predecessor_is_missing_is_a_gap_and_a_first_part_begins_anew() {
        let parts = orders(6_000, &[]).parts();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(parts[1].clone()), Assembled::Gap);
        assert_eq!(assembly.add(parts[0].clone()), Assembled::More);
        assert_eq!(assembly.add(parts[2].clone()), Assembled::Gap);
        assert_eq!(assembly.add(parts[1].clone()), Assembled::Gap, "what was there is forgotten");
        assert_eq!(assembly.add(parts[0].clone()), Assembled::More);
        let newer =
            Assignment { version: AssignmentVersion { index: Index(10), ..parts[1].version }, ..parts[1].clone() };
        assert_eq!(assembly.add(newer), Assembled::Gap);
        assert_eq!(assembly.add(parts[0].clone()), Assembled::More);
        let small = orders(1, &[]);
        assert_eq!(assembly.add(small.clone()), Assembled::Whole(Box::new(small)));
    }
}
