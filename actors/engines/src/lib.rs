//! What runs a task: programs of the host, each under a small shim of its own.
//!
//! Every engine implements `essaim_worker::engine::Engine`. There is one so far:
//!
//! - [`process`]: tasks are host processes. Needs no root and no Docker.
//! - [`shim`]: what stands between the daemon and a task, so that the task outlives the daemon. A daemon calls
//!   [`maybe_run_shim`] as the first line of `main`.

pub mod process;
pub mod shim;

pub use process::{Config, ProcessEngine};
pub use shim::maybe_run_shim;
