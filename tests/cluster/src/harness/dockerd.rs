//! One Docker Engine under test, with data, containerd and control groups of its own, on a host of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::hosts::Host;
use super::http::{Answer, ask_unix};
use super::{eventually, have, images, missing_for_namespaces, processes, sweep};

/// A Docker Engine on a host, running or killed. Dropping it ends its processes and its containers.
pub struct Dockerd {
    /// Host that the engine runs on.
    pub host: Host,
    /// Unix socket of the engine's API.
    pub socket: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

/// What a container does, as its engine shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Id of the container.
    pub id: String,
    /// Time at which the container was started.
    pub started: String,
    /// Whether the container runs.
    pub is_running: bool,
    /// Task that the container belongs to; `None` for a container that no cluster made.
    pub task: Option<String>,
    /// Service that the container belongs to.
    pub service: Option<String>,
    /// Name of the container, without the slash in front.
    pub name: String,
}

/// Why engines cannot run on this machine; `None` when they can.
pub fn missing_for_engines() -> Option<String> {
    if let Some(why) = missing_for_namespaces() {
        return Some(format!("containers: {why}"));
    }
    let needed = ["dockerd", "containerd", "docker", "busybox", "curl", "tar", "umount"];
    let missing: Vec<_> = needed.into_iter().filter(|name| !have(name)).collect();
    (!missing.is_empty()).then(|| format!("containers need {}", missing.join(", ")))
}

impl Dockerd {
    /// Starts an engine on a host without waiting, with its files in `NAME.docker` below this folder; see
    /// [`Self::wait_ready`].
    pub fn spawned(name: &str, host: Host, folder: &Path) -> Self {
        let folder = folder.join(format!("{name}.docker"));
        std::fs::create_dir(&folder).expect("there is room for a folder");
        let mut dockerd = Self { host, socket: folder.join("docker.sock"), folder, child: None };
        dockerd.spawn();
        dockerd
    }

    /// Starts the engine's process without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the engine runs already");
        let log = File::options().create(true).append(true).open(self.folder.join("log"));
        let log = log.expect("the log can be written");
        let child = self
            .host
            .command("dockerd")
            .arg("--data-root")
            .arg(self.folder.join("data"))
            .arg("--exec-root")
            .arg(self.folder.join("exec"))
            .arg("--pidfile")
            .arg(self.folder.join("pid"))
            // Containers that are killed together with their engine leave control groups; below this parent they can be
            // swept.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"])
            .arg(sweep::control_group())
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("dockerd can be started");
        self.child = Some(child);
    }

    /// Waits until the engine answers.
    pub fn wait_ready(&mut self) {
        eventually("an engine answers", || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("an engine ended ({status}):\n{}", self.log());
            }
            let pinged = ask_unix(&self.socket, "GET", "/_ping", None);
            pinged.map(drop).map_err(|error| format!("{error}\n{}", self.log()))
        });
    }

    /// Imports the images that the tests use; `folder` keeps the file they are made from.
    pub fn bring_images(&self, folder: &Path) -> Result<(), String> {
        images::import(&self.socket, folder).map_err(|error| format!("the images: {error}"))
    }

    /// The engine's process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    /// Kills the engine alone: its containers go on, under its containerd.
    pub fn kill_alone(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the engine, its containerd, and all containers. Nothing else on the host is killed.
    pub fn kill_with_containers(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            processes::kill_engines_below(&self.folder);
            let _ = child.wait();
            // Where process 1 does not collect ended processes, the next engine would take this one for alive, and wait
            // for it in vain.
            let _ = std::fs::remove_file(self.folder.join("exec/containerd/containerd.pid"));
        }
    }

    /// Kills every process on the engine's host. What the engine left behind stays; see [`Self::lose_power`].
    pub fn kill_host(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(namespace) = self.host.namespace() {
                processes::kill_all_in(&namespace);
            }
            let _ = child.kill();
            processes::kill_engines_below(&self.folder);
            let _ = child.wait();
        }
    }

    /// Kills the engine as when its host loses power: every process on the host ends, and what a machine forgets when it
    /// is switched off is gone (mounts, sockets, the state of containerd).
    pub fn lose_power(&mut self) {
        self.kill_host();
        sweep::unmount_below(&self.folder);
        let _ = std::fs::remove_dir_all(self.folder.join("exec"));
        let _ = std::fs::remove_file(self.folder.join("pid"));
        // dockerd makes its bridge anew. A bridge that a killed engine left would be used again, with its old address.
        let _ = self.host.command("ip").args(["link", "del", "docker0"]).output();
    }

    /// Sends a request to the engine itself; panics when the engine cannot be reached.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = ask_unix(&self.socket, method, path, body);
        answer.unwrap_or_else(|error| panic!("the engine, {method} {path}: {error}\n{}", self.log()))
    }

    /// All containers of the engine, those that do not run included, sorted by id.
    pub fn containers(&self) -> Vec<Container> {
        let listed = self.ask("GET", "/containers/json?all=1", None).json();
        let ids = listed.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
        let mut found: Vec<_> = ids.filter_map(|id| self.container(id)).collect();
        found.sort_unstable();
        found
    }

    /// A container by id or name; `None` when the engine has none.
    pub fn container(&self, id: &str) -> Option<Container> {
        let seen = self.inspect(id)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let labels = &seen["Config"]["Labels"];
        Some(Container {
            id: text(&seen["Id"])?,
            started: text(&seen["State"]["StartedAt"])?,
            is_running: seen["State"]["Running"] == true,
            task: text(&labels["com.docker.swarm.task.id"]),
            service: text(&labels["com.docker.swarm.service.id"]),
            name: text(&seen["Name"])?.trim_start_matches('/').to_owned(),
        })
    }

    /// Everything that the engine says of a container; `None` when the engine has none of this id or name.
    pub fn inspect(&self, id: &str) -> Option<Value> {
        let answer = self.ask("GET", &format!("/containers/{id}/json"), None);
        (answer.status == 200).then(|| answer.json())
    }

    /// Kills a container with SIGKILL, as when its program crashes.
    pub fn kill_container(&self, id: &str) {
        let answer = self.ask("POST", &format!("/containers/{id}/kill"), None);
        assert_eq!(answer.status, 204, "{}", answer.message());
    }

    /// Starts a container that belongs to no cluster; returns its id.
    pub fn start_foreign(&self, name: &str) -> String {
        let body = json!({"Image": "alpine:latest", "Cmd": ["sleep", "1000000"], "Labels": {"mine": "yes"}});
        let created = self.ask("POST", &format!("/containers/create?name={name}"), Some(&body));
        assert_eq!(created.status, 201, "{}", created.message());
        let id = created.json()["Id"].as_str().expect("a container has an id").to_owned();
        let started = self.ask("POST", &format!("/containers/{id}/start"), None);
        assert_eq!(started.status, 204, "{}", started.message());
        id
    }

    /// The last lines of the engine's log output.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.lose_power();
        sweep::remove_control_groups(std::process::id());
    }
}

/// Version of the engine that is installed, for example `20.10.24+dfsg1`.
pub fn engine_version() -> String {
    let output = Command::new("dockerd").arg("--version").output();
    let text = output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.split(' ').nth(2).map_or("", |word| word.trim_end_matches(',')).to_owned()
}
