//! The verbs: what a manager should do next.
//!
//! Every decision of the leader is made here, as a function of the replicated [`State`](essaim_model::State), the time
//! it is given and nothing else: no clock, no randomness of its own, no actor, no socket. So each of them is an
//! ordinary unit test, and two leaders that look at the same state make the same plan. The leader's actors call these
//! functions, propose what comes out, and look again at what `apply` made of it: everything is level-triggered, and
//! nothing depends on having seen every event.
//!
//! In suggested reading order:
//!
//! - [`scene`]: what a decision may look at; [`plan`]: what it yields.
//! - [`reconcile`](mod@reconcile): one service, from the wish to what is to change. It calls [`restart`] for what ended by itself and
//!   `reconcile::rollout` for what follows an older spec.
//! - [`place`]: which node gets a task, or why none does.
//! - [`liveness`]: which verdicts about nodes become facts, and how fast lost tasks may be replaced (the brake).
//! - [`assignment`]: what one node may know. [`history`]: which ended tasks to forget.

pub mod assignment;
pub mod history;
pub mod liveness;
pub mod place;
pub mod plan;
pub mod reconcile;
pub mod restart;
pub mod scene;

#[cfg(test)]
mod tests;

pub use history::{departed, forgettable, orphans};
pub use liveness::{Effect, Input, Liveness, Seen, Wake};
pub use place::{Board, Explanation, Reason, Retried};
pub use plan::{Plan, Wanted};
pub use reconcile::{Watch, reconcile};
pub use scene::Scene;
