//! A cluster inside one test, for whoever writes an extension.
//!
//! ```
//! use essaim::testkit::{self, Fault};
//! use std::time::Duration;
//!
//! testkit::cluster(1).nodes(3).managers(1).run(async |cluster| {
//!     cluster.strike(Fault::Crash(3)).await?;
//!     cluster.pass(Duration::from_secs(10)).await?;
//!     let state = cluster.control()?.read().await.map_err(|why| why.to_string())?;
//!     assert!(state.tasks().any(|task| task.is_running()));
//!     cluster.settled().await.map(drop)
//! })?;
//! # Ok::<(), testkit::Failed>(())
//! ```
//!
//! The story begins when the cluster stands and a service of eight tasks runs. Everything that must hold at every
//! moment is looked at while time passes, so a story says only what is special about it.

use crate::testkit::fault::{Fault, Number};
use crate::testkit::options::{Draws, Options};
use crate::testkit::run::{Run, in_virtual_time};
use essaim_manager::Control;
use essaim_model::{EngineKind, State};
use essaim_node::{Handle, Parts};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Upper bound on the time until a cluster is as wished, unless a story sets another: a restart's delay, an update task
/// by task, and stops that take their whole grace.
const SETTLED_MAX: Duration = Duration::from_secs(90);

/// A cluster of five nodes, three of them managers, unless the builder changes that. The seed draws everything.
pub fn cluster(seed: u64) -> Builder {
    Builder { options: Options { mixed: false, draws: Draws::NONE, ..Options::of(seed) }, fit: None }
}

/// Options of a cluster that is not started yet.
pub struct Builder {
    options: Options,
    fit: Option<crate::testkit::world::Fit>,
}

/// A cluster in virtual time.
pub struct Cluster {
    run: Run,
    next_key: usize,
}

/// The reason why a story failed; its text ends with the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Seed of the cluster.
    pub seed: u64,
    /// What did not hold.
    pub why: String,
}

impl Builder {
    /// Sets the number of nodes.
    pub const fn nodes(mut self, nodes: Number) -> Self {
        self.options.nodes = nodes;
        self
    }

    /// Sets the number of nodes that are managers.
    pub const fn managers(mut self, managers: Number) -> Self {
        self.options.managers = managers;
        self
    }

    /// Sets whether the invariants are checked; see [`Options::checks`].
    pub const fn checks(mut self, checks: bool) -> Self {
        self.options.checks = checks;
        self
    }

    /// Sets which kind of engine every machine has; see [`Options::engine`].
    pub const fn engine(mut self, engine: EngineKind) -> Self {
        self.options.engine = engine;
        self
    }

    /// Sets whether the trace is printed.
    pub const fn trace(mut self, trace: bool) -> Self {
        self.options.trace = trace;
        self
    }

    /// Sets a function that changes the parts of every daemon: it is called for each start, with the number of the
    /// node. It may add engines behind the simulated one or replace it, and add faces.
    pub fn parts(mut self, fit: impl Fn(Number, &mut Parts) + Send + Sync + 'static) -> Self {
        self.fit = Some(Arc::new(fit));
        self
    }

    /// Founds the cluster and plays the story, in a runtime of their own.
    pub fn run<T>(self, story: impl AsyncFnOnce(&mut Cluster) -> Result<T, String>) -> Result<T, Failed> {
        let seed = self.options.seed;
        in_virtual_time(seed, async move {
            let mut run = Run::new(self.options);
            run.world.fit = self.fit;
            run.found().await?;
            let mut cluster = Cluster { run, next_key: 0 };
            let told = story(&mut cluster).await?;
            cluster.run.check()?;
            Ok(told)
        })
        .map_err(|why| Failed { seed, why })
    }
}

impl Cluster {
    /// The run behind the cluster: its nodes, disks, machines and network.
    pub const fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Begins a fault, which lasts until everything is [`mended`](Self::mend).
    pub async fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.next_key += 1;
        self.run.world.strike(self.next_key, fault).await;
        self.run.check()
    }

    /// Ends all faults: killed daemons are started, partitions are healed, and an operator's wishes are taken back.
    pub async fn mend(&mut self) -> Result<(), String> {
        for key in self.run.world.active() {
            self.run.world.relieve(key).await;
        }
        self.run.check()
    }

    /// Lets virtual time pass, and checks everything meanwhile.
    pub async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.run.step().await?;
        }
        Ok(())
    }

    /// Ends all faults, and waits until everything is as wished.
    pub async fn settled(&mut self) -> Result<Arc<State>, String> {
        self.mend().await?;
        self.run.come_to_rest(SETTLED_MAX).await
    }

    /// The handle of a running node.
    pub fn node(&self, number: Number) -> Result<Handle, String> {
        self.run.world.running(number).ok_or_else(|| format!("n{number} does not run"))
    }

    /// The handle for requests to the cluster, at the leader.
    pub fn control(&self) -> Result<Control, String> {
        let leader = self.run.world.leader().ok_or("nobody leads")?;
        self.node(leader)?.control().map_err(|why| why.to_string())
    }
}

impl std::error::Error for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "with seed {}: {}", self.seed, self.why)
    }
}
