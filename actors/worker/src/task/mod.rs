//! One task of this machine: from its order to its end.
//!
//! A task has an actor while there is something to do about it: prepare, start, wait, stop, remove. When the task has
//! ended and only its record is left, the actor ends too; if the order goes later, a new actor removes what the engine
//! kept. The actor holds nothing durable: it asks the engine for the task's phase, so it may fail, or its daemon may be
//! killed, at any moment, and the next actor continues from there. No task is ever started twice.
//!
//! - `core`: from desired state and the engine's answers to the next step. Pure.
//! - `execution`: from a task's order and spec to what its engine needs to know.

mod actor;
mod core;
mod execution;

pub(crate) use actor::{FORGOTTEN, Task, TaskArgs, TaskMsg};
pub(crate) use core::Goal;
pub(crate) use execution::{Execution, Here, execution, label};
