//! What a manager tells a node to do: its own tasks, and nothing about anybody else's.
//!
//! An assignment carries the place in the log at which this node's orders last changed. A worker keeps the highest it
//! has obeyed on its disk and obeys no lower one, so an old leader, an old manager or an old message cannot turn it
//! back. After the first one of a link only the difference is sent.
//!
//! Orders travel in parts, so that no message comes near the size of a frame however many tasks a node has and however
//! large their specs are ([`Assignment::parts`]). The worker puts them together again ([`Assembly`]) and takes the whole or
//! nothing.

use bincode::{Decode, Encode};
use essaim_model::{Desired, EngineKind, Observed, ServiceId, ServiceSpec, Slot, TaskId};
use essaim_wire::record;
use essaim_wire::{ClusterId, Index, Lineage, encoded_len};
use std::mem::take;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Which orders: those of this place in this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct AssignmentVersion {
    /// The history.
    pub lineage: Lineage,
    /// The place where this node's orders last changed.
    pub index: Index,
}

/// What a node has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which orders these are.
    pub version: AssignmentVersion,
    /// `None`: these are all its tasks, and it stops whatever else it runs. Otherwise they are the difference to
    /// that version, and a worker that has another one says hello again.
    pub base: Option<AssignmentVersion>,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The /24 of the loopback range from which it gives its process tasks addresses.
    pub subnet: Ipv4Addr,
    /// Tasks, new or with another wish than before.
    pub tasks: Vec<TaskOrder>,
    /// Tasks that are none of its concern any more, because they were written off or forgotten: whatever still runs of
    /// them is stopped, and nobody wants to hear of it.
    pub dropped: Vec<TaskId>,
    /// The specs that `tasks` follow and that it was not told yet.
    pub specs: Vec<(ServiceId, Index, Arc<ServiceSpec>)>,
    /// Which part of these orders this is, counted from 0.
    pub part: u32,
    /// Whether another part of these orders follows.
    pub more: bool,
}
record!(Assignment { 1: version, base, cluster, subnet, tasks, dropped, specs, part, more });

/// How many bytes of orders one part holds, about: enough for two hundred tasks, and little to wait behind. A spec that is
/// larger (at most what a proposal holds, 1 MiB) is a part of its own.
const PART_BYTES: usize = 64 << 10;

impl Assignment {
    /// These orders in parts: specs before the tasks that follow them.
    pub fn parts(mut self) -> Vec<Self> {
        let (specs, tasks, dropped) = (take(&mut self.specs), take(&mut self.tasks), take(&mut self.dropped));
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
        let tasks: Vec<_> = tasks.into_iter().map(|task| (part_for(encoded_len(&task)), task)).collect();
        let dropped: Vec<_> = dropped.into_iter().map(|task| (part_for(encoded_len(&task)), task)).collect();
        specs.into_iter().for_each(|(part, spec)| parts[part].specs.push(spec));
        tasks.into_iter().for_each(|(part, task)| parts[part].tasks.push(task));
        dropped.into_iter().for_each(|(part, task)| parts[part].dropped.push(task));
        parts
    }
}

/// Puts the parts of orders together. What it holds is what a node's orders are, so it needs no bound beside theirs.
#[derive(Debug, Default)]
pub struct Assembly {
    orders: Option<Assignment>,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// It was the last one: these are the orders.
    Whole(Box<Assignment>),
    /// Others follow.
    More,
    /// The parts before it are missing.
    Gap,
}

impl Assembly {
    /// Takes a part. A first part begins anew, whatever was there.
    pub fn add(&mut self, part: Assignment) -> Assembled {
        let more = part.more;
        let orders = match (self.orders.take(), part.part) {
            (_, 0) => part,
            (Some(mut orders), number)
                if (orders.version, orders.base, orders.part + 1) == (part.version, part.base, number) =>
            {
                orders.part = number;
                orders.tasks.extend(part.tasks);
                orders.dropped.extend(part.dropped);
                orders.specs.extend(part.specs);
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

    /// Forgets the parts so far: another link begins, or everything is asked for again.
    pub fn clear(&mut self) {
        self.orders = None;
    }
}

/// One task, as its worker needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOrder {
    /// Its identity.
    pub id: TaskId,
    /// The service it works for.
    pub service: ServiceId,
    /// Which of the service's specs it follows.
    pub spec_version: Index,
    /// The place it fills.
    pub slot: Slot,
    /// The engine that runs it. The leader decides it when it creates the task.
    pub engine: EngineKind,
    /// What it shall be.
    pub desired: Desired,
    /// What the managers know of it, so that a worker reports only what they do not.
    pub observed: Observed,
}
record!(TaskOrder { 1: id, service, spec_version, slot, engine, desired, observed });

#[cfg(test)]
essaim_wire::golden_bytes!("assignment": AssignmentVersion, Assignment, TaskOrder);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{environment, service};
    use essaim_wire::Timestamp;

    fn order(id: u128) -> TaskOrder {
        TaskOrder {
            id: TaskId::from_bits(id),
            service: ServiceId::from_bits(1),
            spec_version: Index(1),
            slot: Slot::Number(1),
            engine: EngineKind::Process,
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
            dropped: (0..tasks).map(|id| TaskId::from_bits(1 << 90 | id)).collect(),
            specs: (1..).zip(specs).map(spec).collect(),
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
