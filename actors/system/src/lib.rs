//! What an actor is in Essaim.
//!
//! Every node, service, task and network is an actor (ractor's), in one supervision tree per process. This crate has
//! what all of them are made of; it knows nothing of services, Raft or Docker. The actors that put a node on the
//! network are in `essaim-presence`.
//!
//! In suggested reading order:
//!
//! - [`env`](mod@env): time, randomness, disk and network, real or simulated.
//! - [`Path`]: the place of an actor in the tree, and its identity.
//! - [`journal`]: the records of this node, and its tree of living actors.
//! - [`Scope`]: path, environment and journal, as handed to every actor.
//! - [`supervisor`]: starts, watches and restarts actors.
//! - [`Notifier`]: tells an actor to look, with one notification in its mailbox (coalescing).
//! - [`Timer`]: a message of an actor to itself after a delay, one at a time.
//! - [`link`]: typed messages to the actors that a peer chose to export, over one stream.

pub mod env;
pub mod journal;
pub mod link;
mod notifier;
mod path;
mod scope;
pub mod supervisor;
mod timer;

pub use env::{Clock, Disk, DiskFile, Env, Seed};
pub use journal::{Journal, Record, RecordKind};
pub use notifier::Notifier;
pub use path::{InvalidPath, Path};
pub use scope::Scope;
pub use supervisor::{Address, ChildSpec, Children};
pub use timer::Timer;

#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
