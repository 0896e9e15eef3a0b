//! Supervision: an actor's children are started, watched and restarted by the actor above them.
//!
//! ractor has the mechanism (links, exit events) and no policy: left alone, a parent stops when any child ends, and the
//! end of a parent kills its children in random order. This module has the policy, in three layers:
//!
//! - `core`: decides what happens when a child ends. Pure.
//! - [`Children`]: carries out what the core decides. It is a field of an actor that has logic of its own *and*
//!   children; the actor forwards exit events, wake-ups and its own end to it.
//! - [`Supervisor`]: an actor that has children and nothing else.
//!
//! Every decision is a record in the journal and a change of the tree. A child is declared by a [`ChildSpec`], which
//! can start it any number of times: children are rebuilt from state and hold nothing durable. A restarted actor is
//! another `ActorRef`, so other actors hold its [`Address`], which follows restarts.

mod actor;
mod address;
mod children;
mod core;
#[cfg(test)]
mod core_tests;
mod spec;
#[cfg(test)]
mod tests;

pub use self::core::{Backoff, Exit, Intensity, Restart, Strategy, Supervision, Wake};
pub use actor::{Supervisor, SupervisorArgs, SupervisorMsg};
pub use address::{Address, CallError};
pub use children::{Children, Escalated, Exited, NotStarted};
pub use spec::ChildSpec;
