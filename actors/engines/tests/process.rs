//! The process engine with real processes, under real shims (`examples/shim`).

use essaim_engines::{Config, ProcessEngine};
use essaim_model::service::{
    ConfigReference, ConfigReferences, ConfigTarget, FileTarget, SecretReference, SecretReferences,
};
use essaim_model::{ConfigId, ContainerSpec, EngineKind, Image, PayloadId, SecretId, TaskId};
use essaim_wire::{NodeId, Timestamp};
use essaim_worker::engine::{
    Engine, EngineError, Exec, ExecError, Executed, Exit, LogOptions, LogStream, Observation, Payloads, Phase,
    Progress, Run, Signal, TerminalSize,
};
use futures::StreamExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Timeout of a wait that should succeed: longer than any step takes on a busy machine, so that it only ends a test
/// that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Node of the tasks; the process engine belongs to one node and does not ask.
const NODE: NodeId = NodeId::from_bits(1);

struct World {
    root: tempfile::TempDir,
    engine: ProcessEngine,
    path: String,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let path = "/usr/local/bin:/usr/bin:/bin".to_owned();
        let engine = engine_at(root.path(), &path);
        Self { root, engine, path }
    }

    /// Drops the engine and creates another over the same folder, which is all that a restart of the daemon leaves.
    fn restart(&mut self) {
        self.engine = engine_at(self.root.path(), &self.path);
    }

    /// Starts a task that runs `sh -c script`.
    async fn sh(&self, bits: u128, script: &str) -> TaskId {
        let mut run = run(bits, "sh:latest");
        run.container.args = vec!["-c".into(), script.into()];
        self.prepare(&run).await.expect("prepared");
        self.engine.start(run.task).await.expect("started");
        run.task
    }

    async fn prepare(&self, run: &Run) -> Result<(), EngineError> {
        self.engine.prepare(run, &Payloads::new(), &Progress::unheard()).await
    }

    async fn last_seen(&self, task: TaskId) -> Result<Observation, EngineError> {
        let seen: Vec<_> = tokio::time::timeout(PATIENCE, self.engine.observe(task).collect()).await.expect("it ends");
        assert_eq!((seen.len(), &seen[0]), (2, &Ok(Observation::Running)));
        seen[1].clone()
    }

    async fn exit_of(&self, task: TaskId) -> Exit {
        match self.last_seen(task).await {
            Ok(Observation::Ended(ended)) => ended.exit,
            other => panic!("{other:?}"),
        }
    }

    async fn lines(&self, task: TaskId, options: LogOptions) -> Vec<(LogStream, String)> {
        let read = self.engine.logs(task, options).map(|line| {
            let line = line.expect("readable");
            (line.stream, String::from_utf8(line.bytes).expect("text"))
        });
        tokio::time::timeout(PATIENCE, read.collect()).await.expect("the log ends")
    }

    /// Follows the log until a line begins with `mark`; returns what comes after it.
    async fn said(&self, task: TaskId, mark: &str) -> String {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = self.engine.logs(task, options);
        loop {
            let next = tokio::time::timeout(PATIENCE, lines.next()).await.expect("it speaks");
            let line = next.unwrap_or_else(|| panic!("it never said {mark}")).expect("readable");
            let line = String::from_utf8(line.bytes).expect("text");
            if let Some(rest) = line.strip_prefix(mark) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for World {
    /// Tasks outlive engines, so a test that fails half-way has to end its own.
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.root.path().join("tasks")).into_iter().flatten().flatten() {
            let mut control = std::fs::File::options();
            let control = std::os::unix::fs::OpenOptionsExt::custom_flags(control.write(true), libc::O_NONBLOCK);
            if let Ok(mut control) = control.open(entry.path().join("control")) {
                let _ = std::io::Write::write_all(&mut control, b"stop 9 0\n");
            }
        }
    }
}

fn engine_at(root: &Path, path: &str) -> ProcessEngine {
    let mut config = Config::new(root.join("tasks"), Arc::new(|| Timestamp::from_micros(1)));
    config.shim = shim();
    config.path = path.into();
    config.log_segment_bytes = 64 << 10;
    ProcessEngine::new(config).expect("an engine")
}

