//! A node's presence in its cluster: its port and certificate, who is alive, and what nodes show of themselves.
//!
//! [`essaim_system`] says what an actor is; the actors here put a node on the network. None of them knows of services,
//! Raft or Docker.
//!
//! In suggested reading order:
//!
//! - [`endpoint`]: this node's port, its certificate, and who may come in.
//! - [`roster`]: who is alive.
//! - [`view`]: tree, journal and roster of every node, for operators.

pub mod endpoint;
pub mod roster;
pub mod view;

#[cfg(test)]
mod fixture;
