//! An operator: asks for things throughout, and remembers what was promised.
//!
//! It asks one thing at a time, of any node that runs. An answer of "done" is a promise that every later read must
//! keep, whichever manager answers it; an answer of "unknown" (and the silence of a node that was killed meanwhile)
//! means that either may be true until a read has shown one of them. What is refused for a reason changed nothing.
//! And every answer comes in time, whatever is wrong.

use crate::testkit::fault::Number;
use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::trace::Trace;
use crate::testkit::world::Running;
use essaim_manager::Control;
use essaim_model::{
    Availability, ContainerSpec, FailureAction, Kind, Labels, Mode, Name, Refusal, ServiceSpec, State, TaskSpec,
    UpdateConfig, UpdateOrder,
};
use essaim_node::Handle;
use essaim_wire::{Generation, Index, NodeId, Role};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An answer that takes longer than this is a violation: a refusal for want of a quorum takes one second, a change
/// that cannot be confirmed a few more.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// So many services at most: what five machines are for.
const SERVICES_MAX: usize = 5;

/// So many nodes at most give their tasks away, so that there is always somewhere to go.
const DRAINED_MAX: usize = 2;

/// It demotes nobody below this, so that one manager may fail.
const MANAGERS_MIN: usize = 3;

/// What the client remembers.
pub struct Client {
    running: Running,
    ledger: SharedLedger,
    trace: Trace,
    rng: StdRng,
    services: BTreeMap<String, Kept<Option<ServiceSpec>>>,
    nodes: BTreeMap<NodeId, Kept<(Availability, Role)>>,
    /// Whether it promotes and demotes.
    roles: bool,
    created: u32,
    /// Whatever was read later must be at least as new.
    read: Index,
    /// How many changes were acknowledged, and how many requests were asked.
    pub acknowledged: u64,
    /// How many requests were asked.
    pub asked: u64,
}

/// Something that was promised, and what may be true instead.
#[derive(Debug)]
struct Kept<T> {
    certain: T,
    maybe: Vec<T>,
}

/// A request under way. Boxed: the compiler loses its way in what is behind one.
type Request<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// What became of a request.
enum Answer {
    Done,
    Refused(Refusal),
    /// Nobody can tell.
    Unknown(String),
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Create,
    Scale,
    Update,
    Remove,
    Drain,
    Activate,
    Promote,
    Demote,
    Read,
}

impl Client {
    /// A client of these nodes.
    pub fn new(seed: u64, running: Running, ledger: SharedLedger, trace: Trace) -> Self {
        Self {
            running,
            ledger,
            trace,
            rng: StdRng::seed_from_u64(seed ^ 0x636c_6965),
            services: BTreeMap::new(),
            nodes: BTreeMap::new(),
            roles: false,
            created: 0,
            read: Index(0),
            acknowledged: 0,
            asked: 0,
        }
    }

    /// From now on it promotes and demotes too.
    pub const fn change_roles(&mut self) {
        self.roles = true;
    }

