//! The nodes of a run: started, killed, cut off and healed by number, on what survives a daemon.

use crate::testkit::fault::{Fault, Number};
use crate::testkit::invariants::{self, SharedLedger};
use crate::testkit::trace::Trace;
use essaim_model::Refusal;
use essaim_node::{Handle, InitRequest, JoinRequest, Parts, Settings, Standing, start};
use essaim_system::env::{Fault as DiskFault, SimDisk, VirtualClock};
use essaim_system::{Env, Seed};
use essaim_transport::sim::SimNetwork;
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{NodeId, Role, Timestamp};
use essaim_worker::sim::SimMachine;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The 14th of November 2023.
const UTC_START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// How long a node may take to start, on a disk that is not slow.
const START_MAX: Duration = Duration::from_secs(15);

/// How long packets take when nothing is wrong.
const DELAY: std::ops::Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);

/// The nodes that run now, for whoever asks them. Clones are the same.
pub type Running = Arc<Mutex<BTreeMap<Number, Handle>>>;

/// All nodes.
pub struct World {
    /// How many.
    pub nodes: Number,
    /// What is between them.
    pub network: SimNetwork,
    /// Those that run.
    pub running: Running,
    ledger: SharedLedger,
    trace: Trace,
    hosts: BTreeMap<Number, Host>,
    active: BTreeMap<usize, Fault>,
    seed: Seed,
    rng: StdRng,
    begun: Instant,
}

/// What survives a daemon, and the daemon.
struct Host {
    disk: SimDisk,
    machine: SimMachine,
    starts: u64,
    frozen: bool,
    daemon: Option<Daemon>,
}

struct Daemon {
    handle: Handle,
    /// The first record that was not traced yet.
    next: u64,
    watcher: JoinHandle<()>,
}

impl World {
    /// Machines without daemons.
    pub fn new(seed: u64, nodes: Number, ledger: SharedLedger, trace: Trace) -> Self {
        let begun = Instant::now();
        let host = |_| Host {
            disk: SimDisk::new(),
            machine: SimMachine::new(move || UTC_START + begun.elapsed()),
            starts: 0,
            frozen: false,
            daemon: None,
        };
        let network = SimNetwork::new(seed);
        network.set_delay(DELAY);
        Self {
            nodes,
            network,
            running: Running::default(),
            ledger,
            trace,
            hosts: (1..=nodes).map(|number| (number, host(number))).collect(),
            active: BTreeMap::new(),
            seed: Seed::from_number(seed),
            rng: StdRng::seed_from_u64(seed ^ 0x776f_726c),
            begun,
        }
    }

    /// Starts every daemon; the first begins a cluster, the others join, and these are made managers.
    pub async fn found(&mut self, managers: Number) -> Result<(), String> {
        for number in 1..=self.nodes {
            self.start(number).await?;
        }
        let init = InitRequest { listen: place(1), advertise: place(1), ..InitRequest::default() };
        self.handle(1)?.init(init).await.map_err(|why| format!("init: {why}"))?;
        let token = self.token().await.map_err(|why| format!("the token: {why}"))?;
        for number in 2..=self.nodes {
            let join = JoinRequest {
                listen: place(number),
                advertise: place(number),
                token: token.clone(),
                remotes: vec![place(1)],
                ..JoinRequest::default()
            };
            self.handle(number)?.join(join).await.map_err(|why| format!("n{number} joins: {why}"))?;
        }
        let control = self.handle(1)?.control().map_err(|why| why.to_string())?;
        for number in 2..=managers {
            let id = self.node_id(number).ok_or_else(|| format!("n{number} is no node"))?;
            let state = control.read().await.map_err(|why| why.to_string())?;
            let node = state.node(id).ok_or_else(|| format!("n{number} is unknown"))?;
            let mut spec = node.spec.clone();
            spec.role = Role::Manager;
            let promoted = control.update_node(id, node.meta.version, spec).await;
            promoted.map_err(|why| format!("n{number} is promoted: {why}"))?;
        }
        for number in 1..=self.nodes {
            let id = self.node_id(number).ok_or_else(|| format!("n{number} has no part in the cluster"))?;
            invariants::lock(&self.ledger).meet(id, number);
        }
        Ok(())
    }

