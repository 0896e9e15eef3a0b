//! The uplink: this machine's link to a manager.
//!
//! A worker links to one manager at a time, and any manager will do: a manager on this machine is preferred, else the
//! one that a hash of both ids ranks highest, so that many workers spread over few managers without coordination. The
//! uplink sends a hello with the versions that it has, takes orders, writes them to disk and passes them to the worker.
//! It reports observations, only the latest observation of each task, at the interval that the manager sets. When the link
//! ends, the uplink turns to the next manager. The uplink's own death ends no task: the task actors are its siblings.
//!
//! - `core`: which manager next, and when. Pure.
//! - `deaf`: which orders are taken after the disk has refused some. Pure.
//! - `dial`: how a manager is reached: through the node's endpoint, or a stand-in.

mod actor;
mod core;
mod deaf;
mod dial;

pub(crate) use actor::{Uplink, UplinkArgs, UplinkMsg};
pub use dial::{Dial, Frames, Unlinked};
