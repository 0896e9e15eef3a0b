//! One run: a cluster is founded, clients work while faults come and go, the faults end, and then everything must come
//! to rest as it was wished.

use crate::testkit::client::Client;
use crate::testkit::convergence;
use crate::testkit::fault::{self, Fault, Strike};
use crate::testkit::invariants::{self, Ledger, SharedLedger, lock};
use crate::testkit::keeper::Keeper;
use crate::testkit::levels::{self, Impatient};
use crate::testkit::nodes::name;
use crate::testkit::options::Options;
use crate::testkit::panics;
use crate::testkit::specs;
use crate::testkit::trace::Trace;
use crate::testkit::visitor;
use crate::testkit::world::World;
use essaim_model::{EngineKind, Health, State};
use essaim_worker::sim::Behaviour;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed, UnhandledPanic};
use tokio::time::{Instant, sleep};

/// Period of the checks of all nodes and machines.
const STEP: Duration = Duration::from_millis(100);

/// Number of clients that work at the same time.
const CLIENTS: u32 = 3;

/// Duration of a write without faults: two reads, and a commit on two disks.
const UNDER_WAY: Duration = Duration::from_millis(24);

/// Time after a write during which the leader may still be deciding about it.
const FELT: Duration = Duration::from_millis(200);

/// Upper bound on the time until a new cluster has its managers and its first service.
const FOUNDED_MAX: Duration = Duration::from_secs(30);

/// Time after the last fault at which every roster must be the same.
const ROSTERS_AFTER: Duration = Duration::from_secs(10);

/// Upper bound on the time from the last fault until everything is as wished: a restart's delay, an update of a service
/// task by task, and stops that take their whole grace. The slowest of 4,900 runs took 33 s.
const CONVERGED_MAX: Duration = Duration::from_secs(45);

/// Time that coming to rest may take longer when runs draw what containers do: an engine says nothing of a task for 25 s,
/// and a slot waits for the answer before its next task runs.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// Upper bound on the time until an operator has mended what cannot come to rest by itself: updates of such services
/// that went on may pause only now.
const MENDED_MAX: Duration = Duration::from_secs(60);

/// The images of a run's services whose tasks do more than run until they are stopped. Those of
/// `specs::BROKEN` never come to rest.
fn images() -> Vec<(&'static str, Behaviour)> {
    let ms = Duration::from_millis;
    let words = "pull access denied for refused, repository does not exist".to_owned();
    vec![
        ("stubborn", Behaviour::IgnoresStop),
        ("slow", Behaviour::Pulls(ms(1_200))),
        ("checked", Behaviour::Checked { healthy_after: ms(700), unhealthy_after: None }),
        ("stalls", Behaviour::PullStalls { takes: ms(2_400), stalls: ms(4_000) }),
        ("late", Behaviour::StartTakes(ms(2_500))),
        ("flaky", Behaviour::ExitsOnce { after: ms(900), code: 1 }),
        (
            specs::AILING,
            Behaviour::Health(vec![
                (ms(500), Health::Healthy),
                (ms(2_000), Health::Unhealthy),
                (ms(2_600), Health::Healthy),
            ]),
        ),
        ("done", Behaviour::Exits { after: ms(900), code: 0 }),
        ("buggy", Behaviour::Exits { after: ms(400), code: 1 }),
        ("refused", Behaviour::RegistryFails { after: ms(600), words }),
        ("weak", Behaviour::OutOfMemory(ms(1_500))),
        ("unanswered", Behaviour::StartUnanswered),
        ("silent", Behaviour::SilentFor(Duration::from_secs(25))),
    ]
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Seed of the run.
    pub seed: u64,
    /// Violations of invariants; a run without any has passed.
    pub violations: Vec<String>,
    /// Hash of the trace: every record of every journal, every fault, every answer.
    pub hash: u64,
    /// Number of lines in the trace.
    pub lines: u64,
    /// Hash of everything that crossed the network.
    pub fingerprint: u64,
    /// Number of changes that were acknowledged to clients.
    pub acknowledged: u64,
    /// Number of requests that clients sent.
    pub asked: u64,
    /// Length of the run in virtual time.
    pub length: Duration,
    /// Time from the last fault until everything was as wished; `None` when that was not reached.
    pub converged: Option<Duration>,
    /// The command line that repeats the run.
    pub again: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hash, fingerprint, acknowledged, asked, lines, .. } = self;
        let seconds = self.length.as_secs();
        write!(
            f,
            "seed {seed}: {seconds} virtual seconds, {acknowledged} changes acknowledged of {asked} requests, {lines} \
             lines, trace {hash:016x}, network {fingerprint:016x}"
        )?;
        if let Some(converged) = self.converged {
            write!(f, ", at rest {:.1} s after healing", converged.as_secs_f64())?;
        }
        for violation in &self.violations {
            write!(f, "\n  VIOLATED: {violation}")?;
        }
        if !self.violations.is_empty() {
            write!(f, "\n{}", self.again)?;
        }
        Ok(())
    }
}

