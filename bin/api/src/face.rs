//! The state that every route is given: the node, its machine with its Docker Engine, and the encoded lists.

use crate::engine::{EngineInside, EngineSocket, LocalEngine};
use crate::host::Host;
use crate::lists::Lists;
use essaim_docker::convert::Context;
use essaim_manager::Control;
use essaim_model::{Refusal, State};
use essaim_node::Handle;
use essaim_wire::{NodeId, Timestamp};
use std::sync::Arc;

/// The node, its machine and the encoded lists, given to every route. Cloning copies a few pointers.
#[derive(Clone)]
pub struct Face {
    pub(crate) node: Handle,
    pub(crate) host: Arc<Host>,
    pub(crate) lists: Arc<Lists>,
    /// The machine's Docker Engine; `None` on a node that uses none.
    pub(crate) engine: Option<LocalEngine>,
}

impl Face {
    /// The face of `node` on the machine `host`, without a Docker Engine.
    pub fn new(node: Handle, host: Host) -> Self {
        Self { node, host: Arc::new(host), lists: Arc::default(), engine: None }
    }

    /// This face with the Docker Engine that requests about containers are handed on to.
    #[must_use]
    pub fn with_engine(self, socket: EngineSocket) -> Self {
        Self { engine: Some(LocalEngine::new(socket)), ..self }
    }

    /// This face with an engine inside the process.
    #[must_use]
    pub(crate) fn with_engine_inside(self, engine: EngineInside) -> Self {
        Self { engine: Some(LocalEngine::inside(engine)), ..self }
    }

    /// The handle for requests to the cluster, or a refusal in Docker's words when this node takes none.
    pub(crate) fn control(&self) -> Result<Control, Refusal> {
        self.node.control()
    }

    /// The present state of the cluster, or the reason why this node has none to show.
    pub(crate) async fn read(&self) -> Result<Arc<State>, Refusal> {
        self.control()?.read().await
    }

    /// UTC by the node's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.node.scope().utc()
    }

    /// The managers' leader, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.control().ok()?.store().leader()
    }

    /// The context that an object of `state` is shown in: what its representation depends on beside the object.
    pub(crate) fn context<'a>(&self, state: &'a State) -> Context<'a> {
        Context::new(state, self.leader())
    }
}
