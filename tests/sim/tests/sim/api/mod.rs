//! Tests of the API's routes on the test kit: real nodes in virtual time, which are asked without a socket.
//!
//! - [`stage`]: the nodes that are asked, and the client that asks them.
//! - [`replay`] sends the requests of the stock docker CLI, recording by recording; [`world`] builds the cluster that a
//!   recording shows with the Docker Engine of its node ([`engine`]), and [`shape`] compares the answers.
//! - [`routes`] sends requests that are in no recording.
//! - [`configs`]: configs, from creation to removal.
//! - [`secrets`]: what secrets have beyond that.
//! - [`networks`]: networks, those of the cluster beside those of the machine.
//! - [`exec`]: programs inside tasks.
//! - [`logs`]: logs while the cluster changes.
//! - [`streams`]: events, logs and the journal.
//! - [`real`]: tests that need a whole cluster: concurrent requests, and requests without a quorum.

mod configs;
mod doctor;
pub(crate) mod engine;
mod exec;
mod jobs;
mod logs;
mod networks;
mod real;
pub(crate) mod replay;
mod routes;
mod secrets;
pub(crate) mod shape;
pub(crate) mod stage;
mod streams;
pub(crate) mod world;
