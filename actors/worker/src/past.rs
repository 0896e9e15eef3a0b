//! Which tasks of the past are kept: those whose logs somebody may still ask for.
//!
//! Managers tell a worker of tasks that have not ended; what is left of the others is the worker's own concern. It
//! keeps the newest few of each slot, as the managers keep their records, and not more than some tens in all.

use essaim_model::TaskId;
use essaim_wire::Timestamp;
use std::collections::BTreeMap;

/// As many of a slot as managers keep records of: Swarm's `--task-history-limit`.
const PER_SLOT: usize = 5;

/// In all. With 10 MiB of log each at most, this is what they can take of a disk: 640 MiB.
const IN_ALL: usize = 64;

/// A task that has ended and that nobody ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) task: TaskId,
    /// Service and slot.
    pub(crate) group: String,
    pub(crate) ended: Timestamp,
}

/// Those that are not worth keeping.
pub(crate) fn surplus(mut past: Vec<Past>) -> Vec<TaskId> {
    past.sort_by_key(|it| std::cmp::Reverse((it.ended, it.task)));
    let mut of_slot: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = 0;
    let mut surplus = Vec::new();
    for Past { task, group, .. } in past {
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

    fn past(bits: u128, group: &str) -> Past {
        let ended = Timestamp::from_micros(u64::try_from(bits).unwrap());
        Past { task: TaskId::from_bits(bits), group: group.into(), ended }
    }

    #[test]
    fn the_newest_five_of_a_slot_are_kept() {
        let all = (1..=7).map(|bits| past(bits, "web.1")).chain([past(8, "web.2")]).collect();
        assert_eq!(surplus(all), [TaskId::from_bits(2), TaskId::from_bits(1)]);
    }

    #[test]
    fn of_many_slots_the_newest_are_kept() {
        let all = (1..=100).map(|bits| past(bits, &format!("web.{bits}"))).collect();
        let gone = surplus(all);
        assert_eq!((gone.len(), gone.last()), (36, Some(&TaskId::from_bits(1))));
    }
}
