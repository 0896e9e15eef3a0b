//! The row `memory`: resident memory of a daemon in a cluster of five that runs eight tasks, beside Docker Swarm.
//!
//! The memory includes code, since a machine has one daemon, which shares its code with no other process. The heaviest
//! daemon of each role counts. The peer's containerd and the shims of both are not in the figure; the notes name them.

use std::time::Duration;

use essaim_cluster_tests::harness::Daemon;

use super::Row;
use crate::clusters::turns::{Judged, Measure, by_turns};
use crate::clusters::{Contender, Five, MANAGERS, Resident};
use crate::figure::{Goal, Unit};

/// The row `memory`.
pub(crate) const ROW: Row = Row {
    name: "memory",
    what: "resident memory of a daemon in a cluster of five: manager, worker",
    measure: by_turns::<Memory, 2>,
};

/// Time for which the cluster rests before its memory is read, so that memory taken for forming it is given back, if
/// ever.
const REST: Duration = Duration::from_secs(10);

struct Memory;

impl Measure<2> for Memory {
    const LINES: [(&'static str, Unit, Goal); 2] = [
        ("memory of a manager", Unit::Mebibytes, Goal::RatioAndMost(4.0, 40.0)),
        ("memory of a worker", Unit::Mebibytes, Goal::RatioAndMost(4.0, 25.0)),
    ];
    const JUDGED: Judged = Judged::Before;
    type Ours = Daemon;

    fn round<C: Contender>(notes: &mut Vec<String>) -> Result<[f64; 2], String> {
        let (five, _) = Five::<C>::settled()?;
        std::thread::sleep(REST);
        let all: Vec<Resident> = five.daemons.iter().map(Contender::resident).collect();
        let heaviest = |of: &[Resident], what: fn(&Resident) -> u64| mebibytes(of.iter().map(what).max().unwrap_or(0));
        let shim = heaviest(&all, |one| one.shim);
        let helpers = heaviest(&all, |one| one.helpers);
        let beside = if helpers > 0.0 { format!(" and {helpers:.0} MiB of containerd a host") } else { String::new() };
        notes.push(format!("not counted for {}: {shim:.1} MiB of shim a task{beside}", C::NAME));
        let (managers, workers) = all.split_at(MANAGERS);
        Ok([heaviest(managers, |one| one.daemon), heaviest(workers, |one| one.daemon)])
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
