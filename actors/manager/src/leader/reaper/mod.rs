//! The reaper removes ended tasks beyond the history that is kept, and tasks of removed services whose nodes are gone.
//!
//! `policy::history` decides which tasks are removed. The reaper gathers ended tasks for a quarter of a second before a
//! sweep, so that a crash loop costs few log entries.

mod actor;

pub(super) use actor::{Msg, ReaperActor};
