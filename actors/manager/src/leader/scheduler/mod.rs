//! Gathers what services need, finds nodes for it, and proposes.
//!
//! Whatever is wanted while one proposal is under way goes into the next, as one batch over one board
//! (`policy::place`): tasks are created already assigned, or pending with the reason. Tasks that wait are tried again
//! on the nodes that have changed. A batch is cut by what one proposal can hold; what did not fit is not booked either, and
//! comes with the next. A batch that is refused, because the basis of one part was gone, is proposed again part by part, so
//! that one service's bad luck is not another's; what was booked for a part that is refused is taken back.

mod actor;
mod answer;

pub(super) use actor::{Msg, SchedulerActor, Want};
pub(super) use answer::Answer;
