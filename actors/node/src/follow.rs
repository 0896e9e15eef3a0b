//! The follower passes news between the parts of a node. It is a task that lives as long as the node's part in a
//! cluster, and decides nothing.
//!
//! - The managers and the removed nodes, as a manager said over the link, go to the endpoint's admission table.
//! - A manager that the roster misses is reported to the uplink, so that the uplink need not wait for its link to
//!   break.
//! - The nodes that this node accuses are reported to the uplink, which tells its manager.
//! - The root hears the node's place in the cluster as a manager told it, that the node was removed from the cluster,
//!   changes of the node's certificate, and the managers' addresses.

use crate::actor::Msg;
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::{Roster, RosterHandle};
use essaim_wire::NodeId;
use essaim_worker::WorkerHandle;
use ractor::ActorRef;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) async fn follow(endpoint: Endpoint, roster: RosterHandle, worker: WorkerHandle, root: ActorRef<Msg>) {
    let (mut said, mut members, mut identity) = (worker.role(), roster.watch(), endpoint.identity());
    let (linked, mut removed) = (worker.linked(), worker.removed());
    let mut known: Arc<[(NodeId, SocketAddr)]> = [].into();
    // The roster's present value counts as news: it may contain this node alone.
    members.mark_changed();
    loop {
        // When the other end of one of these channels has ended, the node's part in the cluster has ended.
        let message = tokio::select! {
            changed = said.changed() => match changed {
                Ok(()) => (*said.borrow_and_update()).map(Msg::Stated),
                Err(_) => return,
            },
            changed = removed.changed() => match changed {
                Ok(()) => Some(Msg::Removed),
                Err(_) => return,
            },
            changed = identity.changed() => match changed {
                Ok(()) => Some(Msg::Certified),
                Err(_) => return,
            },
            changed = members.changed() => match changed {
                Ok(()) => {
                    let now = members.borrow_and_update().clone();
                    worker.accuse(Arc::clone(&now.ballot));
                    if let Some(manager) = *linked.borrow()
                        && !now.is_present(manager)
                        && misses(&now, manager)
                    {
                        worker.on_unreachable(manager);
                    }
                    if now.managers == known {
                        None
                    } else {
                        known = Arc::clone(&now.managers);
                        worker.suggest(known.to_vec());
                        Some(Msg::Managers(known.to_vec()))
                    }
                }
                Err(_) => return,
            },
        };
        if let Some(message) = message
            && root.cast(message).is_err()
        {
            return;
        }
    }
}

/// Whether this node misses another node by its own observation, or cannot observe it. When this node observes a
/// manager and hears it, the accusations of others do not make it leave its link: any node can accuse.
fn misses(roster: &Roster, node: NodeId) -> bool {
    let accuses = roster.ballot.iter().any(|accusation| accusation.node == node);
    accuses || roster.get(node).is_none_or(|view| view.rtt.is_none())
}
