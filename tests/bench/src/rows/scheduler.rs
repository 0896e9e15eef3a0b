//! The row `scheduler`: placing tasks on the shapes of SwarmKit's own scheduler benchmark, and on larger ones.
//!
//! Each round places all tasks of a shape on a board that has placed one task with the needs of the first service
//! before, and so knows which nodes suit. A leader learns that once for each distinct set of constraints and preferences,
//! which takes about 0.1 microseconds a node, and 0.3 with two levels of preferences. The rate counts the processor time of the thread, because the work is pure computing and the machine
//! may do other things beside it. The largest shape is also told with the memory of the process.

use super::Row;
use crate::figure::{Figure, Goal, Samples, Unit};
use essaim_model::{
    Change, Desired, Event, Node, Resources, ServiceId, ServiceSpec, Share, Slot, SpreadOver, State, fixtures,
};
use essaim_policy::{Board, Wanted};
use essaim_wire::Timestamp;
use std::sync::Arc;

pub(super) const ROW: Row = Row {
    name: "scheduler",
    what: "placing tasks on the shapes of SwarmKit's benchmark, and on 100,000 nodes",
    measure: scheduler,
};

/// Goal for tasks of one service, in placements per second of processor time.
const ONE_SERVICE: f64 = 1_000_000.0;

/// Goal for tasks of a thousand services with a hundred distinct sets of constraints.
const MANY_SERVICES: f64 = 100_000.0;

/// Wishes that are given to the board at a time: more than the leader puts into one proposal, so that the largest shape
/// is not one list of a million.
const AT_A_TIME: usize = 10_000;

/// Times that the tasks of a shape are placed for one sample: the kernel counts processor time in steps of up to four
/// milliseconds.
const TIMES: u32 = 25;

/// What the tasks of a shape ask of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    /// A constraint that half of the nodes satisfy.
    Constraint,
    /// Memory of which every node has enough for its share of the tasks.
    Memory,
    /// Two levels of spread preferences: ten zones with ten racks each.
    Spread,
    /// One of a hundred sets of constraints, each of which a tenth of the nodes satisfies.
    ManySets,
}

/// Nodes, services and tasks in total.
#[derive(Debug, Clone, Copy)]
struct Shape {
    nodes: u32,
    services: u32,
    tasks: u32,
    with: With,
}

fn scheduler(rounds: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (nodes, tasks) in [(1_000, 10_000), (10_000, 10_000), (100_000, 1_000)] {
        for (with, words) in [
            (With::Nothing, ""),
            (With::Constraint, ", a constraint"),
            (With::Memory, ", memory reserved"),
            (With::Spread, ", two levels of spread"),
        ] {
            let shape = Shape { nodes, services: 1, tasks, with };
            let what = format!("placements, {nodes} nodes, {tasks} tasks of one service{words}");
            figures.push(rate(what, ONE_SERVICE, rounds, shape));
        }
    }
    let shape = Shape { nodes: 1_000, services: 1_000, tasks: 10_000, with: With::ManySets };
    let what = "placements, 1000 nodes, 10000 tasks of 1000 services, 100 sets of constraints";
    figures.push(rate(what.into(), MANY_SERVICES, rounds, shape));
    figures.extend(largest());
    figures
}

fn rate(what: String, goal: f64, rounds: u32, shape: Shape) -> Figure {
    let ours: Samples = (0..rounds).map(|_| f64::from(shape.tasks) / Crowd::new(shape).place_all(TIMES)).collect();
    Figure { what, unit: Unit::PerSecond, ours, peer: None, goal: Goal::AtLeast(goal), notes: Vec::new() }
}

/// A hundred thousand nodes and a million tasks, once.
fn largest() -> [Figure; 2] {
    let mut crowd = Crowd::new(Shape { nodes: 100_000, services: 1_000, tasks: 1_000_000, with: With::ManySets });
    let seconds = crowd.place_all(1);
    let figure = |what: &str, unit, value: f64, goal| Figure {
        what: what.into(),
        unit,
        ours: [value].into_iter().collect(),
        peer: None,
        goal,
        notes: Vec::new(),
    };
    [
        figure("placing 1,000,000 tasks on 100,000 nodes", Unit::Millis, seconds * 1e3, Goal::AtMost(60_000.0)),
        figure("memory with 1,000,000 tasks on 100,000 nodes", Unit::Mebibytes, resident(), Goal::AtMost(8_192.0)),
    ]
}

/// Processor time that this thread has used, in seconds.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
    nanos.unwrap_or(f64::NAN) / 1e9
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// A cluster whose services want tasks, and its leader's board.
struct Crowd {
    state: State,
    shape: Shape,
    drawn: u128,
}