/// Runs a cluster in a runtime of its own.
pub fn run(options: Options) -> Outcome {
    panics::watch();
    in_virtual_time(options.seed, async move { Run::new(options).whole().await })
}

/// Runs a story in a runtime of its own, with virtual time and with scheduling choices drawn by the seed.
pub fn in_virtual_time<T>(seed: u64, story: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_be_bytes()))
        // A panic in a task whose result is never awaited must not pass unseen.
        .unhandled_panic(UnhandledPanic::ShutdownRuntime)
        .build()
        .expect("a runtime without IO can be made");
    runtime.block_on(story)
}

/// A run under way, for stories of tests.
pub struct Run {
    options: Options,
    ledger: SharedLedger,
    trace: Trace,
    /// The nodes, and the faults under way.
    pub world: World,
    begun: Instant,
    acknowledged: u64,
    asked: u64,
    converged: Option<Duration>,
}

impl Run {
    /// A run of machines without daemons; [`found`](Self::found) makes them a cluster.
    pub fn new(options: Options) -> Self {
        let ledger = SharedLedger::new(Ledger::default().into());
        lock(&ledger).judge_containers(options.draws.containers);
        let trace = Trace::new(options.trace);
        let world = World::new(&options, Arc::clone(&ledger), trace.clone());
        for number in 1..=options.nodes {
            // Volumes are refused by the process engine.
            let kind = if options.draws.containers { EngineKind::Docker } else { options.engine };
            world.machine(number).set_kind(kind);
            for (image, behaviour) in images() {
                world.machine(number).behave(image, behaviour);
            }
            if options.draws.containers {
                world.machine(number).set_generic(specs::stock(number));
            }
        }
        Self { options, ledger, trace, world, begun: Instant::now(), acknowledged: 0, asked: 0, converged: None }
    }

    async fn whole(mut self) -> Outcome {
        if let Err(why) = self.story().await {
            lock(&self.ledger).violated(why);
        }
        self.world.trace_journals();
        let mut violations = std::mem::take(&mut lock(&self.ledger).violations);
        violations.extend(panics::seen());
        for violation in &violations {
            self.trace.note("VIOLATED", violation);
        }
        let outcome = Outcome {
            seed: self.options.seed,
            violations,
            hash: self.trace.hash(),
            lines: self.trace.lines(),
            fingerprint: self.world.network.fingerprint(),
            acknowledged: self.acknowledged,
            asked: self.asked,
            length: self.begun.elapsed(),
            converged: self.converged,
            again: self.options.again(),
        };
        // A lane's server and its endpoint hold each other, so a daemon that is not killed would stay in memory.
        for number in 1..=self.options.nodes {
            self.world.kill(number, false).await;
        }
        outcome
    }

