//! Options of a run.

use crate::testkit::fault::{Number, Strike};
use essaim_model::EngineKind;
use essaim_store::LogBounds;
use std::time::Duration;

/// Size, faults and clients of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed that draws everything.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: Number,
    /// Number of nodes that are managers.
    pub managers: Number,
    /// Number of faults.
    pub faults: u32,
    /// Duration of the phase of faults.
    pub length: Duration,
    /// Faults of the run; `None` draws them.
    pub strikes: Option<Vec<Strike>>,
    /// Whether clients work during the faults.
    pub client: bool,
    /// Whether the first client promotes and demotes nodes, too.
    pub roles: bool,
    /// Whether every other node begins with the program of the release before, and is upgraded in the course of the
    /// run.
    pub mixed: bool,
    /// What the run draws beside plain services, clients, and faults of daemons, disks and the network.
    pub draws: Draws,
    /// Kind of engine that every machine has, unless the run draws what containers do: then it is the docker engine.
    pub engine: EngineKind,
    /// Bounds of the managers' logs.
    pub log: LogBounds,
    /// Whether the invariants are checked. Without them, a run of thousands of nodes costs what the product costs, and
    /// shows only that it converges.
    pub checks: bool,
    /// Whether to print what happens.
    pub trace: bool,
}

/// What a run draws beside plain services, clients, and faults of daemons, disks and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// What containers do: faults of engines, broken images, jobs, generic resources, volumes, and updates and rollbacks of
    /// every kind, with the invariants for them.
    pub containers: bool,
    /// Services that publish ports, and visitors who connect to them throughout the run.
    pub ports: bool,
    /// Clients that often update services to images that fail, with settings of what is to happen then. Has an effect only
    /// with `containers`.
    pub failing: bool,
}

impl Draws {
    /// Everything is drawn.
    pub const ALL: Self = Self { containers: true, ports: true, failing: true };

    /// Nothing of it is drawn.
    pub const NONE: Self = Self { containers: false, ports: false, failing: false };
}

/// A run writes some hundred entries of a few hundred bytes.
const SHORT_LOG: LogBounds = LogBounds { snapshot_after: 8 << 10, entries_kept: 10 };

impl Options {
    /// Options of a run with five nodes, three of them managers, and ten faults in sixty seconds. With an even seed the
    /// programs of the nodes are mixed. With every third seed the logs are so short that snapshots replace them again and
    /// again, and are sent to managers that were away. A story that scripts its faults sets `draws` to [`Draws::NONE`],
    /// unless it is about them.
    pub const fn of(seed: u64) -> Self {
        Self {
            seed,
            nodes: 5,
            managers: 3,
            faults: 10,
            length: Duration::from_secs(60),
            strikes: None,
            client: true,
            roles: true,
            mixed: seed.is_multiple_of(2),
            draws: Draws::ALL,
            engine: EngineKind::Process,
            log: if seed.is_multiple_of(3) { SHORT_LOG } else { LogBounds::USUAL },
            checks: true,
            trace: false,
        }
    }

    /// The command line that repeats the run and prints what happens.
    pub fn again(&self) -> String {
        let Self { seed, nodes, managers, draws, .. } = self;
        let usual = Self::of(*seed);
        let size = if (*nodes, *managers) == (usual.nodes, usual.managers) {
            String::new()
        } else {
            format!(" --nodes {nodes} --managers {managers}")
        };
        let containers = if draws.containers { "" } else { " --no-containers" };
        let ports = if draws.ports { "" } else { " --no-ports" };
        let failing = if draws.failing { "" } else { " --no-failing" };
        format!("  again: cargo run --release -p essaim-sim -- --seed {seed}{size}{containers}{ports}{failing} --trace")
    }
}
