//! Essaim's daemon as a contender. Its tasks are host processes, each kept by a shim.

use std::path::Path;

use essaim_cluster_tests::harness::{Daemon, Host, find_essaim, missing_for_namespaces, processes};

use super::{Contender, Resident};

impl Contender for Daemon {
    const NAME: &'static str = "Essaim";
    const TASKS: &'static str = "processes";
    const SLEEPS: (&'static str, &'static [&'static str]) = ("sleep", &["1000000"]);

    fn missing() -> Option<String> {
        missing_for_namespaces().or_else(|| find_essaim().err())
    }

    fn spawn(number: u8, host: Host, folder: &Path) -> Self {
        let mut daemon = Self::prepared(&format!("n{number}"), host, folder);
        Self::spawn(&mut daemon);
        daemon
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn bring_image(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn kill_host(&mut self) {
        Self::kill_host(self);
    }

    fn resident(&self) -> Resident {
        let shims = self.shims();
        let shim = shims.iter().map(|shim| processes::resident(shim.pid)).max().unwrap_or(0);
        Resident { daemon: self.pid().map_or(0, processes::resident), helpers: 0, shim }
    }
}
