//! Clients of a run: they send requests at the same time, and together remember the answers.
//!
//! Each client sends one request at a time, to any manager that runs. The requests about each name of a service, config or
//! network are one history ([`history`](crate::testkit::history)): some order of all requests, in which each takes effect once
//! between its question and its answer, must explain every answer. Clients often act at the same moment and on the same
//! services, so that requests are concurrent. The requests about each node are a history in the same way. And every
//! answer must come in time, whatever fault is under way.
//!
//! Everything that a client sets carries labels that say which request created it and which changed it last, so that
//! two writes can be told apart in a read.

mod networks;

use crate::testkit::fault::Number;
use crate::testkit::history::{Answer, Ask, Object, Op, Value};
use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::keeper::KEPT;
use crate::testkit::levels::IMPATIENT;
use crate::testkit::nodes::Running;
use crate::testkit::options::Draws;
use crate::testkit::specs::{STEADY, change_a_part, is_stranded, pick, publish, simplify_ports, spec, try_an_image};
use crate::testkit::trace::Trace;
use essaim_manager::Control;
use essaim_model::service::ON_DISCONNECT_LABEL;
use essaim_model::service::labels::STICKY_LABEL;
use essaim_model::{
    Availability, ConfigSpec, FailureAction, Image, Labels, Mode, Network, Noun, Refusal, RefusalKind, Service,
    ServiceId, ServiceSpec, State, UpdateState,
};
use essaim_node::Handle;
use essaim_wire::{Generation, Index, NodeId, Role};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An answer that takes longer than this is a violation: a refusal for want of a quorum takes one second, a change that
/// cannot be confirmed takes a few more.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Number of names that services have: few, so that clients meet on the same service.
const NAMES: u32 = 6;

/// Probability that an update of a service that publishes ports publishes others instead.
const REPUBLISHED: f64 = 0.15;

/// Number of names that configs have.
const CONFIG_NAMES: u32 = 3;

/// Period of the run's beat. Clients act just before a beat, so that they often act at the same moment.
const BEAT: Duration = Duration::from_millis(200);

/// Time before a beat in which clients act: what two commits and a few round trips take.
const EARLY_MAX: Duration = Duration::from_millis(20);

/// Upper bound on a client's pause between two requests.
const PAUSE_MAX: Duration = Duration::from_millis(2_600);

/// Nodes that may be drained at the same time, so that tasks always have another node to go to.
const DRAINED_MAX: usize = 2;

/// Managers that remain at least: at this number no manager is demoted, so that one may fail.
const MANAGERS_MIN: usize = 3;

/// The node label that constraints of services ask for.
const ZONE: &str = "zone";

/// The labels that name the request which created an object, and the request which changed it last.
const CREATED: &str = "made";
const LAST: &str = "last";

/// The request that stands for the creation of the nodes, which no client asked for.
const NOBODY: Op = Op(0);

/// One client of a run. The other clients of the run are its [`fellows`](Self::fellow).
pub struct Client {
    number: u32,
    running: Running,
    ledger: SharedLedger,
    trace: Trace,
    rng: StdRng,
    /// Draws what services publish, so that runs with and without ports draw the same services.
    ports: StdRng,
    memory: Arc<Mutex<Memory>>,
    seed: u64,
    /// Whether this client promotes and demotes nodes.
    roles: bool,
    /// What this client draws beside plain services.
    pub(crate) draws: Draws,
    /// Number of changes that were acknowledged to this client.
    pub acknowledged: u64,
    /// Number of requests that this client sent.
    pub asked: u64,
}

/// The histories and open reads that the clients of a run share.
#[derive(Default)]
struct Memory {
    ops: u64,
    services: BTreeMap<String, Object>,
    configs: BTreeMap<String, Object>,
    networks: BTreeMap<String, Object>,
    nodes: BTreeMap<NodeId, Object>,
    /// Reads under way: an object whose first request comes meanwhile is part of these reads, too.
    reading: BTreeSet<Op>,
    /// The newest index that a read has shown: every read that begins from now on must be at least as new.
    read: Index,
}

