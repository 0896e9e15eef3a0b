//! Compose files: from what people write to the requests of Docker's API that deploy it.
//!
//! A file is read in the steps of Compose: YAML, variables, `include` and `extends`, several files merged, profiles. Every
//! key of the Compose specification is in one table, which says where it goes or why it has no effect in a cluster; a key
//! that is not in it is an error with the nearest one. The result is an [`Application`], which keeps the order of the start
//! that `depends_on` asks for, and the notices about what has no effect.
//!
//! An application becomes requests as `docker stack deploy` makes them, byte for byte, and besides it honours what that
//! command ignores and Docker's API can express.
//!
//! The crate opens no file and knows no environment: both come through [`Source`]. It has no clock, no socket and no
//! randomness.
//!
//! In suggested reading order:
//!
//! - [`table`]: the keys and their fates.
//! - [`tree`], [`yaml`], [`variables`], [`dotenv`]: files as trees with places.
//! - [`check`], [`canon`], [`merge`], [`extends`], [`load`]: from several files to one tree in the long form.
//! - [`application`]: the tree as types.
//! - [`convert`]: the requests.
//! - [`show`]: trees as YAML and JSON.

pub mod application;
mod at;
mod canon;
mod check;
pub mod convert;
mod dotenv;
mod extends;
mod fault;
mod load;
mod merge;
mod show;
mod source;
pub mod table;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod variables;
mod yaml;

pub use application::{Application, canonical};
pub use fault::{Fault, FaultKind, Notice, Place, Weight};
pub use load::Request;
pub use source::Source;