    /// Plays the whole run; `Err` when it cannot go on.
    async fn story(&mut self) -> Result<(), String> {
        let mut first = self.found().await?;
        let fellows: Vec<_> = (2..=CLIENTS).map(|number| first.fellow(number)).collect();
        if self.options.roles {
            first.change_roles();
        }
        let mut judge = first.fellow(0);
        let stop = Arc::new(AtomicBool::new(!self.options.client));
        let clients = [first].into_iter().chain(fellows);
        let clients: Vec<_> = clients.map(|client| tokio::spawn(client.work(Arc::clone(&stop)))).collect();
        let impatient = self.options.mixed.then(|| {
            let running = Arc::clone(&self.world.running);
            let impatient = Impatient::new(self.options.seed, running, Arc::clone(&self.ledger), self.trace.clone());
            tokio::spawn(impatient.work(Arc::clone(&stop)))
        });
        let (seed, running) = (self.options.seed, Arc::clone(&self.world.running));
        let keeper = Keeper::new(seed, running, Arc::clone(&self.ledger), self.trace.clone());
        let keeper = tokio::spawn(keeper.work(Arc::clone(&stop)));
        let visitors = self.options.draws.ports.then(|| {
            let (running, ledger) = (Arc::clone(&self.world.running), Arc::clone(&self.ledger));
            let doorsteps = self.world.doorsteps();
            tokio::spawn(visitor::visit_all(self.options.seed, running, ledger, doorsteps, Arc::clone(&stop)))
        });
        self.suffer(&judge).await?;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let client = client.await.map_err(|why| format!("a client ended: {why}"))?;
            self.acknowledged += client.acknowledged;
            self.asked += client.asked;
        }
        let kept = keeper.await.map_err(|why| format!("the keeper of secrets ended: {why}"))?;
        self.trace.note("keeper", format_args!("{kept} requests about secrets were done"));
        if let Some(impatient) = impatient {
            let (refused, done) = impatient.await.map_err(|why| format!("the impatient operator ended: {why}"))?;
            self.trace.note("impatient", format_args!("{refused} refused for want of the level, {done} done"));
        }
        if let Some(visitors) = visitors {
            let (answered, failed) = visitors.await.map_err(|why| format!("the visitors ended: {why}"))?;
            self.trace.note("visitors", format_args!("{answered} visits were answered, {failed} were not"));
        }
        self.check()?;
        self.trace.note("run", "everything is whole");

