//! A crowd: many nodes in one child process, controlled by lines of JSON.
//!
//! The process is this program under a hidden name ([`NAME`]). It ends when its standard input is closed, so that a
//! killed bench leaves nothing behind. [`Crowd`] is the parent's side: it asks, and waits for the answer.

use essaim_manager::Control;
use essaim_model::{Event, Labels, Refusal, ServiceSpec, State};
use essaim_node::{Handle, InitRequest, JoinRequest, LogBounds, NoMachine, NoSockets, Parts, Settings, start};
use essaim_store::Leadership;
use essaim_system::env::{Clock, RealClock, RealDisk};
use essaim_system::{Env, Seed};
use essaim_transport::QuicNetwork;
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{Build, NodeId, Reachability, Role};
use essaim_worker::sim::SimMachine;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The hidden name: `essaim-bench growth-crowd FOLDER NET FIRST COUNT`.
pub(crate) const NAME: &str = "growth-crowd";

/// Name of the service in clusters of every size.
const SERVICE: &str = "crowd";

/// Number of times that a node tries to join: on two processors a leader may lose its lead under hundreds of joins.
const JOIN_TRIES: u32 = 5;

/// Time after which any wait is given up.
const PATIENCE: Duration = Duration::from_secs(110);

/// The process of a crowd, and the pipes to it. Dropping this kills the process.
pub(super) struct Crowd {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Crowd {
    /// A process for the nodes `first..first + count`.
    pub(super) fn spawn(folder: &Path, net: u8, first: u16, count: u16) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|why| why.to_string())?;
        let mut child = Command::new(own)
            .arg(NAME)
            .arg(folder)
            .args([net.to_string(), first.to_string(), count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| format!("the nodes have no process: {why}"))?;
        let say = child.stdin.take().ok_or("no way in")?;
        let hear = BufReader::new(child.stdout.take().ok_or("no way out")?);
        Ok(Self { child, say, hear })
    }

    /// Sends a question and waits for the answer.
    pub(super) fn ask(&mut self, question: &Value) -> Result<Value, String> {
        self.begin(question)?;
        self.answer()
    }

    /// Sends a question; [`Crowd::answer`] waits for the answer.
    pub(super) fn begin(&mut self, question: &Value) -> Result<(), String> {
        writeln!(self.say, "{question}").map_err(|why| format!("a crowd is gone: {why}"))
    }

    /// Waits for the answer to the last question.
    pub(super) fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let read = self.hear.read_line(&mut line).map_err(|why| why.to_string())?;
        if read == 0 {
            return Err("a crowd ended".into());
        }
        let answer: Value = serde_json::from_str(&line).map_err(|why| format!("{why}: {line}"))?;
        match answer.get("refused") {
            Some(why) => Err(why.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL.
    pub(super) fn kill(&mut self) {
        // Killing fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The child's side: answers questions until standard input is closed.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [folder, net, first, count] = arguments else { return ExitCode::from(2) };
    let number = |text: &str| text.parse::<u16>().unwrap_or_default();
    let mut here = Here {
        folder: folder.into(),
        net: net.parse().unwrap_or(200),
        numbers: number(first)..number(first) + number(count),
        nodes: BTreeMap::new(),
        missed: Arc::default(),
    };
    // A manager has the runtime of a daemon. A crowd has one thread: on a machine with fewer processors than crowds,
    // more threads would only hand work to each other.
    let mut builder = match here.numbers.len() {
        1 => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let (lines, mut questions) = tokio::sync::mpsc::channel::<String>(1);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                if line.is_err() || line.is_ok_and(|line| lines.blocking_send(line).is_err()) {
                    return;
                }
            }
        });
        while let Some(question) = questions.recv().await {
            let question: Value = serde_json::from_str(&question).unwrap_or_default();
            let answer = match tokio::time::timeout(PATIENCE, here.answer(&question)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(why)) => json!({ "refused": why }),
                Err(_) => json!({ "refused": format!("{question} took longer than {PATIENCE:?}: {}", here.how()) }),
            };
            println!("{answer}");
        }
    });
    // The nodes are not stopped in order, because some of their tasks would wait for that.
    std::process::exit(0)
}

struct Here {
    folder: PathBuf,
    net: u8,
    numbers: std::ops::Range<u16>,
    nodes: BTreeMap<u16, Handle>,
    missed: Missed,
}

