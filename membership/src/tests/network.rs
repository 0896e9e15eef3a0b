//! A network of detectors in virtual time: delays, loss, cuts in one direction, crashes, processes that stand still,
//! restarts. The same seed gives the same run.

use crate::datagram::MAX_DATAGRAM;
use crate::identity::Id;
use crate::proof::TestNotary;
use crate::table::{Row, RowState, Table};
use crate::{Config, Detector, Effect, Goodbye, Incarnation, Input, Member, MemberState, Verdict, Wake};
use bytes::Bytes;
use essaim_wire::{Generation, Moment, NodeId, Role};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Simulated network with its detectors and their verdicts.
pub(crate) struct Network {
    pub(crate) now: Moment,
    pub(crate) config: Config,
    /// Share of datagrams that is lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Whether a thawed process handles its timers before its datagrams, which is the worst order.
    pub(crate) timers_first: bool,
    hosts: BTreeMap<NodeId, Host>,
    queue: BTreeMap<(Moment, u64), Event>,
    next: u64,
    cuts: BTreeSet<(NodeId, NodeId)>,
    rng: ChaCha8Rng,
    /// All verdicts: moment, node that concluded, verdict.
    pub(crate) verdicts: Vec<(Moment, NodeId, Verdict)>,
    pub(crate) datagrams: u64,
}

struct Host {
    detector: Detector,
    process: Process,
    generation: Generation,
}

enum Process {
    Running,
    /// The process stands still; its events wait until it is thawed.
    Frozen(Vec<Event>),
    /// The process is gone; its host refuses the port.
    Killed,
    /// The host is gone.
    Crashed,
}

#[derive(Clone)]
enum Event {
    Wake(NodeId, Generation, Wake),
    Datagram(NodeId, NodeId, Bytes),
    Refused(NodeId, NodeId),
    /// One side of a push-pull: receiver, sender, table, and whether the receiver answers.
    Table(NodeId, NodeId, Table, bool),
}

impl Event {
    const fn hearer(&self) -> NodeId {
        match self {
            Self::Wake(node, ..) | Self::Datagram(node, ..) | Self::Refused(node, _) | Self::Table(node, ..) => *node,
        }
    }
}

/// Id of the n-th node. Ids are spread so that their encoding is as long as that of real ones.
pub(crate) fn node(n: usize) -> NodeId {
    NodeId::from_bits((n as u128 + 1) << 100 | 0xe55a)
}