        let healed = Instant::now();
        while healed.elapsed() < ROSTERS_AFTER {
            self.step().await?;
        }
        convergence::rosters(&self.world).map_err(|why| format!("{ROSTERS_AFTER:?} after healing: {why}"))?;
        self.mend(&mut judge).await?;
        let silent_max = if self.options.draws.containers { SILENT_MAX } else { Duration::ZERO };
        let state = self.come_to_rest(CONVERGED_MAX + silent_max).await?;
        self.converged = Some(healed.elapsed());
        judge.compare(0, &state);
        if self.options.draws.ports {
            visitor::check(&self.world, &state).await?;
        }
        if self.options.mixed {
            levels::upgraded(&state)?;
        }
        self.check()
    }

    /// Plays the operator who mends what cannot come to rest by itself, until everything can.
    async fn mend(&mut self, operator: &mut Client) -> Result<(), String> {
        let (begun, mut stranded) = (Instant::now(), BTreeMap::new());
        while self.options.draws.containers && operator.mend(&mut stranded).await != Some(0) {
            if begun.elapsed() >= MENDED_MAX {
                return Err(format!("services are not mended after {MENDED_MAX:?}"));
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Founds a cluster with its managers and a service of eight tasks, and waits until it is at rest. Returns the
    /// client that created the service.
    pub async fn found(&mut self) -> Result<Client, String> {
        self.world.found(self.options.managers).await?;
        self.come_to_rest(FOUNDED_MAX).await.map_err(|why| format!("a new cluster is not at rest: {why}"))?;
        let running = Arc::clone(&self.world.running);
        let mut client = Client::new(self.options.seed, running, Arc::clone(&self.ledger), self.trace.clone());
        client.draws = self.options.draws;
        let first = self.world.running(1).ok_or("the first node is gone")?;
        let control = first.control().map_err(|why| why.to_string())?;
        client.create(&control, 8).await.map_err(|why| format!("the first service: {why}"))?;
        self.come_to_rest(FOUNDED_MAX).await.map_err(|why| format!("a new service is not at rest: {why}"))?;
        self.trace.note("run", "founded, and the first service runs");
        Ok(client)
    }

    /// Plays the phase of faults; at its end no fault is under way.
    ///
    /// Just before each fault begins, a client writes, so that the fault finds a change under way: on its way to the
    /// leader, in the log and not on disk, or about to be answered.
    async fn suffer(&mut self, client: &Client) -> Result<(), String> {
        let Options { nodes, faults, length, draws, .. } = self.options;
        let drawn = || {
            let mut rng = StdRng::seed_from_u64(self.options.seed);
            let mut strikes = fault::draw(&mut rng, nodes, faults, length, draws.containers);
            strikes.extend(fault::draw_syncs(&mut rng, nodes, length));
            if self.options.mixed {
                strikes.extend(levels::draw_upgrades(self.options.seed, nodes, length));
            }
            strikes
        };
        let strikes = self.options.strikes.clone().unwrap_or_else(drawn);
        let mut rng = StdRng::seed_from_u64(self.options.seed ^ 0x7772_6974);
        let begun = Instant::now();
        let mut due: BTreeMap<(Duration, usize), Option<Fault>> = BTreeMap::new();
        for (key, Strike { at, fault, lasts }) in strikes.into_iter().enumerate() {
            due.insert((at + lasts, key), None);
            due.insert((at, key), Some(fault));
        }
        while begun.elapsed() < length || !due.is_empty() {
            while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= begun.elapsed()) {
                let key = entry.key().1;
                match entry.remove() {
                    Some(fault) => {
                        if self.options.client && !matches!(fault, Fault::SlowDisk(..)) {
                            tokio::spawn(client.fellow(100 + key as u32).write_once());
                            let before = if rng.random_bool(0.5) { UNDER_WAY } else { FELT };
                            sleep(before.mul_f64(rng.random_range(0.0..1.0))).await;
                        }
                        self.world.strike(key, fault).await;
                    }
                    None => self.world.relieve(key).await,
                }
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Waits until everything is as wished; `Err` says what is not.
    pub async fn come_to_rest(&mut self, within: Duration) -> Result<Arc<State>, String> {
        let begun = Instant::now();
        loop {
            match self.at_rest() {
                Ok(state) => return Ok(state),
                Err(why) if begun.elapsed() >= within => return Err(format!("not at rest after {within:?}: {why}")),
                Err(_) => self.step().await?,
            }
        }
    }

    /// The state, if everything is as wished; `Err` says what is not.
    pub fn at_rest(&self) -> Result<Arc<State>, String> {
        if self.world.operator_rests() {
            convergence::wishes(&self.world)
        } else {
            Err("the operator is at work".to_owned())
        }
    }

    /// Lets virtual time pass to the next step, and checks everything.
    pub async fn step(&mut self) -> Result<(), String> {
        // Steps are at whole multiples of the run's clock, by which the clients act too, so that faults find clients at
        // work.
        let past = Duration::from_micros((self.begun.elapsed().as_micros() % STEP.as_micros()) as u64);
        sleep(STEP - past).await;
        self.world.tend().await;
        self.world.trace_journals();
        if self.options.checks {
            invariants::look(&self.world.snapshot(), &self.ledger);
            for (number, task) in self.world.visited_late() {
                let words = format!("on {} a connection reached task {task} after it was told to end", name(number));
                lock(&self.ledger).violated(words);
            }
        }
        self.check()
    }

    /// Ends the run at the first violation, because later violations may only follow from it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut ledger = lock(&self.ledger);
        match ledger.violations.pop() {
            Some(last) => Err(last),
            None => Ok(()),
        }
    }
}
