//! What every route is given: the node, the machine, and the lists that are encoded already.

use crate::host::Host;
use crate::lists::Lists;
use essaim_docker::convert::Context;
use essaim_manager::Control;
use essaim_model::{Refusal, State};
use essaim_node::Handle;
use essaim_wire::{NodeId, Timestamp};
use std::sync::Arc;

/// What every route is given. Cloning costs a few pointers.
#[derive(Clone)]
pub struct Face {
    pub(crate) node: Handle,
    pub(crate) host: Arc<Host>,
    pub(crate) lists: Arc<Lists>,
}

impl Face {
    /// The face of `node` on the machine `host`.
    pub fn new(node: Handle, host: Host) -> Self {
        Self { node, host: Arc::new(host), lists: Arc::default() }
    }

    /// Requests to the cluster, or why this node takes none, in Docker's words for where it stands.
    pub(crate) fn control(&self) -> Result<Control, Refusal> {
        self.node.control()
    }

    /// The state as of now, or why this node has none to show.
    pub(crate) async fn read(&self) -> Result<Arc<State>, Refusal> {
        self.control()?.read().await
    }

    /// The time, UTC.
    pub(crate) fn now(&self) -> Timestamp {
        self.node.scope().utc()
    }

    /// Who leads the managers, as far as this node knows.
    fn leader(&self) -> Option<NodeId> {
        self.control().ok()?.store().leader()
    }

    /// What an object of `state` is shown against.
    pub(crate) fn context<'a>(&self, state: &'a State) -> Context<'a> {
        Context::new(state, self.leader())
    }
}
