//! One task of this machine: from its order to its end.
//!
//! The actor exists while there is something to do about its task: prepare, start, wait, stop, remove. When the task
//! has ended and its record is all that is left, the actor ends too; should the order go, another one removes what
//! the engine kept. The actor holds nothing durable: it asks the engine how far the task is, so it may fail, or its
//! daemon may be killed, at any moment, and its successor goes on from there. No task is ever started twice.
//!
//! - `core`: desired × what the engine says → the next step. Pure.
//! - `plan`: from a task's order and spec to what its engine needs to know.

mod actor;
mod core;
mod plan;

pub(crate) use actor::{FORGOTTEN, Task, TaskArgs, TaskMsg};
pub(crate) use core::Wish;
pub(crate) use plan::{Here, Plan, label, plan};
