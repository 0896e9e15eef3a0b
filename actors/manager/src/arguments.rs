//! The parts of a node that its manager works with.

use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_store::Store;
use essaim_system::Scope;

/// Arguments of [`Manager`](crate::Manager).
#[derive(Clone)]
pub struct ManagerArguments {
    /// Scope of the actor: its place in the tree, its clock and its journal.
    pub scope: Scope,
    /// The open Raft store.
    pub store: Store,
    /// The node's endpoint.
    pub endpoint: Endpoint,
    /// Handle on the roster of live members.
    pub roster: RosterHandle,
}
