//! The reaper removes ended tasks beyond the history that is kept, and tasks of removed services whose nodes are gone.
//!
//! `policy::history` decides which tasks. Ended tasks are gathered for a moment first, so that a crash loop costs few
//! log entries.

mod actor;

pub(super) use actor::{Ended, Msg, ReaperActor};
