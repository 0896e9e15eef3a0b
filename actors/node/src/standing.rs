//! What a node is part of, for whoever asks: a frozen view that changes as a whole.

use essaim_manager::Control;
use essaim_model::{Refusal, RefusalKind};
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_presence::view::View;
use essaim_wire::{ClusterId, NodeId, Role};
use essaim_worker::WorkerHandle;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a node is part of.
#[derive(Debug, Clone, Default)]
pub enum Standing {
    /// Of nothing.
    #[default]
    Inactive,
    /// It was part of a cluster and cannot take its part up again; the words say why, and what to do.
    Broken(Arc<str>),
    /// Of a cluster.
    Active(Arc<Membership>),
}

/// A node's part in a cluster.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// What its certificate lets it do.
    pub role: Role,
    /// Where others reach it.
    pub advertise: SocketAddr,
    /// Its port.
    pub endpoint: Endpoint,
    /// Who is alive.
    pub roster: RosterHandle,
    /// What it runs.
    pub worker: WorkerHandle,
    /// What all nodes show of themselves.
    pub view: View,
    /// Requests to the cluster, on a manager that has taken up its part in the group.
    pub control: Option<Control>,
}

impl Standing {
    /// Its part in a cluster, if it has one.
    pub const fn membership(&self) -> Option<&Arc<Membership>> {
        match self {
            Self::Active(membership) => Some(membership),
            Self::Inactive | Self::Broken(_) => None,
        }
    }

    /// Requests to the cluster; or why not here, in Docker's words.
    pub fn control(&self) -> Result<Control, Refusal> {
        let refused = |text: &str| Err(Refusal::new(RefusalKind::NotManager, text));
        match self {
            Self::Inactive => refused(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                 node to swarm and try again.",
            ),
            Self::Broken(why) => refused(why),
            Self::Active(membership) => match (&membership.control, membership.role) {
                (Some(control), _) => Ok(control.clone()),
                (None, Role::Manager) => refused(
                    "This node is becoming a swarm manager and has no part in the group of managers yet; try again in \
                     a moment.",
                ),
                (None, Role::Worker) => refused(
                    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. \
                     Please run this command on a manager node or promote the current node to a manager.",
                ),
            },
        }
    }
}
