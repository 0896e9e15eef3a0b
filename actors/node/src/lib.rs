//! The root of the tree on every machine: a daemon's life, from inactive through init or join to leave, and again.
//!
//! [`start`] assembles a node from its [`Env`](essaim_system::Env) and [`Parts`]; what comes back is a [`Handle`]. The
//! faces (the API) and the journal live as long as the daemon. Endpoint, roster, worker and manager stand while the node
//! has a part in a cluster: they start with init or join, stop in reverse order at leave, and when they have stopped
//! every socket and file of the old cluster is closed, so that a new one can begin in the same daemon.
//!
//! In suggested reading order:
//!
//! - [`request`]: what is asked of a node, and how it says goodbye.
//! - [`standing`]: what a node is part of, for whoever asks.
//! - [`handle`]: the handle.
//! - [`address`]: which addresses a node listens on and tells.
//! - `follow`: what the parts of a node tell each other.
//! - `part`: what stands while the node has a part in a cluster.
//! - `group`: the store, and how a manager takes up and gives up its part in the group.
//! - `actor`: the root itself.

mod actor;
pub mod address;
mod follow;
mod founding;
mod group;
pub mod handle;
mod part;
pub mod request;
pub mod standing;

pub use handle::{Handle, Parts, Settings, StartError, start};
pub use request::{Farewell, InitRequest, JoinRequest};
pub use standing::{Membership, Standing};
