//! What this machine was last told to do, and the rule by which it may change.
//!
//! Orders have a version: the history of the log and the place in it at which they last changed. They only go
//! forward: an old leader, an old manager or an old message cannot turn them back. They lie on disk before anything
//! is done about them, so that this holds over a restart of the daemon too. Pure, but for the two functions at the
//! end that read and write the file.

use bincode::{Decode, Encode};
use essaim_model::{ServiceId, ServiceSpec, TaskId};
use essaim_protocol::{Assignment, AssignmentVersion, Managers, TaskOrder};
use essaim_system::Disk;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{ClusterId, DecodeError, Index, decode, decode_prefix, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The files, in the folder of the worker.
const ORDERS: &str = "orders";
const MANAGERS: &str = "managers";

/// The first byte of each.
const FORMAT: u8 = 1;

/// What the file of orders consists of: the head first, then tasks and specs, one value each, so that orders of any size can
/// be written and read with a bounded codec. New variants come at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Entry {
    /// Which orders these are, of which cluster, where addresses come from; how many tasks and specs follow.
    Head(Option<AssignmentVersion>, ClusterId, Ipv4Addr, u64),
    /// A task.
    Task(TaskOrder),
    /// A spec that tasks follow.
    Spec(ServiceId, Index, Arc<ServiceSpec>),
}

/// Everything this machine was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Which orders these are; none before the first.
    pub(crate) version: Option<AssignmentVersion>,
    /// The cluster they are of.
    pub(crate) cluster: ClusterId,
    /// Where its tasks get their addresses from.
    pub(crate) subnet: Ipv4Addr,
    /// Its tasks.
    pub(crate) tasks: BTreeMap<TaskId, TaskOrder>,
    /// What they follow.
    pub(crate) specs: BTreeMap<(ServiceId, Index), Arc<ServiceSpec>>,
}

/// What became of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obeyed {
    /// It is in force now.
    Taken,
    /// It is older than what is in force, and was ignored.
    Stale,
    /// It builds on something this machine does not have: say hello again, and be told everything.
    Gap,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            version: None,
            cluster: ClusterId::from_bits(0),
            subnet: Ipv4Addr::LOCALHOST,
            tasks: BTreeMap::new(),
            specs: BTreeMap::new(),
        }
    }
}

impl Orders {
    /// Takes an assignment, whole or not at all.
    pub(crate) fn obey(&mut self, assignment: &Assignment) -> Obeyed {
        match (self.version, assignment.base) {
            (Some(have), _) if assignment.version < have && !planted(Bug::OlderOrdersObeyed) => return Obeyed::Stale,
            (have, Some(_)) if assignment.base != have => return Obeyed::Gap,
            _ => (),
        }
        let mut specs = self.specs.clone();
        for (service, version, spec) in &assignment.specs {
            specs.insert((*service, *version), Arc::clone(spec));
        }
        let mut tasks = if assignment.base.is_some() { self.tasks.clone() } else { BTreeMap::new() };
        for order in &assignment.tasks {
            tasks.insert(order.id, order.clone());
        }
        for task in &assignment.dropped {
            tasks.remove(task);
        }
        let followed: BTreeSet<_> = tasks.values().map(|order| (order.service, order.spec_version)).collect();
        if followed.iter().any(|spec| !specs.contains_key(spec)) {
            return Obeyed::Gap;
        }
        specs.retain(|spec, _| followed.contains(spec));
        let version = Some(assignment.version);
        *self = Self { version, cluster: assignment.cluster, subnet: assignment.subnet, tasks, specs };
        Obeyed::Taken
    }

    /// The spec that an order follows.
    pub(crate) fn spec(&self, order: &TaskOrder) -> Option<&Arc<ServiceSpec>> {
        self.specs.get(&(order.service, order.spec_version))
    }
}

/// The orders that were kept; none when there are none.
pub(crate) fn load(disk: &dyn Disk) -> io::Result<Option<Orders>> {
    let Some(bytes) = disk.find(ORDERS)? else { return Ok(None) };
    let mut rest = body(ORDERS, &bytes)?;
    let mut orders = Orders::default();
    let mut due = None;
    while !rest.is_empty() {
        let (entry, used) = decode_prefix(rest).map_err(|why| broken(ORDERS, why))?;
        rest = &rest[used..];
        match entry {
            Entry::Head(version, cluster, subnet, entries) => {
                (orders.version, orders.cluster, orders.subnet, due) = (version, cluster, subnet, Some(entries));
            }
            Entry::Task(order) => drop(orders.tasks.insert(order.id, order)),
            Entry::Spec(service, version, spec) => drop(orders.specs.insert((service, version), spec)),
        }
    }
    if due != Some((orders.tasks.len() + orders.specs.len()) as u64) {
        return Err(broken(ORDERS, "it is not whole"));
    }
    Ok(Some(orders))
}

/// Keeps the orders; durable when this returns.
pub(crate) fn save(disk: &dyn Disk, orders: &Orders) -> io::Result<()> {
    let Orders { version, cluster, subnet, tasks, specs } = orders;
    let head = Entry::Head(*version, *cluster, *subnet, (tasks.len() + specs.len()) as u64);
    let tasks = tasks.values().cloned().map(Entry::Task);
    let specs = specs.iter().map(|((service, version), spec)| Entry::Spec(*service, *version, Arc::clone(spec)));
    write(disk, ORDERS, std::iter::once(head).chain(tasks).chain(specs))
}

/// The managers that were told last.
pub(crate) fn load_managers(disk: &dyn Disk) -> io::Result<Option<Managers>> {
    read(disk, MANAGERS)
}

