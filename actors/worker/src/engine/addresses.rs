//! A pool of loopback addresses: assigns addresses of the node's /24 subnet to this machine's tasks.
//!
//! For engines that give each task an address of its own. A task keeps its address as long as it lives, also over
//! restarts of the daemon, because the engine remembers it. A freed address is reused last, so that a client with an
//! outdated answer is refused instead of reaching another task.

use super::EngineError;
use essaim_model::TaskId;
use essaim_model::loopback::PARTS;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Handle on the pool; clones share it.
#[derive(Debug, Clone)]
pub struct Addresses {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    taken: BTreeMap<Ipv4Addr, TaskId>,
    /// Last byte of the address that was assigned last.
    last: u8,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { taken: BTreeMap::new(), last: *PARTS.start() - 1 })) }
    }
}

impl Addresses {
    /// Claims an address of `subnet` for the task: the address that it has, or one that is free in this pool and,
    /// according to `is_free`, on the machine.
    pub fn claim(
        &self,
        task: TaskId,
        subnet: Ipv4Addr,
        mut is_free: impl FnMut(Ipv4Addr) -> bool,
    ) -> Result<IpAddr, EngineError> {
        if let Some(address) = self.of(task) {
            return Ok(address);
        }
        for address in self.candidates(subnet) {
            // Taken before the machine is asked, so that two tasks never try the same address.
            if self.take(task, address) {
                if is_free(address) {
                    return Ok(address.into());
                }
                self.release(task);
            }
        }
        Err(EngineError::Failed(format!("no loopback address of {subnet}/24 is free on this node")))
    }

    /// Records an address that the task has already, as after a restart of the daemon.
    pub fn keep(&self, task: TaskId, address: Option<IpAddr>) {
        if let Some(IpAddr::V4(address)) = address {
            self.lock().taken.insert(address, task);
        }
    }

    /// The address that is assigned to the task.
    pub fn of(&self, task: TaskId) -> Option<IpAddr> {
        self.lock().taken.iter().find(|(_, holder)| **holder == task).map(|(address, _)| (*address).into())
    }

    /// Frees the address of a task that has ended.
    pub fn release(&self, task: TaskId) {
        self.lock().taken.retain(|_, holder| *holder != task);
    }

    /// Addresses of `subnet` that are free in this pool, in the order in which they are to be used.
    fn candidates(&self, subnet: Ipv4Addr) -> Vec<Ipv4Addr> {
        let inner = self.lock();
        let [a, b, c, _] = subnet.octets();
        let next = inner.last.max(*PARTS.start() - 1);
        let after = PARTS.filter(|part| *part > next);
        let before = PARTS.filter(|part| *part <= next);
        let all = after.chain(before).map(|part| Ipv4Addr::new(a, b, c, part));
        all.filter(|address| !inner.taken.contains_key(address)).collect()
    }

    /// Assigns an address to a task. Returns false when another task has it already.
    fn take(&self, task: TaskId, address: Ipv4Addr) -> bool {
        let mut inner = self.lock();
        if inner.taken.get(&address).is_some_and(|holder| *holder != task) {
            return false;
        }
        inner.last = address.octets()[3];
        inner.taken.insert(address, task);
        true
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
        match addresses.claim(TaskId::from_bits(bits), SUBNET, |_| true) {
            Ok(IpAddr::V4(address)) => Some(address.octets()[3]),
            _ => None,
        }
    }

    #[test]
    fn an_address_that_the_machine_has_given_to_another_is_passed_over() {
        let addresses = Addresses::default();
        let claimed = addresses.claim(TaskId::from_bits(1), SUBNET, |address| address.octets()[3] > 3);
        assert_eq!(claimed, Ok([127, 70, 3, 4].into()));
        assert_eq!(addresses.claim(TaskId::from_bits(1), SUBNET, |_| true), claimed, "it keeps the one it has");
        assert_eq!(next(&addresses, 2), Some(5));
    }

    #[test]
    fn an_address_that_became_free_is_used_again_last() {
        let addresses = Addresses::default();
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
        let addresses = Addresses::default();
        addresses.keep(TaskId::from_bits(1), Some([127, 70, 3, 2].into()));
        assert_eq!(next(&addresses, 2), Some(3));
        assert!(!addresses.take(TaskId::from_bits(2), Ipv4Addr::new(127, 70, 3, 2)));
    }
}
