//! What every route is given: the cluster, the machine, and the lists that are encoded already.

use crate::cluster::{Cluster, LocalState};
use crate::host::Host;
use crate::lists::Lists;
use essaim_docker::convert::Context;
use essaim_docker::error::texts;
use essaim_model::{Refusal, RefusalKind, State};
use essaim_wire::Role;
use std::sync::Arc;

/// What every route is given. Cloning costs three pointers.
#[derive(Clone)]
pub struct Face {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) host: Arc<Host>,
    pub(crate) lists: Arc<Lists>,
}

impl Face {
    /// A face of `cluster` on the machine `host`.
    pub fn new(cluster: Arc<dyn Cluster>, host: Host) -> Self {
        Self { cluster, host: Arc::new(host), lists: Arc::default() }
    }

    /// The state as of now, or why this node has none to show.
    pub(crate) async fn read(&self) -> Result<Arc<State>, Refusal> {
        self.expect_manager()?;
        self.cluster.read().await
    }

    /// Refuses whatever only a manager can do, in the words for where this node stands.
    pub(crate) fn expect_manager(&self) -> Result<(), Refusal> {
        let standing = self.cluster.standing();
        match (standing.state, standing.role) {
            (LocalState::Inactive, _) => Err(texts::no_swarm()),
            (LocalState::Error(why), _) => Err(Refusal::new(RefusalKind::NotManager, why)),
            (LocalState::Pending, _) => {
                let text = "This node is still on its way into the swarm. Please wait a moment and try again.";
                Err(Refusal::new(RefusalKind::NotManager, text))
            }
            (LocalState::Active, Some(Role::Manager)) => Ok(()),
            (LocalState::Active, _) => Err(texts::worker()),
        }
    }

    /// What an object of `state` is shown against.
    pub(crate) fn context<'a>(&self, state: &'a State) -> Context<'a> {
        Context::new(state, self.cluster.leader())
    }
}
