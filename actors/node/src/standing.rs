//! A node's standing: its part in a cluster, as a frozen view that changes as a whole.

use essaim_manager::Control;
use essaim_model::{Refusal, RefusalKind};
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_presence::view::View;
use essaim_wire::{ClusterId, NodeId, Role};
use essaim_worker::WorkerHandle;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whether a node is part of a cluster, and its part.
#[derive(Debug, Clone, Default)]
pub enum Standing {
    /// The node is in no cluster.
    #[default]
    Inactive,
    /// The node was part of a cluster and cannot take its part up again, or was removed from the cluster; the text says
    /// why, and what to do.
    Broken(Arc<str>),
    /// The node is part of a cluster as its disk says, and its daemon, which was started a moment ago, takes that part up:
    /// it starts the worker, and replays the managers' log.
    Pending {
        /// Id of the node.
        node: NodeId,
        /// Role that the node's certificate says.
        role: Role,
    },
    /// The node is part of a cluster.
    Active(Arc<Membership>),
}

/// A node's part in a cluster.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Id of the node.
    pub node: NodeId,
    /// Id of the cluster.
    pub cluster: ClusterId,
    /// Role that the node's certificate says.
    pub role: Role,
    /// Address at which other nodes reach this node.
    pub advertise: SocketAddr,
    /// The node's port, and its identity there.
    pub endpoint: Endpoint,
    /// Handle on the roster of live members.
    pub roster: RosterHandle,
    /// Handle on the worker, which runs the node's tasks.
    pub worker: WorkerHandle,
    /// Trees, journals and rosters of all nodes.
    pub view: View,
    /// Handle for requests to the cluster, on a manager that has taken up its part in the group.
    pub control: Option<Control>,
}

impl Standing {
    /// The node's part in a cluster; `None` when it has none.
    pub const fn membership(&self) -> Option<&Arc<Membership>> {
        match self {
            Self::Active(membership) => Some(membership),
            Self::Inactive | Self::Broken(_) | Self::Pending { .. } => None,
        }
    }

    /// Id of the node in its cluster; `None` when it is in none, or cannot take up its part.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Active(membership) => Some(membership.node),
            Self::Pending { node, .. } => Some(*node),
            Self::Inactive | Self::Broken(_) => None,
        }
    }

    /// The handle for requests to the cluster; a refusal says why this node takes none, in Docker's words.
    pub fn control(&self) -> Result<Control, Refusal> {
        let refused = |text: &str| Err(Refusal::new(RefusalKind::NotManager, text));
        match self {
            Self::Inactive => refused(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                 node to swarm and try again.",
            ),
            Self::Broken(why) => refused(why),
            Self::Active(membership) => match &membership.control {
                Some(control) => Ok(control.clone()),
                None => refused(without_control(membership.role)),
            },
            Self::Pending { role, .. } => refused(without_control(*role)),
        }
    }
}

/// Why a node of a cluster takes no requests to the cluster while it has no part in the group of managers, in Docker's
/// words.
const fn without_control(role: Role) -> &'static str {
    match role {
        Role::Manager => {
            "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster."
        }
        Role::Worker => {
            "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this \
             command on a manager node or promote the current node to a manager."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_takes_up_its_part_again_is_no_node_without_a_cluster() {
        let node = NodeId::from_bits(7);
        for (role, words) in
            [(Role::Manager, "Manager is being prepared"), (Role::Worker, "Worker nodes can't be used")]
        {
            let standing = Standing::Pending { node, role };
            assert_eq!((standing.node(), standing.membership().is_none()), (Some(node), true));
            let refusal = standing.control().expect_err("it takes no requests yet");
            assert_eq!(refusal.kind, RefusalKind::NotManager);
            assert!(
                refusal.text.starts_with(&format!("This node is not a swarm manager. {words}")),
                "{}",
                refusal.text
            );
        }
    }
}
