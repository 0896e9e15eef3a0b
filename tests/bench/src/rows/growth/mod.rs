//! The row `growth`: the same work in clusters of 50, 200 and 500 workers, and simulated up to 2,000 nodes.
//!
//! Every node is complete except for its engine, whose tasks are values: real QUIC on loopback, the real clock, a real
//! disk. Each manager has a process of its own, so that its memory and processor time can be told apart; the workers
//! share a few processes, one of which holds the tenth that is killed. A cost per node that grows with the cluster is a
//! mistake somewhere, hence the goal beside the smallest size. Delays are compared as they are, not per node: a larger
//! cluster has more to do, and more nodes to do it.
//!
//! - [`measured`]: the cost of each size, beside the smallest.
//! - [`crowd`]: nodes in a child process, controlled by lines.
//! - [`size`]: one cluster of one size, from its founding to the loss of a tenth of its workers.
//! - [`simulated`]: the same work in virtual time.

pub(crate) mod crowd;
mod measured;
mod process;
mod simulated;
mod size;

use super::Row;
use crate::calm;
use crate::figure::Figure;
use measured::Size;

/// The row `growth`.
pub(super) const ROW: Row =
    Row { name: "growth", what: "50, 200 and 500 workers: cost per node beside the smallest", measure };

/// Numbers of workers, beside three managers.
const SIZES: &[u16] = &[50, 200, 500];

/// Numbers of nodes in virtual time, managers included. None by default, since the large ones take long
/// (`ESSAIM_GROWTH_SIMULATED=50,500,1000,2000`).
const SIMULATED: &[u16] = &[];

/// Largest number of rounds: the three sizes take four minutes together.
const ROUNDS_MAX: u32 = 1;

fn measure(rounds: u32) -> Vec<Figure> {
    let size = |prefix: &str, size: &u16| Size { name: format!("{prefix} {size}"), rounds: vec![], notes: vec![] };
    let (real, simulated) = (chosen("ESSAIM_GROWTH", SIZES), chosen("ESSAIM_GROWTH_SIMULATED", SIMULATED));
    let mut sizes: Vec<(u16, Size)> = real.iter().map(|count| (*count, size("growth", count))).collect();
    for round in 0..rounds.min(ROUNDS_MAX) {
        for (count, size) in &mut sizes {
            if !calm::wait() {
                size.notes.push(format!("round {} began on a busy machine", round + 1));
            }
            match size::measure(*count) {
                Ok(mut it) => {
                    size.notes.append(&mut it.notes);
                    size.rounds.push(it);
                }
                Err(why) => {
                    eprintln!("growth {count}: {why}");
                    size.notes.push(format!("round {}: {why}", round + 1));
                }
            }
        }
    }
    let sizes: Vec<Size> = sizes.into_iter().map(|(_, size)| size).collect();
    let mut figures = measured::figures(&sizes);

    let in_virtual_time = |count: &u16| {
        let mut size = size("simulated growth", count);
        match simulated::measure(*count) {
            Ok(mut it) => {
                size.notes.append(&mut it.notes);
                size.rounds.push(it);
            }
            Err(why) => {
                eprintln!("simulated growth {count}: {why}");
                size.notes.push(why);
            }
        }
        size
    };
    figures.extend(measured::figures(&simulated.iter().map(in_virtual_time).collect::<Vec<_>>()));
    figures
}

/// The sizes from the variable of this name (`ESSAIM_GROWTH=50,500`; `0` for none), or the usual ones.
fn chosen(variable: &str, usual: &[u16]) -> Vec<u16> {
    let Ok(said) = std::env::var(variable) else { return usual.into() };
    said.split(',').filter_map(|size| size.parse().ok()).filter(|size| *size > 0).collect()
}