impl Crowd {
    fn new(shape: Shape) -> Self {
        let mut crowd = Self { state: State::default(), shape, drawn: 1 << 100 };
        crowd.make(vec![Change::Found(Box::new(fixtures::founding()))]);
        let each = shape.tasks / shape.services;
        // Service 0 is one more, with one task, whose needs of a node are those of the first service.
        let create = (0..=shape.services).map(|number| Change::CreateService {
            id: ServiceId::from_bits(u128::from(number) + 1),
            spec: Box::new(service(number, if number == 0 { 1 } else { each }, shape.with)),
        });
        crowd.make(create.collect());
        crowd
    }

    fn make(&mut self, changes: Vec<Change>) {
        fixtures::done(&mut self.state, Timestamp::default(), changes);
    }

    /// The board of the shape. Its nodes are told to the board alone: a state has 16,384 nodes at most, because each has
    /// a share of the loopback addresses, and placement asks the state for specs only.
    fn board(&self) -> Board {
        let mut board = Board::default();
        for number in 1..=self.shape.nodes {
            board.note(&self.state, &Event::Node { old: None, new: Some(Arc::new(node(number))) });
        }
        board
    }

    /// Places all tasks on a board that has placed a task with such needs before, `times` times on a copy of it; returns
    /// the processor time that this took on average, in seconds.
    fn place_all(&mut self, times: u32) -> f64 {
        let wishes = |services: std::ops::RangeInclusive<u32>, each: u32| -> Vec<Wanted> {
            let of_service = |number: u32| {
                let service = self.state.service(ServiceId::from_bits(u128::from(number) + 1)).expect("created");
                let (service, spec_version) = (service.id, service.spec_version);
                let (desired, restarts) = (Desired::Running, 0);
                (1..=each).map(move |slot| Wanted {
                    service,
                    spec_version,
                    slot: Slot::Number(slot),
                    desired,
                    restarts,
                })
            };
            services.flat_map(of_service).collect()
        };
        let Shape { services, tasks, .. } = self.shape;
        let (first, wanted) = (wishes(0..=0, 1), wishes(1..=services, tasks / services));
        let mut warm = self.board();
        let (state, drawn) = (&self.state, &mut self.drawn);
        let mut place = |board: &mut Board, wanted: &[Wanted]| {
            let mut draw = || {
                *drawn = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).wrapping_add(1);
                *drawn
            };
            board.create_tasks(state, Timestamp::default(), wanted, &mut draw, &mut |_| true)
        };
        assert_eq!(place(&mut warm, &first).len(), 1);
        let mut seconds = 0.0;
        for round in 1..=times {
            // The last copy is the board itself, so that the largest shape is in memory once.
            let mut board = if round == times { std::mem::take(&mut warm) } else { warm.clone() };
            let mut made = Vec::with_capacity(wanted.len());
            let began = processor_time();
            for wanted in wanted.chunks(AT_A_TIME) {
                made.extend(place(&mut board, wanted));
            }
            seconds += processor_time() - began;
            let is_placed = |change: &Change| matches!(change, Change::CreateTask(task) if task.node().is_some());
            assert!(made.len() == wanted.len() && made.iter().all(is_placed), "there is room for all");
        }
        seconds / f64::from(times)
    }
}

fn node(number: u32) -> Node {
    let mut node = fixtures::worker(number.into());
    let labels = [
        ("zone", format!("z{}", number % 10)),
        ("rack", format!("r{}", number / 10 % 10)),
        ("half", (number % 2).to_string()),
        ("set", (number % 100).to_string()),
    ];
    node.spec.labels.extend(labels.map(|(label, value)| (label.to_owned(), value)));
    // No address is claimed for each task, as with containers: a node of the process engine takes 253 tasks at most.
    node.description.iter_mut().for_each(|it| it.engines = vec![essaim_model::EngineKind::Docker]);
    node
}

fn service(number: u32, replicas: u32, with: With) -> ServiceSpec {
    let mut spec = fixtures::service(&format!("s{number}"), replicas);
    spec.labels.insert(essaim_model::service::ENGINE_LABEL.into(), "docker".into());
    let placement = spec.task.placement.get_or_insert_default();
    let constraint = |text: String| text.parse().expect("a constraint");
    match with {
        With::Nothing => (),
        With::Constraint => placement.constraints.push(constraint("node.labels.half==1".into())),
        With::Memory => {
            let reservation = Some(Share { memory_bytes: 8 << 20, ..Share::default() });
            spec.task.resources = Some(Resources { reservation, ..Resources::default() });
        }
        With::Spread => {
            let labels = ["node.labels.zone", "node.labels.rack"];
            placement.preferences = labels.map(|label| SpreadOver::parse(label).expect("a label")).into();
        }
        With::ManySets => {
            let tenth: Vec<String> = (0..10).map(|it| ((number + it * 10) % 100).to_string()).collect();
            placement.constraints.push(constraint(format!("node.labels.set in ({})", tenth.join(", "))));
            placement.constraints.push(constraint(format!("node.hostname!=x{}", number % 100)));
        }
    }
    spec
}