    async fn token(&self) -> Result<String, Refusal> {
        let state = self.running(1).expect("it was started").control()?.read().await?;
        let cluster = state.cluster().expect("it was founded");
        let roots = Certificate::from_pem(&cluster.authority.certificate).expect("it was made here");
        Ok(JoinToken::new(&roots[0], TokenSecret::from_bytes(*cluster.join.of(Role::Worker))).to_string())
    }

    /// The daemon of a node, if it runs.
    pub fn running(&self, number: Number) -> Option<Handle> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// The machine of a node.
    pub fn machine(&self, number: Number) -> &SimMachine {
        &self.hosts[&number].machine
    }

    /// Whether a fault is under way.
    pub fn is_whole(&self) -> bool {
        self.active.is_empty()
    }

    /// The id of a node that runs.
    pub fn node_id(&self, number: Number) -> Option<NodeId> {
        self.running(number)?.standing().membership().map(|part| part.node)
    }

    fn handle(&self, number: Number) -> Result<Handle, String> {
        self.running(number).ok_or_else(|| format!("n{number} does not run"))
    }

    /// A fault begins. It is told apart from others by its key.
    pub async fn strike(&mut self, key: usize, fault: Fault) {
        self.trace.note("fault", &fault);
        if let Fault::KillActor(number, draw) = fault {
            self.kill_actor(number, draw);
        } else {
            self.active.insert(key, fault);
            self.obey().await;
        }
    }

    /// A fault ends.
    pub async fn relieve(&mut self, key: usize) {
        if let Some(fault) = self.active.remove(&key) {
            self.trace.note("over", &fault);
            self.obey().await;
        }
    }

    /// Brings everything in line with the faults that are under way.
    async fn obey(&mut self) {
        self.note_troubles();
        self.network.heal_all();
        self.network.set_delay(DELAY);
        self.hosts.values().for_each(|host| host.disk.set_fault(DiskFault::None));
        let everybody = 1..=self.nodes;
        for fault in self.active.values() {
            match fault {
                Fault::Cut(a, b) => self.network.cut(ip(*a), ip(*b)),
                Fault::CutOneWay(from, to) => self.network.cut_one_way(ip(*from), ip(*to)),
                Fault::Isolate(node) => self.network.isolate(ip(*node)),
                Fault::Split(side) => {
                    for here in side {
                        for there in everybody.clone().filter(|there| !side.contains(there)) {
                            self.network.cut(ip(*here), ip(there));
                        }
                    }
                }
                Fault::Loss(per_mille) => self.network.set_loss(*per_mille),
                Fault::Slow(delay) => self.network.set_delay(DELAY.start..*delay),
                Fault::SlowDisk(node, lag) => self.hosts[node].disk.set_fault(DiskFault::Slow(*lag)),
                Fault::Crash(_) | Fault::PowerCut(_) | Fault::Blackout | Fault::Freeze(_) | Fault::KillActor(..) => (),
            }
        }
        for number in everybody.clone() {
            let down = self.active.values().any(|fault| fault.downs(number));
            let dark = self.active.values().any(|fault| fault.darkens(number));
            if down {
                self.kill(number, dark).await;
            }
            let freezes = self.active.values().any(|fault| *fault == Fault::Freeze(number));
            let Some(host) = self.hosts.get_mut(&number) else { continue };
            match (host.frozen, freezes && host.daemon.is_some()) {
                (false, true) => self.network.freeze(ip(number)),
                (true, false) => self.network.thaw(ip(number)),
                _ => (),
            }
            host.frozen = freezes && host.daemon.is_some();
        }
        for number in everybody {
            let down = self.active.values().any(|fault| fault.downs(number));
            if !down
                && self.running(number).is_none()
                && let Err(why) = self.start(number).await
            {
                invariants::lock(&self.ledger).violated(why);
            }
        }
    }

    /// Tells the ledger who is in trouble, so that nobody else may be taken for dead.
    fn note_troubles(&self) {
        for number in 1..=self.nodes {
            let away = self.active.values().any(|fault| fault.takes_away(number, self.nodes));
            // One broken link is no reason to take anybody for dead; together with something else it may be one.
            let cut = self.active.len() > 1 && self.active.values().any(|fault| fault.cuts_a_link_of(number));
            invariants::lock(&self.ledger).set_trouble(number, away || cut);
        }
    }

