//! Orders of workers: an order is never followed by an older one, over restarts of the daemon too.
//!
//! A deposed leader, or a manager that lags behind, tells its workers what was true a while ago. A worker that obeyed
//! it would stop tasks that others count on.

use crate::testkit::fault::Number;
use essaim_protocol::AssignmentVersion;
use essaim_wire::NodeId;
use std::collections::BTreeMap;

/// The orders that each node has obeyed last.
#[derive(Debug, Default)]
pub struct Orders {
    obeyed: BTreeMap<NodeId, AssignmentVersion>,
}

impl Orders {
    /// Checks the orders in force on a node; `None` when the node has forgotten all orders.
    pub(crate) fn on_orders(
        &mut self,
        number: Number,
        node: NodeId,
        orders: Option<AssignmentVersion>,
    ) -> Option<String> {
        let before = self.obeyed.get(&node).copied();
        if let Some(orders) = orders {
            self.obeyed.insert(node, orders);
        }
        (before > orders).then(|| {
            let place = |orders: Option<AssignmentVersion>| orders.map_or(0, |orders| orders.index.0);
            format!("n{number} obeys the orders of index {} after those of {}", place(orders), place(before))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{Index, Lineage};

    fn version(index: u64) -> Option<AssignmentVersion> {
        let lineage = Lineage { ordinal: 1, nonce: 1 };
        Some(AssignmentVersion { lineage, index: Index(index) })
    }

    #[test]
    fn an_older_order_is_seen_and_so_are_orders_that_were_forgotten() {
        let node = NodeId::from_bits(1);
        let mut orders = Orders::default();
        assert_eq!(orders.on_orders(1, node, None), None);
        assert_eq!(orders.on_orders(1, node, version(5)), None);
        assert_eq!(orders.on_orders(1, node, version(5)), None);
        assert_eq!(orders.on_orders(2, NodeId::from_bits(2), version(3)), None, "another node");
        assert!(orders.clone_of().on_orders(1, node, None).is_some());
        let why = orders.on_orders(1, node, version(4));
        assert_eq!(why.as_deref(), Some("n1 obeys the orders of index 4 after those of 5"));
    }

    impl Orders {
        fn clone_of(&self) -> Self {
            Self { obeyed: self.obeyed.clone() }
        }
    }
}
