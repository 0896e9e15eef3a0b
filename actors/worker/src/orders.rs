//! The orders: what managers last told this machine to run, and the rule by which the orders may change.
//!
//! Orders have a version: the history of the log and the index at which they last changed. Versions only go forward: an
//! old leader, an old manager or an old message cannot turn them back. Orders are written to disk before they are
//! obeyed, so that the rule also holds over a restart of the daemon. This module is pure except for the functions at
//! its end, which read and write the files.
//!
//! After a restart the node asks for all orders again, and no task is prepared or started before a manager has answered.
//! The file does not say how far each task has come since it was written, and managers do: a task that was started and
//! whose container was removed meanwhile is not started again. Credentials for registries, and the payloads of secrets
//! and configs, are never written; the specs that had some are sent again.

use bincode::{Decode, Encode};
use essaim_model::{Payload, PayloadId, ServiceId, ServiceSpec, TaskId};
use essaim_protocol::{Assignment, AssignmentVersion, KnownManagers, Managers, TaskOrder};
use essaim_system::Disk;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{ClusterId, DecodeError, Index, Removals, decode, decode_prefix, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Names of the files in the worker's folder.
const ORDERS: &str = "orders";
const MANAGERS: &str = "managers";

/// Format version: the first byte of each file.
const FORMAT: u8 = 1;

/// Entry of the orders file: the head first, then tasks, specs and ended tasks. Each entry is encoded by itself, so that orders of
/// any size can be written and read with a bounded codec. New variants come at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Entry {
    /// Version of the orders, their cluster, the subnet of its tasks' addresses, and the number of entries that follow.
    Head(Option<AssignmentVersion>, ClusterId, Ipv4Addr, u64),
    /// One task order.
    Task(TaskOrder),
    /// A spec that task orders follow.
    Spec(ServiceId, Index, Arc<ServiceSpec>),
    /// An ended task whose record the managers keep.
    Ended(TaskId),
    /// A spec that task orders follow, of which something was left out: credentials for a registry, or payloads.
    BareSpec(ServiceId, Index, Arc<ServiceSpec>),
}

/// All orders of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Version of the orders; none before the first.
    pub(crate) version: Option<AssignmentVersion>,
    /// Cluster that gave the orders.
    pub(crate) cluster: ClusterId,
    /// Subnet of this machine's task addresses.
    pub(crate) subnet: Ipv4Addr,
    /// Task orders by task.
    pub(crate) tasks: BTreeMap<TaskId, TaskOrder>,
    /// Tasks that have ended for the managers, and whose records they keep. What is left of these tasks on this machine
    /// stays, with their logs.
    pub(crate) ended: BTreeSet<TaskId>,
    /// Specs that the task orders follow.
    pub(crate) specs: BTreeMap<(ServiceId, Index), Arc<ServiceSpec>>,
    /// The specs that were read from disk without their credentials for a registry or their payloads, until a manager
    /// sends them again.
    pub(crate) bare: BTreeSet<(ServiceId, Index)>,
    /// Payloads of the secrets and configs that the specs name. In memory only.
    pub(crate) payloads: BTreeMap<PayloadId, Payload>,
}

/// Outcome of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obeyed {
    /// The assignment is in force now.
    Taken,
    /// The assignment is older than the orders in force, and was ignored.
    Stale,
    /// The assignment is a difference to orders that this machine does not have: a new hello asks for the complete
    /// orders.
    Gap,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            version: None,
            cluster: ClusterId::from_bits(0),
            subnet: Ipv4Addr::LOCALHOST,
            tasks: BTreeMap::new(),
            ended: BTreeSet::new(),
            specs: BTreeMap::new(),
            bare: BTreeSet::new(),
            payloads: BTreeMap::new(),
        }
    }
}

