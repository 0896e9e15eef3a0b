//! One actor for each node that is linked to this manager: what that node may know, and what it reports.
//!
//! It is exported on that node's link and nowhere else, so whatever it hears was said by that node. It serves the node
//! from the state that this manager has applied, whoever leads: what a node is to do follows from what is committed,
//! and the version of its orders is a place in the log.
//!
//! - `core`: the difference between what the node was told and what the state says. Pure.
//! - `actor`: the link, and what to do about each sentence.
//! - `measure`: what it costs to tell many nodes of a change; for benchmarks.

mod actor;
mod core;
#[cfg(feature = "checks")]
mod measure;
#[cfg(test)]
mod tests;

#[cfg(feature = "checks")]
pub use measure::LinkedNodes;

pub(crate) use actor::{Arguments, Msg, NodeActor};
