//! The daemon as a library: everything that the binary `essaim` is made of, assembled, for programs that embed it.
//!
//! ```no_run
//! # async fn daemon() -> Result<(), essaim::RunError> {
//! essaim::maybe_run_shim(); // first of all, before any runtime starts
//! essaim::run(essaim::Settings::new("/var/lib/essaim", "/run/essaim/essaim.sock")).await
//! # }
//! ```
//!
//! In suggested reading order:
//!
//! - [`run`]: assembles a node from the real `Env`, its engines and the API, and runs it until a signal ends it.
//! - [`engines`]: which engines the daemon uses.
//! - [`without_allocator_caches`]: what keeps the memory of a daemon small over years.
//! - [`signal`]: which signal means what. [`notify`]: what the service manager is told.
//! - `testkit` (feature `testkit`): a cluster of any size in virtual time, inside one test.

mod allocator;
mod daemon;
mod engines;
mod notify;
mod signal;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use allocator::without_allocator_caches;
pub use daemon::{RunError, Settings, run};
pub use engines::Engines;
pub use essaim_api::Tcp;
pub use essaim_engines::docker::DEFAULT_HOST as DEFAULT_DOCKER_HOST;
pub use essaim_engines::maybe_run_shim;
pub use essaim_model::{GenericStock, Labels};
