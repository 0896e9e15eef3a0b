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
//! In suggested reading order, which is also that of the layers: each module uses only those below its line, or those
//! that come later in it.
//!
//! - [`force`], [`lifecycle`]: recovery when a quorum is lost for good; opening and closing.
//! - [`read`], [`proposer`]: how reads are made linearizable, and how changes get in.
//! - [`group`], [`watchdog`], [`housekeeping`]: membership of the group; whether this manager may act as leader; periodic
//!   work. [`agreed`]: the contents of the log, for checks.
//! - [`store`]: the handle, and what it shows.
//! - [`raft`]: everything that knows openraft.
//! - [`events`]: recent events, for watchers. [`identity`], [`snapshot`], [`log`], [`seal`]: files on disk, and how they
//!   are protected from rot and readers.
//! - [`error`]: errors, in words for the caller.
//! - [`leadership`], [`time`], [`pieces`](mod@pieces), [`rounds`], [`idle`]: decisions, and what requests share: whether this manager
//!   may act as leader, the dates of changes, how much fits into a proposal, questions and streams under way.
//! - [`format`](mod@format), [`peers`]: the frozen types on disk and on the wire; the way to other managers.

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
pub use format::GroupIdentity;
pub use group::{MemberStatus, Status};
pub use leadership::Leadership;
pub use lifecycle::Start;
pub use peers::{Peers, Pipe};
pub use pieces::{PROPOSAL_BYTES_MAX, Room, first_piece, pieces};
pub use store::{LogBounds, Store, StoreConfig};