impl Orders {
    /// Whether the managers have a record of the task. What is left of any other task is to be removed.
    pub(crate) fn know(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task) || self.ended.contains(&task)
    }

    /// These orders with every task ended.
    pub(crate) fn all_ended(&self) -> Self {
        let ended = self.ended.iter().chain(self.tasks.keys()).copied().collect();
        let (tasks, payloads) = Default::default();
        Self { tasks, payloads, ended, ..self.clone() }
    }

    /// Applies an assignment, whole or not at all.
    pub(crate) fn obey(&mut self, assignment: &Assignment) -> Obeyed {
        match (self.version, assignment.base) {
            (Some(have), _) if assignment.version < have && !planted(Bug::OlderOrdersObeyed) => return Obeyed::Stale,
            (have, Some(_)) if assignment.base != have => return Obeyed::Gap,
            _ => (),
        }
        let (mut specs, mut bare) = (self.specs.clone(), self.bare.clone());
        for (service, version, spec) in &assignment.specs {
            specs.insert((*service, *version), Arc::clone(spec));
            bare.remove(&(*service, *version));
        }
        let (mut tasks, mut ended) = match assignment.base {
            Some(_) => (self.tasks.clone(), self.ended.clone()),
            None => Default::default(),
        };
        for order in &assignment.tasks {
            tasks.insert(order.id, order.clone());
        }
        for task in &assignment.ended {
            tasks.remove(task);
            ended.insert(*task);
        }
        for task in &assignment.dropped {
            tasks.remove(task);
            ended.remove(task);
        }
        let followed: BTreeSet<_> = tasks.values().map(|order| (order.service, order.spec_version)).collect();
        if followed.iter().any(|spec| !specs.contains_key(spec)) {
            return Obeyed::Gap;
        }
        specs.retain(|spec, _| followed.contains(spec));
        bare.retain(|spec| followed.contains(spec));
        let mut payloads = self.payloads.clone();
        payloads.extend(assignment.payloads.iter().cloned());
        let named = named(&specs);
        payloads.retain(|payload, _| named.contains(payload) || planted(Bug::PayloadsNotDropped));
        let (version, cluster, subnet) = (Some(assignment.version), assignment.cluster, assignment.subnet);
        *self = Self { version, cluster, subnet, tasks, ended, specs, bare, payloads };
        Obeyed::Taken
    }

    /// The payloads that the specs name.
    pub(crate) fn needed(&self) -> BTreeSet<PayloadId> {
        named(&self.specs)
    }

    /// Whether any task is to end when this node has no manager.
    pub(crate) fn need_lease(&self) -> bool {
        self.specs.values().any(|spec| spec.stops_on_disconnect())
    }

    /// The specs that this node has with all that belongs to them, for its hello.
    pub(crate) fn whole_specs(&self) -> impl Iterator<Item = (ServiceId, Index)> {
        self.specs.keys().filter(|spec| !self.bare.contains(spec)).copied()
    }

    /// Whether the spec that a task order follows lacks its credentials or payloads.
    pub(crate) fn is_bare(&self, order: &TaskOrder) -> bool {
        self.bare.contains(&(order.service, order.spec_version))
    }

    /// The spec that a task order follows.
    pub(crate) fn spec(&self, order: &TaskOrder) -> Option<&Arc<ServiceSpec>> {
        self.specs.get(&(order.service, order.spec_version))
    }
}

fn named(specs: &BTreeMap<(ServiceId, Index), Arc<ServiceSpec>>) -> BTreeSet<PayloadId> {
    specs.values().flat_map(|spec| spec.task.container.files().map(|(payload, ..)| payload)).collect()
}

/// Reads the orders from disk; none when there is no file.
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
            Entry::Ended(task) => drop(orders.ended.insert(task)),
            Entry::BareSpec(service, version, spec) => {
                orders.specs.insert((service, version), spec);
                orders.bare.insert((service, version));
            }
        }
    }
    if due != Some((orders.tasks.len() + orders.specs.len() + orders.ended.len()) as u64) {
        return Err(broken(ORDERS, "it is not whole"));
    }
    Ok(Some(orders))
}