    /// Asks for one thing after the other until it is told to stop.
    pub async fn work(mut self, stop: Arc<std::sync::atomic::AtomicBool>) -> Self {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let pause = self.rng.random_range(100..1_500);
            sleep(Duration::from_millis(pause)).await;
            let wish = match self.rng.random_range(0..100u8) {
                0..15 => Wish::Create,
                15..35 => Wish::Scale,
                35..48 => Wish::Update,
                48..54 => Wish::Remove,
                54..62 => Wish::Drain,
                62..72 => Wish::Activate,
                72..77 if self.roles => Wish::Promote,
                77..82 if self.roles => Wish::Demote,
                _ => Wish::Read,
            };
            self.ask(wish).await;
        }
        self
    }

    /// Creates a service, on a node of one's choice.
    pub async fn create(&mut self, control: &Control, replicas: u32) -> Result<String, Refusal> {
        self.created += 1;
        let name = format!("s{}", self.created);
        let spec = spec(&mut self.rng, &name, Mode::Replicated { replicas });
        control.create_service(spec.clone()).await?;
        self.services.insert(name.clone(), Kept { certain: Some(spec), maybe: Vec::new() });
        self.acknowledged += 1;
        Ok(name)
    }

    async fn ask(&mut self, wish: Wish) {
        let Some((number, handle)) = self.somebody() else { return };
        let Ok(control) = handle.control() else { return };
        self.asked += 1;
        let generation = handle.generation();
        drop(handle);
        match wish {
            Wish::Read => self.look(number, generation, &control).await,
            Wish::Create => {
                if self.services.values().filter(|kept| kept.certain.is_some()).count() < SERVICES_MAX {
                    self.created += 1;
                    let name = format!("s{}", self.created);
                    let replicas = self.rng.random_range(1..9);
                    let global = self.rng.random_bool(0.15);
                    let mode = if global { Mode::Global } else { Mode::Replicated { replicas } };
                    let spec = spec(&mut self.rng, &name, mode);
                    self.services.insert(name.clone(), Kept { certain: None, maybe: Vec::new() });
                    let created: Request<'_> = Box::pin(async { control.create_service(spec.clone()).await.map(drop) });
                    let answer = self.answer(number, generation, &format!("create {name}"), created).await;
                    self.remember_service(&name, Some(spec), answer);
                }
            }
            Wish::Scale | Wish::Update | Wish::Remove => self.change_service(number, generation, &control, wish).await,
            Wish::Drain | Wish::Activate | Wish::Promote | Wish::Demote => {
                self.change_node(number, generation, &control, wish).await
            }
        }
    }

    async fn change_service(&mut self, number: Number, generation: Generation, control: &Control, wish: Wish) {
        let there: Vec<String> = self
            .services
            .iter()
            .filter(|(_, kept)| kept.certain.is_some() && kept.maybe.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        let Some(name) = pick(&mut self.rng, &there).cloned() else { return };
        let Some(state) = self.read(number, generation, control).await else { return };
        let Some(service) = state.service_named(&name) else { return };
        let (id, version, mut spec) = (service.id, service.meta.version, service.spec.clone());
        let (what, wanted) = match wish {
            Wish::Remove => (format!("remove {name}"), None),
            Wish::Scale => {
                let Mode::Replicated { replicas } = &mut spec.mode else { return };
                *replicas = self.rng.random_range(0..12);
                (format!("scale {name} to {replicas}"), Some(spec))
            }
            _ => {
                spec.task.force_update += 1;
                (format!("update {name}"), Some(spec))
            }
        };
        let change: Request<'_> = Box::pin(async {
            match wanted.clone() {
                Some(spec) => control.update_service(id, version, spec).await,
                None => control.remove_service(id).await,
            }
        });
        let answer = self.answer(number, generation, &what, change).await;
        self.remember_service(&name, wanted, answer);
    }

    async fn change_node(&mut self, number: Number, generation: Generation, control: &Control, wish: Wish) {
        let Some(state) = self.read(number, generation, control).await else { return };
        let all: Vec<_> = state.nodes().cloned().collect();
        let Some(node) = pick(&mut self.rng, &all) else { return };
        let before = (node.spec.availability, node.spec.role);
        let wanted = match wish {
            Wish::Drain => (Availability::Drain, before.1),
            Wish::Activate => (Availability::Active, before.1),
            Wish::Promote => (before.0, Role::Manager),
            _ => (before.0, Role::Worker),
        };
        let may_be = |what: &dyn Fn(&(Availability, Role)) -> bool| {
            self.nodes.values().filter(|kept| what(&kept.certain) || kept.maybe.iter().any(what)).count()
        };
        let drained = may_be(&|(availability, _)| *availability == Availability::Drain);
        let managers = state.nodes().filter(|node| node.spec.role == Role::Manager).count();
        if wanted == before
            || wanted.0 == Availability::Drain && drained >= DRAINED_MAX
            || wanted.1 < before.1 && managers <= MANAGERS_MIN
        {
            return;
        }
        let mut spec = node.spec.clone();
        (spec.availability, spec.role) = wanted;
        let what = format!("{} is to be {} and {}", node.name(), wanted.0, wanted.1);
        let change = Box::pin(control.update_node(node.id, node.meta.version, spec));
        let answer = self.answer(number, generation, &what, change).await;
        self.nodes.entry(node.id).or_insert(Kept { certain: before, maybe: Vec::new() }).learn(wanted, &answer);
    }

    fn remember_service(&mut self, name: &str, wanted: Option<ServiceSpec>, answer: Answer) {
        if let Some(kept) = self.services.get_mut(name) {
            kept.learn(wanted, &answer);
        }
    }

    /// Reads, and compares with what was promised.
    async fn look(&mut self, number: Number, generation: Generation, control: &Control) {
        let _ = self.read(number, generation, control).await;
    }

    async fn read(&mut self, number: Number, generation: Generation, control: &Control) -> Option<Arc<State>> {
        let mut found = None;
        let read: Request<'_> = Box::pin(async {
            found = Some(control.read().await?);
            Ok(())
        });
        match self.answer(number, generation, "read", read).await {
            Answer::Done => {
                let state = found?;
                self.compare(number, &state);
                Some(state)
            }
            Answer::Refused(_) | Answer::Unknown(_) => None,
        }
    }

    /// A read shows what was promised, and nothing older than an earlier read.
    pub fn compare(&mut self, number: Number, state: &State) {
        let mut wrong = Vec::new();
        let index = state.applied().index;
        if index < self.read {
            wrong.push(format!("a read of n{number} shows index {}, an earlier one showed {}", index.0, self.read.0));
        }
        self.read = self.read.max(index);
        for (name, kept) in &mut self.services {
            let seen = state.service_named(name).map(|service| service.spec.clone());
            let text = |spec: &Option<ServiceSpec>| match spec {
                Some(spec) => format!("{:?} update {}", spec.mode, spec.task.force_update),
                None => "gone".into(),
            };
            let shown = text(&seen);
            let promised = text(&kept.certain);
            if !kept.sees(seen) {
                wrong.push(format!("service {name} was promised as {promised}, and n{number} shows it as {shown}"));
            }
        }
        for (id, kept) in &mut self.nodes {
            let Some(node) = state.node(*id) else {
                wrong.push(format!("node {id} is gone"));
                continue;
            };
            let promised = kept.certain;
            let shown = (node.spec.availability, node.spec.role);
            if !kept.sees(shown) {
                wrong.push(format!(
                    "{} was promised as {promised:?}, and n{number} shows it at index {} as {shown:?} (of {})",
                    node.name(),
                    index.0,
                    node.meta.version.0
                ));
            }
        }
        let known: BTreeSet<&str> = self.services.keys().map(String::as_str).collect();
        for service in state.services().filter(|service| !known.contains(service.spec.name.as_str())) {
            wrong.push(format!("nobody asked for service {}", service.spec.name));
        }
        lock(&self.ledger).violations.extend(wrong);
    }

    async fn answer(&mut self, number: Number, generation: Generation, what: &str, request: Request<'_>) -> Answer {
        let answer = match timeout(ANSWER_MAX, request).await {
            Ok(Ok(())) => Answer::Done,
            Ok(Err(refusal)) => match refusal.kind {
                Kind::Unknown | Kind::NoQuorum | Kind::Internal => Answer::Unknown(refusal.text),
                _ => Answer::Refused(refusal),
            },
            Err(_) => {
                if self.is_same(number, generation) {
                    lock(&self.ledger).violated(format!("n{number} did not answer within {ANSWER_MAX:?}: {what}"));
                }
                Answer::Unknown("no answer".into())
            }
        };
        let text = match &answer {
            Answer::Done => "done".to_owned(),
            Answer::Refused(refusal) => format!("refused: {}", refusal.text),
            Answer::Unknown(why) => format!("unknown: {why}"),
        };
        if matches!(answer, Answer::Done) && what != "read" {
            self.acknowledged += 1;
        }
        self.trace.note("client", format_args!("{what} (n{number}): {text}"));
        answer
    }

    /// Whether the daemon that was asked still runs.
    fn is_same(&self, number: Number, generation: Generation) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&number).is_some_and(|handle| handle.generation() == generation)
    }

    fn somebody(&mut self) -> Option<(Number, Handle)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = running.iter().map(|(number, handle)| (*number, handle.clone())).collect();
        drop(running);
        // Those that can answer, as a client with several addresses finds them.
        let managers: Vec<_> = all.into_iter().filter(|(_, handle)| handle.control().is_ok()).collect();
        pick(&mut self.rng, &managers).cloned()
    }
}