/// A request under way. Boxed, because the compiler fails on the unboxed future's type.
type Request<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// The outcome of a request, as far as the client knows it.
enum Reply {
    Done,
    Refused(Refusal),
    /// The client cannot know whether the request took effect.
    Unknown(String),
}

/// The manager that a request is sent to, with the generation of its daemon.
struct Asked {
    number: Number,
    generation: Generation,
    control: Control,
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    Create,
    Scale,
    Update,
    RollBack,
    Remove,
    Drain,
    Activate,
    Label,
    Promote,
    Demote,
    CreateConfig,
    LabelConfig,
    RemoveConfig,
    Networks,
    Read,
}

impl Client {
    /// The first client of a run on these nodes.
    pub fn new(seed: u64, running: Running, ledger: SharedLedger, trace: Trace) -> Self {
        Self {
            number: 1,
            running,
            ledger,
            trace,
            rng: StdRng::seed_from_u64(seed ^ 0x636c_6965),
            ports: StdRng::seed_from_u64(seed ^ 0x706f_7274),
            memory: Arc::default(),
            seed,
            roles: false,
            draws: Draws::NONE,
            acknowledged: 0,
            asked: 0,
        }
    }

    /// Another client of the same run, numbered from 2, that shares the memory of this one.
    pub(crate) fn fellow(&self, number: u32) -> Self {
        let rng = StdRng::seed_from_u64(self.seed ^ 0x636c_6965 ^ u64::from(number) << 40);
        Self {
            number,
            rng,
            ports: StdRng::seed_from_u64(self.seed ^ 0x706f_7274 ^ u64::from(number) << 40),
            running: Arc::clone(&self.running),
            ledger: Arc::clone(&self.ledger),
            trace: self.trace.clone(),
            memory: Arc::clone(&self.memory),
            roles: false,
            acknowledged: 0,
            asked: 0,
            ..*self
        }
    }

    /// Lets this client promote and demote nodes from now on.
    pub(crate) const fn change_roles(&mut self) {
        self.roles = true;
    }

