//! The Docker engine with a real dockerd of the test's own.
//!
//! An engine takes a second or two to start, so the facts of one test share one, each with tasks of its own.

mod dockerd;

use dockerd::registry::Registry;
use dockerd::{Dockerd, PATIENCE};
use essaim_engines::{ConnectError, DockerEngine};
use essaim_model::service::{
    BindOptions, ConfigReference, ConfigReferences, ConfigTarget, FileTarget, HealthCheck, HealthTimes, Mount,
    MountSource, Mounts, RegistryAuth, SecretReference, SecretReferences,
};
use essaim_model::{ConfigId, ContainerSpec, Health, Image, Labels, LogDriver, PayloadId, SecretId, TaskId};
use essaim_wire::{NodeId, Timestamp};
use essaim_worker::engine::{
    Engine, EngineError, Exec, ExecError, Executed, Exit, LogOptions, LogStream, Observation, Payloads, Phase,
    Progress, Run, Signal,
};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Node of the tasks.
const NODE: NodeId = NodeId::from_bits(7);

fn utc() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    Timestamp::from_micros(micros.try_into().expect("after 1970"))
}

struct World {
    dockerd: Dockerd,
    engine: DockerEngine,
}

impl World {
    async fn new(arguments: &[&str]) -> Option<Self> {
        let dockerd = Dockerd::start(arguments)?;
        let engine = connect(&dockerd).await;
        Some(Self { dockerd, engine })
    }

    /// Drops the engine and connects another, which is all that a restart of the daemon leaves.
    async fn restart(&mut self) {
        self.engine = connect(&self.dockerd).await;
    }

    async fn prepare(&self, run: &Run) -> Result<(), EngineError> {
        self.engine.prepare(run, &Payloads::new(), &Progress::unheard()).await
    }

    /// Starts a task that runs `sh -c script`.
    async fn sh(&self, bits: u128, script: &str) -> TaskId {
        self.begin(&sh(bits, script)).await
    }

    async fn begin(&self, run: &Run) -> TaskId {
        self.prepare(run).await.expect("prepared");
        self.engine.start(run.task).await.expect("started");
        run.task
    }

    async fn exit_of(&self, task: TaskId) -> Exit {
        let seen = self.engine.observe(task).filter_map(async |seen| match seen.expect("observed") {
            Observation::Ended(ended) => Some(ended.exit),
            _ => None,
        });
        tokio::time::timeout(PATIENCE, Box::pin(seen).next()).await.expect("it ends").expect("an end")
    }

    async fn lines(&self, task: TaskId, options: LogOptions) -> Vec<(LogStream, String)> {
        let read = self.engine.logs(task, options).map(|line| {
            let line = line.expect("readable");
            (line.stream, String::from_utf8(line.bytes).expect("text"))
        });
        tokio::time::timeout(PATIENCE, read.collect()).await.expect("the log ends")
    }

    /// Follows the log until a line is `word`.
    async fn said(&self, task: TaskId, word: &str) {
        let mut lines = self.engine.logs(task, LogOptions { follow: true, ..LogOptions::default() });
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next()).await.expect("it speaks").expect("it said it");
            if line.expect("readable").bytes == format!("{word}\n").as_bytes() {
                return;
            }
        }
    }

    async fn phase(&self, task: TaskId) -> Option<Phase> {
        self.engine.phase(task).await.expect("an answer")
    }
}

async fn connect(dockerd: &Dockerd) -> DockerEngine {
    DockerEngine::connect(&dockerd.host(), Arc::new(utc)).await.expect("connected")
}

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

fn run(bits: u128, image: &str) -> Run {
    let name = format!("web.1.{}", id(bits));
    let labels = Labels::from([
        ("com.docker.swarm.node.id".into(), NODE.to_string()),
        ("com.docker.swarm.task.id".into(), id(bits).to_string()),
        ("com.docker.swarm.task.name".into(), name.clone()),
    ]);
    Run { labels, ..Run::new(id(bits), name, ContainerSpec::new(Image::parse(image).expect("an image"))) }
}

fn sh(bits: u128, script: &str) -> Run {
    with(run(bits, "lab:1"), |it| it.command = vec!["sh".into(), "-c".into(), script.into()])
}

