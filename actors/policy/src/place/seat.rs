//! A seat: a node on the board, and what its tasks take up there.

use super::needs::Needs;
use essaim_model::{Hardware, Node, PortProtocol};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node, and the resources that its tasks take up.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) node: Arc<Node>,
    /// Number of wanted tasks on the node.
    pub(super) load: u32,
    pub(super) used: Hardware,
    pub(super) ports: BTreeMap<(PortProtocol, u16), u32>,
    /// Number of the node's task addresses in use; see `model::loopback`.
    pub(super) addresses: u32,
}

impl Seat {
    /// Adds the needs of a task to the resources in use, or subtracts them.
    pub(super) fn take(&mut self, needs: &Needs, add: bool) {
        let step =
            |used: &mut u64, by: u64| *used = if add { used.saturating_add(by) } else { used.saturating_sub(by) };
        step(&mut self.used.nano_cpus, needs.reservation.nano_cpus);
        step(&mut self.used.memory_bytes, needs.reservation.memory_bytes);
        self.addresses =
            if add { self.addresses + needs.addresses } else { self.addresses.saturating_sub(needs.addresses) };
        for port in &needs.host_ports {
            if add {
                *self.ports.entry(*port).or_default() += 1;
            } else if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }
}
