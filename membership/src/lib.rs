//! Who is alive: rings of observers around foca, as one sans-IO detector.
//!
//! [`Detector`] is told what happened (a datagram, a wake-up, a lost session) and when, and answers with effects
//! (send this, wake me then, the verdict is). It owns no clock, socket or thread, and its randomness comes from a
//! seed, so every interleaving of failures is an ordinary test.
//!
//! The idea: gossip alone (SWIM, Lifeguard) is either slow or wrong, because one prober's word is final. Here every
//! node is watched by up to eight others, chosen by hashed rings; each of them hears a heartbeat's echo five times a
//! second; and only when a quorum of them misses the node is it `Unreachable`. That is quick and can be taken back.
//! What cannot be taken back, `Down`, waits for a grace. foca spreads the news, keeps incarnations, and probes
//! slowly as the net under the rings.
//!
//! Which nodes observe which is `wire`'s to say ([`Rings`](essaim_wire::Rings)), since the leader counts votes by it too.
//!
//! In suggested reading order:
//!
//! - `member`, `verdict`, `input`: the vocabulary.
//! - `config`: the numbers, with their origin.
//! - `accusation`: what observers say of a subject, as one record that merges.
//! - `watch`: heartbeats, lateness, and the gate that keeps an isolated node silent.
//! - `proof`: what a member says of itself, signed.
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
pub use datagram::MAX_DATAGRAM;
pub use detector::{BALLOT_MAX, Detector};
pub use input::{Effect, Input, Loss, Wake};
pub use member::{Goodbye, Incarnation, Member, MemberView, State};
pub use proof::{Notary, Signature};
pub use table::{MAX_MEMBERS, Table};
pub use verdict::{Downfall, Evidence, Lie, Verdict};
