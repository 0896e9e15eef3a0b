//! The scheduler gathers what services need, finds nodes for it, and proposes.
//!
//! The plans that come while one proposal is under way go into the next, as one batch over one board (`policy::place`):
//! tasks are created already assigned, or pending with the reason. Waiting tasks are tried again on the nodes that have
//! changed. A batch is bounded by what one proposal can hold; what did not fit is not booked either, and comes with the
//! next. When a batch is refused because the basis of one part has changed, its parts are proposed one by one, so that
//! one service's refusal does not delay the others. What was booked for a refused part is taken back.

mod actor;
mod answer;

pub(super) use actor::{Msg, SchedulerActor, Want};
pub(super) use answer::Answer;
