//! The uplink: this machine's link to a manager.
//!
//! One manager at a time, any of them: a manager of this machine itself first, else the one that a hash of both ids
//! ranks highest, so that many workers spread over few managers without asking anybody. It says hello with what it
//! was told so far, takes orders, puts them on disk and hands them to the worker; it reports what the board has, the
//! latest of each task only, as often as the manager wants. When the link ends it turns to the next manager. Its own
//! death ends no task: tasks are its siblings.
//!
//! - `core`: which manager next, and when. Pure.
//! - `dial`: how a manager is reached: through the node's endpoint, or a stand-in.

mod actor;
mod core;
mod dial;

pub(crate) use actor::{Uplink, UplinkArgs, UplinkMsg};
pub use dial::{Dial, Frames, Unlinked};
