//! The HTTP face: the Docker Engine API, spoken on a unix socket, and Essaim's own routes beside it.
//!
//! The stock `docker` CLI, its SDKs and what else speaks to a Docker Engine in swarm mode talk to this. A request is
//! read into the nouns of `model` (`docker` does that), asked of the node's [`Handle`](essaim_node::Handle), and what
//! comes back is shown as Docker shows it. Paths work with and without `/v1.NN`; a path nobody knows answers in JSON as well; a request
//! that cannot be granted is refused with Docker's status and words.
//!
//! What it deliberately does not do: decide anything, or hold state of its own beyond lists it encoded already
//! (the CLI asks for every node five times a second while it waits; see [`lists`]).
//!
//! In suggested reading order:
//!
//! - [`face`](mod@face): what every route is given.
//! - [`routes`]: one file a noun.
//! - [`reply`] and [`ask`]: answers and refusals going out, bodies and queries coming in.
//! - [`socket`]: the socket and its connections.
//! - [`follow`]: the events of the cluster, for one client.
//! - [`view`]: trees and journals of every node, and who is alive.
//! - [`actor`]: `/n/api`, which keeps the socket open.
//! - [`direct`]: the same without a socket.

mod actor;
mod ask;
mod direct;
mod face;
mod follow;
mod host;
mod lists;
mod reply;
mod routes;
mod socket;
mod view;

pub use actor::face;
pub use direct::{Direct, Reply};
pub use face::Face;
pub use host::Host;
pub use routes::router;
pub use socket::{BindError, Listener, serve};