impl Here {
    async fn answer(&mut self, question: &Value) -> Result<Value, String> {
        let number = |key: &str| question[key].as_u64().unwrap_or_default();
        let text = |key: &str| question[key].as_str().unwrap_or_default().to_owned();
        match question["ask"].as_str().unwrap_or_default() {
            "start" => self.start().await,
            "init" => self.init().await,
            "join" => self.join(text("token"), text("remote"), number("at_once")).await,
            "ready" => self.ready(number("nodes")).await,
            "linked" => self.linked(NodeId::from_str(&text("without")).ok()).await,
            "run" => self.run(number("replicas")).await,
            "write" => {
                write(&self.control()?).await;
                Ok(json!({}))
            }
            "leads" => {
                Ok(json!({ "leads": matches!(*self.control()?.store().leadership().borrow(), Leadership::Active(_)) }))
            }
            "known" => self.known(&ids(&question["lost"])).await,
            "elsewhere" => self.elsewhere(&ids(&question["lost"]), number("replicas")).await,
            "missed" => {
                let missed = self.missed.lock();
                Ok(json!({ "missed": missed.iter().map(ToString::to_string).collect::<Vec<_>>() }))
            }
            "ids" => Ok(json!({ "ids": self.ids()?.iter().map(ToString::to_string).collect::<Vec<_>>() })),
            other => Err(format!("there is no question {other:?}")),
        }
    }

    async fn start(&mut self) -> Result<Value, String> {
        for number in self.numbers.clone() {
            let clock = Arc::new(RealClock::new());
            let utc = Arc::clone(&clock);
            let machine = SimMachine::new(move || utc.utc());
            machine.set_delays(Duration::ZERO, Duration::ZERO);
            let disk = RealDisk::open(self.folder.join(format!("n{number}"))).map_err(|why| why.to_string())?;
            let env = Env {
                clock,
                seed: Seed::fresh(),
                disk: Arc::new(disk),
                network: Arc::new(QuicNetwork),
                build: Build::NEWEST,
            };
            let place = self.place(number);
            let settings = Settings {
                hostname: format!("n{number}"),
                listen: place.clone(),
                advertise: place,
                labels: Labels::default(),
                generic: essaim_model::GenericStock::default(),
                log: LogBounds::USUAL,
            };
            let parts = Parts {
                settings,
                engines: vec![machine.engine()],
                sockets: Arc::new(NoSockets),
                machine: Arc::new(NoMachine),
                faces: Vec::new(),
            };
            let handle = start(env, parts).await.map_err(|why| why.to_string())?;
            self.nodes.insert(number, handle);
        }
        Ok(json!({}))
    }

    async fn init(&mut self) -> Result<Value, String> {
        let place = self.place(self.numbers.start);
        let init = InitRequest { listen: place.clone(), advertise: place.clone(), ..InitRequest::default() };
        self.first()?.init(init).await.map_err(said)?;
        let state = self.control()?.read().await.map_err(said)?;
        let cluster = state.cluster().ok_or("no cluster was founded")?;
        let roots = Certificate::from_pem(&cluster.authority.certificate).map_err(|why| why.to_string())?;
        let token = |role| JoinToken::new(&roots[0], TokenSecret::from_bytes(*cluster.join.of(role))).to_string();
        self.watch()?;
        Ok(json!({ "worker": token(Role::Worker), "manager": token(Role::Manager), "remote": place }))
    }

    /// Joins all nodes of this crowd, `at_once` at a time, as an operator's tools do.
    async fn join(&mut self, token: String, remote: String, at_once: u64) -> Result<Value, String> {
        let at_once = usize::try_from(at_once.max(1)).unwrap_or(1);
        let joins = self.nodes.iter().map(|(number, node)| {
            let place = self.place(*number);
            let request = JoinRequest {
                listen: place.clone(),
                advertise: place,
                token: token.clone(),
                remotes: vec![remote.clone()],
                ..JoinRequest::default()
            };
            async move {
                let mut tries = JOIN_TRIES;
                loop {
                    match node.join(request.clone()).await.map_err(said) {
                        Err(why) if tries > 1 => eprintln!("  growth: a join is tried again: {why}"),
                        ended => return ended,
                    }
                    tries -= 1;
                }
            }
        });
        let mut joined = stream::iter(joins).buffer_unordered(at_once);
        while let Some(node) = joined.next().await {
            node?;
        }
        drop(joined);
        if self.control().is_ok() {
            self.watch()?;
        }
        Ok(json!({}))
    }

    /// Waits until this many nodes take tasks.
    async fn ready(&self, nodes: u64) -> Result<Value, String> {
        self.until(|state| state.nodes().filter(|node| node.is_ready()).count() as u64 >= nodes).await?;
        Ok(json!({}))
    }

    /// Waits until every node of this crowd is linked to a manager other than `without`.
    async fn linked(&self, without: Option<NodeId>) -> Result<Value, String> {
        for node in self.nodes.values() {
            let standing = node.standing();
            let mut linked = standing.membership().ok_or("it has no part in the cluster")?.worker.linked();
            linked.wait_for(|manager| manager.is_some() && *manager != without).await.map_err(|why| why.to_string())?;
        }
        Ok(json!({}))
    }

