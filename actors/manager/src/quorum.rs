//! Whether managers can agree, judged by the reachability that the records of the nodes say.

use essaim_model::State;
use essaim_wire::{NodeId, Reachability};

/// Whether the managers other than this node can agree without it: there are some, and a majority of them is reachable.
pub(crate) fn agree_without(state: &State, id: NodeId) -> bool {
    let (reachable, others) = others(state, id);
    reachable * 2 > others
}

/// Number of reachable managers other than this node, and number of all managers other than this node.
pub(crate) fn others(state: &State, id: NodeId) -> (usize, usize) {
    let others: Vec<_> = state.managers().filter(|node| node.id != id).collect();
    let reachable = others.iter().filter(|node| node.reachability == Reachability::Reachable).count();
    (reachable, others.len())
}
