//! Dialling of managers: opens the stream of a link.

use essaim_presence::endpoint::Endpoint;
use essaim_protocol::KnownManagers;
use essaim_transport::{Admission, Denied, FrameReceiver, FrameSender, Lane, OpenError, Unreached};
use essaim_wire::{NodeId, Removals};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// Both directions of a stream to a manager.
pub type Frames = (FrameSender, FrameReceiver);

/// Why there is no stream to the manager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlinked {
    /// This node was removed from the cluster: no manager will ever serve it again, and its tasks were written off.
    #[error("this node was removed from the cluster")]
    Removed,
    /// The attempt failed for this reason; a later attempt may succeed.
    #[error("{0}")]
    Failed(String),
}

/// Opens the stream of a link. Implemented by the node's endpoint and by stand-ins in tests.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream on which the manager serves this node's link.
    fn dial(&self, manager: NodeId, addr: SocketAddr) -> BoxFuture<'_, Result<Frames, Unlinked>>;

    /// A manager said which managers there are, and who is let in nowhere any more. The error says in words why that
    /// could not be kept.
    fn learn(&self, managers: &KnownManagers) -> Result<(), String> {
        let _ = managers;
        Ok(())
    }

    /// The removed nodes that are refused at present, as they are stored.
    fn removed(&self) -> Removals {
        Removals::default()
    }
}

impl Dial for Endpoint {
    fn dial(&self, manager: NodeId, addr: SocketAddr) -> BoxFuture<'_, Result<Frames, Unlinked>> {
        async move {
            if manager != self.node() {
                self.transport().learn(manager, addr);
            }
            match self.lane(manager, Lane::Link).await {
                Ok(lane) => Ok((lane.send, lane.recv)),
                Err(OpenError::Denied(denied) | OpenError::Unreached(Unreached::Denied(denied)))
                    if denied == (Denied::Removed { node: self.node() }) =>
                {
                    Err(Unlinked::Removed)
                }
                Err(why) => Err(Unlinked::Failed(why.to_string())),
            }
        }
        .boxed()
    }

    fn learn(&self, managers: &KnownManagers) -> Result<(), String> {
        self.set_managers(managers.managers.clone());
        let table = Admission {
            lineage: managers.version.lineage,
            index: managers.version.index,
            managers: managers.managers.iter().map(|(node, _)| *node).collect(),
            removed: managers.removed.clone(),
        };
        // A table that cannot be kept is not in force; the next one carries the same and more.
        self.admit(table).map(drop).map_err(|why| format!("the table of admission could not be kept: {why}"))
    }

    fn removed(&self) -> Removals {
        self.admission().borrow().removed.clone()
    }
}