    /// Sends one request after the other until `stop` is set.
    pub(crate) async fn work(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.pause().await;
            let wish = match self.rng.random_range(0..110u8) {
                0..16 => Choice::Create,
                16..36 => Choice::Scale,
                36..39 if self.draws.containers => Choice::RollBack,
                36..50 => Choice::Update,
                50..58 => Choice::Remove,
                58..65 if self.number == 1 => Choice::Drain,
                65..73 if self.number == 1 => Choice::Activate,
                73..76 if self.number == 1 => Choice::Label,
                76..81 if self.roles => Choice::Promote,
                81..86 if self.roles => Choice::Demote,
                86..89 => Choice::CreateConfig,
                89..93 => Choice::LabelConfig,
                93..95 => Choice::RemoveConfig,
                100..110 => Choice::Networks,
                _ => Choice::Read,
            };
            self.ask(wish).await;
        }
        self
    }

    /// Sends one update of a service.
    pub(crate) async fn write_once(mut self) {
        self.ask(Choice::Update).await;
    }

    /// Waits until shortly before a beat of the run's clock: faults begin and end on the beat, and so find requests
    /// under way.
    async fn pause(&mut self) {
        let now = self.trace.elapsed();
        let until = now + self.rng.random_range(EARLY_MAX..PAUSE_MAX);
        let beats = until.as_millis() / BEAT.as_millis() + 1;
        let beat = BEAT * u32::try_from(beats).unwrap_or(u32::MAX);
        let early = self.rng.random_range(Duration::ZERO..EARLY_MAX);
        sleep((beat - early).saturating_sub(now)).await;
    }

    /// Creates a service through this manager, and returns its name.
    pub async fn create(&mut self, control: &Control, replicas: u32) -> Result<String, Refusal> {
        let name = (1..).map(|number| format!("s{number}")).find(|name| !self.memory().services.contains_key(name));
        let name = name.expect("there are more numbers than services");
        let op = self.memory().begin(&name, Ask::Create);
        let mut spec = spec(&mut self.rng, &name, Mode::Replicated { replicas }, made_by(op), self.draws.containers);
        // A cluster whose programs are mixed refuses the label, and those of ports.
        spec.labels.remove(STICKY_LABEL);
        if self.draws.ports {
            publish(&mut self.ports, &mut spec);
            simplify_ports(&mut spec);
        }
        let created = control.create_service(spec).await;
        let answer = match &created {
            Ok(_) => Reply::Done,
            Err(why) => Reply::Unknown(why.to_string()),
        };
        self.acknowledged += u64::from(created.is_ok());
        self.learn(&name, op, answer);
        created.map(|_| name)
    }

    async fn ask(&mut self, wish: Choice) {
        let Some(asked) = self.somebody() else { return };
        self.asked += 1;
        match wish {
            Choice::Read => drop(self.read(&asked).await),
            Choice::Create => {
                let name = format!("s{}", self.rng.random_range(1..=NAMES));
                let replicas = self.rng.random_range(1..9);
                let mode = match () {
                    () if self.rng.random_bool(0.15) => Mode::Global,
                    () if self.draws.containers && self.rng.random_bool(0.2) => Mode::ReplicatedJob {
                        concurrent_max: Some(self.rng.random_range(1..4)),
                        completions: Some(self.rng.random_range(1..7)),
                    },
                    () if self.draws.containers && self.rng.random_bool(0.05) => Mode::GlobalJob,
                    () => Mode::Replicated { replicas },
                };
                let op = self.memory().begin(&name, Ask::Create);
                let mut spec = spec(&mut self.rng, &name, mode, made_by(op), self.draws.containers);
                if self.rng.random_bool(0.25) {
                    spec.labels.insert(ON_DISCONNECT_LABEL.into(), "stop".into());
                } else if self.draws.ports && !mode.is_job() {
                    // A task that ends without a manager is told to end by one daemon, and may be wanted by the next one.
                    publish(&mut self.ports, &mut spec);
                }
                let created: Request<'_> = Box::pin(async { asked.control.create_service(spec).await.map(drop) });
                let answer = self.answer(&asked, &format!("{op} create {name}"), created).await;
                self.learn(&name, op, answer);
            }
            Choice::Scale | Choice::Update | Choice::RollBack | Choice::Remove => {
                self.change_service(&asked, wish).await
            }
            Choice::Drain | Choice::Activate | Choice::Label | Choice::Promote | Choice::Demote => {
                self.change_node(&asked, wish).await
            }
            Choice::CreateConfig => {
                let name = format!("c{}", self.rng.random_range(1..=CONFIG_NAMES));
                let op = self.memory().begin_config(&name, Ask::Create);
                let labels = made_by(op);
                let spec = ConfigSpec { name: name.clone(), labels, data: op.0.to_be_bytes().as_slice().into() };
                let created: Request<'_> = Box::pin(async { asked.control.create_object(spec).await.map(drop) });
                let answer = self.answer(&asked, &format!("{op} create config {name}"), created).await;
                self.learn_config(&name, op, answer);
            }
            Choice::LabelConfig | Choice::RemoveConfig => self.change_config(&asked, wish).await,
            Choice::Networks => self.change_networks(&asked).await,
        }
    }

    async fn change_service(&mut self, asked: &Asked, wish: Choice) {
        let Some(state) = self.read(asked).await else { return };
        let there: Vec<_> = state.services().filter(|it| !it.spec.name.as_str().starts_with(KEPT)).cloned().collect();
        let Some(service) = pick(&mut self.rng, &there) else { return };
        let Some(was) = value_of_service(service) else { return };
        let (id, version, mut spec) = (service.id, service.meta.version, service.spec.clone());
        let name = spec.name.as_str().to_owned();
        let (what, ask) = match (wish, &mut spec.mode) {
            (Choice::Remove, _) => (format!("remove {name}"), Ask::Remove(was.created)),
            (Choice::RollBack, _) => {
                let Some(to) = value_after_rollback(service) else { return };
                (format!("roll {name} back"), Ask::GoBack(was, to))
            }
            (Choice::Scale, Mode::Replicated { replicas }) => {
                // Scaling to zero and back tests slots whose old task is still ending.
                *replicas = if self.rng.random_bool(0.2) { 0 } else { self.rng.random_range(1..12) };
                (format!("scale {name} to {replicas}"), Ask::Update(was))
            }
            _ => {
                let tries =
                    self.draws.containers && self.draws.failing && !spec.mode.is_job() && self.rng.random_bool(0.3);
                let republishes = self.draws.ports && spec.endpoint.is_some() && self.ports.random_bool(REPUBLISHED);
                let what = match tries {
                    _ if republishes => publish(&mut self.ports, &mut spec),
                    true => try_an_image(&mut self.rng, &mut spec),
                    false => change_a_part(&mut self.rng, &mut spec, self.draws.containers),
                };
                (format!("update {name}: {what}"), Ask::Update(was))
            }
        };
        let op = self.memory().begin(&name, ask);
        spec.labels.insert(LAST.into(), op.0.to_string());
        let rolls_back = spec.update.as_ref().is_some_and(|it| it.failure_action == FailureAction::Rollback);
        if matches!(ask, Ask::Update(_)) && rolls_back {
            self.memory().may_roll_back(&name, op, was);
        }
        let change: Request<'_> = Box::pin(async {
            match ask {
                Ask::Remove(_) => asked.control.remove_service(id).await,
                Ask::GoBack(..) => asked.control.rollback_service(id, version).await,
                _ => asked.control.update_service(id, version, spec).await,
            }
        });
        let answer = self.answer(asked, &format!("{op} {what}"), change).await;
        self.learn(&name, op, answer);
    }

    /// Gives every service that cannot come to rest by itself a spec that can, as an operator does in the end: its image
    /// is broken, or its update is paused. Returns what is still to be mended.
    pub(crate) async fn mend(&mut self, stranded: &mut BTreeMap<ServiceId, Index>) -> Option<usize> {
        let asked = self.somebody()?;
        let state = self.read(&asked).await?;
        let is_ours = |service: &&Arc<Service>| !service.spec.name.as_str().starts_with(KEPT);
        let broken = state.services().filter(|service| is_stranded(service)).filter(is_ours);
        let broken: Vec<_> = broken.cloned().collect();
        for service in &broken {
            if stranded.insert(service.id, service.meta.version) == Some(service.meta.version) {
                continue;
            }
            let Some(was) = value_of_service(service) else { continue };
            let mut spec = service.spec.clone();
            let name = spec.name.as_str().to_owned();
            spec.task.container.image = Image::parse(STEADY).expect("an image");
            let op = self.memory().begin(&name, Ask::Update(was));
            spec.labels.insert(LAST.into(), op.0.to_string());
            spec.update.get_or_insert_default().failure_action = FailureAction::Continue;
            let change: Request<'_> =
                Box::pin(async { asked.control.update_service(service.id, service.meta.version, spec).await });
            let answer = self.answer(&asked, &format!("{op} mend {name}"), change).await;
            if !matches!(answer, Reply::Done) {
                stranded.remove(&service.id);
            }
            self.learn(&name, op, answer);
        }
        Some(broken.len())
    }

    async fn change_config(&mut self, asked: &Asked, wish: Choice) {
        let Some(state) = self.read(asked).await else { return };
        let there: Vec<_> = state.all::<ConfigSpec>().filter(|it| !it.spec.name.starts_with(KEPT)).cloned().collect();
        let Some(config) = pick(&mut self.rng, &there) else { return };
        let Some(was) = value(&config.spec.labels) else { return };
        let (id, version, mut spec) = (config.id, config.meta.version, config.spec.clone());
        let name = spec.name.clone();
        let (what, ask) = match wish {
            Choice::RemoveConfig => ("remove", Ask::Remove(was.created)),
            _ => ("label", Ask::Update(was)),
        };
        let op = self.memory().begin_config(&name, ask);
        spec.labels.insert(LAST.into(), op.0.to_string());
        let change: Request<'_> = Box::pin(async {
            match ask {
                Ask::Remove(_) => asked.control.remove_object::<ConfigSpec>(id).await,
                _ => asked.control.update_object(id, version, spec).await,
            }
        });
        let answer = self.answer(asked, &format!("{op} {what} config {name}"), change).await;
        self.learn_config(&name, op, answer);
    }

    async fn change_node(&mut self, asked: &Asked, wish: Choice) {
        let Some(state) = self.read(asked).await else { return };
        let all: Vec<_> = state.nodes().cloned().collect();
        let Some(node) = pick(&mut self.rng, &all) else { return };
        let before = (node.spec.availability, node.spec.role);
        let wanted = match wish {
            Choice::Drain => (Availability::Drain, before.1),
            Choice::Activate => (Availability::Active, before.1),
            Choice::Promote => (before.0, Role::Manager),
            _ => (before.0, Role::Worker),
        };
        let drained = all.iter().filter(|node| node.spec.availability == Availability::Drain).count();
        let managers = all.iter().filter(|node| node.spec.role == Role::Manager).count();
        let zone = match wish {
            Choice::Label => Some(pick(&mut self.rng, &["", "a", "b"]).copied().unwrap_or_default()),
            _ => None,
        };
        if wanted == before && zone.is_none()
            || wanted.0 == Availability::Drain && drained >= DRAINED_MAX
            || wanted.1 < before.1 && managers <= MANAGERS_MIN
        {
            return;
        }
        let mut spec = node.spec.clone();
        (spec.availability, spec.role) = wanted;
        match zone {
            Some("") => drop(spec.labels.remove(ZONE)),
            Some(zone) => drop(spec.labels.insert(ZONE.into(), zone.into())),
            None => (),
        }
        let op = self.memory().begin_node(node.id, &node.name(), Ask::Update(value_of_node(&node.spec.labels)));
        spec.labels.insert(LAST.into(), op.0.to_string());
        let zone = zone.map_or_else(String::new, |zone| format!(", in zone {zone:?}"));
        let what = format!("{op} {} is to be {} and {}{zone}", node.name(), wanted.0, wanted.1);
        let change = Box::pin(asked.control.update_node(node.id, node.meta.version, spec));
        let answer = match self.answer(asked, &what, change).await {
            // The node left and its record was removed, which no client asked for.
            Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Reply::Unknown(refusal.text),
            answer => answer,
        };
        let mut memory = self.memory();
        let explained = memory.nodes.get_mut(&node.id).and_then(|object| learn(object, op, answer));
        drop(memory);
        self.violated(explained);
    }

    /// Reads the state, and compares it with the answers so far.
    async fn read(&mut self, asked: &Asked) -> Option<Arc<State>> {
        let mut found = None;
        let (op, newest) = self.memory().begin_read();
        let read: Request<'_> = Box::pin(async {
            found = Some(asked.control.read().await?);
            Ok(())
        });
        let answer = self.answer(asked, "read", read).await;
        match (answer, found) {
            (Reply::Done, Some(state)) => {
                self.see(asked.number, op, newest, &state);
                Some(state)
            }
            _ => {
                self.memory().lose_read(op);
                None
            }
        }
    }

    /// Compares a state with the answers so far, as a read that was asked and answered just now.
    pub(crate) fn compare(&self, number: Number, state: &State) {
        let (op, newest) = self.memory().begin_read();
        self.see(number, op, newest, state);
    }

    /// Records what a read shows. It must fit the answers so far, and be no older than a read that ended before it
    /// began.
    fn see(&self, number: Number, op: Op, newest: Index, state: &State) {
        let mut memory = self.memory();
        let mut wrong = Vec::new();
        let index = state.applied().index;
        if index < newest {
            wrong.push(format!("a read of n{number} shows index {}, an earlier one showed {}", index.0, newest.0));
        }
        memory.read = memory.read.max(index);
        memory.reading.remove(&op);
        for (name, object) in &mut memory.services {
            let shown = state.service_named(name).map(|service| value_of_service(service));
            match shown {
                Some(None) => wrong.push(format!("service {name} is not what any client asked for")),
                Some(Some(value)) => wrong.extend(object.answer(op, Answer::Saw(Some(value))).err()),
                None => wrong.extend(object.answer(op, Answer::Saw(None)).err()),
            }
        }
        let stranger = |name: &&str| !memory.services.contains_key(*name) && !name.starts_with(KEPT);
        let strangers = state.services().map(|service| service.spec.name.as_str()).filter(stranger);
        wrong.extend(strangers.map(|name| format!("nobody asked for service {name}")));
        for (name, object) in &mut memory.configs {
            let found = state.object_named::<ConfigSpec>(name);
            let shown = found.map(|config| value(&config.spec.labels).filter(|value| is_as_made(&config.spec, *value)));
            match shown {
                Some(None) => wrong.push(format!("config {name} is not what any client asked for")),
                Some(Some(value)) => wrong.extend(object.answer(op, Answer::Saw(Some(value))).err()),
                None => wrong.extend(object.answer(op, Answer::Saw(None)).err()),
            }
        }
        let foreign = |name: &str| [IMPATIENT, KEPT].iter().any(|prefix| name.starts_with(prefix));
        let stranger = |name: &&str| !memory.configs.contains_key(*name) && !foreign(name);
        let strangers = state.all::<ConfigSpec>().map(|config| config.spec.name.as_str()).filter(stranger);
        wrong.extend(strangers.map(|name| format!("nobody asked for config {name}")));
        for (name, object) in &mut memory.networks {
            let shown = state.object_named::<Network>(name).map(|network| value(network.spec.labels()));
            match shown {
                Some(None) => wrong.push(format!("network {name} is not what any client asked for")),
                shown => wrong.extend(object.answer(op, Answer::Saw(shown.flatten())).err()),
            }
        }
        // The founding of a cluster makes the network of published ports.
        let stranger = |it: &&Network| !it.asked.ingress && !memory.networks.contains_key(it.name());
        let strangers = state.all::<Network>().map(|network| &network.spec).filter(stranger);
        wrong.extend(strangers.map(|network| format!("nobody asked for network {}", network.name())));
        for (id, object) in &mut memory.nodes {
            match state.node(*id) {
                Some(node) => {
                    wrong.extend(object.answer(op, Answer::Saw(Some(value_of_node(&node.spec.labels)))).err())
                }
                // The node left and its record was removed, which no client asked for.
                None => object.lost(op),
            }
        }
        drop(memory);
        self.violated(wrong.into_iter().map(|why| format!("by n{number} at index {}: {why}", index.0)));
    }

    /// Records the outcome of a request about a service.
    fn learn(&self, name: &str, op: Op, answer: Reply) {
        let mut memory = self.memory();
        let explained = memory.services.get_mut(name).and_then(|object| learn(object, op, answer));
        drop(memory);
        self.violated(explained);
    }

    /// Records the outcome of a request about a config.
    fn learn_config(&self, name: &str, op: Op, answer: Reply) {
        let mut memory = self.memory();
        let explained = memory.configs.get_mut(name).and_then(|object| learn(object, op, answer));
        drop(memory);
        self.violated(explained);
    }

    fn violated(&self, wrong: impl IntoIterator<Item = String>) {
        let wrong = wrong.into_iter().map(|why| format!("no order of the requests explains the answers: {why}"));
        lock(&self.ledger).violations.extend(wrong);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    async fn answer(&mut self, asked: &Asked, what: &str, request: Request<'_>) -> Reply {
        let number = asked.number;
        let answer = match timeout(ANSWER_MAX, request).await {
            Ok(Ok(())) => Reply::Done,
            Ok(Err(refusal)) => match refusal.kind {
                RefusalKind::Unknown | RefusalKind::NoQuorum | RefusalKind::Internal => Reply::Unknown(refusal.text),
                _ => Reply::Refused(refusal),
            },
            Err(_) => {
                if self.is_same(number, asked.generation) {
                    lock(&self.ledger).violated(format!("n{number} did not answer within {ANSWER_MAX:?}: {what}"));
                }
                Reply::Unknown("no answer".into())
            }
        };
        let text = match &answer {
            Reply::Done => "done".to_owned(),
            Reply::Refused(refusal) => format!("refused: {}", refusal.text),
            Reply::Unknown(why) => format!("unknown: {why}"),
        };
        if matches!(answer, Reply::Done) && what != "read" {
            self.acknowledged += 1;
        }
        self.trace.note(format!("client{}", self.number), format_args!("{what} (n{number}): {text}"));
        answer
    }

    /// Whether the daemon that was asked still runs.
    fn is_same(&self, number: Number, generation: Generation) -> bool {
        let running = self.running.lock();
        running.get(&number).is_some_and(|handle| handle.generation() == generation)
    }

    fn somebody(&mut self) -> Option<Asked> {
        let running = self.running.lock();
        let all: Vec<(Number, Handle)> = running.iter().map(|(number, handle)| (*number, handle.clone())).collect();
        drop(running);
        // The nodes that can answer, as a client with several addresses finds them.
        let manages = |(number, handle): (Number, Handle)| {
            let generation = handle.generation();
            handle.control().ok().map(|control| (number, generation, control))
        };
        let managers: Vec<_> = all.into_iter().filter_map(manages).collect();
        let (number, generation, control) = pick(&mut self.rng, &managers).cloned()?;
        Some(Asked { number, generation, control })
    }
}