/// Writes the orders to disk; durable when this returns.
pub(crate) fn save(disk: &dyn Disk, orders: &Orders) -> io::Result<()> {
    // Payloads are kept in memory only.
    let Orders { version, cluster, subnet, tasks, ended, specs, bare, payloads: _ } = orders;
    let head = Entry::Head(*version, *cluster, *subnet, (tasks.len() + specs.len() + ended.len()) as u64);
    let tasks = tasks.values().cloned().map(Entry::Task);
    let specs = specs.iter().map(|((service, version), spec)| {
        let container = &spec.task.container;
        let is_whole = container.registry_auth.is_none()
            && container.files().next().is_none()
            && !bare.contains(&(*service, *version));
        if is_whole {
            return Entry::Spec(*service, *version, Arc::clone(spec));
        }
        let mut without = ServiceSpec::clone(spec);
        without.task.container.registry_auth = None;
        Entry::BareSpec(*service, *version, Arc::new(without))
    });
    let ended = ended.iter().copied().map(Entry::Ended);
    write(disk, ORDERS, std::iter::once(head).chain(tasks).chain(specs).chain(ended))
}

/// Reads the latest list of managers from disk. Its removed nodes are those in force at the node's port (`admitted`),
/// which were stored before the list was.
pub(crate) fn load_managers(disk: &dyn Disk, admitted: Removals) -> io::Result<Option<KnownManagers>> {
    let stored: Option<Managers> = read(disk, MANAGERS)?;
    Ok(stored.map(|stored| {
        let mut removed = admitted;
        removed.apply(stored.removed, &[]);
        KnownManagers { version: stored.version, managers: stored.managers, removed }
    }))
}

/// Writes the list of managers to disk, so that this node finds them after all machines have lost power at once. The
/// removed nodes are left out: the node's port stores them, at a cost that does not grow with their number.
pub(crate) fn save_managers(disk: &dyn Disk, known: &KnownManagers) -> io::Result<()> {
    let KnownManagers { version, managers, removed: _ } = known.clone();
    write(disk, MANAGERS, [Managers { version, base: None, managers, removed: Vec::new(), lapsed: Vec::new() }])
}

fn read<T: Decode<()>>(disk: &dyn Disk, file: &str) -> io::Result<Option<T>> {
    let Some(bytes) = disk.find(file)? else { return Ok(None) };
    decode(body(file, &bytes)?).map(Some).map_err(|why| broken(file, why))
}

/// The content of a file after its format version.
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
    // Readable by this user only, because environments may hold secrets.
    disk.write_secret(file, &bytes)
}

