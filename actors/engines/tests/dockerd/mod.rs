//! A real Docker Engine for a test: a `dockerd` of its own, with its own folders and socket, which ends with the test.
//!
//! It has no bridge and changes no firewall, so that it disturbs nothing on the machine. Images are made from the
//! machine's static busybox.

pub(crate) mod registry;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Timeout of a wait that should succeed: longer than any step takes on a busy machine, so that it only ends a test
/// that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// An engine of this test's own.
pub(crate) struct Dockerd {
    folder: tempfile::TempDir,
    process: Option<Child>,
    arguments: Vec<String>,
}

impl Dockerd {
    /// Starts an engine with the image `lab:1` (busybox). Without root, dockerd or a static busybox this says what is
    /// missing, and the test is left out.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let missing = missing();
        if let Some(missing) = missing {
            println!("left out: there is {missing} on this machine");
            assert!(std::env::var_os("ESSAIM_NEEDS_DOCKER").is_none(), "there is {missing} on this machine");
            return None;
        }
        // Paths of sockets are short.
        let folder = tempfile::Builder::new().prefix("dockerd-").tempdir_in("/tmp").expect("a folder");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut this = Self { folder, process: None, arguments };
        this.launch();
        this.import("lab:1", &[]);
        Some(this)
    }

    /// Starts dockerd over the same folders, as after its end.
    pub(crate) fn launch(&mut self) {
        // The containerd of a killed dockerd dies with it, and where nothing reaps it its number still looks alive to the
        // next dockerd, which would wait for it.
        let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let process = Command::new("dockerd")
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .args(["-H", &self.host(), "--bridge=none", "--iptables=false", "--group=root"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        self.process = Some(process);
        until(&format!("dockerd answers; its log is\n{}", self.log()), || {
            self.try_call("GET", "/_ping", &[]).is_some_and(|(status, _)| status == 200)
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Kills dockerd alone. Its containers go on under their shims.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("reaped");
        }
    }

    /// Stops dockerd as SIGSTOP does. Returns when all of its threads stand: on a busy machine some run on for a while.
    pub(crate) fn stand_still(&self) {
        self.signal("-STOP");
        let threads = format!("/proc/{}/task", self.process.as_ref().expect("it runs").id());
        let stands = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let begun = Instant::now();
        while !std::fs::read_dir(&threads).expect("it runs").flatten().all(stands) {
            assert!(begun.elapsed() < PATIENCE, "dockerd does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a dockerd that stands still go on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        Command::new("kill").args([signal, &pid]).status().expect("signalled");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Address of the engine.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// A root file system of busybox as a tar.
    pub(crate) fn busybox(&self) -> Vec<u8> {
        busybox_tar(self.folder.path())
    }

    /// Calls the engine's API and returns the body of its answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> String {
        let (status, answer) = self.try_call(method, path, body).expect("an answer");
        assert!((200..400).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Calls the engine's API; `None` when it does not answer.
    pub(crate) fn try_call(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
        let mut socket = UnixStream::connect(self.path("sock")).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let kind = if path.contains("/images/create") { "application/x-tar" } else { "application/json" };
        // HTTP 1.0: the answer comes in one piece and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).ok()?;
        socket.write_all(body).ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Reads a JSON object of the API.
    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.call("GET", path, &[])).expect("JSON")
    }

    /// Imports busybox as the image `name`, changed by lines of a Dockerfile.
    pub(crate) fn import(&self, name: &str, changes: &[&str]) {
        let (repository, tag) = name.rsplit_once(':').expect("a tag");
        let changes: String = changes.iter().map(|line| format!("&changes={}", encoded(line))).collect();
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}{changes}");
        self.call("POST", &path, &busybox_tar(self.folder.path()));
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            println!("the last lines of dockerd, newest first:\n{}", last.join("\n"));
        }
        if self.process.is_none() {
            self.launch();
        }
        self.go_on();
        if let Some((_, listed)) = self.try_call("GET", "/containers/json?all=1", &[]) {
            let listed: serde_json::Value = serde_json::from_str(&listed).unwrap_or_default();
            for container in listed.as_array().into_iter().flatten().filter_map(|it| it["Id"].as_str()) {
                self.try_call("DELETE", &format!("/containers/{container}?force=1&v=1"), &[]);
            }
        }
        if let Some(mut process) = self.process.take() {
            // Gracefully, because dockerd ends its containerd and unmounts what it has mounted.
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
        // What a killed dockerd left mounted.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own = self.folder.path().display().to_string();
        for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if path.starts_with(&own) {
                let _ = Command::new("umount").args(["-l", path]).status();
            }
        }
    }
}

/// What a real engine needs and this machine lacks.
fn missing() -> Option<&'static str> {
    let is_root = std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).expect("me") == 0;
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    if !is_root {
        Some("no root")
    } else if !is_there("dockerd") {
        Some("no dockerd (Debian's docker.io)")
    } else if busybox().is_none() {
        Some("no static busybox (Debian's busybox-static)")
    } else {
        None
    }
}

fn busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())?;
    // A dynamic program names its interpreter.
    let bytes = std::fs::read(&found).ok()?;
    let is_dynamic = bytes.windows(9).take(4096).any(|it| it == b"/ld-linux" || it == b"/ld-musl-");
    (!is_dynamic).then_some(found)
}

/// A root file system of busybox with the programs that tests use, as a tar.
fn busybox_tar(folder: &Path) -> Vec<u8> {
    let root = folder.join("root");
    if !root.exists() {
        for sub in ["bin", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(sub)).expect("a folder");
        }
        std::fs::copy(busybox().expect("a busybox"), root.join("bin/busybox")).expect("copied");
        for program in
            ["sh", "sleep", "echo", "cat", "env", "sort", "seq", "kill", "id", "ls", "tail", "printf", "true"]
        {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(program)).expect("a link");
        }
    }
    let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().expect("tar runs");
    assert!(tar.status.success(), "{tar:?}");
    tar.stdout
}

/// Waits until `holds`.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