impl Memory {
    fn next(&mut self) -> Op {
        self.ops += 1;
        Op(self.ops)
    }

    /// Begins a request about a service.
    fn begin(&mut self, name: &str, ask: Ask) -> Op {
        let op = self.next();
        begin_named(&mut self.services, &self.reading, name, op, ask);
        op
    }

    /// Notes that the service may be rolled back by itself from the value that this update gives it.
    fn may_roll_back(&mut self, name: &str, update: Op, was: Value) {
        let op = self.next();
        let Some(object) = self.services.get_mut(name) else { return };
        let from = Value { last: update, back: false, ..was };
        object.ask(op, Ask::RollBack(from, Value { back: true, ..was }));
        object.lost(op);
    }

    /// Begins a request about a config.
    fn begin_config(&mut self, name: &str, ask: Ask) -> Op {
        let op = self.next();
        begin_named(&mut self.configs, &self.reading, name, op, ask);
        op
    }

    /// Begins a request about a network.
    fn begin_network(&mut self, name: &str, ask: Ask) -> Op {
        let op = self.next();
        begin_named(&mut self.networks, &self.reading, name, op, ask);
        op
    }

    /// Begins a request about a node.
    fn begin_node(&mut self, node: NodeId, name: &str, ask: Ask) -> Op {
        let op = self.next();
        let object = self.nodes.entry(node).or_insert_with(|| {
            let mut object = Object::with(name, Value { created: NOBODY, last: NOBODY, back: false });
            self.reading.iter().for_each(|read| object.ask(*read, Ask::Read));
            object
        });
        object.ask(op, ask);
        op
    }