#[cfg(test)]
essaim_wire::golden_bytes!("orders": Entry);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{assignment, order, spec, version};
    use essaim_model::fixtures::secrets;
    use essaim_model::service::RegistryAuth;
    use essaim_model::{Desired, SecretId};
    use essaim_system::env::SimDisk;
    use essaim_wire::{NodeId, Timestamp};

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
        // The same assignment again changes nothing, and a new history may begin with any index.
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
    fn an_ended_task_is_no_order_any_more_and_is_known_until_it_is_dropped() {
        let mut orders = taken(&[assignment(5, &[order(1), order(2)])]);
        let ended = Assignment { base: Some(version(5)), ended: vec![order(1).id], ..assignment(6, &[]) };
        assert_eq!(orders.obey(&ended), Obeyed::Taken);
        assert!(orders.know(order(1).id) && !orders.tasks.contains_key(&order(1).id));
        let disk = SimDisk::new();
        save(&disk, &orders).expect("written");
        assert_eq!(load(&disk).expect("read").as_ref(), Some(&orders));
        let dropped = Assignment { base: Some(version(6)), dropped: vec![order(1).id], ..assignment(7, &[]) };
        assert_eq!(orders.obey(&dropped), Obeyed::Taken);
        assert!(!orders.know(order(1).id) && orders.know(order(2).id));
        // Complete orders replace everything.
        assert_eq!(orders.obey(&Assignment { ended: vec![order(3).id], ..assignment(8, &[]) }), Obeyed::Taken);
        assert!(!orders.know(order(2).id) && orders.know(order(3).id));
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
    fn credentials_are_not_written_and_are_asked_for_again() {
        let mut given = assignment(5, &[order(1)]);
        let mut secret = spec();
        secret.task.container.registry_auth = Some(RegistryAuth::parse("c2VjcmV0LXRva2Vu").expect("credentials"));
        given.specs[0].2 = Arc::new(secret.clone());
        let (disk, told) = (SimDisk::new(), taken(&[given.clone()]));
        save(&disk, &told).expect("written");
        let bytes = disk.find(ORDERS).expect("read").expect("there");
        assert!(!bytes.windows(6).any(|window| window == b"c2VjcmV"[..6].as_ref()), "it is on the disk");
        let mut found = load(&disk).expect("read").expect("there");
        assert_eq!(found.whole_specs().count(), 0);
        assert!(found.is_bare(&order(1)));
        // They stay wanted over a second restart without a manager.
        save(&disk, &found).expect("written");
        assert_eq!(load(&disk).expect("read").as_ref(), Some(&found));
        assert_eq!(found.obey(&given), Obeyed::Taken);
        assert_eq!((&found, found.whole_specs().count()), (&told, 1));
        assert_eq!(found.spec(&order(1)), Some(&Arc::new(secret)));
    }

    #[test]
    fn payloads_are_in_memory_only_and_go_with_the_last_task_that_needs_them() {
        let key = PayloadId::Secret(SecretId::from_bits(1));
        let mut given = assignment(5, &[order(1), order(2)]);
        let mut naming = spec();
        naming.task.container.secrets = secrets(&[(1, "key")]);
        given.specs[0].2 = Arc::new(naming);
        given.payloads = vec![(key, b"s3cr3t"[..].into())];
        let (disk, mut told) = (SimDisk::new(), taken(&[given.clone()]));
        assert_eq!(told.payloads.keys().collect::<Vec<_>>(), [&key]);
        save(&disk, &told).expect("written");
        let bytes = disk.find(ORDERS).expect("read").expect("there");
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "it is on the disk");
        let mut found = load(&disk).expect("read").expect("there");
        assert!(found.payloads.is_empty() && found.is_bare(&order(1)) && found.whole_specs().count() == 0);
        assert_eq!(found.obey(&given), Obeyed::Taken);
        assert_eq!((&found, found.is_bare(&order(1))), (&told, false));
        assert!(told.all_ended().payloads.is_empty());

        let without = |index, ended: &[TaskOrder]| {
            let ended = ended.iter().map(|order| order.id).collect();
            Assignment { base: Some(version(index - 1)), ended, specs: vec![], ..assignment(index, &[]) }
        };
        assert_eq!(told.obey(&without(6, &[order(1)])), Obeyed::Taken);
        assert!(told.payloads.contains_key(&key), "another task needs it");
        assert_eq!(told.obey(&without(7, &[order(2)])), Obeyed::Taken);
        assert!(told.payloads.is_empty());
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
    fn a_list_of_managers_is_stored_without_the_removed_nodes_which_the_port_stores() {
        let disk = SimDisk::new();
        let removal = |node| (NodeId::from_bits(node), Timestamp::from_micros(9));
        let manager = (NodeId::from_bits(1), "127.0.0.1:2377".parse().expect("an address"));
        let removed: Removals = (1..10_000).map(removal).collect();
        let known = KnownManagers { version: version(5), managers: vec![manager], removed: removed.clone() };
        save_managers(&disk, &known).expect("written");
        assert!(disk.find(MANAGERS).expect("read").expect("there").len() < 100);
        assert_eq!(load_managers(&disk, removed).expect("read"), Some(known));
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
