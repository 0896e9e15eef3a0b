//! A node's presence in its cluster: its port and certificate, the roster of live members, and the view that operators
//! have of each node.
//!
//! [`essaim_system`] says what an actor is; the actors of this crate put a node on the network. None of them knows
//! services, Raft or Docker.
//!
//! In suggested reading order:
//!
//! - [`endpoint`]: this node's port, its certificate, and the admission of peers.
//! - [`roster`]: which members are alive.
//! - [`view`]: tree, journal and roster of every node, for operators.

pub mod endpoint;
pub mod roster;
pub mod view;

#[cfg(test)]
mod fixture;
