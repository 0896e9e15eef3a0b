//! The store: the managers' replicated log, the state that results from it, and how to read and watch that state.
//!
//! A [`Store`] is one manager's part in the Raft group. Changes are proposed on any manager ([`Store::propose`]) and
//! are acknowledged once a majority has them on disk and this manager has applied them. Reads are of a frozen state: as
//! applied here ([`Store::state`]), or linearizable ([`Store::read`]). Events are read through cursors
//! ([`Store::events`]). [`Store::leadership`] says whether this manager may act as the leader.
//!
//! The store knows nothing of actors: it gets lanes from `transport` and a disk from `system`, and the contents of the
//! log have a meaning for `model` alone.
//!
//! In suggested reading order:
//!
//! - [`store`], [`lifecycle`]: the handle and what it shows; opening and closing.
//! - [`proposer`], [`read`]: how changes get in, and how reads are made linearizable; [`pieces`]: how much fits into a
//!   proposal; [`idle`], [`rounds`]: streams and questions that requests share; [`time`]: the dates of changes.
//! - [`leadership`], [`watchdog`]: whether this manager may act as leader.
//! - [`group`], [`force`]: membership of the group, and recovery when a quorum is lost for good.
//! - [`events`]: recent events, for watchers; [`agreed`]: the contents of the log, for checks.
//! - [`log`], [`snapshot`], [`seal`], [`identity`]: files on disk, and how they are protected from rot and readers.
//! - [`format`](mod@format): the frozen types on disk and on the wire.
//! - [`raft`]: everything that knows openraft.

mod agreed;
mod error;
mod events;
mod force;
mod format;
mod group;
mod housekeeping;
mod identity;
mod idle;
mod leadership;
mod lifecycle;
mod log;
mod peers;
mod pieces;
mod proposer;
mod raft;
mod read;
mod rounds;
mod seal;
mod snapshot;
mod store;
mod time;
mod watchdog;

#[cfg(test)]
mod tests;

pub use agreed::Agreed;
pub use error::{Missing, NoQuorum, OpenError, ProposeError, ReadError};
pub use events::{Advance, Compacted, Cursor, CursorError, EventsAt};
pub use group::{MemberStatus, Status};
pub use leadership::Leadership;
pub use lifecycle::{Known, Start};
pub use peers::{Peers, Pipe};
pub use pieces::{PROPOSAL_BYTES_MAX, Room, pieces};
pub use store::{Store, StoreConfig};
