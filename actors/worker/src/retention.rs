//! Retention of ended tasks: which of them an engine keeps, so that their logs can still be read.
//!
//! Managers send a worker only tasks that have not ended; the worker itself decides how long ended ones are kept. It
//! keeps the newest five of each slot, as many as the managers keep records of, and 64 in all.

use essaim_model::TaskId;
use essaim_wire::Timestamp;
use std::collections::BTreeMap;

/// Ended tasks kept per slot: as many as managers keep records of (Swarm's `--task-history-limit`).
const PER_SLOT: usize = 5;

/// Ended tasks kept in all: with at most 10 MiB of log each, they take at most 640 MiB of disk.
const IN_ALL: usize = 64;

/// A task that has ended and is not in the orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndedTask {
    pub(crate) task: TaskId,
    /// Service and slot of the task.
    pub(crate) group: String,
    pub(crate) ended: Timestamp,
}

/// Selects the ended tasks that exceed the bounds and are to be removed.
pub(crate) fn surplus(mut ended_tasks: Vec<EndedTask>) -> Vec<TaskId> {
    ended_tasks.sort_by_key(|it| std::cmp::Reverse((it.ended, it.task)));
    let mut of_slot: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = 0;
    let mut surplus = Vec::new();
    for EndedTask { task, group, .. } in ended_tasks {
        let count = of_slot.entry(group).or_default();
        if *count < PER_SLOT && kept < IN_ALL {
            *count += 1;
            kept += 1;
        } else {
            surplus.push(task);
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_task(bits: u128, group: &str) -> EndedTask {
        let ended = Timestamp::from_micros(u64::try_from(bits).unwrap());
        EndedTask { task: TaskId::from_bits(bits), group: group.into(), ended }
    }

    #[test]
    fn the_newest_five_of_a_slot_are_kept() {
        let all = (1..=7).map(|bits| ended_task(bits, "web.1")).chain([ended_task(8, "web.2")]).collect();
        assert_eq!(surplus(all), [TaskId::from_bits(2), TaskId::from_bits(1)]);
    }

    #[test]
    fn of_many_slots_the_newest_are_kept() {
        let all = (1..=100).map(|bits| ended_task(bits, &format!("web.{bits}"))).collect();
        let gone = surplus(all);
        assert_eq!((gone.len(), gone.last()), (36, Some(&TaskId::from_bits(1))));
    }
}
