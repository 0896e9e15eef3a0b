//! The environment of a node: everything that differs between the real world and a simulation.
//!
//! A node reads no clock, draws no random number, opens no file and binds no socket by itself: it asks its [`Env`].
//! Real and simulated parts stand side by side (the simulated ones under the feature `sim`), so the same seed gives the
//! same run, and several nodes live in one process without knowing of each other.
//!
//! - [`Clock`]: the node's monotonic time, and UTC. *Waiting* is `tokio::time`, which a test can pause.
//! - [`Seed`]: the source of keys, serials, nonces, ids and jitter.
//! - [`Disk`]: files below one folder, written so that a crash leaves the old content or the new.
//! - [`Network`]: the sockets of `transport`.

mod clock;
mod disk;
mod seed;
#[cfg(any(test, feature = "sim"))]
mod sim_disk;

pub use clock::{Clock, RealClock, VirtualClock};
pub use disk::{Disk, DiskFile, RealDisk, folder};
pub use seed::Seed;
#[cfg(any(test, feature = "sim"))]
pub use sim_disk::{DiskFault, SimDisk};

use essaim_transport::Network;
use essaim_wire::{Build, Moment, Timestamp};
use std::fmt;
use std::sync::Arc;

/// Clock, seed, disk and network of a node. Cloned into every actor by its [`Scope`](crate::Scope).
#[derive(Clone)]
pub struct Env {
    /// The clock, which can only be read.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub seed: Seed,
    /// The node's data folder.
    pub disk: Arc<dyn Disk>,
    /// The sockets that the node may bind.
    pub network: Arc<dyn Network>,
    /// How much the node's program understands: [`Build::NEWEST`] in what ships, less on some simulated nodes.
    pub build: Build,
}

impl Env {
    /// Time since the node started, by its monotonic clock.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// UTC by the node's clock, for what is stored or shown.
    pub fn utc(&self) -> Timestamp {
        self.clock.utc()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("seed", &self.seed).finish_non_exhaustive()
    }
}
