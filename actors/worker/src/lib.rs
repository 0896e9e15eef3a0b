//! A machine's part of the cluster: it runs the tasks it was assigned and says what became of them.
//!
//! `/n/worker` supervises; its children are the uplink to a manager, one actor for each task that something is to be
//! done about, and the log server. What must survive the daemon is in two places: the orders on disk, and the tasks
//! with their engine. Everything else is rebuilt from those.
//!
//! In suggested reading order:
//!
//! - [`engine`]: what runs a task, as one trait. Engines themselves live in `essaim-engines`.
//! - `orders`: what this machine was told, and why it never goes back.
//! - `task`: one task, from its order to its end.
//! - `board`: what was seen of tasks, until managers know it.
//! - `uplink`: the link to a manager.
//! - `actor`: the worker, which holds them together; [`WorkerHandle`] is what others see of it.
//! - `logs`, `past`: log lines for managers, what is kept of ended tasks.
//! - [`sim`]: a simulated machine for tests (feature `sim`).

mod actor;
mod board;
pub mod engine;
#[cfg(test)]
mod fixture;
mod handle;
mod logs;
mod machine;
mod orders;
mod past;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod task;
#[cfg(test)]
mod tests;
mod told;
mod uplink;

pub use engine::{Engine, EngineError};
pub use handle::{WorkerHandle, WorkerSettings};
pub use uplink::{Dial, Frames, Unlinked};

use essaim_system::Disk;
use std::io;
use std::sync::Arc;

/// Does something with a disk, on a thread where waiting for it is allowed, if it makes one wait.
async fn off_thread<T: Send + 'static>(
    disk: Arc<dyn Disk>,
    work: impl FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !disk.blocks() {
        return work(&*disk);
    }
    tokio::task::spawn_blocking(move || work(&*disk)).await.map_err(io::Error::other)?
}
