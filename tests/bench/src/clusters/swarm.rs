//! Docker Swarm as a contender: Debian's `docker.io` in swarm mode, with a containerd of its own on each host.
//!
//! There is no registry: the image is Debian's static busybox in a tar, imported by each engine, and services are
//! created without resolving it. Engines keep their data below the cluster's folder, on the same disk as Essaim's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use essaim_cluster_tests::harness::{Host, have, http, processes, sweep};

use super::{Contender, Resident};

/// Name of the image whose containers sleep.
const IMAGE: &str = "sleeper:latest";

/// A Docker Engine on a host.
pub(crate) struct Dockerd {
    host: Host,
    socket: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

/// What is missing on this machine to run the contender; `None` when it can run.
pub(crate) fn missing() -> Option<String> {
    let missing: Vec<_> =
        ["dockerd", "containerd", "busybox", "tar", "umount"].into_iter().filter(|name| !have(name)).collect();
    (!missing.is_empty()).then(|| format!("the peer is not installed: {}", missing.join(", ")))
}

/// Name and version of the contender.
pub(crate) fn name() -> String {
    let output = Command::new("dockerd").arg("--version").output();
    let text = output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text.split(' ').nth(2).map_or("", |word| word.trim_end_matches(','));
    format!("{} {version}", Dockerd::NAME)
}

impl Contender for Dockerd {
    const NAME: &'static str = "Docker Swarm";
    const SLEEPS: (&'static str, &'static [&'static str]) = (IMAGE, &["sleep", "1000000"]);

    fn spawn(number: u8, host: Host, folder: &Path) -> Self {
        let folder = folder.join(format!("d{number}"));
        std::fs::create_dir(&folder).expect("there is room for a folder");
        let socket = folder.join("docker.sock");
        let log = File::create(folder.join("log")).expect("the log can be written");
        let child = host
            .command("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            // Containers that are killed together with their engine leave control groups; below this parent they can be
            // swept.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"])
            .arg(sweep::control_group())
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("dockerd can be started");
        Self { host, socket, folder, child: Some(child) }
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn bring_image(&self, folder: &Path) -> Result<(), String> {
        let image = image(folder).map_err(|error| format!("the image: {error}"))?;
        let path = "/images/create?fromSrc=-&repo=sleeper&tag=latest";
        let answer = http::send_unix(&self.socket, path, &image).map_err(|error| format!("the image: {error}"))?;
        if answer.status == 200 { Ok(()) } else { Err(format!("the image: {}", answer.message())) }
    }

    fn kill_host(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(namespace) = self.host.namespace() {
                processes::kill_all_in(&namespace);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn resident(&self) -> Resident {
        let Some((child, namespace)) = self.child.as_ref().zip(self.host.namespace()) else {
            return Resident::default();
        };
        let named =
            |name| processes::named_in(&namespace, name).into_iter().map(|process| processes::resident(process.pid));
        Resident {
            daemon: processes::resident(child.id() as i32),
            helpers: named("containerd").sum(),
            shim: named("containerd-shim").max().unwrap_or(0),
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.kill_host();
        sweep::unmount_below(&self.folder);
        sweep::remove_control_groups(std::process::id());
    }
}

/// The image as a tar, made once for each cluster: a busybox, and the name under which it sleeps.
fn image(folder: &Path) -> std::io::Result<Vec<u8>> {
    let tar = folder.join("image.tar");
    if !tar.exists() {
        let bin = folder.join("image/bin");
        std::fs::create_dir_all(&bin)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let busybox = std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|file| file.is_file());
        std::fs::copy(busybox.ok_or(std::io::ErrorKind::NotFound)?, bin.join("busybox"))?;
        std::os::unix::fs::symlink("busybox", bin.join("sleep"))?;
        let made = Command::new("tar").arg("-C").arg(folder.join("image")).arg("-cf").arg(&tar).arg(".").status()?;
        if !made.success() {
            return Err(std::io::Error::other("tar cannot make it"));
        }
    }
    std::fs::read(tar)
}