/// Path of this crate's example `shim`, which cargo builds together with the tests.
fn shim() -> PathBuf {
    let test = std::env::current_exe().expect("a test");
    let built = test.parent().and_then(Path::parent).expect("target/debug");
    let shim = built.join("examples/shim");
    assert!(shim.exists(), "{} is missing: build the examples of essaim-engines", shim.display());
    shim
}

/// A task id of this test. Orphans are found by their task ids, which are unique in a real cluster, so tests that run
/// at the same time must not share any.
fn id(bits: u128) -> TaskId {
    TaskId::from_bits(u128::from(std::process::id()) << 64 | bits)
}

fn run(bits: u128, image: &str) -> Run {
    let image = Image::parse(image).expect("an image");
    Run::new(id(bits), format!("web.1.{bits}"), ContainerSpec::new(image))
}

fn with(mut run: Run, change: impl FnOnce(&mut ContainerSpec)) -> Run {
    change(&mut run.container);
    run
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_task_ends_with_the_code_or_the_signal_of_its_program() {
    let world = World::new();
    let codes = [(1, "exit 0", Exit::Code(0)), (2, "exit 7", Exit::Code(7)), (3, "kill -USR1 $$", Exit::Signal(10))];
    for (bits, script, exit) in codes {
        let task = world.sh(bits, script).await;
        assert_eq!(world.exit_of(task).await, exit, "{script}");
    }
    assert_eq!(Exit::Signal(10).code(), Some(138));
    let real_time = world.sh(4, "kill -40 $$").await;
    assert_eq!(world.exit_of(real_time).await, Exit::Signal(40));
}

#[tokio::test]
async fn a_stop_is_the_signal_first_and_the_kill_after_the_grace() {
    let world = World::new();
    let polite = world.sh(1, "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done").await;
    world.said(polite, "ready").await;
    let ended = world.engine.stop(polite, Signal::TERM, PATIENCE).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Code(3));
    assert!(world.lines(polite, LogOptions::default()).await.contains(&(LogStream::Stdout, "bye\n".into())));

    let other = world.sh(2, "trap 'exit 4' USR2; echo ready; while :; do sleep 0.05; done").await;
    world.said(other, "ready").await;
    let usr2 = "SIGUSR2".parse().expect("a signal");
    assert_eq!(world.engine.stop(other, usr2, PATIENCE).await.expect("stopped").exit, Exit::Code(4));

    let stubborn = world.sh(3, "trap '' TERM; echo ready; while :; do sleep 0.05; done").await;
    world.said(stubborn, "ready").await;
    let ended = world.engine.stop(stubborn, Signal::TERM, Duration::from_millis(200)).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Signal(9));
    // A repeated stop gives the same answer.
    assert_eq!(world.engine.stop(stubborn, Signal::TERM, PATIENCE).await, Ok(ended));
}

#[tokio::test]
async fn every_descendant_ends_with_its_task() {
    let world = World::new();
    // The script starts a child, a child that ignores signals, and a process that forked twice into a session of its
    // own.
    let script = "sleep 1000 & echo child $!
        sh -c \"trap '' TERM HUP INT; echo deaf \\$\\$; while :; do sleep 0.1; done\" &
        (setsid sh -c 'echo daemon $$; exec sleep 1000' >&1 2>&1 &) &
        wait_for_parent() { sleep 1000; }; wait_for_parent";
    for (bits, by_itself) in [(1, false), (2, true)] {
        let task = world.sh(bits, script).await;
        let mut pids = Vec::new();
        for mark in ["child ", "deaf ", "daemon "] {
            pids.push(world.said(task, mark).await);
        }
        assert!(pids.iter().all(|pid| lives(pid)), "{pids:?}");
        if by_itself {
            // The main process ends and leaves its children behind.
            let Phase::Running(started) = world.engine.adopt(NODE).await.expect("adopted")[1].phase else {
                panic!("it runs")
            };
            let main = started.pid.expect("a process").to_string();
            std::process::Command::new("kill").args(["-KILL", &main]).status().expect("killed");
            assert_eq!(world.exit_of(task).await, Exit::Signal(9));
        } else {
            world.engine.stop(task, Signal::TERM, Duration::from_secs(5)).await.expect("stopped");
        }
        assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?} by itself: {by_itself}");
    }
}

