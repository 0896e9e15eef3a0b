//! What an actor is here.
//!
//! Every node, service, task and network is an actor (ractor's), in one supervision tree per process. This crate is
//! what all of them are made of; it knows nothing of services, Raft or Docker.
//!
//! In suggested reading order:
//!
//! - [`env`](mod@env): time, randomness, disk and network, real or simulated.
//! - [`Path`]: where an actor stands; its identity.
//! - [`journal`]: what happened on this node, and its tree of actors now.
//! - [`Scope`]: the three above, as handed to every actor.
//! - [`supervisor`]: who starts an actor, and what becomes of one that failed.
//! - [`link`]: typed messages to the actors that a peer chose to export, over one stream.
//! - [`endpoint`]: this node's port, its certificate, and who may come in.
//! - [`roster`]: who is alive.
//! - [`view`]: tree, journal and roster of every node, for operators.

pub mod endpoint;
pub mod env;
pub mod journal;
pub mod link;
mod path;
pub mod roster;
mod scope;
pub mod supervisor;
pub mod view;

pub use env::{Clock, Disk, DiskFile, Env, Seed};
pub use journal::{Journal, Record, RecordKind};
pub use path::{InvalidPath, Path};
pub use scope::Scope;
pub use supervisor::{Address, ChildSpec, Children};

#[cfg(test)]
mod fixture;
