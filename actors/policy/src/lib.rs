//! The leader's decisions: what a manager should do next, as pure functions.
//!
//! Each decision is a function of the replicated [`State`](essaim_model::State), the time that it is given and nothing
//! else: no clock, no randomness of its own, no actor, no socket. Each can therefore be tested by ordinary unit tests,
//! and two leaders with the same state make the same plan. The leader's actors call these functions, propose the
//! result, and call again on the state that `apply` made of it. Everything is level-triggered: no decision depends on
//! having seen every event.
//!
//! In suggested reading order:
//!
//! - [`scene`]: the input of a decision; [`plan`]: its output.
//! - [`reconcile`](mod@reconcile): one service, from the wish to the changes. It calls [`restart`] for tasks that ended
//!   by themselves and `reconcile::rollout` for tasks that follow an older spec.
//! - `turns`: how many slots an update may replace at a time, asked when a replacement gets its node.
//! - [`place`]: which node gets a task, or why none does. `enforce`: which tasks a node that became smaller cannot keep.
//! - [`liveness`]: which verdicts about nodes are committed, and how fast lost tasks may be replaced (the brake).
//! - [`assignment`]: the tasks that one node is told of. [`backends`](mod@backends): the tasks behind published ports.
//! - [`history`]: which records to forget.
//! - [`network`]: which VNI, subnets and addresses a network is given.

pub mod assignment;
pub mod backends;
mod enforce;
pub mod history;
pub mod liveness;
pub mod network;
pub mod place;
pub mod plan;
pub mod reconcile;
pub mod restart;
pub mod scene;
mod turns;

#[cfg(test)]
mod tests;

pub use backends::{backend, backends};
pub use history::{departed, forgettable, orphans};
pub use liveness::{Effect, Input, Liveness, RosterState, Wake};
pub use place::{Board, Explanation, Reason, Retried, Why, WhyNode, WhySlot, why};
pub use plan::{Plan, Wanted};
pub use reconcile::{Watch, reconcile};
pub use scene::Scene;
