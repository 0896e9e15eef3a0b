//! The letters: what every other crate spells its words with.
//!
//! An id, a role, a generation, a moment, and the one codec that turns a value into bytes and back.
//! Nothing here knows a socket, an actor or a service. Whatever crosses a node or reaches a disk is made of
//! these types and encoded by [`codec`], so that there is one place to look at when bytes are in question.
//!
//! In suggested reading order:
//!
//! - [`id`](mod@id): 128-bit ids, printed as Docker prints them.
//! - [`time`]: [`Moment`] for decisions, [`Timestamp`] for whatever is stored.
//! - [`era`]: numbers that only grow and tell an old message from a new one.
//! - [`node`]: the role of a node, and how managers record whether it can be reached.
//! - [`Rings`]: which nodes observe which.
//! - [`codec`]: bytes in, bytes out, never a panic.
//! - [`record`](mod@record): structs that are stored or sent and may grow.
//! - [`level`]: how builds of different age stay readable to each other.
//! - [`sum`]: whether two say the same, in eight bytes.
//! - `golden` (for tests): proof that the bytes of every stored or sent type stay as they were.
//! - [`planted`](mod@planted): bugs that a simulated run can be given, to see whether it finds them.

// `id!` names this crate as the others do.
extern crate self as essaim_wire;

mod codec;
mod era;
#[cfg(any(test, feature = "golden"))]
pub mod golden;
mod id;
pub mod level;
mod node;
pub mod planted;
pub mod record;
mod rings;
mod sum;
mod time;

pub use codec::{DecodeError, EncodeError, decode, decode_prefix, encode, encode_into, encoded_len};
pub use era::{Generation, Index, Lineage, RequestId, Term};
pub use id::{ClusterId, InvalidId, NodeId};
pub use level::{Build, Level, WireVersion};
pub use node::{Accusation, Reachability, Role, UnknownRole};
pub use record::Record;
pub use rings::{Rings, quorum};
pub use sum::Sum;
pub use time::{Moment, Timestamp};

#[doc(hidden)]
pub use bincode;

/// Used by [`id!`]; the text form of 128 bits.
#[doc(hidden)]
pub use id::{parse_base36, write_base36};
