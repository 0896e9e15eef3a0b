//! The routes of the API over the test kit: real nodes in virtual time, asked without a socket.
//!
//! - [`stage`]: the nodes that are asked, and the client that asks.
//! - [`replay`] sends what the stock CLI sent, recording by recording; [`world`] makes a cluster as a recording saw it, and
//!   [`shape`] compares the answers.
//! - [`routes`] asks what no recording asked.
//! - [`configs`]: a plain noun, from its creation to its removal.
//! - [`streams`]: events, logs and the journal.
//! - [`real`]: what takes a whole cluster: requests at the same time, and requests without a quorum.

mod configs;
mod real;
mod replay;
mod routes;
mod shape;
mod stage;
mod streams;
mod world;
