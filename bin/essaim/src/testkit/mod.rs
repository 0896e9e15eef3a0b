//! The test kit: the whole product in one process and in virtual time, with seeded faults.
//!
//! Everything above sockets, disks and engines is what ships: Hello, admission, gossip, links, Raft, the leader's
//! tree, workers. Below stand the simulated network, the simulated disk and a simulated machine for each node. One
//! number draws everything, keys and ids as well as faults and requests, so a run that fails is run again by its seed.
//!
//! It deliberately does not simulate what QUIC, TLS and a kernel do (`transport` tests them on loopback), nor the
//! inside of a task. A frozen node differs from SIGSTOP in one thing: its own timers go on.
//!
//! In suggested reading order:
//!
//! - [`cluster`](mod@cluster): a cluster inside one test, for whoever writes an extension.
//! - [`run`](mod@run): one run, from the first node to the last check.
//! - [`fault`]: what goes wrong, as values.
//! - [`world`]: the nodes, and what is wrong with them at the moment.
//! - `daemons`: how a daemon is started, killed and ended in order.
//! - [`still`]: a manager whose state nobody but the test changes, for tests of what shows it.
//! - `operator`: who drains, promotes and demotes when a story says so.
//! - [`client`]: who asks for things throughout, and remembers what was promised.
//! - [`history`]: whether what the clients were answered can be explained.
//! - [`invariants`]: what must hold at every moment.
//! - [`convergence`]: what must be true once everything is whole again.
//! - [`levels`]: programs of different age side by side, and who upgrades them.
//! - `panics`: those that supervision would hide.
//! - [`trace`]: what happened, as one number or as lines.

pub mod client;
pub mod cluster;
pub mod convergence;
mod daemons;
pub mod fault;
pub mod history;
pub mod invariants;
pub mod levels;
mod liar;
mod operator;
mod panics;
pub mod run;
pub mod still;
pub mod trace;
pub mod world;

pub use cluster::{Cluster, Failed, cluster};
pub use fault::Fault;
pub use run::{Options, Outcome, run};
