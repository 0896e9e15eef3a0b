//! Placement: which node gets a task, or why none does.
//!
//! Filters decide where a task may run, in Swarm's order and with Swarm's texts. Of the remaining nodes the task goes
//! to the least filled branch of the service's spread preferences, and there to the node with the fewest recent failures
//! of this very spec (counted from five in five minutes), then with the fewest tasks of its service, then with the
//! fewest tasks in total; ties go to the smaller id, so that two leaders place alike.
//!
//! The [`Board`] is an index of the state for this one question. It is built once and follows the events. Tasks that
//! are proposed but not committed are booked on it at once, so that a second batch sees the first; the bookings of a
//! refused proposal are undone. Nothing is booked that is not proposed.
//!
//! - [`needs`], [`seat`]: what a task needs of a node, and what the tasks of a node take up. [`filter`]: which nodes may
//!   have a task, and the refusals.
//! - [`board`]: tasks by node. [`waiting`]: the tasks that found no node.
//! - [`area`]: which nodes suit by their records. `spread`: which node is best. [`placing`]: wanted tasks get their nodes. [`retry`]: pending ones are tried again.
//! - [`mod@why`]: the same, explained to an operator.

mod area;
mod board;
mod filter;
mod needs;
mod placing;
mod retry;
mod seat;
mod spread;
mod waiting;
mod why;

#[cfg(test)]
mod homes;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;

pub use board::Board;
pub use filter::{Explanation, Reason};
pub use retry::Retried;
pub use why::{Why, WhyNode, WhySlot, why};