#[tokio::test]
async fn tasks_are_found_again_after_a_restart_and_none_restarts() {
    let mut world = World::new();
    let running = world.sh(1, "echo once; while :; do sleep 0.05; done").await;
    let ends_meanwhile = world.sh(2, "sleep 0.3; exit 5").await;
    world.prepare(&run(3, "sleep")).await.expect("prepared");
    let Phase::Running(before) = world.engine.adopt(NODE).await.expect("adopted")[0].phase else { panic!("it runs") };
    world.restart();
    assert_eq!(world.exit_of(ends_meanwhile).await, Exit::Code(5));
    world.restart();
    let found = world.engine.adopt(NODE).await.expect("adopted");
    let phases: Vec<_> = found.iter().map(|adopted| (adopted.task, adopted.phase)).collect();
    assert_eq!(phases[0], (running, Phase::Running(before)), "the same process");
    assert!(matches!(phases[1], (task, Phase::Ended(ended)) if task == ends_meanwhile && ended.exit == Exit::Code(5)));
    assert_eq!(phases[2], (id(3), Phase::Prepared));
    // A repeated start starts nothing.
    assert_eq!(world.engine.start(running).await, Ok(before));
    assert_eq!(world.lines(running, LogOptions::default()).await, [(LogStream::Stdout, "once\n".into())]);
    let ended = world.engine.stop(running, Signal::TERM, Duration::from_secs(5)).await.expect("stopped");
    assert_eq!(ended.exit, Exit::Signal(15));
    for task in [1, 2, 3] {
        world.engine.remove(id(task)).await.expect("removed");
        world.engine.remove(id(task)).await.expect("removed already");
    }
    assert_eq!(world.engine.adopt(NODE).await, Ok(vec![]));
    assert_eq!(world.last_seen(running).await, Err(EngineError::Unknown(running)));
}

#[tokio::test]
async fn a_task_whose_shim_was_killed_counts_as_lost_and_nothing_of_it_goes_on() {
    let world = World::new();
    let task = world.sh(1, "(setsid sh -c 'echo daemon $$; exec sleep 1000' &) & echo main $$; sleep 1000").await;
    let (main, daemon) = (world.said(task, "main ").await, world.said(task, "daemon ").await);
    let status = std::fs::read_to_string(format!("/proc/{main}/stat")).expect("it runs");
    let shim = status.rsplit_once(") ").expect("a state").1.split(' ').nth(1).expect("a parent").to_owned();
    std::process::Command::new("kill").args(["-KILL", &shim]).status().expect("killed");
    assert_eq!(world.exit_of(task).await, Exit::Lost);
    until("the task and what it left are gone", || !lives(&main) && !lives(&daemon)).await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_words_before_anything_runs() {
    let world = World::new();
    let refused = |why: Result<(), EngineError>| match why {
        Err(EngineError::Rejected(words)) => words,
        other => panic!("{other:?}"),
    };
    let ghost = refused(world.prepare(&run(1, "ghost:latest")).await);
    assert_eq!(
        ghost,
        "No such image: ghost:latest (there is no program ghost along PATH=/usr/local/bin:/usr/bin:/bin)"
    );
    let dir = with(run(2, "sleep"), |it| it.dir = Some("/no/such/dir".into()));
    assert_eq!(refused(world.prepare(&dir).await), "no such working directory: /no/such/dir");
    let user = with(run(3, "sleep"), |it| it.user = Some("no-such-user".into()));
    assert_eq!(refused(world.prepare(&user).await), "unable to find user no-such-user on this machine");
    let command = with(run(4, "sleep"), |it| it.command = vec!["ghost".into()]);
    assert!(refused(world.prepare(&command).await).contains("executable file not found in PATH"));
    assert_eq!(world.engine.adopt(NODE).await, Ok(vec![]));
    assert_eq!(world.engine.kind(), EngineKind::Process);
}

#[tokio::test]
async fn a_task_sees_its_own_environment_and_directory_and_nothing_of_the_daemons() {
    let world = World::new();
    let run = Run {
        env: vec![
            ("ESSAIM_ADDRESS".into(), "127.64.0.2".into()),
            ("TWICE".into(), "1".into()),
            ("TWICE".into(), "2".into()),
        ],
        ..with(run(1, "docker.io/library/sh:latest"), |it| {
            it.args = vec!["-c".into(), "pwd; env | sort".into()];
            it.dir = Some("/usr".into());
        })
    };
    world.prepare(&run).await.expect("prepared");
    world.engine.start(run.task).await.expect("started");
    world.exit_of(run.task).await;
    let lines = world.lines(run.task, LogOptions::default()).await;
    let all: Vec<&str> = lines.iter().map(|(_, line)| line.trim_end()).collect();
    assert_eq!(all[0], "/usr");
    let own = format!("ESSAIM_TASK_ID={}", run.task);
    for wanted in ["ESSAIM_ADDRESS=127.64.0.2", "TWICE=2", "PATH=/usr/local/bin:/usr/bin:/bin", &own] {
        assert!(all.contains(&wanted), "{wanted} in {all:?}");
    }
    assert!(!all.iter().any(|line| line.starts_with("CARGO")), "{all:?}");
}

#[tokio::test]
async fn a_task_runs_as_the_user_it_asks_for_where_the_daemon_may_do_that() {
    let world = World::new();
    let run = with(run(1, "id"), |it| {
        it.args = vec!["-u".into()];
        it.user = Some("65534:65534".into());
    });
    let root = std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).expect("me") == 0;
    match world.prepare(&run).await {
        Ok(()) => {
            assert!(root);
            world.engine.start(run.task).await.expect("started");
            world.exit_of(run.task).await;
            assert_eq!(world.lines(run.task, LogOptions::default()).await, [(LogStream::Stdout, "65534\n".into())]);
        }
        Err(why) => assert!(!root && why.to_string().contains("only a daemon that runs as root"), "{why}"),
    }
}