    /// Begins a read of everything. Returns the request and the index that the read must at least show.
    fn begin_read(&mut self) -> (Op, Index) {
        let op = self.next();
        self.reading.insert(op);
        self.objects().for_each(|object| object.ask(op, Ask::Read));
        (op, self.read)
    }

    fn lose_read(&mut self, op: Op) {
        self.reading.remove(&op);
        self.objects().for_each(|object| object.lost(op));
    }

    fn objects(&mut self) -> impl Iterator<Item = &mut Object> {
        let named = self.services.values_mut().chain(self.configs.values_mut()).chain(self.networks.values_mut());
        named.chain(self.nodes.values_mut())
    }
}

/// Begins a request about a named object. An object's first request joins the reads under way, which may already show
/// the object.
fn begin_named(objects: &mut BTreeMap<String, Object>, reading: &BTreeSet<Op>, name: &str, op: Op, ask: Ask) {
    let object = objects.entry(name.to_owned()).or_insert_with(|| {
        let mut object = Object::new(name);
        reading.iter().for_each(|read| object.ask(*read, Ask::Read));
        object
    });
    object.ask(op, ask);
}

/// Whether a config still holds the data that the request which created it set: an update changes labels only.
fn is_as_made(spec: &ConfigSpec, value: Value) -> bool {
    *spec.data == value.created.0.to_be_bytes()
}

