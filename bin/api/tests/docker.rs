//! The stock docker CLI through the face's socket, in front of a Docker Engine of the test's own.
//!
//! Needs root, `dockerd`, `docker`, `busybox` and `script`; where one is missing, the test says so and passes.

use essaim_api::{EngineSocket, Face, Host, Listener, router, serve};
use essaim_node::{NoMachine, NoSockets, Parts, Settings};
use essaim_system::env::{RealClock, RealDisk};
use essaim_system::{Env, Seed};
use essaim_wire::Build;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Programs that the image has.
const PROGRAMS: [&str; 6] = ["cat", "echo", "sh", "sleep", "tty", "true"];

/// What is missing on this machine for a Docker Engine of the test's own.
fn missing() -> Option<String> {
    let have = |name: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
    };
    let missing: Vec<_> =
        ["dockerd", "docker", "busybox", "script", "tar"].into_iter().filter(|name| !have(name)).collect();
    if !missing.is_empty() {
        return Some(missing.join(", "));
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    (!root).then(|| "root".to_owned())
}

/// A Docker Engine without networks, and its files. Dropping it ends the engine and its containers.
struct Dockerd {
    child: Child,
    folder: TempDir,
}

impl Dockerd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.path().join("data"))
            .arg("--exec-root")
            .arg(folder.path().join("exec"))
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", folder.path().join("docker.sock").display()))
            .args(["--bridge=none", "--iptables=false", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("dockerd can be started");
        let dockerd = Self { child, folder };
        let began = Instant::now();
        while !run(&dockerd.socket(), "docker version >/dev/null").0.eq(&0) {
            let log = std::fs::read_to_string(dockerd.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(120), "the engine does not answer:\n{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        dockerd
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // An engine that is asked to end takes its containers and its containerd along.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Runs a line of shell with `docker` talking to this socket; returns its exit code and what it printed.
fn run(socket: &Path, line: &str) -> (i32, String) {
    let output = Command::new("sh")
        .args(["-c", line])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("DOCKER_CONFIG", socket.with_extension("config"))
        .env("DOCKER_BUILDKIT", "0")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null())
        .output()
        .expect("sh can be started");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// The image `box`: a static busybox.
fn make_image(socket: &Path, folder: &Path) {
    let bin = folder.join("root/bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    let programs = PROGRAMS.map(|name| format!("ln -s busybox {}/{name}", bin.display())).join(" && ");
    let line = format!(
        "cp $(command -v busybox) {0}/busybox && {programs} && tar -C {1}/root -c . | docker import - box",
        bin.display(),
        folder.display()
    );
    let (code, said) = run(socket, &line);
    assert_eq!(code, 0, "{said}");
}

async fn face(folder: &Path, engine: PathBuf) -> PathBuf {
    let env = Env {
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        disk: Arc::new(RealDisk::open(folder.join("data")).expect("a disk")),
        network: Arc::new(essaim_transport::QuicNetwork),
        build: Build::NEWEST,
    };
    let settings = Settings { hostname: "node1".into(), ..Settings::default() };
    let node = essaim_node::start(
        env,
        Parts {
            settings,
            engines: Vec::new(),
            sockets: Arc::new(NoSockets),
            machine: Arc::new(NoMachine),
            faces: Vec::new(),
        },
    )
    .await;
    let host = Host::read("node1".into(), "/data".into(), "docker".into());
    let face = Face::new(node.expect("a node outside of any cluster"), host).with_engine(EngineSocket::new(engine));
    let socket = folder.join("essaim.sock");
    let listener = Listener::bind(&socket).await.expect("bound");
    tokio::spawn(serve(listener, router(face), std::future::pending()));
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_docker_cli_works_with_containers_through_the_face() {
    if let Some(missing) = missing() {
        eprintln!("skipped: containers need {missing}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dockerd = Dockerd::start();
    let socket = face(folder.path(), dockerd.socket()).await;
    let check = |line: &str, code: i32, expected: &str| {
        let said = run(&socket, line);
        assert!(said.0 == code && said.1.contains(expected), "{line}\nexits with {}, not {code}:\n{}", said.0, said.1);
    };
    make_image(&socket, folder.path());
    // Both programs are among the components, and the node has its own name.
    check("docker version", 0, "Essaim");
    check("docker version", 0, "containerd");
    check("docker info --format '{{.Name}} {{.Images}} {{.Swarm.LocalNodeState}}'", 0, "node1 1 inactive");
    // Output, input with its end, exit codes, a terminal.
    check("docker run --rm --network none box echo hello", 0, "hello");
    check("echo through | docker run -i --rm --network none box cat", 0, "through");
    check("docker run --rm --network none box sh -c 'exit 7'", 7, "");
    check("script -qec \"docker run -it --rm --network none box sh -c 'tty; exit 3'\" /dev/null", 3, "/dev/");
    check("docker run -d --name deb --network none box sh -c 'echo one; echo two >&2; exec sleep 1000'", 0, "");
    check("docker ps --format '{{.Names}} {{.Image}}'", 0, "deb box");
    check("docker exec deb echo inside", 0, "inside");
    check("docker exec deb sh -c 'exit 5'", 5, "");
    check("echo more | docker exec -i deb cat", 0, "more");
    check("script -qec 'docker exec -it deb tty' /dev/null", 0, "/dev/pts");
    check("timeout 5 docker logs -f deb", 124, "one");
    let mut file = File::create(folder.path().join("file")).expect("a file");
    file.write_all(b"copied").expect("written");
    let place = folder.path().display();
    check(&format!("docker cp {place}/file deb:/file && docker exec deb cat /file"), 0, "copied");
    check(&format!("docker cp deb:/file {place}/back && cat {place}/back"), 0, "copied");
    // A build, an export, what is on the disk.
    let dockerfile = "FROM box\nCOPY file /built\nRUN echo more >> /built\n";
    std::fs::write(folder.path().join("Dockerfile"), dockerfile).expect("written");
    std::fs::write(folder.path().join(".dockerignore"), "root\ndata\n*.sock\n").expect("written");
    check(&format!("docker build --network none -t built {place}"), 0, "Successfully tagged built:latest");
    check("docker run --rm --network none built cat /built", 0, "copied");
    check("docker save built | tar -t", 0, "manifest.json");
    check("docker system df", 0, "Images");
    // Local networks and volumes pass; those of the cluster are refused.
    check("docker volume create vol && docker volume ls -q", 0, "vol");
    check("docker network ls --format '{{.Name}} {{.Scope}}'", 0, "none local");
    check("docker network create -d overlay o", 1, "not a swarm manager");
    check("docker events --since 1h --until 0s --filter type=container --format '{{.Action}}'", 0, "start");
    check("docker rm -f deb", 0, "deb");
    check("docker ps -aq", 0, "");
    check("docker inspect nothing", 1, "nothing");
}