impl<T: Clone + PartialEq> Kept<T> {
    /// What was asked for, and the answer.
    fn learn(&mut self, wanted: T, answer: &Answer) {
        match answer {
            // A later version is in force: what was asked for before it can no longer be.
            Answer::Done => (self.certain, self.maybe) = (wanted, Vec::new()),
            Answer::Refused(_) => (),
            Answer::Unknown(_) => self.maybe.push(wanted),
        }
    }

    /// Whether that may be true. What was seen once is certain; requests without an answer may still come true.
    fn sees(&mut self, seen: T) -> bool {
        if seen == self.certain {
            return true;
        }
        if !self.maybe.contains(&seen) {
            return false;
        }
        self.maybe.retain(|maybe| *maybe != seen);
        self.certain = seen;
        true
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(rng.random_range(0..from.len())) }
}

fn spec(rng: &mut StdRng, name: &str, mode: Mode) -> ServiceSpec {
    let order = if rng.random_bool(0.3) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
    let update = UpdateConfig {
        parallelism: rng.random_range(0..4),
        monitor: Some(Duration::from_millis(500)),
        // A machine that dies in the middle of an update is no reason to give it up.
        failure_action: FailureAction::Continue,
        order,
        ..UpdateConfig::default()
    };
    ServiceSpec {
        name: Name::parse(name).expect("a letter and a number"),
        labels: Labels::new(),
        task: TaskSpec {
            container: ContainerSpec {
                image: if rng.random_bool(0.1) { "stubborn" } else { "steady" }.into(),
                labels: Labels::new(),
                command: Vec::new(),
                args: Vec::new(),
                hostname: None,
                env: Vec::new(),
                dir: None,
                user: None,
                stop_signal: None,
                // Short, so that a stubborn service can follow an update task by task.
                stop_grace: Some(Duration::from_secs(2)),
            },
            resources: None,
            restart: None,
            placement: None,
            force_update: 0,
        },
        mode,
        update: Some(update),
        rollback: None,
        endpoint: None,
    }
}
