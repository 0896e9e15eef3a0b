//! The root of the tree on every machine: a daemon's life, from inactive through init or join to leave, and again.
//!
//! [`start`] assembles a node from its [`Env`](essaim_system::Env) and [`Parts`], and returns a [`Handle`]. The faces
//! (the API) and the journal live as long as the daemon. Endpoint, roster, worker and manager stand while the node has
//! a part in a cluster: they start with init or join, and stop in reverse order at leave. When they have stopped, every
//! socket and file of the old cluster is closed, so that a new cluster can begin in the same daemon.
//!
//! In suggested reading order:
//!
//! - [`request`]: init and join requests, and the kinds of farewell.
//! - [`standing`]: the node's standing in a cluster, as a frozen view.
//! - [`handle`]: the handle that controls and observes a node.
//! - [`address`]: the choice of the addresses to listen on and to advertise.
//! - `sockets`: the machine's sockets for published ports; `carriers`: the threads for their connections. `holders`: the programs that hold ports.
//! - [`machine`]: the machine, as `essaim doctor` looks at it; `surroundings`: what is around the daemon there. `examine`: the facts of this node for it.
//! - `follow`: the follower that passes news between the parts of a node.
//! - `part`: the parts that stand while the node is in a cluster.
//! - `group`: the Raft store, and how a manager takes up and gives up its part in the group.
//! - `actor`: the root itself.

mod actor;
pub mod address;
mod carriers;
mod core;
mod examine;
mod follow;
mod founding;
mod group;
pub mod handle;
mod holders;
pub mod machine;
mod part;
pub mod request;
mod sockets;
pub mod standing;
mod surroundings;

pub use actor::start;
pub use essaim_store::LogBounds;
pub use essaim_worker::{Listener, NoSockets, Sockets};
pub use handle::{Handle, Parts, Settings, StartError};
pub use machine::{Machine, Measured, NoMachine, RealMachine};
pub use request::{Farewell, InitRequest, JoinRequest};
pub use sockets::MachineSockets;
pub use standing::{Membership, Standing};
