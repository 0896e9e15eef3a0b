//! What happened, durably: the managers' replicated log, the state that comes of it, and how to read and watch it.
//!
//! A [`Store`] is one manager's part in the group. Changes are proposed on any manager ([`Store::propose`]) and are
//! acknowledged once a majority has them on disk and this manager has applied them. Reads are of a frozen state: as
//! applied here ([`Store::state`]), or as new as anything acknowledged to anybody ([`Store::read`]). What happened is
//! read by cursors ([`Store::events`]). Who may act as the leader is told by [`Store::leadership`].
//!
//! It knows nothing of actors: it is handed lanes by `transport` and a disk by `system`, and what is in the log means
//! something to `model` alone.
//!
//! In suggested reading order:
//!
//! - [`store`], [`view`]: the handle; opening and closing, and what it shows.
//! - [`proposer`], [`read`]: how changes get in, and how reads are made current; [`time`]: what dates they get.
//! - [`leadership`]: who leads, and who must not act as if it did.
//! - [`group`], [`force`]: who is in the group, and the way out when most of it is gone.
//! - [`events`]: what happened, for whoever follows; [`agreed`]: what the log holds, for whoever checks.
//! - [`log`], [`snapshot`], [`seal`], [`identity`]: what lies on disk, and how it is kept from rot and readers.
//! - [`format`](mod@format): the frozen types that lie there and cross the wire.
//! - [`raft`]: everything that knows openraft.

mod agreed;
mod error;
mod events;
mod force;
mod format;
mod group;
mod housekeeping;
mod identity;
mod leadership;
mod log;
mod peers;
mod proposer;
mod raft;
mod read;
mod seal;
mod snapshot;
mod store;
mod time;
mod view;

#[cfg(test)]
mod tests;

pub use agreed::Agreed;
pub use error::{Missing, NoQuorum, OpenError, ProposeError, ReadError};
pub use events::{Compacted, Cursor, CursorError, Happened};
pub use group::{MemberStatus, Status};
pub use leadership::Leadership;
pub use peers::{Peers, Pipe};
pub use proposer::{PROPOSAL_BYTES_MAX, Room, pieces};
pub use store::{Known, Start, Store, StoreConfig};
