//! Docker's API types, one file a noun, and their conversion from and to the cluster's own nouns.
//!
//! The stock `docker` CLI, its SDKs and everything written against them read and write the JSON that these types
//! spell. They are our own, because generated ones drop fields silently, which a server may not: whatever was
//! recorded from a real engine survives parse and serialise unchanged, field by field, `null` where Docker says
//! `null` and nothing where Docker says nothing (`tests/round_trip.rs`). A request with a field that nobody knows is
//! refused; nothing is ignored.
//!
//! What it does not do: no sockets and no routes (`api`), no tables (`cli`), no decisions (`policy`).
//!
//! In suggested reading order:
//!
//! - [`base`]: times, versions, labels, and the ways Go leaves a field out.
//! - [`version`], [`ping`], [`info`], [`swarm`], [`node`], [`service`], [`container`], [`network`], [`task`],
//!   [`event`], [`distribution`]: the nouns on the wire.
//! - [`object`]: what every plain noun is on the wire; beside it one file for each ([`config`]).
//! - [`own`]: what Essaim's own routes say.
//! - [`error`]: refusals as Docker words and numbers them.
//! - [`filters`] and [`resolve`]: `--filter`, and how a name, an id or the beginning of one finds its object.
//! - [`convert`]: between these and `model`.

pub mod base;
pub mod config;
pub mod container;
pub mod convert;
pub mod distribution;
pub mod error;
pub mod event;
pub mod filters;
pub mod info;
pub mod network;
pub mod node;
pub mod object;
pub mod own;
pub mod ping;
pub mod resolve;
pub mod service;
pub mod swarm;
pub mod task;
pub mod version;

pub use base::{Labels, Nanos, ObjectVersion, Time};
pub use error::{ErrorBody, exit_code, status};
pub use filters::{Filters, InvalidFilters};
