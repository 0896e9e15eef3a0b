//! One actor for each node that is linked to this manager: what the node has to be told, and what it reports.
//!
//! The actor is exported on that node's link and nowhere else, so every message that it hears came from that node. It
//! serves the node from the state that this manager has applied, whichever manager leads: a node's orders follow from
//! what is committed, and their version is a place in the log.
//!
//! - `core`: the difference between what the node was told and what the state says. Pure.
//! - `topics`: what the node is told of published ports and of the tasks behind them. Pure.
//! - `describing`: when what the node says of itself is proposed. Pure.
//! - `actor`: the link, and the handling of each message.
//! - `measure`: what it costs to tell many nodes of a change; for benchmarks.

mod actor;
mod core;
mod describing;
#[cfg(feature = "checks")]
mod measure;
#[cfg(test)]
mod tests;
mod topics;

#[cfg(feature = "checks")]
pub use measure::LinkedNodes;

pub(crate) use actor::{Arguments, Msg, NodeActor};
