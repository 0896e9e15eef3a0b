//! One service: looks at it whenever something that concerns it changed, and hands what it needs to the scheduler.
//!
//! What it needs is `policy::reconcile`'s to say, over the state as it is at that moment. One plan is under way at a
//! time: what is proposed but not applied is not in the state yet, and would be asked for twice.

mod actor;

pub(super) use actor::{Arguments, Msg, ServiceActor};
