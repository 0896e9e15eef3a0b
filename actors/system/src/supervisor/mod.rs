//! Supervision: who starts an actor, who sees it end, and what happens then.
//!
//! ractor has the mechanism (links, exit events) and no policy: left alone, a parent stops when any child does, and
//! a parent's end kills its children in random order. Here is the policy, in three layers:
//!
//! - `core`: what becomes of a child that ended. Pure.
//! - [`Children`]: performs what the core decides. It is a field of an actor that has logic of its own *and*
//!   children: forward the exit events, the wake-ups and the end to it.
//! - [`Supervisor`]: an actor that has children and nothing else.
//!
//! Every decision is a record in the journal and a change of the tree. A child is declared by a [`ChildSpec`], which
//! can start it again and again: children are rebuilt from state, and hold nothing durable. Because a restarted
//! actor is another `ActorRef`, whoever talks to it holds its [`Address`].

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
pub use spec::{ChildSpec, SHUTDOWN_DEFAULT};
