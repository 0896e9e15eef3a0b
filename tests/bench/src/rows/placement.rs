//! The row `placement`: placing tasks on a thousand nodes. Placement is pure computing, so no peer is run; the figure
//! for SwarmKit is a recorded one, some 12,000 tasks per second at a thousand nodes.
//!
//! The work is that of the leader's scheduler: the board follows the state, and the tasks that services want are
//! created on the board, each with its node. One placement on a warm board is measured twice: for a service that has
//! tasks on a tenth of the nodes, and for one that has a task on every node, which leaves no node to prefer.

use super::Row;
use crate::calm;
use crate::figure::{Figure, Goal, Peer, Samples, Unit};
use essaim_model::{Change, Desired, Node, ServiceId, ServiceSpec, Slot, State, fixtures};
use essaim_policy::{Board, Wanted};
use essaim_wire::{NodeId, Timestamp};
use std::time::{Duration, Instant};

const NODES: u128 = 1_000;

const TASKS: u32 = 10_000;

/// Number of services, which share the tasks evenly.
const SERVICES: u32 = 100;

/// Placements per second that were recorded of SwarmKit's scheduler.
const SWARMKIT_PER_SECOND: f64 = 12_000.0;

/// Number of single placements in a round.
const SINGLES: u32 = 500;

pub(super) const ROW: Row =
    Row { name: "placement", what: "placing tasks on 1,000 nodes with 10,000 tasks", measure: placement };

fn placement(rounds: u32) -> Vec<Figure> {
    let (mut batch, mut few, mut everywhere) = (Samples::default(), Samples::default(), Samples::default());
    let mut restless = false;
    for _ in 0..rounds {
        restless |= !calm::wait_now();
        let mut crowd = Crowd::new(SERVICES, TASKS / SERVICES);
        let began = Instant::now();
        let placed = crowd.place_all();
        batch.add(f64::from(placed) / began.elapsed().as_secs_f64());
        few.add(crowd.place_singly());

        let mut crowd = Crowd::new(TASKS / NODES as u32, NODES as u32);
        crowd.place_all();
        everywhere.add(crowd.place_singly());
    }
    let recorded = || Peer { name: "SwarmKit, recorded".into(), samples: [SWARMKIT_PER_SECOND].into_iter().collect() };
    let single = |what: &str, ours| Figure {
        what: what.into(),
        unit: Unit::Micros,
        ours,
        peer: None,
        goal: Goal::AtMost(100.0),
        notes: Vec::new(),
    };
    let mut figures = vec![
        single("one warm placement", few),
        single("one warm placement, every node has such a task", everywhere),
        Figure {
            what: "placements, 1,000 nodes, 10,000 tasks".into(),
            unit: Unit::PerSecond,
            ours: batch,
            peer: Some(recorded()),
            goal: Goal::AtLeast(100_000.0),
            notes: Vec::new(),
        },
    ];
    if restless {
        figures[0].notes.push("the machine was busy with something else in some rounds".into());
    }
    figures
}

/// State of a cluster whose services want tasks, and its leader's board.
struct Crowd {
    state: State,
    board: Board,
    services: Vec<ServiceId>,
    each: u32,
    drawn: u128,
}

impl Crowd {
    fn new(services: u32, each: u32) -> Self {
        let mut crowd = Self {
            state: State::default(),
            board: Board::default(),
            services: (1..=u128::from(services)).map(ServiceId::from_bits).collect(),
            each,
            drawn: 1_000_000,
        };
        crowd.make(vec![Change::Found(Box::new(fixtures::founding()))]);
        let accept = (2..=NODES).map(|number| {
            Change::AcceptNode(Box::new(Node { id: NodeId::from_bits(number), ..fixtures::worker(number) }))
        });
        crowd.make(accept.collect());
        let create = crowd.services.iter().map(|id| {
            let spec: ServiceSpec = fixtures::service(&format!("s{}", id.bits()), each);
            Change::CreateService { id: *id, spec: Box::new(spec) }
        });
        crowd.make(create.collect());
        crowd.board = Board::new(&crowd.state);
        crowd
    }

    fn make(&mut self, changes: Vec<Change>) {
        for event in &fixtures::done(&mut self.state, Timestamp::default(), changes) {
            self.board.note(&self.state, event);
        }
    }

    /// Places all wanted tasks in one batch; returns their number.
    fn place_all(&mut self) -> u32 {
        let wanted: Vec<Wanted> =
            self.services.clone().into_iter().flat_map(|service| self.wanted(service, 1..=self.each)).collect();
        let changes = self.create(&wanted);
        assert!(changes.iter().all(is_placed), "there is room for all");
        u32::try_from(changes.len()).expect("few enough")
    }

    /// Places one additional task at a time, for each service in turn; returns the median time in microseconds.
    fn place_singly(&mut self) -> f64 {
        let mut times = Vec::new();
        for number in 0..SINGLES {
            let service = self.services[number as usize % self.services.len()];
            let slot = self.each + 1 + number;
            let wanted: Vec<Wanted> = self.wanted(service, slot..=slot).collect();
            let began = Instant::now();
            let changes = self.create(&wanted);
            times.push(began.elapsed());
            assert!(changes.len() == 1 && is_placed(&changes[0]), "{changes:?}");
        }
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0.0, |median: &Duration| median.as_secs_f64() * 1e6)
    }

    fn wanted(&self, service: ServiceId, slots: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Wanted> + use<> {
        let spec_version = self.state.service(service).expect("it was created").spec_version;
        slots.map(move |slot| Wanted {
            service,
            spec_version,
            slot: Slot::Number(slot),
            desired: Desired::Running,
            restarts: 0,
        })
    }

    fn create(&mut self, wanted: &[Wanted]) -> Vec<Change> {
        let drawn = &mut self.drawn;
        let mut draw = || {
            *drawn += 1;
            *drawn
        };
        self.board.create_tasks(&self.state, Timestamp::default(), wanted, &mut draw, &mut |_| true)
    }
}

fn is_placed(change: &Change) -> bool {
    matches!(change, Change::CreateTask(task) if task.node().is_some())
}
