//! A cluster for tests: a state with nodes and services, and the leader's decisions on it, without actors.

use crate::{Board, Plan, Retried, Scene, Watch, reconcile};
use essaim_model::fixtures::{self, founding};
pub(crate) use essaim_model::fixtures::{GIB, service as spec, worker as node};
use essaim_model::*;
use essaim_wire::{Level, NodeId, Reachability, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The node with this number.
pub(crate) fn id(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

/// A state, and what its leader keeps between decisions.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) released: BTreeSet<NodeId>,
    pub(crate) board: Board,
    watches: BTreeMap<ServiceId, Watch>,
    drawn: u128,
    now: u64,
}

impl World {
    /// A cluster of manager 1 and workers up to number `nodes`.
    pub(crate) fn of(nodes: u128) -> Self {
        let mut world = Self {
            state: State::default(),
            released: BTreeSet::new(),
            board: Board::default(),
            watches: BTreeMap::new(),
            drawn: 1_000_000,
            now: 1_000_000_000,
        };
        world.done(vec![Change::Found(Box::new(founding()))]);
        for number in 2..=nodes {
            world.done(vec![Change::AcceptNode(Box::new(node(number)))]);
        }
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time.as_micros() as u64;
    }

    /// Changes to another leader, whose clock is ahead by `ahead`.
    pub(crate) fn change_leader(&mut self, ahead: Duration) {
        self.watches.clear();
        self.board = Board::new(&self.state);
        self.pass(ahead);
    }

    pub(crate) fn try_done(&mut self, changes: Vec<Change>) -> Result<(), Refusal> {
        let now = self.now();
        let (outcome, events) = fixtures::propose(&mut self.state, now, changes);
        for event in &events {
            self.board.note(&self.state, event);
        }
        match outcome {
            Outcome::Done(_) => Ok(()),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    pub(crate) fn done(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.try_done(changes.clone()).unwrap_or_else(|refusal| panic!("{refusal}: {changes:?}"));
        }
    }

    pub(crate) fn create(&mut self, name: &str, replicas: u32, edit: impl FnOnce(&mut ServiceSpec)) -> ServiceId {
        self.drawn += 1;
        let service = ServiceId::from_bits(self.drawn);
        let mut spec = spec(name, replicas);
        edit(&mut spec);
        self.done(vec![Change::CreateService { id: service, spec: Box::new(spec) }]);
        service
    }

    pub(crate) fn update(&mut self, service: ServiceId, edit: impl FnOnce(&mut ServiceSpec)) {
        let old = Arc::clone(self.state.service(service).expect("there"));
        let mut spec = old.spec.clone();
        edit(&mut spec);
        self.done(vec![Change::UpdateService { id: service, expect: old.meta.version, spec: Some(Box::new(spec)) }]);
    }

    pub(crate) fn set_cluster(&mut self, edit: impl FnOnce(&mut ClusterSpec)) {
        let cluster = Arc::clone(self.state.cluster().expect("founded"));
        let mut spec = cluster.spec.clone();
        edit(&mut spec);
        self.done(vec![Change::SetCluster { expect: cluster.meta.version, spec }]);
    }

    pub(crate) fn set_node(&mut self, node: u128, edit: impl FnOnce(&mut NodeSpec)) {
        let old = Arc::clone(self.state.node(id(node)).expect("there"));
        let mut spec = old.spec.clone();
        edit(&mut spec);
        self.done(vec![Change::SetNode { id: id(node), expect: old.meta.version, spec }]);
    }

    pub(crate) fn describe(&mut self, node: u128, edit: impl FnOnce(&mut NodeDescription)) {
        let old = Arc::clone(self.state.node(id(node)).expect("there"));
        let mut description = old.description.clone().expect("ready");
        edit(&mut description);
        self.done(vec![Change::DescribeNode {
            id: id(node),
            generation: old.generation,
            addr: "127.0.0.1:2377".parse().expect("an address"),
            level: old.level,
            description: Some(description),
        }]);
    }

    /// Starts the daemon of a node again, with a program of this level.
    pub(crate) fn start_program(&mut self, node: u128, level: Level) {
        let old = Arc::clone(self.state.node(id(node)).expect("there"));
        self.done(vec![Change::DescribeNode {
            id: id(node),
            generation: old.generation.next(),
            addr: "127.0.0.1:2377".parse().expect("an address"),
            level,
            description: None,
        }]);
    }

    /// Sets the reachability of a node, as a leader would commit it. A lost node is released as well.
    pub(crate) fn reach(&mut self, node: u128, reachability: Reachability) {
        let generation = self.state.node(id(node)).expect("there").generation;
        let message = format!("{reachability:?}");
        self.done(vec![Change::SetReachability { id: id(node), generation, reachability, message }]);
        match reachability {
            Reachability::Unreachable | Reachability::Down => self.released.insert(id(node)),
            Reachability::Reachable | Reachability::Unknown => self.released.remove(&id(node)),
        };
    }

    pub(crate) fn plan(&mut self, service: ServiceId) -> Plan {
        let service = Arc::clone(self.state.service(service).expect("there"));
        let scene = Scene { state: &self.state, now: self.now(), released: &self.released };
        reconcile(&scene, &service, self.watches.entry(service.id).or_default())
    }

    /// One round of the leader: reconciles every service, then places tasks. Returns whether anything was proposed.
    pub(crate) fn lead(&mut self) -> bool {
        let mut acted = false;
        for service in self.state.services().map(|service| service.id).collect::<Vec<_>>() {
            let Plan { mut changes, wanted, .. } = self.plan(service);
            let before = self.board.clone();
            changes.iter().for_each(|change| self.board.expect(change));
            let (state, now) = (self.state.clone(), self.now());
            let drawn = &mut self.drawn;
            let mut draw = || {
                *drawn += 1;
                *drawn
            };
            let created = self.board.create_tasks(&state, now, &wanted, &mut draw, &mut |_| true);
            assert_eq!(created.len(), wanted.len(), "every wish gets a task");
            changes.extend(created);
            // As the scheduler does: the pending tasks are looked at while the creation of others is under way.
            changes.extend(self.board.assign_pending(&state, now, &mut |_| true).changes);
            acted |= !changes.is_empty();
            self.done(changes);
            drop(before);
        }
        let (state, now) = (self.state.clone(), self.now());
        let Retried { changes: placed, again } = self.board.assign_pending(&state, now, &mut |_| true);
        // Reasons of a few tasks follow within a turn or two, those of thousands only after their pause.
        acted |= !placed.is_empty() || again.is_some_and(|again| again < now + Duration::from_secs(1));
        self.done(placed);
        assert_eq!(self.board.find_phantom(&self.state), None, "booked is what was made");
        acted
    }

    /// When pending tasks are to be tried again without an event.
    pub(crate) fn again(&mut self) -> Option<Timestamp> {
        let (state, now) = (self.state.clone(), self.now());
        self.board.assign_pending(&state, now, &mut |_| true).again
    }

    /// When the newest task of a service was created.
    pub(crate) fn created_at(&self, service: ServiceId) -> Timestamp {
        self.state.tasks_of(service).map(|task| task.meta.created_at).max().expect("it has tasks")
    }

    /// Every worker that answers carries out its orders. Returns whether anything was reported.
    pub(crate) fn work(&mut self) -> bool {
        let mut acted = false;
        for node in self.state.nodes().cloned().collect::<Vec<_>>() {
            if !matches!(node.reachability, Reachability::Reachable | Reachability::Unknown) {
                continue;
            }
            let next = |task: &Task| match (task.desired, task.observed.state) {
                (_, state) if state.is_final() => None,
                (Desired::Ready, state) => (state < TaskState::Ready).then_some(TaskState::Ready),
                (Desired::Running, state) => (state < TaskState::Running).then_some(TaskState::Running),
                (Desired::Shutdown | Desired::Remove, _) => Some(TaskState::Shutdown),
            };
            let told = self.state.tasks_on(node.id).filter(|task| task.written_off.is_none());
            let reports: Vec<_> = told
                .filter_map(|task| {
                    let observed = Observed { state: next(task)?, at: self.now(), ..task.observed.clone() };
                    Some((task.id, observed))
                })
                .collect();
            acted |= !reports.is_empty();
            self.done(vec![Change::Observe { node: node.id, reports }]);
        }
        acted
    }

    /// Leader and workers take turns until there is nothing to do, or fifty turns have passed.
    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            self.check();
            let led = self.lead();
            self.check();
            if !(self.work() | led) {
                return;
            }
            self.pass(Duration::from_millis(100));
        }
        panic!("leader and workers never come to rest");
    }

    /// Settles again and again until `time` has passed.
    pub(crate) fn live(&mut self, time: Duration) {
        let until = self.now + time.as_micros() as u64;
        while self.now < until {
            self.settle();
            self.pass(Duration::from_millis(500));
        }
        self.settle();
    }

    /// Ends the tasks of a node in this state.
    pub(crate) fn end(&mut self, node: NodeId, state: TaskState) {
        let running: Vec<_> = self.state.tasks_on(node).filter(|task| task.is_running()).cloned().collect();
        let reports = running
            .iter()
            .map(|task| (task.id, Observed { state, at: self.now(), exit_code: Some(1), ..task.observed.clone() }))
            .collect();
        self.done(vec![Change::Observe { node, reports }]);
    }

    /// Puts a task into the state, as a leader and a worker before this one left it. It follows the spec in force.
    pub(crate) fn leave_task(
        &mut self,
        service: ServiceId,
        slot: Slot,
        node: Option<u128>,
        desired: Desired,
        state: TaskState,
    ) -> TaskId {
        self.drawn += 1;
        let id = TaskId::from_bits(self.drawn);
        let spec_version = self.state.service(service).expect("there").spec_version;
        let mut task = fixtures::task(id, service, spec_version, self::id(node.unwrap_or(1)));
        if node.is_none() {
            task.assigned = Assigned::Pending { reason: String::new() };
        }
        (task.slot, task.desired, task.observed) = (slot, desired, Observed::nothing(self.now()));
        self.done(vec![Change::CreateTask(Box::new(task))]);
        let seen = match state {
            TaskState::New => vec![],
            TaskState::Complete | TaskState::Failed => vec![TaskState::Running, state],
            TaskState::Rejected => vec![TaskState::Preparing, state],
            _ => vec![state],
        };
        for state in seen {
            let reports = vec![(id, Observed { state, ..Observed::nothing(self.now()) })];
            self.done(vec![Change::Observe {
                node: self::id(node.expect("a task that was seen has a node")),
                reports,
            }]);
        }
        id
    }

    /// Makes the workers reject every task that a service wants.
    pub(crate) fn reject_all(&mut self, service: ServiceId) {
        let wanted: Vec<_> = self.state.tasks_of(service).filter(|task| task.is_wanted()).cloned().collect();
        for task in wanted {
            let node = task.node().expect("it was placed");
            for state in [TaskState::Preparing, TaskState::Rejected] {
                let observed = Observed { state, ..Observed::nothing(self.now()) };
                self.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
            }
        }
    }

    /// Number of wanted tasks of a service on each node.
    pub(crate) fn wanted_by_node(&self, service: ServiceId) -> BTreeMap<NodeId, usize> {
        let mut nodes = BTreeMap::new();
        for task in self.state.tasks_of(service).filter(|task| task.is_wanted()) {
            if let Some(node) = task.node() {
                *nodes.entry(node).or_default() += 1;
            }
        }
        nodes
    }

    /// Number of running tasks of a service.
    pub(crate) fn running(&self, service: ServiceId) -> usize {
        self.state.tasks_of(service).filter(|task| task.is_running() && task.is_wanted()).count()
    }

    /// Reasons of the pending tasks of a service.
    pub(crate) fn reasons(&self, service: ServiceId) -> Vec<String> {
        let waiting = self.state.tasks_of(service).filter(|task| task.is_wanted());
        waiting
            .filter_map(|task| match &task.assigned {
                Assigned::Pending { reason } => Some(reason.clone()),
                Assigned::Node(_) => None,
            })
            .collect()
    }

    /// Asserts the invariants of the state.
    fn check(&self) {
        let mut slots: BTreeMap<(ServiceId, Slot), usize> = BTreeMap::new();
        for task in self.state.tasks().filter(|task| task.is_wanted()) {
            *slots.entry((task.service, task.slot)).or_default() += 1;
        }
        for (slot, wanted) in slots {
            assert!(wanted <= 2, "{wanted} tasks are wanted in {slot:?}");
        }
    }
}
