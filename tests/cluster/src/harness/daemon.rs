//! One daemon under test: its process, its host and its socket.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::cli::{Said, shell};
use super::hosts::Host;
use super::http::{Answer, ask_unix};
use super::processes::{Process, kill_tasks_below, shims_below, tasks_below};
use super::{essaim, essaim_command, eventually};

/// A daemon on a host, running or killed. Dropping it ends its processes.
pub struct Daemon {
    /// Host name of the daemon.
    pub name: String,
    /// Host that the daemon runs on.
    pub host: Host,
    /// Unix socket of the daemon's API.
    pub socket: PathBuf,
    /// Socket of the daemon's service manager, if it has one.
    pub notify: Option<PathBuf>,
    /// Socket of the Docker Engine that runs the daemon's tasks; `None` for tasks that are processes of the host.
    pub engine: Option<PathBuf>,
    /// Further flags of `essaim daemon`.
    pub flags: Vec<String>,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts a daemon below this folder, and waits until it answers.
    pub fn start(name: &str, host: Host, folder: &Path) -> Self {
        let mut daemon = Self::prepared(name, host, folder);
        daemon.restart();
        daemon
    }

    /// A daemon that is not started yet, with its socket, data and log below this folder.
    pub fn prepared(name: &str, host: Host, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            host,
            socket: folder.join(format!("{name}.sock")),
            notify: None,
            engine: None,
            flags: Vec::new(),
            data: folder.join(name),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Starts the daemon's process without waiting; see [`Self::wait_ready`].
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let mut command = self.host.command(essaim());
        match &self.notify {
            Some(socket) => command.env("NOTIFY_SOCKET", socket),
            None => command.env_remove("NOTIFY_SOCKET"),
        };
        let command = command.arg("daemon");
        match &self.engine {
            Some(socket) => {
                command.args(["--engine", "docker", "--docker-host"]).arg(format!("unix://{}", socket.display()))
            }
            // An engine that the machine may have changes nothing.
            None => command.args(["--engine", "process"]),
        };
        let child = command
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--listen-addr")
            .arg(self.host.address.to_string())
            .arg("--advertise-addr")
            .arg(self.host.address.to_string())
            .args(["--hostname", &self.name])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the daemon can be started");
        self.child = Some(child);
    }

    /// Waits until the daemon answers requests.
    pub fn wait_ready(&mut self) {
        eventually(&format!("{} answers", self.name), || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("{} ended ({status}):\n{}", self.name, self.log());
            }
            let pinged = ask_unix(&self.socket, "GET", "/_ping", None);
            pinged.map(drop).map_err(|error| format!("{error}\n{}", self.log()))
        });
    }

    /// Starts the daemon, again or for the first time, and waits until it answers.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Sends a request to the daemon; panics when the daemon cannot be reached.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method, path, body)
            .unwrap_or_else(|error| panic!("{} {method} {path}: {error}\n{}", self.name, self.log()))
    }

    /// Sends a request to the daemon; an error when the daemon cannot be reached.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        ask_unix(&self.socket, method, path, body)
    }

    /// Reads an object or a list; panics when the daemon refuses.
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{} GET {path}: {}", self.name, answer.text);
        answer.json()
    }

    /// Sends a POST request; panics when the daemon refuses.
    pub fn post(&self, path: &str, body: Option<&Value>) -> Value {
        let answer = self.ask("POST", path, body);
        assert!((200..300).contains(&answer.status), "{} POST {path}: {} {}", self.name, answer.status, answer.text);
        answer.json()
    }

    /// Runs a line of shell in which `docker` talks to the daemon.
    pub fn shell(&self, line: &str) -> Said {
        shell(&self.socket, line, &[])
    }

    /// Runs a line of shell in which `docker` talks to the daemon; panics when it fails. Returns what it prints.
    pub fn done(&self, line: &str) -> String {
        let said = self.shell(line);
        assert_eq!(said.code, 0, "{}: {line}\n{}{}", self.name, said.out, said.error);
        said.out
    }

    /// Runs an `essaim` command against the daemon; returns its exit code, stdout and stderr.
    pub fn essaim(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = essaim_command()
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Starts an `essaim` command against the daemon, with its stdout in this file. Its stderr is that of the test.
    pub fn start_essaim(&self, arguments: &[&str], out: File) -> Child {
        let mut command = essaim_command();
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        command.stdin(Stdio::null()).stdout(out).spawn().expect("the program can be started")
    }

    /// The main processes of the daemon's tasks.
    pub fn tasks(&self) -> Vec<Process> {
        tasks_below(&self.data)
    }

    /// The shims of the daemon's tasks.
    pub fn shims(&self) -> Vec<Process> {
        shims_below(&self.data)
    }

    /// The daemon's process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} runs", self.name));
        kill(Pid::from_raw(pid), signal).expect("one's own child can be signalled");
    }

    /// Waits until the daemon has ended by itself, as after a signal.
    pub fn wait_ended(&mut self) {
        let mut child = self.child.take().expect("it runs");
        eventually(&format!("{} ends", self.name), || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        });
    }

    /// Kills the daemon; its tasks live on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the daemon and all processes of its tasks, as when the host is lost.
    pub fn kill_host(&mut self) {
        if self.child.is_some() {
            self.signal(Signal::SIGKILL);
        }
        kill_tasks_below(&self.data);
        self.kill();
        kill_tasks_below(&self.data);
    }

    /// The daemon's journal as lines of text; the error when the daemon does not answer.
    fn journal(&self) -> String {
        let answer = self.try_ask("GET", &format!("/essaim/v1/journal?node={}", self.name), None);
        let lines = answer.map_or_else(|error| error.to_string(), |answer| answer.text);
        let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let word = |record: &Value, name: &str| record[name].as_str().unwrap_or("").to_owned();
        let shown = records.map(|record| ["at", "kind", "path", "reason"].map(|name| word(&record, name)).join(" "));
        shown.collect::<Vec<_>>().join("\n")
    }

    /// The last lines of the daemon's log output.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            // A stopped process keeps its children's pipes open, so it is continued before it is killed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}\n{}", self.name, self.log(), self.journal());
        }
        self.kill_host();
    }
}
