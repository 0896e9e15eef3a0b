//! Which node gets a task, or why none does.
//!
//! Filters say where a task may run, in Swarm's order and in Swarm's words. Of the nodes that are left the task goes
//! to the one with the fewest recent failures of this very spec (if there were at least five in five minutes), then
//! with the fewest tasks of its service, then with the fewest in total; ties go to the smaller id, so that two leaders
//! place alike.
//!
//! The [`Board`] is an index of the state for this one question. It is built once and follows the events; tasks that
//! are proposed but not committed are booked on it at once, so a second batch sees the first. What was booked for a
//! proposal that is refused is taken back. Nothing is booked that is not proposed.
//!
//! - [`board`]: who sits where. [`filter`]: who may sit where, and the words for a no. `spread`: who sits best.
//! - [`waiting`]: tasks that found no node, and when they are tried again.

mod board;
mod filter;
mod spread;
mod waiting;

#[cfg(test)]
mod tests;

pub use board::Board;
pub use filter::{Explanation, Reason};
pub use waiting::Retried;
