//! The HTTP face: the Docker Engine API on a unix socket, and Essaim's own routes beside it.
//!
//! Its clients are the stock `docker` CLI, its SDKs and other programs that speak to a Docker Engine in swarm mode. The
//! crate `docker` parses a request into the types of `model`; the route asks the node's
//! [`Handle`](essaim_node::Handle), and shows the answer as Docker shows it. Paths work with and without `/v1.NN`. An
//! unknown path is answered in JSON as well. A request that cannot be granted is refused with Docker's status and
//! words. What concerns one machine is handed on to its Docker Engine, if it has one.
//!
//! The crate deliberately decides nothing, and holds no state of its own except lists that it has encoded already (the
//! CLI asks for every node five times a second while it waits; see [`lists`]).
//!
//! In suggested reading order:
//!
//! - [`face`](mod@face): what every route is given.
//! - [`routes`]: one file for each noun.
//! - [`reply`] and [`ask`]: answers and refusals going out, bodies and queries coming in.
//! - [`engine`]: the Docker Engine that requests about one machine are handed on to.
//! - [`merge`]: `version` and `info` of a node with an engine.
//! - [`socket`]: the socket and its connections. [`places`]: which connection gives way when there are too many.
//! - [`tcp`]: clients with a certificate, over TCP.
//! - [`follow`]: the events of the cluster, for one client.
//! - [`view`]: trees and journals of every node, and which nodes are alive.
//! - [`doctor`]: what is wrong with a node and its cluster, and what to do.
//! - [`actor`]: `/n/api`, which keeps the socket open.
//! - [`direct`]: the face without a socket.

mod actor;
mod ask;
mod direct;
mod doctor;
mod engine;
mod face;
mod follow;
mod host;
mod lists;
mod merge;
mod places;
mod reply;
mod routes;
mod socket;
mod tcp;
#[cfg(test)]
mod tests;
mod view;

pub use actor::face;
pub use direct::{Direct, Reply, StreamedReply};
pub use engine::{EngineInside, EngineSocket};
pub use face::Face;
pub use host::Host;
pub use routes::router;
pub use socket::{BindError, Listener, serve};
pub use tcp::{Tcp, TcpError};
