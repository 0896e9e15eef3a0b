//! The nodes of a run, and the faults under way, each identified by its key.
//!
//! The faults under way are a set. Whenever the set changes, network, disks, clocks and daemons are brought in line
//! with all of it ([`strike`](World::strike), [`relieve`](World::relieve)), so that faults may overlap in any order.
//! How daemons are started and ended is in [`daemons`](crate::testkit::daemons).

use crate::testkit::fault::{Fault, Number, Survive};
use crate::testkit::host::{Doorsteps, Host};
use crate::testkit::invariants::{self, SharedLedger, Snapshot};
use crate::testkit::levels::build_at_first;
use crate::testkit::nodes::{Ids, Running, ip};
use crate::testkit::operator::{Act, Operator};
use crate::testkit::options::Options;
use crate::testkit::trace::Trace;
use essaim_model::{Availability, TaskId};
use essaim_node::{Handle, Parts};
use essaim_store::LogBounds;
use essaim_system::Seed;
use essaim_system::env::{DiskFault, SimDisk};
use essaim_transport::sim::SimNetwork;
use essaim_wire::{Build, NodeId, Role, quorum};
use essaim_worker::sim::{Mood, SimMachine};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Delay of packets without a fault.
const DELAY: std::ops::Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);

/// A story's change to the parts of a daemon, beside the simulated engine.
pub type Fit = Arc<dyn Fn(Number, &mut Parts) + Send + Sync>;

/// All nodes of a run, and the network between them.
pub struct World {
    /// Number of nodes.
    pub nodes: Number,
    /// The simulated network between the nodes.
    pub network: SimNetwork,
    /// The nodes that run.
    pub running: Running,
    /// Called for every start of a daemon, to add the story's own engines and faces.
    pub fit: Option<Fit>,
    pub(crate) ledger: SharedLedger,
    pub(crate) trace: Trace,
    pub(crate) hosts: BTreeMap<Number, Host>,
    pub(crate) ids: Ids,
    pub(crate) checks: bool,
    pub(crate) log: LogBounds,
    pub(crate) seed: Seed,
    pub(crate) rng: StdRng,
    pub(crate) begun: Instant,
    /// Number of turns in which liars have lied.
    pub(crate) turn: usize,
    active: BTreeMap<usize, Fault>,
    operator: Option<Operator>,
}

impl World {
    /// Machines without daemons.
    pub fn new(options: &Options, ledger: SharedLedger, trace: Trace) -> Self {
        let Options { seed, nodes, checks, mixed, log, .. } = *options;
        let build = |number| if mixed { build_at_first(number) } else { Build::NEWEST };
        let begun = Instant::now();
        let network = SimNetwork::new(seed);
        network.set_delay(DELAY);
        Self {
            nodes,
            network,
            running: Running::default(),
            fit: None,
            ledger,
            trace,
            hosts: (1..=nodes).map(|number| (number, Host::new(begun, build(number)))).collect(),
            ids: Ids::default(),
            checks,
            log,
            seed: Seed::from_number(seed),
            rng: StdRng::seed_from_u64(seed ^ 0x776f_726c),
            begun,
            turn: 0,
            active: BTreeMap::new(),
            operator: None,
        }
    }

    /// The daemon of a node, if it runs.
    pub fn running(&self, number: Number) -> Option<Handle> {
        self.running.lock().get(&number).cloned()
    }

    /// The simulated machine of a node.
    pub fn machine(&self, number: Number) -> &SimMachine {
        &self.hosts[&number].machine
    }

    /// The sockets of every machine, for visitors of published ports.
    pub(crate) fn doorsteps(&self) -> Doorsteps {
        self.hosts.iter().map(|(number, host)| (*number, host.sockets.clone())).collect()
    }

    /// Takes the tasks to which a connection was made after they were told to end.
    pub(crate) fn visited_late(&self) -> Vec<(Number, TaskId)> {
        let all = self.hosts.iter();
        all.flat_map(|(number, host)| host.machine.take_visited_late().into_iter().map(|task| (*number, task)))
            .collect()
    }

    /// The simulated disk of a node.
    pub fn disk(&self, number: Number) -> &SimDisk {
        &self.hosts[&number].disk
    }

    /// Whether the operator has done everything that was asked.
    pub(crate) fn operator_rests(&self) -> bool {
        self.operator.as_ref().is_none_or(Operator::rests)
    }

    /// The node id of a running node that is in a cluster.
    pub fn node_id(&self, number: Number) -> Option<NodeId> {
        self.running(number)?.standing().membership().map(|part| part.node)
    }

    /// The number of the first node that takes itself for the active leader.
    pub fn leader(&self) -> Option<Number> {
        (1..=self.nodes).find(|number| {
            let control = self.running(*number).and_then(|handle| handle.control().ok());
            control.is_some_and(|control| control.store().leadership().borrow().active().is_some())
        })
    }

    /// The keys of the faults that are under way.
    pub fn active(&self) -> Vec<usize> {
        self.active.keys().copied().collect()
    }

