//! Enforcement of reservations: which tasks a node can no longer keep, because it has become smaller.
//!
//! A node that is described again may have fewer processors, less memory or fewer generic resources than its tasks
//! reserve. The oldest tasks keep their reservations; those for which nothing is left are *misfits*, as are tasks whose
//! constraints a node no longer satisfies, and are replaced elsewhere in the same way (see `reconcile::slot`). They are
//! shown as Swarm shows them: rejected, because the assigned node no longer meets the constraints. Swarm rejects such
//! tasks at once, and leaves their slots empty if there is no other node; here a task goes on until another one runs.
//!
//! While an engine does not answer, its node describes itself without that engine and what belongs to it, so the tasks of
//! that engine stay.
//!
//! Tasks of one slot count once, with the largest reservation: while one replaces the other on the same node, its room
//! is that of the other. A task that has ended, as one of a job, reserves nothing.

use essaim_model::{GenericStock, Hardware, State, Stock, Task, TaskId};
use essaim_wire::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// The tasks that a node can no longer keep; none while the node has not described itself.
pub(crate) fn misfits(state: &State, node: NodeId) -> BTreeSet<TaskId> {
    let Some(description) = state.node(node).and_then(|node| node.description.as_ref()) else { return BTreeSet::new() };
    let mut slots: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    let judged = |task: &&std::sync::Arc<Task>| task.is_wanted() && description.engines.contains(&task.engine);
    for task in state.tasks_on(node).filter(judged) {
        slots.entry((task.service, task.slot)).or_default().push(task);
    }
    let mut slots: Vec<Vec<&Task>> = slots.into_values().collect();
    slots.sort_by_key(|tasks| tasks.iter().map(|task| (task.meta.created_at, task.id)).min());
    let (mut left, mut stock) = (description.hardware, description.generic.clone());
    let mut misfits = BTreeSet::new();
    for tasks in slots {
        let (mut most, mut fitting) = (Hardware::default(), Vec::new());
        for task in tasks {
            let own = reservation(state, task);
            let fits = own.nano_cpus <= left.nano_cpus && own.memory_bytes <= left.memory_bytes;
            if fits && has(&stock, &task.generic) {
                most.nano_cpus = most.nano_cpus.max(own.nano_cpus);
                most.memory_bytes = most.memory_bytes.max(own.memory_bytes);
                fitting.push(task);
            } else {
                misfits.insert(task.id);
            }
        }
        left.nano_cpus -= most.nano_cpus;
        left.memory_bytes -= most.memory_bytes;
        stock = without(stock, fitting.iter().map(|task| &task.generic));
    }
    misfits
}

fn reservation(state: &State, task: &Task) -> Hardware {
    let share = state.spec(task.service, task.spec_version).map(|spec| spec.task.reservation()).unwrap_or_default();
    Hardware { nano_cpus: share.nano_cpus, memory_bytes: share.memory_bytes }
}

/// Whether the things that a task was given are still there. A kind that was counted and now has names, or the other
/// way round, is no longer what the task was given.
fn has(stock: &GenericStock, given: &GenericStock) -> bool {
    given.iter().all(|(kind, given)| match (stock.get(kind), given) {
        (Some(Stock::Counted(left)), Stock::Counted(count)) => left >= count,
        (Some(Stock::Named(left)), Stock::Named(names)) => names.is_subset(left),
        _ => false,
    })
}

/// What is left when the tasks of one slot keep what they were given: of a counted kind the largest number, of a named
/// kind every name.
fn without<'a>(stock: GenericStock, given: impl Iterator<Item = &'a GenericStock>) -> GenericStock {
    let mut taken: BTreeMap<&str, Stock> = BTreeMap::new();
    for (kind, stock) in given.flat_map(|given| given.iter()) {
        match (taken.entry(kind).or_insert_with(|| stock.clone()), stock) {
            (Stock::Counted(most), Stock::Counted(count)) => *most = (*most).max(*count),
            (Stock::Named(all), Stock::Named(names)) => all.extend(names.iter().cloned()),
            _ => (),
        }
    }
    let left = stock.iter().map(|(kind, stock)| {
        let left = match (stock, taken.get(kind.as_str())) {
            (Stock::Counted(all), Some(Stock::Counted(count))) => Stock::Counted(all.saturating_sub(*count)),
            (Stock::Named(all), Some(Stock::Named(names))) => Stock::Named(all - names),
            _ => stock.clone(),
        };
        (kind.clone(), left)
    });
    left.collect()
}