/// Keeps which managers there are: whom to ask after every machine has lost power at once.
pub(crate) fn save_managers(disk: &dyn Disk, managers: &Managers) -> io::Result<()> {
    write(disk, MANAGERS, [managers])
}

/// Forgets everything: the node left its cluster.
pub(crate) fn forget(disk: &dyn Disk) -> io::Result<()> {
    disk.remove(ORDERS)?;
    disk.remove(MANAGERS)
}

fn read<T: Decode<()>>(disk: &dyn Disk, file: &str) -> io::Result<Option<T>> {
    let Some(bytes) = disk.find(file)? else { return Ok(None) };
    decode(body(file, &bytes)?).map(Some).map_err(|why| broken(file, why))
}

/// What follows the first byte.
fn body<'a>(file: &str, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&other, _)) if other > FORMAT => {
            Err(broken(file, DecodeError::Newer { what: "file", found: other.into(), known: FORMAT.into() }))
        }
        _ => Err(broken(file, "unknown format")),
    }
}

fn broken(file: &str, why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {why}"))
}

fn write<T: Encode>(disk: &dyn Disk, file: &str, values: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut bytes = vec![FORMAT];
    values.into_iter().for_each(|value| bytes.extend(encode(&value)));
    // Environments may hold what is nobody else's business.
    disk.write_secret(file, &bytes)
}

#[cfg(test)]
essaim_wire::golden_bytes!("orders": Entry);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{assignment, order, spec, version};
    use essaim_model::Desired;
    use essaim_system::env::SimDisk;

    fn taken(assignments: &[Assignment]) -> Orders {
        let mut orders = Orders::default();
        for assignment in assignments {
            assert_eq!(orders.obey(assignment), Obeyed::Taken);
        }
        orders
    }

    #[test]
    fn orders_only_go_forward() {
        let mut orders = taken(&[assignment(5, &[order(1)])]);
        let before = orders.clone();
        assert_eq!(orders.obey(&assignment(4, &[])), Obeyed::Stale);
        assert_eq!(orders, before);
        // The same again changes nothing, and a new history begins with any index.
        assert_eq!(orders.obey(&assignment(5, &[order(1)])), Obeyed::Taken);
        let mut restored = assignment(1, &[]);
        restored.version.lineage.ordinal += 1;
        assert_eq!(orders.obey(&restored), Obeyed::Taken);
        assert_eq!(orders.obey(&assignment(9, &[order(1)])), Obeyed::Stale, "of the history before");
    }

    #[test]
    fn a_difference_applies_to_its_base_alone() {
        let mut orders = taken(&[assignment(5, &[order(1), order(2)])]);
        let stop = TaskOrder { desired: Desired::Shutdown, ..order(1) };
        let mut difference = Assignment { base: Some(version(5)), ..assignment(7, &[stop.clone(), order(3)]) };
        difference.dropped = vec![order(2).id];
        let mut other = Orders::default();
        assert_eq!(other.obey(&difference), Obeyed::Gap);
        assert_eq!(other, Orders::default());
        assert_eq!(orders.obey(&difference), Obeyed::Taken);
        assert_eq!(orders.tasks.values().cloned().collect::<Vec<_>>(), [stop, order(3)]);
        assert_eq!(orders.version, Some(version(7)));
    }

    #[test]
    fn a_task_whose_spec_is_unknown_is_a_gap_and_specs_nobody_follows_are_forgotten() {
        let mut orders = Orders::default();
        let without = Assignment { specs: vec![], ..assignment(5, &[order(1)]) };
        assert_eq!(orders.obey(&without), Obeyed::Gap);
        assert_eq!(orders.obey(&assignment(5, &[order(1)])), Obeyed::Taken);
        assert_eq!(orders.spec(&order(1)), Some(&Arc::new(spec())));
        assert_eq!(orders.obey(&Assignment { base: Some(version(5)), ..without }), Obeyed::Taken, "it is known now");
        assert_eq!(orders.obey(&Assignment { specs: vec![], ..assignment(6, &[]) }), Obeyed::Taken);
        assert!(orders.specs.is_empty());
    }

    #[test]
    fn the_bytes_of_empty_orders_never_change() {
        let disk = SimDisk::new();
        let written = |orders: &Orders| {
            save(&disk, orders).expect("written");
            disk.find(ORDERS).expect("read").expect("there")
        };
        assert_eq!(written(&Orders::default()), [FORMAT, 0, 0, 0, 127, 0, 0, 1, 0]);
        let known = Orders { version: Some(version(5)), ..Orders::default() };
        assert_eq!(written(&known), [FORMAT, 0, 1, 1, 7, 5, 0, 127, 0, 0, 1, 0]);
    }

    #[test]
    fn orders_larger_than_the_codec_takes_at_once_are_kept_and_found_again() {
        let disk = SimDisk::new();
        let mut orders = taken(&[assignment(5, &[order(1), order(2)])]);
        let mut large = spec();
        large.task.container.env = essaim_model::fixtures::environment(1 << 20);
        orders.specs.extend((0..20).map(|number| ((ServiceId::from_bits(9), Index(number)), Arc::new(large.clone()))));
        save(&disk, &orders).expect("written");
        assert_eq!(load(&disk).expect("read"), Some(orders));
        let bytes = disk.find(ORDERS).expect("read").expect("there");
        disk.write_secret(ORDERS, &bytes[..60]).expect("written");
        assert!(load(&disk).is_err(), "cut");
    }
}