    /// Begins a fault, identified by its key.
    pub async fn strike(&mut self, key: usize, fault: Fault) {
        self.trace.note("fault", &fault);
        match fault {
            Fault::KillActor(number, draw) => return self.kill_actor(number, draw),
            Fault::EngineForgets(number, draw) => return self.forget_task(number, draw),
            Fault::EngineRevives(number, draw) => return self.restart_container(number, draw),
            Fault::EngineRestarts(number, Survive::No) => self.hosts[&number].machine.power_off(),
            Fault::HandOver => return self.hand_over(),
            Fault::Drain(node) => self.operator().ask(Act::Available(node, Availability::Drain)),
            Fault::Promote(node) => self.operator().ask(Act::Role(node, Role::Manager)),
            Fault::Demote(node) => self.operator().ask(Act::Role(node, Role::Worker)),
            Fault::Leave(node) => self.operator().ask(Act::Leave(node)),
            Fault::Upgrade(node) => self.upgrade(node),
            _ => (),
        }
        self.active.insert(key, fault);
        self.obey().await;
    }

    /// Ends the fault with this key.
    pub async fn relieve(&mut self, key: usize) {
        let Some(fault) = self.active.remove(&key) else { return };
        self.trace.note("over", &fault);
        match fault {
            Fault::Drain(node) => self.operator().ask(Act::Available(node, Availability::Active)),
            Fault::Promote(node) => self.operator().ask(Act::Role(node, Role::Worker)),
            Fault::Demote(node) => self.operator().ask(Act::Role(node, Role::Manager)),
            Fault::Leave(node) => self.operator().ask(Act::Join(node)),
            Fault::Liar(node) => self.tell_the_truth(node),
            _ => (),
        }
        self.obey().await;
    }

    fn forget_task(&self, number: Number, draw: u64) {
        if let Some(task) = self.hosts[&number].machine.forget(draw) {
            let runs = self.running(number).is_some();
            invariants::lock(&self.ledger).task_is_forgotten(task, runs);
            self.trace.note(crate::testkit::nodes::name(number), format_args!("nobody knows where {task} has gone"));
        }
    }

    fn restart_container(&self, number: Number, draw: u64) {
        if let Some(task) = self.hosts[&number].machine.restart_container(draw) {
            self.trace.note(crate::testkit::nodes::name(number), format_args!("somebody starts {task} again"));
        }
    }

    /// Makes the next start of a node's daemon one of the newest program.
    fn upgrade(&mut self, number: Number) {
        if let Some(host) = self.hosts.get_mut(&number) {
            host.build = Build::NEWEST;
        }
    }

    fn operator(&mut self) -> &Operator {
        self.operator.get_or_insert_with(|| {
            let (running, ids) = (Arc::clone(&self.running), Arc::clone(&self.ids));
            Operator::start(running, ids, Arc::clone(&self.ledger), self.trace.clone())
        })
    }

    fn hand_over(&self) {
        let leader = self.leader().and_then(|number| self.running(number));
        if let Some(control) = leader.and_then(|handle| handle.control().ok()) {
            let store = control.store().clone();
            // The outcome is ignored: the hand-over fails when no other manager can lead, and then nothing has changed.
            tokio::spawn(async move { drop(store.hand_over().await) });
        }
    }

