//! The loopback addresses of this machine's tasks: which part of the node's /24 each of them has.
//!
//! A task keeps its address as long as it lives, over restarts of the daemon too, because the engine remembers it.
//! An address that became free is used again last, so that a client with an old answer meets nobody rather than a
//! stranger.

use essaim_model::TaskId;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The parts that tasks get: the network's own address, the broadcast one and `.1`, which is the node's, are not
/// among them.
const PARTS: std::ops::RangeInclusive<u8> = 2..=254;

/// A handle on the addresses.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    taken: BTreeMap<Ipv4Addr, TaskId>,
    /// The part that was given last.
    last: u8,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { taken: BTreeMap::new(), last: *PARTS.start() - 1 })) }
    }

    /// The task has this address already.
    pub(crate) fn keep(&self, task: TaskId, address: Option<IpAddr>) {
        if let Some(IpAddr::V4(address)) = address {
            self.lock().taken.insert(address, task);
        }
    }

    /// Up to `max` addresses of `subnet` that are free as far as this daemon knows, the next to use first. The caller
    /// asks the machine and then calls [`Self::take`].
    pub(crate) fn candidates(&self, subnet: Ipv4Addr) -> Vec<Ipv4Addr> {
        let inner = self.lock();
        let [a, b, c, _] = subnet.octets();
        let next = inner.last.max(*PARTS.start() - 1);
        let after = PARTS.filter(|part| *part > next);
        let before = PARTS.filter(|part| *part <= next);
        let all = after.chain(before).map(|part| Ipv4Addr::new(a, b, c, part));
        all.filter(|address| !inner.taken.contains_key(address)).collect()
    }

    /// Takes an address for a task; false when another task was faster.
    pub(crate) fn take(&self, task: TaskId, address: Ipv4Addr) -> bool {
        let mut inner = self.lock();
        if inner.taken.get(&address).is_some_and(|holder| *holder != task) {
            return false;
        }
        inner.last = address.octets()[3];
        inner.taken.insert(address, task);
        true
    }

    /// The address that the task has.
    pub(crate) fn of(&self, task: TaskId) -> Option<IpAddr> {
        self.lock().taken.iter().find(|(_, holder)| **holder == task).map(|(address, _)| (*address).into())
    }

    /// The task has ended.
    pub(crate) fn release(&self, task: TaskId) {
        self.lock().taken.retain(|_, holder| *holder != task);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBNET: Ipv4Addr = Ipv4Addr::new(127, 70, 3, 0);

    fn next(addresses: &Addresses, bits: u128) -> Option<u8> {
        let address = *addresses.candidates(SUBNET).first()?;
        assert!(addresses.take(TaskId::from_bits(bits), address));
        Some(address.octets()[3])
    }

    #[test]
    fn an_address_that_became_free_is_used_again_last() {
        let addresses = Addresses::new();
        assert_eq!((next(&addresses, 1), next(&addresses, 2)), (Some(2), Some(3)));
        addresses.release(TaskId::from_bits(1));
        assert_eq!(next(&addresses, 3), Some(4));
        for bits in 5..=254 {
            assert!(next(&addresses, bits).is_some());
        }
        assert_eq!(next(&addresses, 1000), Some(2));
        assert_eq!(next(&addresses, 1001), None, "all are taken");
    }

    #[test]
    fn a_task_that_was_found_again_keeps_its_address() {
        let addresses = Addresses::new();
        addresses.keep(TaskId::from_bits(1), Some([127, 70, 3, 2].into()));
        assert_eq!(next(&addresses, 2), Some(3));
        assert!(!addresses.take(TaskId::from_bits(2), Ipv4Addr::new(127, 70, 3, 2)));
    }
}
