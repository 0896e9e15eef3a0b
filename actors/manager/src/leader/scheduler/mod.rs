//! The scheduler gathers the plans of services, finds nodes for their tasks, and proposes.
//!
//! Plans that come while one proposal is under way go into the next, as one batch over one board (`policy::place`).
//! Tasks are created already assigned, or pending with the reason. Waiting tasks are tried again on the nodes that have
//! changed.
//!
//! What one proposal can hold bounds a batch; a task that did not fit is not booked either, and comes with the next
//! batch. When a batch is refused because the state under one part has changed, its parts are proposed one by one, so
//! that one service's refusal does not delay the others. The bookings of a refused part are taken back.

mod actor;
mod answer;

pub(super) use actor::{Msg, SchedulerActor, Want};
pub(super) use answer::Answer;
