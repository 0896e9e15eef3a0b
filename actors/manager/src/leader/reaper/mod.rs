//! Forgets ended tasks beyond the history that is kept, and tasks of removed services whose nodes are gone.
//!
//! Which ones is `policy::history`'s to say. Ended tasks are gathered for a moment first, so that a crash loop costs
//! few entries.

mod actor;

pub(super) use actor::{Ended, Msg, ReaperActor};
