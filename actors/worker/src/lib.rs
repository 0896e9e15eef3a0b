//! The worker: a machine's part of the cluster. It runs the tasks that it was assigned and reports their states.
//!
//! What is left of an ended task, its container or folder with the logs, stays for as long as the managers keep the
//! task's record, and is removed when the orders no longer name the task. So a machine keeps what the history of its slots
//! is, and a worker without a manager neither begins nor removes anything.
//!
//! `/n/worker` supervises; its children are the uplink to a manager, one actor for each task with something left to do,
//! and the log server. Two things survive the daemon: the orders on disk, and the tasks with their engine. All other
//! state is rebuilt from those.
//!
//! In suggested reading order:
//!
//! - [`engine`]: what runs a task, as one trait. Engines themselves live in `essaim-engines`.
//! - `orders`: what managers ordered this machine to run, and why the orders never go back.
//! - `task`: one task, from its order to its end.
//! - `observations`: the latest observation of each task, until the managers know it.
//! - `uplink`: the link to a manager. `link_state`: the latest values that went over it, for the node.
//! - `actor`: the worker's root actor; [`WorkerHandle`] is its public handle.
//! - `exec`: programs that managers execute inside tasks.
//! - `logs`: log lines for managers.
//! - `mesh`: published ports: connections from clients to tasks, on this node and on others.
//! - [`sim`]: a simulated machine for tests (feature `sim`).

mod actor;
pub mod engine;
mod exec;
#[cfg(test)]
mod fixture;
mod handle;
mod link_state;
mod logs;
mod machine;
mod mesh;
mod observations;
mod orders;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod task;
#[cfg(test)]
mod tests;
mod uplink;

pub use engine::{Engine, EngineError};
pub use handle::{WorkerHandle, WorkerSettings};
pub use link_state::PayloadsHeld;
pub use mesh::sockets::{Arrival, Datagrams, Listener, NoSockets, Sockets};
pub use uplink::{Dial, Frames, Unlinked};

use essaim_system::Disk;
use std::io;
use std::sync::Arc;

/// Runs work on a disk; on a thread for blocking work if the disk blocks.
async fn off_thread<T: Send + 'static>(
    disk: Arc<dyn Disk>,
    work: impl FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !disk.blocks() {
        return work(&*disk);
    }
    tokio::task::spawn_blocking(move || work(&*disk)).await.map_err(io::Error::other)?
}
