//! The types of Docker's API, one file for each noun, and their conversion from and to the types of `model`.
//!
//! These types define the JSON that the stock `docker` CLI, its SDKs and all programs written for them read and write.
//! They are written by hand, because generated types drop fields silently, which a server must not do. Every body that
//! was recorded from a real engine survives parse and serialise unchanged, field by field, `null` where Docker writes
//! `null` and absent where Docker leaves a field out (`tests/round_trip.rs`). A request with an unknown field is
//! refused; no field is ignored.
//!
//! The crate has no sockets and no routes (`api`), no tables (`cli`) and no decisions (`policy`).
//!
//! In suggested reading order:
//!
//! - [`base`]: times, versions, labels, and the ways Go leaves a field out.
//! - [`version`], [`ping`], [`info`], [`swarm`], [`node`], [`service`], [`container`], [`network`], [`task`],
//!   [`event`], [`distribution`]: the nouns on the wire.
//! - [`object`]: what every plain noun is on the wire; beside it one file for each ([`config`], [`secret`]),
//!   and `payload` for what these two have in common.
//! - [`own`]: the answers of Essaim's own routes; [`exec`]: the stream of one of them.
//! - [`error`]: refusals in Docker's words and status codes.
//! - [`filters`] and [`resolve`]: `--filter`, and how a name, an id or the beginning of one finds its object.
//! - [`convert`]: conversion between these types and `model`.

pub mod base;
pub mod config;
pub mod container;
pub mod convert;
pub mod distribution;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod info;
pub mod network;
pub mod node;
pub mod object;
pub mod own;
mod payload;
pub mod ping;
pub mod resolve;
pub mod secret;
pub mod service;
pub mod swarm;
pub mod task;
pub mod version;

pub use base::{Labels, Nanos, ObjectVersion, Time};
pub use error::{ErrorBody, status};
pub use filters::{Filters, InvalidFilters};