pub(crate) fn member(n: usize, generation: u64) -> Member {
    let addr = ([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 2377).into();
    Member { node: node(n), generation: Generation(generation), addr, role: Role::Worker }
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Moment::START,
            config: Config::default(),
            loss: 0.0,
            timers_first: true,
            hosts: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 0,
            cuts: BTreeSet::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            verdicts: Vec::new(),
            datagrams: 0,
        }
    }

    /// A cluster whose nodes all know each other, after the first exchanges.
    pub(crate) fn settled(count: usize, seed: u64) -> Self {
        let mut network = Self::new(seed);
        let rows = (0..count)
            .map(|n| Row {
                id: Id::of(member(n, 1)),
                incarnation: Incarnation(0),
                state: RowState::Present,
                record: None,
                word: None,
            })
            .collect();
        let table = Table::write(rows);
        for n in 0..count {
            network.boot(n, 1);
            network.input(node(n), Input::Members { from: node((n + 1) % count), bytes: table.bytes.clone() });
        }
        // In large clusters, each virtual second costs a second of the machine's time.
        network.run(Duration::from_millis(if count > 200 { 400 } else { 2000 }));
        network.verdicts.clear();
        network
    }

    /// Starts a node that knows no other.
    pub(crate) fn boot(&mut self, n: usize, generation: u64) {
        let seed = self.rng.random();
        let member = member(n, generation);
        let detector = Detector::new(self.config.clone(), member, None, Arc::new(TestNotary(member.node)), seed);
        self.hosts.insert(member.node, Host { detector, process: Process::Running, generation: member.generation });
        self.input(member.node, Input::Start);
    }

    /// Starts a node that knows the addresses of `seeds`.
    pub(crate) fn join(&mut self, n: usize, generation: u64, seeds: impl IntoIterator<Item = usize>) {
        self.boot(n, generation);
        let seeds = seeds.into_iter().map(|seed| member(seed, 0)).collect();
        self.input(node(n), Input::Learn(seeds));
    }

    /// SIGKILL: the process is gone, and the host refuses its port.
    pub(crate) fn kill(&mut self, n: usize) {
        self.host(n).process = Process::Killed;
    }

    /// Power loss: the host is gone.
    pub(crate) fn crash(&mut self, n: usize) {
        self.host(n).process = Process::Crashed;
    }

    /// SIGSTOP: the process stands still.
    pub(crate) fn freeze(&mut self, n: usize) {
        self.host(n).process = Process::Frozen(Vec::new());
    }

    /// SIGCONT: the process handles everything that waited.
    pub(crate) fn thaw(&mut self, n: usize) {
        let host = self.hosts.get_mut(&node(n)).expect("a node");
        let Process::Frozen(mut waiting) = std::mem::replace(&mut host.process, Process::Running) else {
            panic!("{n} is not frozen")
        };
        let timers_first = self.timers_first;
        waiting.sort_by_key(|event| matches!(event, Event::Wake(..)) != timers_first);
        for event in waiting {
            self.hear(event);
        }
    }

    /// Stops all traffic between two groups.
    pub(crate) fn cut(
        &mut self,
        some: impl IntoIterator<Item = usize> + Clone,
        others: impl IntoIterator<Item = usize> + Clone,
    ) {
        self.cut_one_way(some.clone(), others.clone());
        self.cut_one_way(others, some);
    }

    pub(crate) fn cut_one_way(
        &mut self,
        from: impl IntoIterator<Item = usize>,
        to: impl IntoIterator<Item = usize> + Clone,
    ) {
        for from in from {
            self.cuts.extend(to.clone().into_iter().map(|to| (node(from), node(to))));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn goodbye(&mut self, n: usize, goodbye: Goodbye) {
        self.input(node(n), Input::Goodbye(goodbye));
        self.run(Detector::FAREWELL);
        self.kill(n);
    }

    /// Runs the network for a virtual time.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.hear(event);
        }
        self.now = until;
    }

    /// Runs the network until a condition holds. Returns the virtual time that it took.
    pub(crate) fn run_until(&mut self, at_most: Duration, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.now.saturating_since(start) < at_most, "not within {at_most:?}:\n{}", self.story());
            self.run(Duration::from_millis(5));
        }
        self.now.saturating_since(start)
    }

    pub(crate) fn input(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        let mut effects = Vec::new();
        self.hosts.get_mut(&node).expect("a node").detector.handle(now, input, &mut effects);
        let generation = self.hosts[&node].generation;
        for effect in effects {
            self.perform(node, generation, effect);
        }
    }

    /// State of `of` as node `n` sees it.
    pub(crate) fn state(&self, n: usize, of: usize) -> Option<MemberState> {
        self.hosts[&node(n)].detector.member(node(of)).map(|view| view.state)
    }

    pub(crate) fn detector_mut(&mut self, n: usize) -> &mut Detector {
        &mut self.hosts.get_mut(&node(n)).expect("a host").detector
    }

    pub(crate) fn detector(&self, n: usize) -> &Detector {
        &self.hosts[&node(n)].detector
    }

    /// Whether every other running node has such a view of `of`.
    pub(crate) fn all_think(&self, of: usize, thought: impl Fn(Option<MemberState>) -> bool) -> bool {
        self.running().filter(|&id| id != node(of)).all(|id| {
            let view = self.hosts[&id].detector.member(node(of));
            thought(view.map(|view| view.state))
        })
    }

    /// Whether every running node holds exactly the running nodes for alive.
    pub(crate) fn agrees(&self) -> bool {
        let running: BTreeSet<NodeId> = self.running().collect();
        running.iter().all(|id| {
            let detector = &self.hosts[id].detector;
            let alive: BTreeSet<NodeId> = detector
                .members()
                .into_iter()
                .filter(|view| view.state == MemberState::Alive)
                .map(|view| view.member.node)
                .chain([*id])
                .collect();
            alive == running && !detector.is_isolated()
        })
    }

    fn running(&self) -> impl Iterator<Item = NodeId> {
        self.hosts.iter().filter(|(_, host)| matches!(host.process, Process::Running)).map(|(&id, _)| id)
    }

    /// Verdicts of all nodes about one node, in order.
    pub(crate) fn about(&self, of: usize) -> Vec<&Verdict> {
        self.verdicts.iter().map(|(_, _, verdict)| verdict).filter(|v| v.node() == Some(node(of))).collect()
    }

    /// Nodes that any node has concluded to be down.
    pub(crate) fn downs(&self) -> BTreeSet<NodeId> {
        let down = |verdict: &Verdict| match verdict {
            Verdict::Down { node, .. } => Some(*node),
            _ => None,
        };
        self.verdicts.iter().filter_map(|(_, _, verdict)| down(verdict)).collect()
    }

    /// All verdicts as text, for the message of a failed test.
    pub(crate) fn story(&self) -> String {
        let name = |id: &NodeId| (id.bits() >> 100) - 1;
        self.verdicts
            .iter()
            .map(|(at, by, verdict)| {
                format!("{at:?} {}: {:?} {verdict:?}\n", name(by), verdict.node().as_ref().map(name))
            })
            .collect()
    }

    fn host(&mut self, n: usize) -> &mut Host {
        self.hosts.get_mut(&node(n)).expect("a node")
    }

    fn hear(&mut self, event: Event) {
        let hearer = event.hearer();
        let Some(host) = self.hosts.get_mut(&hearer) else { return };
        match &mut host.process {
            Process::Running => (),
            Process::Frozen(waiting) => return waiting.push(event),
            Process::Killed | Process::Crashed => return,
        }
        match event {
            Event::Wake(node, generation, wake) => {
                if host.generation == generation {
                    self.input(node, Input::Timer(wake));
                }
            }
            Event::Datagram(to, from, bytes) => self.input(to, Input::Datagram { from, bytes }),
            Event::Refused(node, subject) => self.input(node, Input::Refused(subject)),
            Event::Table(to, from, table, ask) => {
                if ask {
                    let own = self.hosts[&to].detector.push_pull();
                    if own.sum == table.sum {
                        return;
                    }
                    self.post(to, from, Event::Table(from, to, own, false));
                }
                self.input(to, Input::Members { from, bytes: table.bytes });
            }
        }
    }

    fn perform(&mut self, node: NodeId, generation: Generation, effect: Effect) {
        match effect {
            Effect::Send { to, bytes } => {
                assert!(bytes.len() <= MAX_DATAGRAM, "a datagram of {} bytes", bytes.len());
                self.datagrams += 1;
                if self.loss == 0.0 || !self.rng.random_bool(self.loss) {
                    self.post(node, to, Event::Datagram(to, node, bytes));
                }
            }
            Effect::WakeAt(at, wake) => self.push(at, Event::Wake(node, generation, wake)),
            Effect::Probe(subject) => {
                let killed = self.hosts.get(&subject).is_some_and(|host| matches!(host.process, Process::Killed));
                if killed {
                    self.post(subject, node, Event::Refused(node, subject));
                }
            }
            Effect::PushPull(to) => {
                let table = self.hosts[&node].detector.push_pull();
                self.post(node, to, Event::Table(to, node, table, true));
            }
            Effect::Address { .. } => (),
            Effect::Verdict(verdict) => self.verdicts.push((self.now, node, verdict)),
        }
    }

    fn post(&mut self, from: NodeId, to: NodeId, event: Event) {
        if !self.cuts.contains(&(from, to)) {
            let delay = Duration::from_micros(self.rng.random_range(200..800));
            self.push(self.now + delay, event);
        }
    }

    fn push(&mut self, at: Moment, event: Event) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), event);
    }
}
