//! Resources of a task: what it may use of its node, and what is reserved for it there.

use crate::Refusal;
use bincode::{Decode, Encode};
use essaim_wire::record;
use std::collections::BTreeMap;
use std::ops::Deref;

/// What a task may use, and what is reserved for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Share of the node that the task may use at most; no limit when `None`.
    pub limit: Option<Share>,
    /// Share of the node that is reserved for the task: a node whose reservations are used up takes no more tasks.
    pub reservation: Option<Share>,
    /// Generic resources, of kinds that operators made up (`gpu`), and how many of each are reserved.
    pub generic: GenericResources,
    /// Swap that the task may use beside its memory; the engine's default when `None`.
    pub swap: Option<Swap>,
    /// How readily the kernel swaps the task out; the engine's default when `None`.
    pub swappiness: Option<Swappiness>,
}
record!(Resources { 1: limit, reservation, generic, swap, swappiness });

/// A share of a node. Zero means that none was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Processors, in billionths of one.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Number of processes; used in limits only.
    pub pids: u64,
}
record!(Share { 1: nano_cpus, memory_bytes, pids });

/// Bytes of memory that a share must have at least, as in Swarm.
const MEMORY_MIN: i64 = 4 << 20;

/// Billionths of a processor that a share must have at least, as in Swarm: a thousandth of a processor.
const NANO_CPUS_MIN: i64 = 1_000_000;

impl Share {
    /// Accepts a share that is not too small to run anything; 0 means none, as does a negative number of processes.
    pub fn parse(nano_cpus: i64, memory_bytes: i64, pids: i64) -> Result<Self, Refusal> {
        if nano_cpus != 0 && nano_cpus < NANO_CPUS_MIN {
            let (given, least) = (nano_cpus as f64 / 1e9, NANO_CPUS_MIN as f64 / 1e9);
            return Err(Refusal::invalid(format!("invalid cpu value {given}: Must be at least {least}")));
        }
        if memory_bytes != 0 && memory_bytes < MEMORY_MIN {
            return Err(Refusal::invalid(format!("invalid memory value {memory_bytes}: Must be at least 4MiB")));
        }
        let share = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(Self { nano_cpus: share(nano_cpus), memory_bytes: share(memory_bytes), pids: share(pids) })
    }
}

/// Generic resources that are reserved: kind and count, in the order of the spec. No kind appears twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct GenericResources(Vec<(String, u64)>);

impl GenericResources {
    /// Accepts counts of distinct kinds.
    pub fn parse(counts: Vec<(String, i64)>) -> Result<Self, Refusal> {
        let mut seen = BTreeMap::new();
        let mut parsed = Vec::with_capacity(counts.len());
        for (kind, count) in counts {
            let Ok(count) = u64::try_from(count) else {
                return Err(Refusal::invalid(format!("generic resource {kind}: {count} is not a valid amount")));
            };
            if kind.is_empty() || seen.insert(kind.clone(), count).is_some() {
                return Err(Refusal::invalid(format!("generic resource {kind:?}: a kind has a name and comes once")));
            }
            parsed.push((kind, count));
        }
        Ok(Self(parsed))
    }
}

impl Deref for GenericResources {
    type Target = [(String, u64)];

    fn deref(&self) -> &[(String, u64)] {
        &self.0
    }
}

/// Swap that a task may use beside its memory, in bytes; −1 for no limit. (The engine's own setting is the sum of both.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Swap(i64);

impl Swap {
    /// Accepts −1 or a number of bytes.
    pub fn parse(bytes: i64) -> Result<Self, Refusal> {
        if bytes < -1 {
            Err(Refusal::invalid(format!("invalid swap value {bytes}: Must be -1 or more")))
        } else {
            Ok(Self(bytes))
        }
    }

    /// The limit in bytes, or −1.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// How readily the kernel swaps a task out: 0 to 100, or −1 for the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Swappiness(i8);

impl Swappiness {
    /// Accepts a value from −1 to 100.
    pub fn parse(value: i64) -> Result<Self, Refusal> {
        match i8::try_from(value) {
            Ok(fits) if (-1..=100).contains(&fits) => Ok(Self(fits)),
            _ => Err(Refusal::invalid(format!("invalid swappiness value {value}: Must be between -1 and 100"))),
        }
    }

    /// The value, from −1 to 100.
    pub const fn get(self) -> i8 {
        self.0
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("service-resources": GenericResources, Swap, Swappiness, Resources, Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_nothing_or_enough_to_run_something() {
        assert_eq!(Share::parse(0, 0, -1), Ok(Share::default()));
        assert!(Share::parse(1_000_000, 4 << 20, 7).is_ok());
        let text = |cpus, memory| Share::parse(cpus, memory, 0).expect_err("refused").text;
        assert_eq!(text(999, 0), "invalid cpu value 0.000000999: Must be at least 0.001");
        assert_eq!(text(0, 1 << 20), "invalid memory value 1048576: Must be at least 4MiB");
    }

    #[test]
    fn a_kind_of_things_comes_once_and_not_negative() {
        assert!(GenericResources::parse(vec![("gpu".into(), 2), ("fpga".into(), 0)]).is_ok());
        assert!(GenericResources::parse(vec![("gpu".into(), 2), ("gpu".into(), 1)]).is_err());
        assert!(GenericResources::parse(vec![("gpu".into(), -1)]).is_err());
    }

    #[test]
    fn swap_and_swappiness_stay_in_their_range() {
        assert!(Swap::parse(-1).is_ok() && Swap::parse(-2).is_err());
        assert!(Swappiness::parse(100).is_ok() && Swappiness::parse(101).is_err() && Swappiness::parse(-2).is_err());
    }
}