/// Records the outcome of a request in the object's history. Returns why no order of the requests explains it, if so.
fn learn(object: &mut Object, op: Op, answer: Reply) -> Option<String> {
    let explained = match answer {
        Reply::Done => object.answer(op, Answer::Done),
        Reply::Refused(refusal) => match refusal.kind {
            RefusalKind::AlreadyExists => object.answer(op, Answer::Exists),
            RefusalKind::NotFound => object.answer(op, Answer::NotFound),
            RefusalKind::OutOfSequence => object.answer(op, Answer::Changed),
            _ => object.refused(op),
        },
        Reply::Unknown(_) => {
            object.lost(op);
            Ok(())
        }
    };
    explained.err()
}

/// The labels of what this request creates.
fn made_by(op: Op) -> Labels {
    Labels::from([CREATED, LAST].map(|label| (label.to_owned(), op.0.to_string())))
}

/// The history's value of a node, from the label that names the request which changed it last.
fn value_of_node(labels: &Labels) -> Value {
    let last = labels.get(LAST).and_then(|number| number.parse().ok()).map_or(NOBODY, Op);
    Value { created: NOBODY, last, back: false }
}

/// The history's value of a service or config, from the labels that name the requests which created and last changed
/// it.
fn value(labels: &Labels) -> Option<Value> {
    let op = |label: &str| labels.get(label).and_then(|number| number.parse().ok()).map(Op);
    Some(Value { created: op(CREATED)?, last: op(LAST)?, back: false })
}

/// The history's value of a service. The status of its update says whether it was rolled back since it was changed.
fn value_of_service(service: &Service) -> Option<Value> {
    let state = service.update.as_ref().map(|update| update.state);
    let back = matches!(
        state,
        Some(UpdateState::RollbackStarted | UpdateState::RollbackPaused | UpdateState::RollbackCompleted)
    );
    value(&service.spec.labels).map(|value| Value { back, ..value })
}

/// The history's value of a service after a rollback to its previous spec. `None` when there is none, or when its status
/// may not show the rollback: a job has no such status, and neither has a rollback that replaces no task, unless an update
/// goes on. Whether one goes on does not change the version, so a request cannot depend on it.
fn value_after_rollback(service: &Service) -> Option<Value> {
    let (_, previous) = service.previous.as_ref().filter(|_| service.job.is_none())?;
    let (spec, places) = (&service.spec, |spec: &ServiceSpec| spec.task.placement());
    let replaces = !Service::same_task(spec, previous) || places(spec) != places(previous);
    value(&previous.labels).filter(|_| replaces).map(|value| Value { back: true, ..value })
}
