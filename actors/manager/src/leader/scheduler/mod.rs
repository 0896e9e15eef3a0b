//! Gathers what services need, finds nodes for it, and proposes.
//!
//! Whatever is wanted while one proposal is under way goes into the next, as one batch over one board
//! (`policy::place`): tasks are born already assigned, or pending with the reason. Tasks that wait are tried again
//! when anything was applied, since a node may have become free. A batch that is refused, because the basis of one
//! part was gone, is proposed again part by part, so that one service's bad luck is not another's.

mod actor;
mod answer;

pub(super) use actor::{Msg, SchedulerActor, Want};
pub(super) use answer::Answer;
