//! Essaim's daemon with a Docker Engine beside it on each host, as a contender whose tasks are containers.

use std::path::Path;

use essaim_cluster_tests::harness::{Daemon, Dockerd, Host, find_essaim, missing_for_engines};

use super::swarm::SLEEPING_CONTAINER;
use super::{Contender, Resident};

/// Essaim's daemon and the engine that runs its tasks. Fields are dropped in their order.
pub(crate) struct OnDocker {
    /// Essaim's daemon.
    pub(crate) daemon: Daemon,
    /// The engine of its containers.
    pub(crate) engine: Dockerd,
}

impl Contender for OnDocker {
    const NAME: &'static str = "Essaim";
    const TASKS: &'static str = "containers";
    const SLEEPS: (&'static str, &'static [&'static str]) = SLEEPING_CONTAINER;

    fn missing() -> Option<String> {
        missing_for_engines().or_else(|| find_essaim().err())
    }

    fn spawn(number: u8, host: Host, folder: &Path) -> Self {
        let name = format!("n{number}");
        let mut engine = Dockerd::spawned(&name, host.clone(), folder);
        // A daemon looks for its engine when it starts.
        engine.wait_ready();
        let mut daemon = Daemon::prepared(&name, host, folder);
        daemon.engine = Some(engine.socket.clone());
        daemon.spawn();
        Self { daemon, engine }
    }

    fn host(&self) -> &Host {
        &self.daemon.host
    }

    fn socket(&self) -> &Path {
        &self.daemon.socket
    }

    fn bring_image(&self, folder: &Path) -> Result<(), String> {
        self.engine.bring_images(folder)
    }

    fn kill_host(&mut self) {
        // The daemon ends first and cannot report the end of its containers.
        self.daemon.kill();
        self.engine.kill_host();
    }

    fn resident(&self) -> Resident {
        let Resident { daemon: engine, helpers, shim } = self.engine.resident();
        Resident { daemon: Contender::resident(&self.daemon).daemon, helpers: engine + helpers, shim }
    }
}