    /// Starts a daemon on what its disk and machine have.
    pub async fn start(&mut self, number: Number) -> Result<(), String> {
        let utc = UTC_START + self.begun.elapsed();
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        host.starts += 1;
        let env = Env {
            // A node's own time begins at its start.
            clock: Arc::new(VirtualClock::new(utc)),
            seed: self.seed.derive(&format!("n{number} start {}", host.starts)),
            disk: Arc::new(host.disk.clone()),
            network: self.network.host(ip(number)),
        };
        let settings = Settings { hostname: name(number), listen: place(number), advertise: place(number) };
        let parts = Parts { settings, engines: vec![host.machine.engine()], faces: Vec::new() };
        let handle = match timeout(START_MAX, start(env, parts)).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(why)) => return Err(format!("n{number} does not start: {why}")),
            Err(_) => return Err(format!("n{number} did not start within {START_MAX:?}")),
        };
        if let Standing::Broken(why) = handle.standing() {
            return Err(format!("n{number} cannot take up its part again: {why}"));
        }
        self.trace.note(name(number), format_args!("runs, generation {}", handle.generation().0));
        let watcher = tokio::spawn(invariants::watch(number, handle.clone(), Arc::clone(&self.ledger)));
        host.daemon = Some(Daemon { handle: handle.clone(), next: 1, watcher });
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(number, handle);
        Ok(())
    }

    /// Ends a daemon without a word; with its machine, if the power goes.
    async fn kill(&mut self, number: Number, dark: bool) {
        if dark {
            self.network.power_off(ip(number));
            self.hosts[&number].machine.power_off();
        }
        let Some(daemon) = self.hosts.get_mut(&number).and_then(|host| host.daemon.take()) else { return };
        if !dark {
            self.network.crash(ip(number));
        }
        let torn = self.rng.random_bool(0.5);
        let disk = self.hosts[&number].disk.clone();
        disk.crash(torn.then_some(&mut self.rng));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        daemon.watcher.abort();
        let Daemon { handle, mut next, .. } = daemon;
        let journal = handle.journal();
        trace_journal(&self.trace, number, journal, &mut next);
        journal.kill_all();
        // What is no actor ends by being closed: on a dead disk and without a socket, it can do no harm.
        if let Some(part) = handle.standing().membership() {
            if let Some(control) = &part.control {
                control.store().close().await;
            }
            part.endpoint.close().await;
        }
    }

    fn kill_actor(&self, number: Number, draw: u64) {
        let Some(handle) = self.running(number) else { return };
        let journal = handle.journal();
        // The root's end is the daemon's, which `Crash` does.
        let paths: Vec<_> =
            journal.tree().into_iter().map(|entry| entry.path).filter(|path| *path != handle.scope().path).collect();
        if let Some(path) = paths.get(usize::try_from(draw).unwrap_or_default() % paths.len().max(1)) {
            self.trace.note(name(number), format_args!("{path} is made to fail"));
            // It may be about to start again.
            let _ = journal.kill(path);
        }
    }

    /// Adds what the journals say since the last time to the trace.
    pub fn trace_journals(&mut self) {
        for (number, host) in &mut self.hosts {
            if let Some(daemon) = &mut host.daemon {
                trace_journal(&self.trace, *number, daemon.handle.journal(), &mut daemon.next);
            }
        }
    }
}

fn trace_journal(trace: &Trace, number: Number, journal: &essaim_system::Journal, next: &mut u64) {
    loop {
        let page = match journal.read(*next, 1_000) {
            Ok(page) => page,
            Err(compacted) => {
                *next = compacted.oldest;
                continue;
            }
        };
        for record in &page.records {
            let at = record.at.saturating_since(UTC_START).as_secs_f64();
            let (kind, path, reason) = (record.kind.text(), &record.path, &record.reason);
            trace.note(name(number), format_args!("at {at:.3}: {kind:9} {path} {reason}"));
        }
        if page.records.is_empty() {
            return;
        }
        *next = page.next;
    }
}

/// A node's host name.
pub fn name(number: Number) -> String {
    format!("n{number}")
}

fn ip(number: Number) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn place(number: Number) -> String {
    format!("{}:2377", ip(number))
}
