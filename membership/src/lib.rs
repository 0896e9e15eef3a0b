//! Failure detection: rings of observers around the gossip library foca, as one sans-IO detector.
//!
//! [`Detector`] is told what happened (a datagram, a wake-up, a lost session) and when, and answers with effects (send
//! this, wake me then, this is the verdict). It owns no clock, socket or thread, and its randomness comes from a seed,
//! so every interleaving of failures is an ordinary test.
//!
//! The idea: gossip alone (SWIM, Lifeguard) is either slow or wrong, because the word of one prober is final. Here
//! every node is watched by up to eight others, chosen by hashed rings; each of them expects an echo of its heartbeat
//! five times a second; and only when a quorum of them misses the node is it `Unreachable`. That verdict is quick and
//! reversible. The irreversible one, `Down`, waits for a grace period. foca spreads the news, keeps incarnations, and
//! probes slowly as a safety net under the rings.
//!
//! Which nodes observe which is defined in `wire` ([`Rings`](essaim_wire::Rings)), since the leader counts votes by it
//! too.
//!
//! In suggested reading order:
//!
//! - `member`, `verdict`, `input`: the vocabulary.
//! - `config`: the numbers, with their origin.
//! - `accusation`: all accusations of a subject, as one record that merges.
//! - `watch`: heartbeats, lateness, and the gate that keeps an isolated node silent.
//! - `proof`: signed statements of members about themselves.
//! - `identity`, `datagram`, `gossip`, `table`: what crosses the network, and foca.
//! - `health`, `flap`, `agenda`: Lifeguard's timing, the pause for nodes that flap, the one queue of timers.
//! - `detector`: the decisions.

mod accusation;
mod agenda;
mod config;
mod datagram;
mod detector;
mod flap;
mod gossip;
mod health;
mod identity;
mod input;
#[cfg(any(test, feature = "lies"))]
pub mod lies;
mod member;
mod proof;
mod table;
mod verdict;
mod watch;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use detector::{BALLOT_MAX, Detector};
pub use input::{Effect, Input, Loss, Wake};
pub use member::{Goodbye, Incarnation, Member, MemberState, MemberView};
pub use proof::{Notary, Signature};
pub use table::Table;
pub use verdict::{Downfall, Evidence, Lie, Verdict};
