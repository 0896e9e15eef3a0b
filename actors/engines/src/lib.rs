//! Task engines: containers of a Docker Engine, and programs of the host, each under a small shim of its own.
//!
//! Every engine implements `essaim_worker::engine::Engine`. This crate has two:
//!
//! - [`docker`]: tasks are containers of the machine's Docker Engine.
//! - [`process`]: tasks are host processes. Needs no root and no Docker.
//! - `memory`: folders in memory for the files of secrets and configs, for both.
//! - [`shim`]: the process between the daemon and a task, by which the task outlives the daemon. A daemon calls
//!   [`maybe_run_shim`] as the first line of `main`.

pub mod docker;
mod memory;
pub mod process;
pub mod shim;

pub use docker::{ConnectError, DockerEngine};
pub use process::open_files::raise_open_files;
pub use process::{Config, ProcessEngine};
pub use shim::maybe_run_shim;
