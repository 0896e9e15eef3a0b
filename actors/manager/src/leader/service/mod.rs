//! The actor of one service looks at it whenever something that concerns it changed, and hands its plan to the
//! scheduler.
//!
//! `policy::reconcile` decides what the service needs, over the present state. One plan is under way at a time: changes
//! that are proposed and not yet applied are missing in the state, and would be asked for twice.

mod actor;

pub(super) use actor::{Arguments, Msg, ServiceActor};
