//! The test kit: the whole product in one process and in virtual time, with seeded faults.
//!
//! Everything above sockets, disks and engines is what ships: Hello, admission, gossip, links, Raft, the leader's tree,
//! workers. Below stand the simulated network, the simulated disk and a simulated machine for each node. One number
//! draws everything, keys and ids as well as faults and requests, so a failed run is repeated by its seed.
//!
//! It deliberately does not simulate what QUIC, TLS and a kernel do (`transport` tests them on loopback), nor the
//! inside of a task. A frozen node differs from SIGSTOP in one thing: its own timers go on.
//!
//! In suggested reading order:
//!
//! - [`cluster`](mod@cluster): a cluster inside one test, for authors of extensions.
//! - [`run`](mod@run): one run, from the first node to the last check.
//! - [`fault`]: faults, as values.
//! - [`world`]: the nodes, and the faults under way.
//! - `nodes`, `host`: names and addresses of the nodes; a machine with its disk and its daemon.
//! - `daemons`: how a daemon is started, killed and ended in order.
//! - [`still`]: a manager whose state only the test changes, for tests of what shows it.
//! - `operator`: the operator of a story, who drains, promotes and demotes.
//! - [`client`]: clients that send requests throughout a run, and remember the answers.
//! - `keeper`: one who creates, rotates and removes secrets, and the services that use them.
//! - `visitor`: connections to published ports throughout a run.
//! - `specs`: the specs of services that clients draw.
//! - [`history`]: linearizability of the clients' answers.
//! - [`invariants`]: what must hold at every moment.
//! - [`convergence`]: what must be true some time after the last fault.
//! - [`levels`]: programs of different age side by side, and their upgrade.
//! - `panics`: panics that supervision would hide.
//! - [`trace`]: what happened, as one number or as lines.

pub mod client;
pub mod cluster;
pub mod convergence;
mod daemons;
pub mod fault;
pub mod history;
mod host;
pub mod invariants;
mod keeper;
pub mod levels;
mod liar;
pub mod nodes;
mod operator;
mod options;
mod panics;
pub mod run;
mod specs;
pub mod still;
pub mod trace;
mod visitor;
pub mod world;

pub use cluster::{Cluster, Failed, cluster};
pub use fault::Fault;
pub use options::{Draws, Options};
pub use run::{Outcome, run};
