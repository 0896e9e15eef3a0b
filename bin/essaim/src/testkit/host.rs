//! A machine of a run: its disk, which survives a daemon, and the daemon that runs on it.

use crate::testkit::fault::Number;
use crate::testkit::nodes::utc;
use essaim_node::{Handle, Standing};
use essaim_system::env::{SimDisk, VirtualClock};
use essaim_wire::{Build, Timestamp};
use essaim_worker::sim::{SimMachine, SimSockets};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The sockets of every machine of a run.
pub(crate) type Doorsteps = BTreeMap<Number, SimSockets>;

/// A machine with its disk, which survive a daemon, and the daemon.
pub(crate) struct Host {
    pub(crate) disk: SimDisk,
    pub(crate) machine: SimMachine,
    /// Sockets on which the daemon publishes ports.
    pub(crate) sockets: SimSockets,
    pub(crate) frozen: bool,
    pub(crate) daemon: Option<Daemon>,
    /// Microseconds by which the machine's clock is ahead.
    pub(crate) offset: Arc<AtomicI64>,
    pub(crate) starts: u64,
    /// Level and wire version of the program that is started next.
    pub(crate) build: Build,
    /// Earliest time of the next start.
    pub(crate) starts_at: Option<Instant>,
    /// When writes to the disk failed last.
    pub(crate) spoilt_at: Option<Instant>,
}

pub(crate) struct Daemon {
    pub(crate) handle: Handle,
    pub(crate) clock: Arc<VirtualClock>,
    /// Number of the first journal record that was not traced yet.
    pub(crate) next: u64,
    /// Why the daemon ended by itself.
    pub(crate) ended: Arc<OnceLock<String>>,
    pub(crate) watchers: Vec<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn new(begun: Instant, build: Build) -> Self {
        let offset = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&offset);
        let machine = SimMachine::new(move || {
            let real = utc(begun).as_micros();
            Timestamp::from_micros(real.saturating_add_signed(shown.load(Ordering::Relaxed)))
        });
        let disk = SimDisk::new();
        Self {
            disk,
            machine,
            sockets: SimSockets::default(),
            frozen: false,
            daemon: None,
            offset,
            starts: 0,
            build,
            starts_at: None,
            spoilt_at: None,
        }
    }

    /// Sets how many seconds the machine's clock is ahead.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.offset.store(seconds * 1_000_000, Ordering::Relaxed);
        if let Some(daemon) = &self.daemon {
            daemon.clock.set_utc_offset_micros(seconds * 1_000_000);
        }
    }

    /// Whether the daemon does not run, or could not take up its part in the cluster.
    pub(crate) fn is_ailing(&self) -> bool {
        let broken = |daemon: &Daemon| matches!(daemon.handle.standing(), Standing::Broken(_));
        self.starts > 0 && self.daemon.as_ref().is_none_or(broken)
    }
}