#[tokio::test]
async fn the_daemons_limit_of_open_files_is_raised_and_its_tasks_get_back_what_it_was() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limits = || getrlimit(Resource::RLIMIT_NOFILE).expect("known");
    let (_, hard) = limits();
    setrlimit(Resource::RLIMIT_NOFILE, 900, hard).expect("lowered");
    assert_eq!(essaim_engines::raise_open_files().expect("raised"), hard);
    assert_eq!(limits(), (hard, hard));
    let world = World::new();
    let task = world.sh(1, "ulimit -Sn; ulimit -Hn; sleep 60").await;
    let (beside, _, _) = world.exec_sh(task, "ulimit -Sn; ulimit -Hn").await.ended().await;
    assert_eq!(beside, format!("900\n{hard}\n"), "of a program beside the task");
    world.engine.stop(task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    let lines = world.lines(task, LogOptions::default()).await;
    let lines: String = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, beside);
}

#[tokio::test]
async fn a_log_keeps_both_streams_and_takes_two_segments_at_most() {
    let world = World::new();
    let short = world.sh(1, "echo out; echo err >&2; printf 'no end'").await;
    world.exit_of(short).await;
    let mut lines = world.lines(short, LogOptions::default()).await;
    lines.sort_by_key(|(stream, _)| *stream == LogStream::Stderr);
    let out = |text: &str| (LogStream::Stdout, text.to_owned());
    assert_eq!(lines, [out("out\n"), out("no end"), (LogStream::Stderr, "err\n".into())]);
    let only = LogOptions { stdout: false, ..LogOptions::default() };
    assert_eq!(world.lines(short, only).await, [(LogStream::Stderr, "err\n".into())]);

    // The task writes about 700 KiB into a ring of two segments of 64 KiB.
    let long = world.sh(2, "seq 1 100000; printf 'x%.0s' $(seq 20000)").await;
    world.exit_of(long).await;
    let dir = world.root.path().join("tasks").join(long.to_string());
    let sizes: Vec<u64> = std::fs::read_dir(dir)
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("log."))
        .map(|entry| entry.metadata().expect("a file").len())
        .collect();
    assert!(sizes.len() <= 2 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    let tail = LogOptions { tail: Some(3), ..LogOptions::default() };
    let last: Vec<String> = world.lines(long, tail).await.into_iter().map(|(_, line)| line).collect();
    assert_eq!(last[0], "100000\n");
    // A line longer than 16 KiB is split into pieces.
    assert_eq!((last[1].len(), last[2].len()), (16 << 10, 20000 - (16 << 10)));
}