    /// The nodes and machines at this moment, for the invariants.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            running: self.running.lock().clone(),
            tasks: self.hosts.iter().map(|(number, host)| (*number, host.machine.running_since())).collect(),
            attempts: self.hosts.iter().map(|(number, host)| (*number, host.machine.attempts())).collect(),
            revived: self.hosts.values().flat_map(|host| host.machine.revived()).collect(),
            silent_engines: (1..=self.nodes).filter(|number| self.is_engine_silent(*number)).collect(),
            liars: self.liars(),
            is_only_lied_to: self.is_only_lied_to(),
        }
    }

    /// Whether a node's engine does not answer, or says nothing of one of its tasks.
    fn is_engine_silent(&self, number: Number) -> bool {
        self.hosts[&number].machine.is_silent()
            || self.active.values().any(|fault| fault.silences_the_engine_of(number))
    }

    /// The nodes that lie at the moment.
    pub(crate) fn liars(&self) -> Vec<Number> {
        let lies = |number: &Number| self.active.values().any(|fault| *fault == Fault::Liar(*number));
        (1..=self.nodes).filter(lies).collect()
    }

    /// Whether the only faults are slow disks and liars, and the liars are fewer than a quorum of observers.
    pub(crate) fn is_only_lied_to(&self) -> bool {
        let harmless = |fault: &Fault| matches!(fault, Fault::Liar(_) | Fault::SlowDisk(..));
        let liars = self.liars().len();
        liars > 0
            && liars < quorum(8.min(usize::from(self.nodes).saturating_sub(1)))
            && self.active.values().all(harmless)
    }

    /// Whether a fault keeps the daemon of a node down.
    pub(crate) fn is_down(&self, number: Number) -> bool {
        self.active.values().any(|fault| fault.downs(number))
    }

    /// Whether writes to a node's disk fail at the moment.
    pub(crate) fn is_spoilt(&self, number: Number) -> bool {
        self.active.values().any(|fault| fault.spoils_the_disk_of(number))
    }

    /// Brings network, disks, clocks and daemons in line with the faults that are under way.
    async fn obey(&mut self) {
        self.note_troubles();
        self.obey_network();
        self.obey_machines();
        let goes: Vec<Number> = (1..=self.nodes).filter(|number| self.is_down(*number)).collect();
        let is_orderly = |number: &Number| {
            let mut downing = self.active.values().filter(|fault| fault.downs(*number));
            downing.all(|fault| fault.ends_in_order(*number))
        };
        let orderly: Vec<Number> = goes.iter().copied().filter(is_orderly).collect();
        self.say_farewell(&orderly).await;
        for number in goes {
            let dark = self.active.values().any(|fault| fault.darkens(number));
            self.kill(number, dark).await;
        }
        self.obey_freezes();
        self.tend().await;
    }

    fn obey_network(&self) {
        self.network.heal_all();
        self.network.set_delay(DELAY);
        for fault in self.active.values() {
            match fault {
                Fault::Cut(a, b) => self.network.cut(ip(*a), ip(*b)),
                Fault::CutOneWay(from, to) => self.network.cut_one_way(ip(*from), ip(*to)),
                Fault::Isolate(node) => self.network.isolate(ip(*node)),
                Fault::Split(side) => {
                    for here in side {
                        for there in (1..=self.nodes).filter(|there| !side.contains(there)) {
                            self.network.cut(ip(*here), ip(there));
                        }
                    }
                }
                Fault::Loss(per_mille) => self.network.set_loss(*per_mille),
                Fault::Slow(delay) => self.network.set_delay(DELAY.start..*delay),
                _ => (),
            }
        }
    }

    /// Brings disks, clocks and engines in line with the faults that are under way.
    fn obey_machines(&self) {
        let (mut disks, mut clocks) = (BTreeMap::new(), BTreeMap::new());
        for fault in self.active.values() {
            match fault {
                Fault::SlowDisk(node, lag) => drop(disks.entry(*node).or_insert(DiskFault::Slow(*lag))),
                Fault::FailingDisk(node) => drop(disks.insert(*node, DiskFault::WritesFail)),
                Fault::FailingSyncs(node) => drop(disks.insert(*node, DiskFault::SyncsFail)),
                Fault::TornWrites(node) => drop(disks.insert(*node, DiskFault::WritesTear)),
                Fault::FullDisk(node) => drop(disks.insert(*node, DiskFault::Full(self.hosts[node].disk.used()))),
                Fault::ClockJump(node, seconds) => drop(clocks.insert(*node, *seconds)),
                _ => (),
            }
        }
        for (number, host) in &self.hosts {
            host.disk.set_fault(disks.get(number).copied().unwrap_or_default());
            host.set_clock(clocks.get(number).copied().unwrap_or_default());
            let is_down = |fault: &Fault| matches!(fault, Fault::EngineRestarts(one, _) if one == number);
            let mood = if self.active.values().any(is_down) {
                Mood::Down
            } else if self.active.values().any(|fault| *fault == Fault::EngineHangsAsAWhole(*number)) {
                Mood::HangsAsAWhole
            } else if self.active.values().any(|fault| *fault == Fault::EngineHangs(*number)) {
                Mood::Hangs
            } else {
                Mood::Well
            };
            host.machine.set_mood(mood);
        }
    }

    fn obey_freezes(&mut self) {
        for number in 1..=self.nodes {
            let freezes = self.active.values().any(|fault| *fault == Fault::Freeze(number));
            let Some(host) = self.hosts.get_mut(&number) else { continue };
            let is_to_freeze = freezes && host.daemon.is_some();
            match (host.frozen, is_to_freeze) {
                (false, true) => self.network.freeze(ip(number)),
                (true, false) => self.network.thaw(ip(number)),
                _ => (),
            }
            host.frozen = is_to_freeze;
        }
    }

    /// Tells the ledger which nodes are in trouble: no other node may be taken for dead.
    pub(crate) fn note_troubles(&self) {
        if !self.checks {
            return;
        }
        let mut ledger = invariants::lock(&self.ledger);
        ledger.set_lies(!self.liars().is_empty());
        for number in 1..=self.nodes {
            let away = self.active.values().any(|fault| fault.takes_away(number, self.nodes));
            // One cut path alone is no reason to take a node for dead; together with another fault it may be one.
            let is_felt = |fault: &&Fault| !matches!(fault, Fault::SlowDisk(..)) && !fault.is_of_an_engine();
            let wrong = self.active.values().filter(is_felt).count();
            let cut = wrong > 1 && self.active.values().any(|fault| fault.cuts_a_link_of(number));
            // A node whose disk failed may need a moment longer than the fault.
            let ailing = self.hosts.get(&number).is_some_and(Host::is_ailing);
            ledger.set_trouble(number, away || cut || ailing);
            let unattended = self.active.values().any(|fault| fault.stops_the_care_of(number));
            ledger.set_unattended(number, unattended || ailing);
            ledger.set_cut_off(number, self.active.values().any(|fault| fault.cuts_off(number, self.nodes)));
        }
    }
}
