//! Base types of all crates: ids, roles, generations, moments, and the one codec that turns a value into bytes and
//! back.
//!
//! This crate knows no socket, actor or service. Every value that is sent to another node or stored on disk is made of
//! these types and encoded by [`codec`], so that there is one place to look at when bytes are in question.
//!
//! In suggested reading order:
//!
//! - [`id`](mod@id): 128-bit ids, printed as Docker prints them.
//! - [`time`]: [`Moment`] for decisions, [`Timestamp`] for stored values.
//! - [`era`]: numbers that only grow and distinguish old messages from new ones.
//! - [`node`]: the role of a node, and how managers record whether it can be reached.
//! - [`Rings`]: which nodes observe which.
//! - [`Removals`]: which nodes were removed from the cluster.
//! - [`codec`]: encoding and decoding, without a panic on foreign bytes.
//! - [`record`](mod@record): structs that are stored or sent and may grow.
//! - [`level`]: how builds of different age stay readable to each other.
//! - [`sum`]: a checksum of eight bytes, to compare states.
//! - `golden` (for tests): checks that the bytes of every stored or sent type stay the same.
//! - [`planted`](mod@planted): bugs that can be put into a simulated run, to see whether it finds them.

// `id!` refers to this crate by the name that other crates use.
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
mod removals;
mod rings;
mod sum;
mod time;

pub use codec::{DecodeError, EncodeError, decode, decode_prefix, encode, encode_into, encoded_len};
pub use era::{Generation, Index, Lineage, RequestId, Term};
pub use id::{ClusterId, InvalidId, NodeId};
pub use level::{Build, Level, WireVersion};
pub use node::{Accusation, Reachability, Role, UnknownRole};
pub use record::Record;
pub use removals::Removals;
pub use rings::{Rings, quorum};
pub use sum::Sum;
pub use time::{Moment, Timestamp};

#[doc(hidden)]
pub use bincode;

/// Text form of 128 bits, used by [`id!`].
#[doc(hidden)]
pub use id::{parse_base36, write_base36};