#[tokio::test]
async fn a_followed_log_goes_on_until_the_task_ends() {
    let world = World::new();
    let task = world.sh(1, "for i in 1 2 3; do echo $i; sleep 0.15; done").await;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let lines = world.lines(task, options).await;
    assert_eq!(lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["1\n", "2\n", "3\n"]);
    assert_eq!(world.exit_of(task).await, Exit::Code(0));
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_fails_with_the_kernels_words() {
    let world = World::new();
    let file = world.root.path().join("broken");
    std::fs::write(&file, "#!/no/such/interpreter\n").expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let run = run(1, file.to_str().expect("text"));
    world.prepare(&run).await.expect("prepared");
    let why = world.engine.start(run.task).await.expect_err("not executable").to_string();
    assert!(why.contains("broken") && why.contains("No such file or directory"), "{why}");
}

#[tokio::test]
async fn a_running_task_has_stats_and_a_removed_one_is_killed_first() {
    let world = World::new();
    let task = world.sh(1, "echo main $$; sleep 1000 & wait").await;
    let main = world.said(task, "main ").await;
    let stats = world.engine.stats(task).await.expect("stats");
    assert!(stats.processes >= 1 && stats.memory_bytes > 0, "{stats:?}");
    world.engine.remove(task).await.expect("removed");
    assert!(!lives(&main));
    assert_eq!(world.engine.stats(task).await, Err(EngineError::Unknown(task)));
}

#[tokio::test]
async fn a_preparation_that_was_dropped_leaves_nothing_behind_a_removal() {
    let world = World::new();
    for bits in 1..=40 {
        let run = run(bits, "sleep");
        // The preparation is dropped after its first step, while its work may be under way on another thread.
        let (none, unheard) = (Payloads::new(), Progress::unheard());
        let mut preparing = world.engine.prepare(&run, &none, &unheard);
        let _ = futures::poll!(&mut preparing);
        drop(preparing);
        world.engine.remove(run.task).await.expect("removed");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.engine.adopt(NODE).await, Ok(vec![]));
}

#[tokio::test]
async fn an_image_is_resolved_to_the_path_of_its_program() {
    let world = World::new();
    let image = |text| Image::parse(text).expect("an image");
    let path = world.engine.resolve(&image("sh:latest")).await.expect("resolved").expect("a path");
    assert!(path.ends_with("/sh") && path.starts_with('/'), "{path}");
    assert!(matches!(world.engine.resolve(&image("ghost")).await, Err(EngineError::Rejected(_))));
}

#[tokio::test]
async fn a_task_is_dialled_at_the_address_that_was_claimed_for_it_and_has_neither_exec_nor_attach() {
    let mut world = World::new();
    // A subnet derived from the id of this test process, so that concurrent test runs do not collide.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let subnet = [127, 192 + (high & 7), low, 0].into();
    let task = id(1);
    let address = world.engine.claim(task, subnet).await.expect("claimed").expect("an address");
    assert_eq!(world.engine.claim(task, subnet).await, Ok(Some(address)), "asked again, the same");
    let run = Run { address: Some(address), ..with(run(1, "sleep"), |it| it.args = vec!["1000".into()]) };
    world.prepare(&run).await.expect("prepared");
    let started = world.engine.start(task).await.expect("started");
    assert_eq!(started.address, Some(address));
    // After a restart of the daemon the engine learns again which task has which address.
    world.restart();
    world.engine.adopt(NODE).await.expect("adopted");
    assert_eq!(world.engine.claim(task, subnet).await, Ok(Some(address)));
    let interactive = world.engine.interactive().expect("it can be dialled");
    let listener = tokio::net::TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    interactive.dial(task, port).await.map(drop).expect("connected");
    assert!(matches!(interactive.attach(task).await.map(drop), Err(EngineError::Rejected(_))));
    assert!(matches!(interactive.dial(id(2), port).await.map(drop), Err(EngineError::Rejected(_))));
    world.engine.stop(task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    world.engine.release(task);
    assert!(matches!(interactive.dial(task, port).await.map(drop), Err(EngineError::Rejected(_))));
}

/// `nix` knows the first 31 signals of this machine's C library; the table of this project must be the same.
#[test]
fn the_table_of_signals_is_that_of_the_machine() {
    for known in nix::sys::signal::Signal::iterator() {
        let ours: Signal = known.as_str().parse().expect("a signal");
        assert_eq!(ours.number(), known as i32, "{known}");
        assert_eq!(ours.to_string(), known.as_str());
    }
}

/// A program beside a task, with everything that it wrote to each stream.
struct Beside {
    executed: Executed,
    said: [String; 2],
}

impl World {
    async fn exec(&self, task: TaskId, exec: Exec) -> Result<Beside, ExecError> {
        let interactive = self.engine.interactive().expect("it executes programs");
        Ok(Beside { executed: interactive.exec(task, &exec).await?, said: Default::default() })
    }

    async fn exec_sh(&self, task: TaskId, script: &str) -> Beside {
        self.exec(task, sh(script)).await.expect("executed")
    }
}

fn sh(script: &str) -> Exec {
    Exec { command: ["sh", "-c", script].map(str::to_owned).into(), ..Exec::default() }
}

impl Beside {
    /// Waits until it has written this to standard output.
    async fn until_said(&mut self, text: &str) {
        let reading = async {
            while !self.said[0].contains(text) {
                let line =
                    self.executed.streams.output.next().await.unwrap_or_else(|| panic!("ended: {:?}", self.said));
                let line = line.expect("readable");
                let stream = usize::from(line.stream == LogStream::Stderr);
                self.said[stream] += &String::from_utf8(line.bytes).expect("text");
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it speaks");
    }

    /// Reads to the end of its output, and returns the output and how it ended.
    async fn ended(mut self) -> (String, String, Exit) {
        let reading = async {
            while let Some(line) = self.executed.streams.output.next().await {
                let line = line.expect("readable");
                let stream = usize::from(line.stream == LogStream::Stderr);
                self.said[stream] += &String::from_utf8(line.bytes).expect("text");
            }
            self.executed.program.ended().await.expect("seen")
        };
        let exit = tokio::time::timeout(PATIENCE, reading).await.expect("it ends");
        let [out, err] = self.said;
        (out, err, exit)
    }

    async fn write(&mut self, text: &str) {
        use tokio::io::AsyncWriteExt;
        self.executed.streams.input.as_mut().expect("open").write_all(text.as_bytes()).await.expect("written");
    }
}

async fn until_gone(pid: &str) {
    for _ in 0..6_000 {
        if !lives(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} lives on");
}

#[tokio::test]
async fn a_program_beside_a_task_has_its_surroundings_and_its_exit_code_comes_through() {
    let world = World::new();
    let mut run = run(1, "sleep");
    run.container.args = vec!["1000".into()];
    run.container.dir = Some("/usr".into());
    run.env = vec![("COLOUR".into(), "blue".into())];
    world.prepare(&run).await.expect("prepared");
    world.engine.start(run.task).await.expect("started");
    let (out, err, exit) =
        world.exec_sh(run.task, "pwd; echo $COLOUR $ESSAIM_TASK_ID; echo no >&2; exit 42").await.ended().await;
    assert_eq!((out, err.as_str(), exit), (format!("/usr\nblue {}\n", run.task), "no\n", Exit::Code(42)));
    let own = Exec {
        env: vec![("COLOUR".into(), "red".into())],
        dir: Some("/".into()),
        ..sh("pwd; echo $COLOUR; kill -9 $$")
    };
    let (out, _, exit) = world.exec(run.task, own).await.expect("executed").ended().await;
    assert_eq!((out.as_str(), exit), ("/\nred\n", Exit::Signal(9)));
    for (command, found) in [("no-such-program", false), ("/no/such/program", false), ("/etc/passwd", true)] {
        let exec = Exec { command: vec![command.into()], ..Exec::default() };
        match world.exec(run.task, exec).await.map(|_| ()) {
            Err(ExecError::NotFound(why)) if !found => assert!(why.contains("not found"), "{why}"),
            Err(ExecError::NotExecutable(why)) if found => assert!(why.contains("/etc/passwd"), "{why}"),
            other => panic!("{command}: {other:?}"),
        }
    }
    let nobody = world.exec(TaskId::from_bits(9), sh("true")).await.map(|_| ());
    assert_eq!(nobody, Err(ExecError::Engine(EngineError::Unknown(TaskId::from_bits(9)))));
}

#[tokio::test]
async fn input_reaches_the_program_and_its_end_too() {
    let world = World::new();
    let task = world.sh(1, "sleep 1000").await;
    let mut cat = world.exec(task, Exec { input: true, ..sh("cat; echo over") }).await.expect("executed");
    cat.write("hello\n").await;
    cat.until_said("hello\n").await;
    cat.executed.streams.input = None;
    assert_eq!(cat.ended().await, ("hello\nover\n".into(), String::new(), Exit::Code(0)));
    // Without an input it is at its end at once.
    assert_eq!(world.exec_sh(task, "cat; echo over").await.ended().await.0, "over\n");
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes_and_keys_that_are_signals() {
    let world = World::new();
    let task = world.sh(1, "sleep 1000").await;
    let size = Some(TerminalSize { rows: 33, columns: 77 });
    let script = "trap 'echo int; exit 5' INT; trap 'stty size' WINCH; stty size; test -t 1 && echo tty; while :; do sleep 0.05; done";
    let mut shell = world.exec(task, Exec { tty: true, input: true, size, ..sh(script) }).await.expect("executed");
    shell.until_said("tty\r\n").await;
    assert!(shell.said[0].starts_with("33 77\r\n"), "{:?}", shell.said);
    shell.executed.program.resize(TerminalSize { rows: 20, columns: 100 }).await.expect("resized");
    shell.until_said("20 100\r\n").await;
    shell.write("\u{3}").await;
    let (out, _, exit) = shell.ended().await;
    assert!(out.contains("int\r\n"), "{out:?}");
    assert_eq!(exit, Exit::Code(5));
}

#[tokio::test]
async fn signals_reach_the_program_and_a_dropped_one_leaves_nothing() {
    let world = World::new();
    let task = world.sh(1, "sleep 1000").await;
    let mut program = world.exec_sh(task, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done").await;
    program.until_said("ready").await;
    program.executed.program.signal(Signal::TERM).await.expect("signalled");
    assert_eq!(program.ended().await.2, Exit::Code(9));
    let mut program = world.exec_sh(task, "trap '' HUP TERM; sleep 1000 & echo $$ $!; wait").await;
    program.until_said("\n").await;
    let pids: Vec<String> = program.said[0].split_whitespace().map(str::to_owned).collect();
    assert!(pids.iter().all(|pid| lives(pid)));
    drop(program);
    for pid in &pids {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn what_a_program_leaves_in_its_own_session_ends_with_the_task() {
    let world = World::new();
    let task = world.sh(1, "sleep 1000").await;
    let script = "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1 </dev/null' & read line; exit 0";
    let mut program = world.exec(task, Exec { input: true, ..sh(script) }).await.expect("executed");
    program.until_said("\n").await;
    let left = program.said[0].trim().to_owned();
    program.executed.streams.input = None;
    assert_eq!(program.ended().await.2, Exit::Code(0));
    assert!(lives(&left), "it has left the program's group");
    world.engine.stop(task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    until_gone(&left).await;
}

/// The files of a task's secrets and configs, as its process finds them.
#[tokio::test]
async fn secrets_and_configs_are_files_in_memory_that_are_gone_with_the_task() {
    let mut world = World::new();
    let node = NodeId::from_bits(u128::from(std::process::id()) << 64 | 7);
    let file = |name: &str, mode| FileTarget { name: name.into(), uid: "0".into(), gid: "0".into(), mode };
    let secret = SecretReference { id: SecretId::from_bits(1), name: "key".into(), file: file("key", 0o400) };
    let target = ConfigTarget::File(file("/etc/site.conf", 0o444));
    let config = ConfigReference { id: ConfigId::from_bits(2), name: "site".into(), target };
    let payloads = Payloads::from([
        (PayloadId::Secret(secret.id), b"s3cr3t-of-a-process"[..].into()),
        (PayloadId::Config(config.id), b"listen 80"[..].into()),
    ]);
    let mut run = run(1, "sh:latest");
    run.labels.insert("com.docker.swarm.node.id".into(), node.to_string());
    run.container.secrets = SecretReferences::parse(vec![secret]).expect("one file");
    run.container.configs = ConfigReferences::parse(vec![config]).expect("one file");
    let script = "cat $ESSAIM_SECRETS/key | wc -c; cat $ESSAIM_FILES/etc/site.conf; echo; stat -c %a \
                  $ESSAIM_SECRETS/key $ESSAIM_FILES; stat -f -c %T $ESSAIM_FILES; echo at $ESSAIM_FILES; sleep 1000";
    run.container.args = vec!["-c".into(), script.into()];
    world.engine.prepare(&run, &payloads, &Progress::unheard()).await.expect("prepared");
    world.engine.start(run.task).await.expect("started");
    let folder = PathBuf::from(world.said(run.task, "at ").await.trim());
    let lines = world.lines(run.task, LogOptions::default()).await;
    let lines: Vec<_> = lines.iter().map(|(_, line)| line.trim()).collect();
    assert_eq!(lines[..5], ["19", "listen 80", "400", "700", "tmpfs"]);

    // A daemon that was killed finds the running task, and its files stay.
    world.restart();
    assert_eq!(world.engine.adopt(node).await.expect("listed").len(), 1);
    assert!(folder.join("run/secrets/key").exists());
    assert!(!holds(world.root.path(), b"s3cr3t-of-a-process"), "the secret is on the disk");
    world.engine.stop(run.task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    world.engine.release(run.task);
    assert!(!folder.exists(), "the files of an ended task");

    // So does one that finds the task ended.
    let other = Run { task: TaskId::from_bits(2), ..run };
    world.engine.prepare(&other, &payloads, &Progress::unheard()).await.expect("prepared");
    world.engine.start(other.task).await.expect("started");
    let folder = PathBuf::from(world.said(other.task, "at ").await.trim());
    world.engine.stop(other.task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    assert!(folder.exists(), "the daemon was killed before it released the task");
    world.restart();
    world.engine.adopt(node).await.expect("listed");
    assert!(!folder.parent().expect("the node's folder").exists(), "nothing is left");
}

/// Root alone can run a task as another user, and give its files away.
#[tokio::test]
async fn only_the_user_of_the_task_can_enter_the_folder_of_its_secrets() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let node = NodeId::from_bits(u128::from(std::process::id()) << 64 | 8);
    let file = FileTarget { name: "key".into(), uid: "12345".into(), gid: "0".into(), mode: 0o400 };
    let secret = SecretReference { id: SecretId::from_bits(1), name: "key".into(), file };
    let payloads = Payloads::from([(PayloadId::Secret(secret.id), b"s3cr3t"[..].into())]);
    let mut run = run(1, "sh:latest");
    run.labels.insert("com.docker.swarm.node.id".into(), node.to_string());
    run.container.secrets = SecretReferences::parse(vec![secret]).expect("one file");
    run.container.user = Some("12345:12345".into());
    let script = "stat -c '%u %g %a' $ESSAIM_SECRETS/key $ESSAIM_FILES; cat $ESSAIM_SECRETS/key; echo; echo at \
                  $ESSAIM_FILES; sleep 1000";
    run.container.args = vec!["-c".into(), script.into()];
    world.engine.prepare(&run, &payloads, &Progress::unheard()).await.expect("prepared");
    world.engine.start(run.task).await.expect("started");
    let folder = PathBuf::from(world.said(run.task, "at ").await.trim());
    let lines = world.lines(run.task, LogOptions::default()).await;
    let lines: Vec<_> = lines.iter().map(|(_, line)| line.trim()).collect();
    assert_eq!(lines[..3], ["12345 0 400", "12345 12345 700", "s3cr3t"]);
    world.engine.stop(run.task, Signal::KILL, Duration::ZERO).await.expect("stopped");
    world.engine.release(run.task);
    assert!(!folder.parent().expect("the node's folder").exists(), "nothing is left");
}

/// Whether a file below `folder` contains these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holds(&entry.path(), bytes),
        Ok(kind) if kind.is_file() => {
            std::fs::read(entry.path()).unwrap_or_default().windows(bytes.len()).any(|found| found == bytes)
        }
        _ => false,
    })
}
