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
//! - [`run`](mod@run): one run, from the first node to the last check.
//! - [`fault`]: what goes wrong, as values.
//! - [`world`]: the nodes, and how they are killed and started again.
//! - [`client`]: who asks for things throughout, and remembers what was promised.
//! - [`invariants`]: what must hold at every moment.
//! - [`convergence`]: what must be true once everything is whole again.
//! - [`trace`]: what happened, as one number or as lines.

pub mod client;
pub mod convergence;
pub mod fault;
pub mod invariants;
pub mod run;
pub mod trace;
pub mod world;

pub use run::{Options, Outcome, run};
