//! The row `forming`: from no process to a cluster, and from a spec to eight running tasks, beside Docker Swarm.
//!
//! The clock starts when the first of five processes does, and stops when every node is ready and three managers are
//! reachable. Nodes join one after another, by the same requests for both. The peer's engines import their image
//! between the two measurements.

use std::time::Instant;

use essaim_cluster_tests::harness::{Daemon, Lab};

use super::Row;
use crate::clusters::turns::{Judged, Measure, by_turns};
use crate::clusters::{Contender, Five, NODES, REPLICAS};
use crate::figure::{Goal, Unit};

/// The row `forming`.
pub(crate) const ROW: Row = Row {
    name: "forming",
    what: "five daemons become a cluster of three managers; a service of eight tasks runs",
    measure: by_turns::<Forming, 2>,
};

struct Forming;

impl Measure<2> for Forming {
    const LINES: [(&'static str, Unit, Goal); 2] = [
        ("five daemons formed from nothing", Unit::Millis, Goal::Ratio(3.0)),
        ("eight replicas running", Unit::Millis, Goal::Ratio(1.0)),
    ];
    const JUDGED: Judged = Judged::Before;
    type Ours = Daemon;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 2], String> {
        let lab = Lab::new(NODES);
        let begun = Instant::now();
        let five = Five::<C>::spawn(lab);
        five.form()?;
        let formed = begun.elapsed();
        five.bring_images()?;
        let begun = Instant::now();
        let service = five.create(0, "web", REPLICAS)?;
        five.wait_running(&service)?;
        Ok([formed, begun.elapsed()].map(|span| span.as_secs_f64() * 1000.0))
    }
}
