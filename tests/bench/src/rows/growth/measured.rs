//! The cost of each size, and its comparison with the smallest size.

use crate::figure::{Figure, Goal, Peer, Samples, Unit};

/// How many times the cost of a node in the smallest cluster a node may cost in a larger one.
const WITHIN: f64 = 1.3;

/// Costs of one size; `None` where the round did not get that far or the cost is not measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) join: Option<f64>,
    pub(super) join_cpu: Option<f64>,
    pub(super) handshakes: Option<f64>,
    pub(super) sessions: Option<f64>,
    pub(super) worker_memory: Option<f64>,
    pub(super) manager_memory: Option<f64>,
    pub(super) worker_cpu: Option<f64>,
    pub(super) manager_cpu: Option<f64>,
    pub(super) packets: Option<f64>,
    pub(super) bytes: Option<f64>,
    pub(super) log_per_task: Option<f64>,
    pub(super) start_per_task: Option<f64>,
    pub(super) first_write: Option<f64>,
    pub(super) relinked: Option<f64>,
    pub(super) known: Option<f64>,
    pub(super) elsewhere: Option<f64>,
    pub(super) wronged: Option<f64>,
    pub(super) notes: Vec<String>,
}

/// All rounds of one size.
pub(super) struct Size {
    /// Name of the size, for example `growth 50`.
    pub(super) name: String,
    pub(super) rounds: Vec<Measured>,
    pub(super) notes: Vec<String>,
}

/// A quantity that is measured at every size.
struct Line {
    what: &'static str,
    unit: Unit,
    of: fn(&Measured) -> Option<f64>,
}

const LINES: &[Line] = &[
    Line { what: "join of all, per node", unit: Unit::Millis, of: |it| it.join },
    Line { what: "processor time of the join, per node", unit: Unit::Millis, of: |it| it.join_cpu },
    Line { what: "handshakes of the join, per node", unit: Unit::Count, of: |it| it.handshakes },
    Line { what: "sessions that a node holds at rest", unit: Unit::Count, of: |it| it.sessions },
    Line { what: "memory of a worker at rest", unit: Unit::Mebibytes, of: |it| it.worker_memory },
    Line { what: "memory of the managers at rest, per node", unit: Unit::Mebibytes, of: |it| it.manager_memory },
    Line { what: "processor time of a worker at rest, a second", unit: Unit::Millis, of: |it| it.worker_cpu },
    Line {
        what: "processor time of managers at rest, a second, per node",
        unit: Unit::Millis,
        of: |it| it.manager_cpu,
    },
    Line { what: "packets a second at rest, per node", unit: Unit::Count, of: |it| it.packets },
    Line { what: "bytes a second at rest, per node", unit: Unit::Bytes, of: |it| it.bytes },
    Line { what: "log per task started", unit: Unit::Bytes, of: |it| it.log_per_task },
    Line { what: "all tasks started, per task", unit: Unit::Millis, of: |it| it.start_per_task },
    Line { what: "leader killed: first accepted write", unit: Unit::Millis, of: |it| it.first_write },
    Line { what: "leader killed: all linked and ready", unit: Unit::Millis, of: |it| it.relinked },
    Line { what: "a tenth killed: all known to be lost", unit: Unit::Millis, of: |it| it.known },
    Line { what: "a tenth killed: all running elsewhere", unit: Unit::Millis, of: |it| it.elsewhere },
];

/// Figures of all sizes, the smallest first.
pub(super) fn figures(sizes: &[Size]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = LINES.iter().flat_map(|line| beside_the_smallest(line, sizes)).collect();
    figures.extend(sizes.iter().map(|size| {
        let ours = size.rounds.iter().filter_map(|it| it.wronged).collect();
        let what = format!("{}: live nodes taken for lost", size.name);
        Figure { what, unit: Unit::Count, ours, peer: None, goal: Goal::AtMost(0.0), notes: size.notes.clone() }
    }));
    figures
}

/// One figure for each size, with the smallest size as its peer; empty for a quantity that was not measured.
fn beside_the_smallest(line: &Line, sizes: &[Size]) -> Vec<Figure> {
    let samples = |size: &Size| size.rounds.iter().filter_map(line.of).collect::<Samples>();
    let mut measured = sizes.iter().map(|size| (size, samples(size))).filter(|(_, samples)| samples.len() > 0);
    let figure = |size: &Size, ours, peer: Option<Peer>| Figure {
        what: format!("{}: {}", size.name, line.what),
        unit: line.unit,
        ours,
        goal: if peer.is_some() { Goal::Within(WITHIN) } else { Goal::Base },
        peer,
        notes: Vec::new(),
    };
    let Some((smallest, base)) = measured.next() else { return Vec::new() };
    let peer = Peer { name: smallest.name.clone(), samples: base.clone() };
    let rest = measured.map(|(size, ours)| figure(size, ours, Some(peer.clone())));
    std::iter::once(figure(smallest, base, None)).chain(rest).collect()
}