    /// Creates the service and waits until it runs; answers with the time taken and the bytes added to the log.
    async fn run(&self, replicas: u64) -> Result<Value, String> {
        let control = self.control()?;
        let (before, begun) = (control.store().log_written(), Instant::now());
        control.create_service(spec(u32::try_from(replicas).unwrap_or(u32::MAX))).await.map_err(said)?;
        self.until(|state| running(state, &BTreeSet::new()) >= replicas).await?;
        let took = begun.elapsed();
        Ok(json!({ "ms": took.as_secs_f64() * 1e3, "log": control.store().log_written() - before }))
    }

    /// Waits until the managers know that these nodes are lost.
    async fn known(&self, lost: &BTreeSet<NodeId>) -> Result<Value, String> {
        self.until(|state| are_known(state, lost)).await?;
        Ok(json!({}))
    }

    /// Waits until all tasks run on nodes that are not lost.
    async fn elsewhere(&self, lost: &BTreeSet<NodeId>, replicas: u64) -> Result<Value, String> {
        self.until(|state| running(state, lost) >= replicas).await?;
        Ok(json!({}))
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) -> Result<(), String> {
        let mut states = self.control()?.store().states();
        states.wait_for(|state| holds(state)).await.map(drop).map_err(|why| why.to_string())
    }

    /// Starts to note nodes that are recorded as not reachable.
    fn watch(&mut self) -> Result<(), String> {
        self.missed = watch(&self.control()?);
        Ok(())
    }

    fn ids(&self) -> Result<Vec<NodeId>, String> {
        let id = |node: &Handle| node.standing().membership().map(|part| part.node);
        self.nodes.values().map(|node| id(node).ok_or_else(|| "it has no part in the cluster".to_owned())).collect()
    }

    /// Numbers of nodes and tasks that the manager knows, for the error of a wait that was given up.
    fn how(&self) -> String {
        let Ok(control) = self.control() else { return "no manager".into() };
        let state = control.last_known();
        let ready = state.nodes().filter(|node| node.is_ready()).count();
        let (nodes, tasks) = (state.nodes().count(), running(&state, &BTreeSet::new()));
        format!("{nodes} nodes, {ready} of them ready, {tasks} tasks run, {} tasks known", state.tasks().count())
    }

    fn first(&self) -> Result<&Handle, String> {
        self.nodes.values().next().ok_or_else(|| "no node was started".into())
    }

    fn control(&self) -> Result<Control, String> {
        self.first()?.control().map_err(said)
    }

    fn place(&self, number: u16) -> String {
        let [high, low] = number.to_be_bytes();
        format!("{}:2377", IpAddr::from(Ipv4Addr::new(127, self.net, high, low)))
    }
}

/// Tries to write until a write is accepted.
pub(super) async fn write(control: &Control) {
    while touch(control).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn touch(control: &Control) -> Result<(), Refusal> {
    let state = control.last_known();
    let Some(service) = state.service_named(SERVICE) else { return Ok(()) };
    let (version, mut spec) = (service.meta.version, service.spec.clone());
    spec.labels = Labels::from([("touched".into(), version.0.to_string())]);
    control.update_service(service.id, version, spec).await
}

/// Nodes that were recorded as not reachable at any time.
pub(super) type Missed = Arc<Mutex<BTreeSet<NodeId>>>;

/// Starts to note nodes that are recorded as not reachable.
pub(super) fn watch(control: &Control) -> Missed {
    let missed = Missed::default();
    let (mut events, seen) = (control.events(control.last_known().applied().index), Arc::clone(&missed));
    tokio::spawn(async move {
        while let Ok(happened) = events.next().await {
            for event in happened.events.iter() {
                if let Event::Node { new: Some(node), .. } = event
                    && matches!(node.reachability, Reachability::Unreachable | Reachability::Down)
                {
                    seen.lock().insert(node.id);
                }
            }
        }
    });
    missed
}

fn said(refusal: Refusal) -> String {
    refusal.to_string()
}

fn ids(list: &Value) -> BTreeSet<NodeId> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|id| NodeId::from_str(id.as_str()?).ok()).collect()
}

/// Number of running tasks on nodes that are not lost.
pub(super) fn running(state: &State, lost: &BTreeSet<NodeId>) -> u64 {
    let counts = |node: Option<NodeId>| node.is_some_and(|node| !lost.contains(&node));
    state.tasks().filter(|task| task.is_running() && counts(task.node())).count() as u64
}

/// Whether the managers have marked every node in `lost` as not ready.
pub(super) fn are_known(state: &State, lost: &BTreeSet<NodeId>) -> bool {
    state.nodes().all(|node| !node.is_ready() || !lost.contains(&node.id))
}

/// A service whose tasks run at once and until they are stopped.
pub(super) fn spec(replicas: u32) -> ServiceSpec {
    essaim_model::fixtures::service(SERVICE, replicas)
}