fn with(mut run: Run, change: impl FnOnce(&mut ContainerSpec)) -> Run {
    change(&mut run.container);
    run
}

fn rejected(why: Result<(), EngineError>) -> String {
    match why {
        Err(EngineError::Rejected(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_containers_and_every_step_may_be_repeated() {
    let Some(mut world) = World::new(&[]).await else { return };

    // A task ends with the code or the signal of its program.
    for (bits, script, exit) in [(1, "exit 0", Exit::Code(0)), (2, "exit 7", Exit::Code(7))] {
        let task = world.sh(bits, script).await;
        assert_eq!(world.exit_of(task).await, exit, "{script}");
    }

    // A stop is the signal first and the kill after the grace.
    let polite = world.sh(3, "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done").await;
    world.said(polite, "ready").await;
    let ended = world.engine.stop(polite, Signal::TERM, PATIENCE).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Code(3));
    let stubborn = world.sh(4, "trap '' TERM; echo ready; while :; do sleep 0.05; done").await;
    world.said(stubborn, "ready").await;
    let ended = world.engine.stop(stubborn, Signal::TERM, Duration::from_millis(200)).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Signal(9));
    assert_eq!(world.engine.stop(stubborn, Signal::TERM, PATIENCE).await, Ok(ended), "a repeated stop");

    // A log keeps both streams, and a followed one ends with its task.
    let speaker = world.sh(5, "echo out; sleep 0.2; echo err >&2; sleep 0.2; printf 'no end'").await;
    let lines = world.lines(speaker, LogOptions { follow: true, ..LogOptions::default() }).await;
    let out = |text: &str| (LogStream::Stdout, text.to_owned());
    assert_eq!(lines, [out("out\n"), (LogStream::Stderr, "err\n".into()), out("no end")]);
    let last = LogOptions { tail: Some(1), ..LogOptions::default() };
    assert_eq!(world.lines(speaker, last).await, [out("no end")]);
    let only = LogOptions { stdout: false, ..LogOptions::default() };
    assert_eq!(world.lines(speaker, only).await, [(LogStream::Stderr, "err\n".into())]);

    // Tasks are found again after a restart of the daemon, and none restarts.
    let running = world.sh(6, "echo once; while :; do sleep 0.05; done").await;
    world.said(running, "once").await;
    world.prepare(&sh(7, "true")).await.expect("prepared");
    let Some(Phase::Running(before)) = world.phase(running).await else { panic!("it runs") };
    let foreign = r#"{"Image":"lab:1","Cmd":["sleep","1000"],"Labels":{"com.docker.swarm.task.id":"x","a":"b"}}"#;
    world.dockerd.call("POST", "/containers/create?name=foreign", foreign.as_bytes());
    let mut other = sh(8, "true");
    other.labels.insert("com.docker.swarm.node.id".into(), NodeId::from_bits(8).to_string());
    world.prepare(&other).await.expect("prepared");
    world.restart().await;
    let found = world.engine.adopt(NODE).await.expect("adopted");
    assert_eq!(found.iter().map(|it| it.task).collect::<Vec<_>>(), (1..=7).map(id).collect::<Vec<_>>());
    assert_eq!((found[5].phase, found[6].phase), (Phase::Running(before), Phase::Prepared));
    assert_eq!(found[5].name, format!("web.1.{running}"));
    assert!(matches!(found[1].phase, Phase::Ended(ended) if ended.exit == Exit::Code(7)));

    // A repeated preparation or start changes nothing, and a task that has ended is never started again.
    world.prepare(&sh(6, "other")).await.expect("prepared already");
    assert_eq!(world.engine.start(running).await, Ok(before));
    assert_eq!(world.lines(running, LogOptions::default()).await, [out("once\n")]);
    world.engine.start(id(2)).await.expect("it was started");
    assert!(matches!(world.phase(id(2)).await, Some(Phase::Ended(_))));

    // A container that somebody starts again is told of, and the engine's own starts are not. A restart ends the task,
    // however late anybody looks.
    let restarted = world.sh(44, "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done").await;
    world.said(restarted, "up").await;
    let mut seen = world.engine.observe(restarted);
    assert_eq!(seen.next().await, Some(Ok(Observation::Running)));
    world.dockerd.call("POST", &format!("/containers/web.1.{restarted}/restart"), &[]);
    let told = tokio::time::timeout(PATIENCE, world.engine.revived()).await.expect("it is told");
    assert_eq!(told, restarted);
    let ended = tokio::time::timeout(PATIENCE, seen.next()).await.expect("it ends");
    assert!(matches!(ended, Some(Ok(Observation::Ended(ended))) if ended.exit == Exit::Code(5)), "{ended:?}");
    assert_eq!(seen.next().await, None);
    assert!(matches!(world.phase(restarted).await, Some(Phase::Running(_))), "the container runs again");
    assert_eq!(world.engine.stop(restarted, Signal::TERM, PATIENCE).await.expect("stopped").exit, Exit::Code(5));
    world.engine.remove(restarted).await.expect("removed");

    // The container is what Docker's people know.
    let shown = world.dockerd.json(&format!("/containers/web.1.{running}/json"));
    assert_eq!(shown["Id"].as_str(), before.container.map(|it| it.to_string()).as_deref());
    assert_eq!(shown["State"]["Pid"].as_u64(), before.pid.map(u64::from));

    // Stats, exec and attach.
    let stats = world.engine.stats(running).await.expect("stats");
    assert!(stats.cpu > Duration::ZERO, "{stats:?}");
    let interactive = world.engine.interactive().expect("it has exec");
    let sh = |script: &str| Exec { command: ["sh", "-c", script].map(str::to_owned).into(), ..Exec::default() };
    let executed = interactive.exec(running, &sh("echo inside; exit 42")).await.expect("executed");
    let said: Vec<_> = executed.streams.output.collect().await;
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].as_ref().map(|line| line.bytes.as_slice()), Ok(&b"inside\n"[..]));
    assert_eq!(executed.program.ended().await, Ok(Exit::Code(42)));
    let missing = interactive.exec(running, &Exec { command: vec!["no-such-program".into()], ..Exec::default() }).await;
    match missing {
        Err(ExecError::NotFound(why)) => assert!(why.contains("no-such-program"), "{why}"),
        // Docker Engine 20.10 answers first, and writes the reason to the program's output.
        Ok(executed) => {
            let ended = executed.program.ended().await;
            assert!(matches!(ended, Ok(Exit::Code(126 | 127))), "{ended:?}");
        }
        other => panic!("{other:?}"),
    }
    let waiting = interactive.exec(running, &sh("echo ready; exec sleep 1000")).await.expect("executed");
    let mut output = waiting.streams.output;
    assert!(output.next().await.is_some());
    waiting.program.signal(Signal::KILL).await.expect("signalled");
    assert_eq!(waiting.program.ended().await, Ok(Exit::Code(137)));

    // A removal kills first, and may be repeated. What is not this task's stays.
    for bits in 1..=7 {
        world.engine.remove(id(bits)).await.expect("removed");
        world.engine.remove(id(bits)).await.expect("removed already");
    }
    assert_eq!(world.engine.adopt(NODE).await, Ok(vec![]));
    assert_eq!(world.engine.observe(running).next().await, Some(Err(EngineError::Unknown(running))));
    assert_eq!(world.engine.stop(running, Signal::TERM, PATIENCE).await, Err(EngineError::Unknown(running)));
    assert_eq!(world.dockerd.json("/containers/json?all=1").as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_arrives_byte_for_byte_with_and_without_a_terminal() {
    let Some(world) = World::new(&[]).await else { return };
    let interactive = world.engine.interactive().expect("it has exec");

    // The first bytes announce a frame of two gigabytes to whoever looks for frames in a terminal's output.
    let hostile = r"printf '\001\000\000\000\177\177\177\177'";
    let terminal =
        with(sh(1, &format!("{hostile}; echo; echo 2020-01-01T00:00:00Z late; exec sleep 1000")), |it| it.tty = true);
    let terminal = world.begin(&terminal).await;
    let mut log = world.engine.logs(terminal, LogOptions { follow: true, ..LogOptions::default() });
    for expected in [&b"\x01\0\0\0\x7f\x7f\x7f\x7f\r\n"[..], b"2020-01-01T00:00:00Z late\r\n"] {
        let line = tokio::time::timeout(PATIENCE, log.next()).await.expect("it speaks").expect("a line");
        assert_eq!(line.map(|line| (line.stream, line.bytes)), Ok((LogStream::Stdout, expected.to_vec())));
    }
    for tty in [true, false] {
        let script = format!("{hostile}; echo 2020-01-01T00:00:00Z late; cat");
        let command = ["sh", "-c", &script].map(str::to_owned).into();
        let exec = Exec { command, tty, input: true, ..Exec::default() };
        let Executed { streams, program } = interactive.exec(terminal, &exec).await.expect("executed");
        let mut input = streams.input.expect("it takes input");
        if tty {
            // The terminal's end of input.
            input.write_all(b"\x04").await.expect("written");
        } else {
            drop(input);
        }
        let said = streams.output.map(|piece| piece.expect("readable").bytes).collect::<Vec<_>>();
        let said = tokio::time::timeout(PATIENCE, said).await.expect("it ends").concat();
        let feed = if tty { "\r\n" } else { "\n" };
        let expected = [&b"\x01\0\0\0\x7f\x7f\x7f\x7f2020-01-01T00:00:00Z late"[..], feed.as_bytes()].concat();
        // A terminal echoes its end of input as two backspaces after ^D, at a place that is not fixed.
        let said = said.iter().filter(|byte| !(tty && b"^D\x08".contains(byte))).copied().collect::<Vec<_>>();
        assert_eq!(said, expected, "terminal: {tty}");
        assert_eq!(program.ended().await, Ok(Exit::Code(0)));
    }

    // Parts of a line longer than the copier's buffer come with a time each, which is no part of the line.
    for (bits, tty) in [(2, true), (3, false)] {
        let long = world
            .begin(&with(sh(bits, "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end"), |it| it.tty = tty))
            .await;
        assert_eq!(world.exit_of(long).await, Exit::Code(0));
        let said: String = world.lines(long, LogOptions::default()).await.into_iter().map(|(_, line)| line).collect();
        assert_eq!(said.replace('\r', ""), format!("{}\nend\n", "x".repeat(40_000)), "terminal: {tty}");
    }

    // Details are the labels and variables that the log driver was told to keep.
    let options = Labels::from([("env".into(), "TIER".into()), ("labels".into(), "com.docker.swarm.task.name".into())]);
    let log_driver = Some(LogDriver { name: Some("json-file".into()), options });
    let kept = Run { log_driver, env: vec![("TIER".into(), "a b,c".into())], ..sh(4, "echo hi") };
    let kept = world.begin(&kept).await;
    assert_eq!(world.exit_of(kept).await, Exit::Code(0));
    let read = world.engine.logs(kept, LogOptions { details: true, ..LogOptions::default() });
    let lines: Vec<_> = read.map(|line| line.expect("readable")).collect().await;
    let expected = [("TIER", "a b,c"), ("com.docker.swarm.task.name", &format!("web.1.{kept}"))];
    let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(lines.iter().map(|line| (&*line.bytes, &line.details)).collect::<Vec<_>>(), [(&b"hi\n"[..], &expected)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerd_in_swarm_mode_is_refused_with_the_way_out() {
    let Some(dockerd) = Dockerd::start(&[]) else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let address = format!("127.0.0.1:{port}");
    let asked = format!(r#"{{"ListenAddr":"{address}","AdvertiseAddr":"{address}"}}"#);
    dockerd.call("POST", "/swarm/init", asked.as_bytes());
    let refused = DockerEngine::connect(&dockerd.host(), Arc::new(utc)).await.err().expect("it is in swarm mode");
    assert!(matches!(refused, ConnectError::InSwarm { .. }), "{refused}");
    let words = refused.to_string();
    assert!(words.contains(&format!("`docker -H {} swarm leave --force`", dockerd.host())), "{words}");
    // The way out.
    dockerd.call("POST", "/swarm/leave?force=1", &[]);
    connect(&dockerd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_rejected_in_the_engines_words_and_health_is_observed() {
    let Some(world) = World::new(&[]).await else { return };

    let bind = |options| {
        let bind = MountSource::Bind { source: "/no/such/path".into(), options };
        Mounts::parse(vec![Mount::parse("/data", bind).expect("a mount")]).expect("mounts")
    };
    let words = rejected(world.prepare(&with(sh(1, "true"), |it| it.mounts = bind(None))).await);
    assert!(words.contains("bind source path does not exist: /no/such/path"), "{words}");
    let newer = BindOptions { read_only_force_recursive: true, ..BindOptions::default() };
    let words = rejected(world.prepare(&with(sh(2, "true"), |it| it.mounts = bind(Some(newer)))).await);
    let version = world.dockerd.json("/version")["ApiVersion"].as_str().expect("a version").to_owned();
    if version == "1.41" {
        let expected = "--mount bind-recursive=readonly needs Docker Engine 25.0 (API 1.44), and this node's engine \
                        speaks API 1.41";
        assert_eq!(words, expected);
    }
    let ghost = with(run(3, "lab:1"), |it| it.command = vec!["ghost".into()]);
    world.prepare(&ghost).await.expect("prepared");
    let why = world.engine.start(ghost.task).await.expect_err("there is no such program").to_string();
    assert!(why.starts_with("starting container failed: ") && why.contains("\"ghost\""), "{why}");
    assert_eq!(world.phase(ghost.task).await, Some(Phase::Prepared));

    // These engines have no bridge.
    let words = rejected(world.engine.interactive().expect("it is interactive").check_network().await);
    assert!(words.starts_with("it publishes a port, and containers have no network on this node"), "{words}");

    // A name that somebody else has taken.
    let taken = sh(4, "true");
    let path = format!("/containers/create?name={}", taken.name);
    world.dockerd.call("POST", &path, br#"{"Image":"lab:1","Cmd":["true"]}"#);
    let words = rejected(world.prepare(&taken).await);
    assert!(words.contains("is already in use by container"), "{words}");

    // Health: starting, healthy, unhealthy.
    let every = HealthTimes { interval: Some(Duration::from_millis(100)), ..HealthTimes::default() };
    let patient = HealthTimes { start_period: Some(Duration::from_secs(20)), ..every };
    let test = ["CMD-SHELL".into(), "[ ! -e /tmp/ill ] && [ -e /tmp/well ] && echo > /tmp/seen".into()];
    let health = HealthCheck::parse(&test, patient, 1).expect("a check");
    // From 25.0 on, an engine checks every five seconds until the container was healthy for the first time.
    let script = "sleep 0.5; echo > /tmp/well; until [ -e /tmp/seen ]; do sleep 0.1; done; sleep 1; echo > /tmp/ill; \
                  sleep 1000";
    let checked = with(sh(5, script), |it| it.health = Some(health));
    world.prepare(&checked).await.expect("prepared");
    let started = world.engine.start(checked.task).await.expect("started");
    assert_eq!(started.health, Some(Health::Starting));
    let mut seen = world.engine.observe(checked.task);
    for expected in [Observation::Running, Observation::Healthy, Observation::Unhealthy] {
        let next = tokio::time::timeout(PATIENCE, seen.next()).await.expect("an observation");
        assert_eq!(next, Some(Ok(expected)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_with_the_credentials_of_the_service_and_a_registry_that_is_down_stops_nothing() {
    let Some(world) = World::new(&[]).await else { return };
    // An image of its own, so that the engine has no layer of it.
    let layer = || {
        let mut tar = world.dockerd.busybox();
        tar.extend([0; 512]);
        tar
    };
    let open = Registry::start(layer(), None);
    let of = |bits, image: &str| with(sh(bits, "echo pulled"), |it| it.image = Image::parse(image).expect("an image"));

    // By tag: asked for each time. By digest: never again.
    let image = open.image("lab:1");
    for bits in [1, 2] {
        let task = world.begin(&of(bits, &image)).await;
        assert_eq!(world.exit_of(task).await, Exit::Code(0));
        assert_eq!(world.lines(task, LogOptions::default()).await, [(LogStream::Stdout, "pulled\n".into())]);
    }
    let pinned = format!("{image}@{}", open.digest());
    let served = open.manifests_served();
    assert!(served > 0);
    world.begin(&of(3, &pinned)).await;
    assert_eq!(open.manifests_served(), served, "the image of this digest is there");

    // The registry's own words.
    let words = rejected(world.prepare(&of(4, &open.image("lab:2"))).await);
    assert!(words.starts_with(&format!("No such image: {} (", open.image("lab:2"))), "{words}");
    assert!(words.contains("manifest unknown"), "{words}");

    // Down: an image that is there runs, another is rejected.
    open.close();
    world.begin(&of(5, &image)).await;
    world.begin(&of(6, &pinned)).await;
    let words = rejected(world.prepare(&of(7, &open.image("other:1"))).await);
    assert!(words.contains("connection refused"), "{words}");

    // Credentials: base64 of `lab:secret>?`, and of the JSON object that holds both, which has `-` and `_` in it.
    let closed = Registry::start(layer(), Some("bGFiOnNlY3JldD4/"));
    let image = closed.image("lab:1");
    let words = rejected(world.prepare(&of(8, &image)).await);
    assert!(words.contains("denied") || words.contains("no basic auth credentials"), "{words}");
    let header = "eyJ1c2VybmFtZSI6ImxhYiIsInBhc3N3b3JkIjoic2VjcmV0Pj8iLCJ4IjoiPz8_Pj4-In0=";
    let task = of(9, &image);
    let task = with(task, |it| it.registry_auth = Some(RegistryAuth::parse(header).expect("credentials")));
    world.begin(&task).await;
    let shown = world.dockerd.call("GET", &format!("/containers/{}/json", task.name), &[]);
    assert!(!shown.contains("secret>") && !shown.contains(header), "{shown}");

    // A pull that is dropped leaves nothing behind, and the next one goes on.
    let dropped = of(10, &closed.image("lab:1"));
    {
        let (none, unheard) = (Payloads::new(), Progress::unheard());
        let mut preparing = world.engine.prepare(&dropped, &none, &unheard);
        let _ = futures::poll!(&mut preparing);
    }
    world.engine.remove(dropped.task).await.expect("removed");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.phase(dropped.task).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerd_that_hangs_dies_or_comes_back_loses_no_task() {
    let Some(mut world) = World::new(&["--live-restore"]).await else { return };
    let survivor = world.sh(1, "echo up; trap 'exit 9' TERM; while :; do sleep 0.05; done").await;
    world.said(survivor, "up").await;
    let Some(Phase::Running(before)) = world.phase(survivor).await else { panic!("it runs") };
    let mut seen = world.engine.observe(survivor);
    assert_eq!(seen.next().await, Some(Ok(Observation::Running)));

    // Hanging: nothing is lost, and what was asked meanwhile is answered when it goes on.
    world.dockerd.stand_still();
    let engine = world.engine.clone();
    let asked = tokio::spawn(async move { engine.phase(survivor).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!asked.is_finished());
    world.dockerd.go_on();
    assert_eq!(asked.await.expect("asked"), Ok(Some(Phase::Running(before))));

    // Hanging for longer: whoever waits is told so, long before the patience for one answer is over.
    world.dockerd.stand_still();
    let told = tokio::time::timeout(PATIENCE, seen.next()).await.expect("it is told");
    let hangs = |why: &EngineError| matches!(why, EngineError::Hangs(_));
    assert!(matches!(&told, Some(Err(why)) if hangs(why)), "{told:?}");
    assert!(world.engine.phase(survivor).await.is_err_and(|why| hangs(&why)));
    assert!(world.engine.describe().await.is_err_and(|why| hangs(&why)));
    assert!(world.engine.stop(survivor, Signal::TERM, PATIENCE).await.is_err_and(|why| hangs(&why)));
    world.dockerd.go_on();
    let back = async {
        while world.engine.phase(survivor).await != Ok(Some(Phase::Running(before))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is found to answer again");
    let mut seen = world.engine.observe(survivor);
    assert_eq!(seen.next().await, Some(Ok(Observation::Running)));

    // Killed: the watcher is told that nobody is there, and not that the task has ended.
    let engine = world.engine.clone();
    let silence = tokio::spawn(async move { engine.silence().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!silence.is_finished());
    world.dockerd.kill();
    let next = tokio::time::timeout(PATIENCE, seen.next()).await.expect("it hears of it");
    assert!(matches!(&next, Some(Err(why)) if why.is_silence()), "{next:?}");
    assert!(matches!(world.engine.phase(survivor).await, Err(EngineError::Absent(_))));
    tokio::time::timeout(PATIENCE, silence).await.expect("the engine notices it by itself").expect("it was waited for");

    // Back, with its containers: the same task under the same process, found by the same engine.
    world.dockerd.launch();
    assert_eq!(world.phase(survivor).await, Some(Phase::Running(before)));
    assert_eq!(world.engine.start(survivor).await, Ok(before));
    let found = world.engine.adopt(NODE).await.expect("adopted");
    assert_eq!((found.len(), found[0].phase), (1, Phase::Running(before)));
    let ended = world.engine.stop(survivor, Signal::TERM, PATIENCE).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Code(9));

    // Killed together with its containers: that they have ended is seen at once, and is so when it is back.
    let victim = world.sh(2, "echo up; while :; do sleep 0.05; done").await;
    world.said(victim, "up").await;
    let Some(Phase::Running(started)) = world.phase(victim).await else { panic!("it runs") };
    world.dockerd.kill();
    let pid = started.pid.expect("a process").to_string();
    let mut seen = world.engine.observe(victim);
    std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("killed");
    let ended = async {
        loop {
            match seen.next().await {
                Some(Ok(Observation::Ended(ended))) => return ended,
                Some(Ok(_)) => (),
                _ => seen = world.engine.observe(victim),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.expect("it is seen").exit, Exit::Lost);
    world.dockerd.launch();
    assert!(matches!(world.phase(victim).await, Some(Phase::Ended(ended)) if !ended.exit.is_success()));
    assert_eq!(world.engine.adopt(NODE).await.expect("adopted").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_configs_are_files_in_memory_that_are_gone_when_the_task_has_ended() {
    let Some(mut world) = World::new(&[]).await else { return };
    let file = |name: &str, mode| FileTarget { name: name.into(), uid: "7".into(), gid: "8".into(), mode };
    let references = |it: &mut ContainerSpec| {
        let key = SecretReference { id: SecretId::from_bits(1), name: "key".into(), file: file("key", 0o400) };
        let target = ConfigTarget::File(file("/etc/site/index.html", 0o444));
        let site = ConfigReference { id: ConfigId::from_bits(2), name: "site".into(), target };
        it.secrets = SecretReferences::parse(vec![key]).expect("one file");
        it.configs = ConfigReferences::parse(vec![site]).expect("one file");
    };
    let payloads = Payloads::from([
        (PayloadId::Secret(SecretId::from_bits(1)), b"s3cr3t"[..].into()),
        (PayloadId::Config(ConfigId::from_bits(2)), b"<h1>"[..].into()),
    ]);
    let script = "cat /run/secrets/key /etc/site/index.html; echo; stat -c '%u %g %a' /run/secrets/key; \
                  (echo x > /run/secrets/key) 2>/dev/null || echo read-only; sleep 1000";
    let run = with(sh(1, script), references);
    world.engine.prepare(&run, &payloads, &Progress::unheard()).await.expect("prepared");
    world.engine.start(run.task).await.expect("started");
    let written = async |world: &World| {
        let lines = world.lines(run.task, LogOptions::default()).await;
        lines.into_iter().map(|(_, line)| line).collect::<String>()
    };
    let expected = "s3cr3t<h1>\n7 8 400\nread-only\n";
    tokio::time::timeout(PATIENCE, async {
        while written(&world).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the task has read its files");
    let shown = world.dockerd.call("GET", &format!("/containers/{}/json", run.name), &[]);
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let source =
        shown.split("\"Source\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a mount").to_owned();
    assert!(std::path::Path::new(&source).exists(), "{source}");

    // A daemon that returns finds them again, and removes them at the end of the task.
    world.restart().await;
    world.engine.adopt(NODE).await.expect("listed");
    assert!(std::path::Path::new(&source).exists(), "{source}");
    world.engine.stop(run.task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    world.engine.release(run.task);
    assert!(!std::path::Path::new(&source).exists(), "{source}");

    // What a killed daemon left of a task that has ended is removed when its node is asked for its tasks.
    let other = with(sh(2, "true"), references);
    world.engine.prepare(&other, &payloads, &Progress::unheard()).await.expect("prepared");
    world.engine.start(other.task).await.expect("started");
    assert_eq!(world.exit_of(other.task).await, Exit::Code(0));
    let folder = std::path::Path::new(&source).parent().and_then(|it| it.parent()).expect("the node's").to_owned();
    assert!(folder.join(other.task.to_string()).exists());
    world.restart().await;
    world.engine.adopt(NODE).await.expect("listed");
    assert!(!folder.join(other.task.to_string()).exists());
}
