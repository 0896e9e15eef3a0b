//! The row `scale`: what a manager computes at ten thousand nodes. No peer is run at that size, and no process is
//! started for a node. The goals keep a leader, and every manager that ten thousand nodes are linked to, far from being
//! busy.
//!
//! - A leader starts: it builds the board of a state with fifty thousand tasks, and takes a first look at each of a
//!   hundred services.
//! - A node changes while ten thousand tasks wait: the board follows, and waiting tasks are tried again where that can
//!   help.
//! - A node is removed: the change is applied, and the message for each of the other nodes is made.
//! - A node changes among ten thousand services: the leader finds the services that it notifies.
//! - A removal comes to a node that knows ten thousand removals: its admission table is stored with one more.

use super::Row;
use crate::calm;
use crate::figure::{Figure, Goal, Samples, Unit};
use essaim_manager::{ConcernedServices, LinkedNodes};
use essaim_model::{Change, Constraint, Event, Node, Placement, ServiceId, ServiceSpec, State, fixtures};
use essaim_policy::{Board, Scene, Wanted, Watch, reconcile};
use essaim_presence::endpoint::Keep;
use essaim_system::env::SimDisk;
use essaim_transport::Admission;
use essaim_wire::{Generation, Index, Lineage, NodeId, Reachability, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

const NODES: u128 = 10_000;

const SERVICES: u128 = 100;

/// Tasks of each service.
const EACH: u32 = 500;

/// Number of tasks that run on each node.
const ON_EACH_NODE: usize = (SERVICES * EACH as u128 / NODES) as usize;

/// Number of tasks that wait for a node.
const WAITING: u32 = 10_000;

/// Id of the service whose tasks wait, since no node meets its constraint.
const STUCK: ServiceId = ServiceId::from_bits(1 << 40);

/// Number of nodes that were removed before and are still remembered as removed.
const REMOVED: u128 = 1_000;

/// Number of small services among which a leader finds those that a node concerns.
const MANY_SERVICES: u128 = 10_000;

/// Number of removals that a node's admission table has.
const KNOWN_REMOVALS: u128 = 10_000;

/// Nodes that change, or are removed, in one round of the rows that take microseconds.
const NODES_A_ROUND: u128 = 100;

pub(super) const ROW: Row =
    Row { name: "scale", what: "what a manager computes at 10,000 nodes", measure: measure_scale };

fn measure_scale(rounds: u32) -> Vec<Figure> {
    let (mut start, mut event, mut removal) = (Samples::default(), Samples::default(), Samples::default());
    let (mut concern, mut admit) = (Samples::default(), Samples::default());
    let many = Many::new();
    let mut door = Door::new();
    let mut restless = false;
    let mut crowd = Crowd::new();
    let mut linked = LinkedNodes::of(&crowd.state);
    let mut told = 0;
    for round in 0..u128::from(rounds) {
        restless |= !calm::wait_now();
        let began = Instant::now();
        crowd.lead();
        start.add(millis(began));

        let began = Instant::now();
        crowd.lose(2 + round);
        event.add(millis(began));

        let began = Instant::now();
        crowd.change(vec![Change::RemoveNode {
            id: NodeId::from_bits(NODES - round),
            until: Timestamp::default(),
            force: true,
        }]);
        told = linked.applied(&crowd.state);
        removal.add(millis(began));
        crowd.gone += 1;

        let began = Instant::now();
        many.lose();
        concern.add(millis(began));

        let began = Instant::now();
        door.refuse_more();
        admit.add(millis(began));
    }
    let row = |what: &str, ours, most| Figure {
        what: what.into(),
        unit: Unit::Millis,
        ours,
        peer: None,
        goal: Goal::AtMost(most),
        notes: Vec::new(),
    };
    let mut figures = vec![
        row("10,000 nodes, 50,000 tasks: a leader starts", start, 1_000.0),
        row("10,000 tasks wait: a node changes", event, 5.0),
        row("a node is removed, and 10,000 are told", removal, 100.0),
        row("100 nodes change, 10,000 services: who looks", concern, 5.0),
        row("100 more removals join 10,000 in a table", admit, 20.0),
    ];
    figures[2].notes.push(format!("{} bytes a node are said", told as u128 / NODES));
    if restless {
        figures[0].notes.push("the machine was busy with something else in some rounds".into());
    }
    figures
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}

/// A cluster with many small services, and a leader that knows which of them every node concerns.
struct Many {
    state: State,
    services: ConcernedServices,
    losses: Vec<Event>,
}

impl Many {
    fn new() -> Self {
        let mut changes = vec![Change::Found(Box::new(fixtures::founding()))];
        changes.extend((1..=MANY_SERVICES).map(|number| {
            let spec = Box::new(fixtures::service(&format!("s{number}"), 1));
            Change::CreateService { id: ServiceId::from_bits(number), spec }
        }));
        let mut state = State::default();
        fixtures::done(&mut state, Timestamp::default(), changes);
        let lost = |number| {
            let old = fixtures::worker(number);
            let new = Node { reachability: Reachability::Unreachable, ..old.clone() };
            Event::Node { old: Some(Arc::new(old)), new: Some(Arc::new(new)) }
        };
        let losses = (2..2 + NODES_A_ROUND).map(lost).collect();
        Self { services: ConcernedServices::of(&state), state, losses }
    }

    fn lose(&self) {
        assert_eq!(self.services.after(&self.state, &self.losses), 0, "these nodes have no tasks");
    }
}

/// The admission table of a node that knows many removals, and its file, on a disk that takes no time.
struct Door {
    keep: Keep,
    table: Admission,
}

impl Door {
    fn new() -> Self {
        let removal = |node| (NodeId::from_bits(node), Timestamp::from_micros(u64::MAX));
        let table = Admission {
            lineage: Lineage { ordinal: 1, nonce: 1 },
            index: Index(1),
            removed: (1..=KNOWN_REMOVALS).map(removal).collect(),
            ..Admission::default()
        };
        let keep = Keep::new(Arc::new(SimDisk::new()));
        keep.save_admission(&table).expect("a simulated disk");
        Self { keep, table }
    }

    /// Adds removals to the table, one after the other.
    fn refuse_more(&mut self) {
        for _ in 0..NODES_A_ROUND {
            let mut next = self.table.clone();
            next.index = Index(next.index.0 + 1);
            next.removed
                .insert(NodeId::from_bits(1 << 60 | u128::from(next.index.0)), Timestamp::from_micros(u64::MAX));
            self.keep.change_admission(&self.table, &next).expect("a simulated disk");
            self.table = next;
        }
    }
}

/// State of a cluster of ten thousand nodes, and its leader's board.
struct Crowd {
    state: State,
    board: Board,
    drawn: u128,
    now: u64,
    /// Number of nodes that were lost or removed in earlier rounds, whose tasks have no replacement yet.
    gone: usize,
}

impl Crowd {
    fn new() -> Self {
        let mut crowd =
            Self { state: State::default(), board: Board::default(), drawn: 1 << 60, now: 1_000_000, gone: 0 };
        crowd.change(vec![Change::Found(Box::new(fixtures::founding()))]);
        for number in 2..=NODES {
            let node = Node { id: NodeId::from_bits(number), ..fixtures::worker(number) };
            crowd.change(vec![Change::AcceptNode(Box::new(node))]);
        }
        for number in 0..REMOVED {
            let id = NodeId::from_bits(1 << 50 | number);
            crowd.change(vec![Change::AcceptNode(Box::new(Node { id, ..fixtures::worker(NODES + 1) }))]);
            crowd.change(vec![Change::RemoveNode { id, until: Timestamp::from_micros(u64::MAX), force: true }]);
        }
        for number in 1..=SERVICES {
            crowd.create(ServiceId::from_bits(number), fixtures::service(&format!("s{number}"), EACH));
        }
        let mut stuck = fixtures::service("stuck", WAITING);
        let constraint: Constraint = "node.labels.disk==ssd".parse().expect("a constraint");
        stuck.task.placement = Some(Placement { constraints: vec![constraint], ..Placement::default() });
        crowd.create(STUCK, stuck);
        crowd
    }

    fn create(&mut self, id: ServiceId, spec: ServiceSpec) {
        self.change(vec![Change::CreateService { id, spec: Box::new(spec) }]);
        let wanted = self.wanted(id);
        let drawn = &mut self.drawn;
        let mut draw = || {
            *drawn += 1;
            *drawn
        };
        let now = Timestamp::from_micros(self.now);
        let changes = self.board.create_tasks(&self.state, now, &wanted, &mut draw, &mut |_| true);
        self.change(changes);
    }

    fn wanted(&self, id: ServiceId) -> Vec<Wanted> {
        let service = self.state.service(id).expect("it was created");
        let scene = Scene { state: &self.state, now: Timestamp::from_micros(self.now), released: &BTreeSet::new() };
        reconcile(&scene, service, &mut Watch::default()).wanted
    }

    /// Computes what a new leader computes first.
    fn lead(&mut self) {
        self.board = Board::new(&self.state);
        let wanted: usize = self.state.services().map(|service| self.wanted(service.id).len()).sum();
        assert!(wanted <= self.gone * ON_EACH_NODE, "{wanted} slots have no task, and {} nodes are gone", self.gone);
        let now = Timestamp::from_micros(self.now);
        // The recorded reasons of some waiting tasks are out of date, and the new leader updates them.
        let tried = self.board.assign_pending(&self.state, now, &mut |_| true);
        assert!(tried.changes.iter().all(|change| matches!(change, Change::PendTask { .. })), "nothing has room");
    }

    /// Marks a node as unreachable, and tries the waiting tasks again.
    fn lose(&mut self, number: u128) {
        self.now += 100_000;
        self.change(vec![Change::SetReachability {
            id: NodeId::from_bits(number),
            generation: Generation(1),
            reachability: Reachability::Unreachable,
            message: "a benchmark".into(),
        }]);
        self.gone += 1;
        let now = Timestamp::from_micros(self.now);
        let tried = self.board.assign_pending(&self.state, now, &mut |_| true);
        assert_eq!(tried.changes, [], "nothing has room, and reasons are written later");
    }

    fn change(&mut self, changes: Vec<Change>) {
        let events = fixtures::done(&mut self.state, Timestamp::from_micros(self.now), changes);
        let follow = |event: &Event| self.board.note(&self.state, event);
        events.iter().for_each(follow);
    }
}
