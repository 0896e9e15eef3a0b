//! The machine's description in `version` and `info`. Read once, when the daemon starts.

use std::fs;

/// Description of the machine and of the daemon on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name of the machine.
    pub name: String,
    /// Version of its kernel (`6.1.0-13-amd64`).
    pub kernel: String,
    /// Name of its operating system, for people (`Debian GNU/Linux 12 (bookworm)`).
    pub system: String,
    /// Version of its operating system (`12`).
    pub system_version: String,
    /// Its processor architecture, in the kernel's word (`x86_64`).
    pub architecture: String,
    /// Number of its processors.
    pub cpus: u64,
    /// Its memory, in bytes.
    pub memory: u64,
    /// Folder where the daemon keeps its data.
    pub data_dir: String,
    /// Engine that runs tasks (`process`).
    pub engine: String,
}

impl Host {
    /// Reads the description from the machine. Fields that the machine does not tell stay empty.
    pub fn read(name: String, data_dir: String, engine: String) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let release = text("/etc/os-release");
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let kib = text("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Self {
            name,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field("PRETTY_NAME"),
            system_version: field("VERSION_ID"),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            memory: kib.unwrap_or_default() * 1024,
            data_dir,
            engine,
        }
    }

    /// The processor architecture in the word that registries and Docker's `version` use.
    pub(crate) fn go_architecture(&self) -> &str {
        match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}
