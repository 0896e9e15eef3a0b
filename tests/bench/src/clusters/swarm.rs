//! Docker Swarm as a contender: Debian's `docker.io` in swarm mode, with a containerd of its own on each host.
//!
//! There is no registry: the image is Debian's static busybox in a tar, imported by each engine, and services are
//! created without resolving it. Engines keep their data below the cluster's folder, on the same disk as Essaim's.

use std::path::Path;

use essaim_cluster_tests::harness::dockerd::engine_version;
use essaim_cluster_tests::harness::{Dockerd, Host, missing_for_engines, processes};

use super::{Contender, Resident};

/// Image and arguments of a service whose containers sleep.
pub(crate) const SLEEPING_CONTAINER: (&str, &[&str]) = ("alpine:latest", &["sleep", "1000000"]);

/// Name and version of the contender.
pub(crate) fn name() -> String {
    format!("{} {}", Dockerd::NAME, engine_version())
}

impl Contender for Dockerd {
    const NAME: &'static str = "Docker Swarm";
    const TASKS: &'static str = "containers";
    const SLEEPS: (&'static str, &'static [&'static str]) = SLEEPING_CONTAINER;

    fn missing() -> Option<String> {
        missing_for_engines().map(|why| format!("the peer is not installed: {why}"))
    }

    fn spawn(number: u8, host: Host, folder: &Path) -> Self {
        Self::spawned(&format!("d{number}"), host, folder)
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn bring_image(&self, folder: &Path) -> Result<(), String> {
        self.bring_images(folder)
    }

    fn kill_host(&mut self) {
        Self::kill_host(self);
    }

    fn resident(&self) -> Resident {
        let Some((pid, namespace)) = self.pid().zip(self.host.namespace()) else {
            return Resident::default();
        };
        let named =
            |name| processes::named_in(&namespace, name).into_iter().map(|process| processes::resident(process.pid));
        Resident {
            daemon: processes::resident(pid),
            helpers: named("containerd").sum(),
            shim: named("containerd-shim").max().unwrap_or(0),
        }
    }
}
