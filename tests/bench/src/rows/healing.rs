//! The rows about recovery: how long a cluster takes to recover from a lost worker or leader, beside Docker Swarm.
//!
//! Each round has a cluster of its own, with eight sleeping tasks, that was left alone for a while. *Killed* means that
//! every process on that host ends at once: daemon, shims and tasks. *Cut* means that the host's network cable is
//! pulled. A surviving manager is asked for the tasks every ten milliseconds, over its unix socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::{Daemon, GLANCE};

use super::Row;
use crate::calm;
use crate::clusters::turns::{Judged, Measure, by_turns};
use crate::clusters::{Contender, Five, MANAGERS, REPLICAS, create, until};
use crate::figure::{Goal, Unit};

/// The row `worker-killed`.
pub(crate) const WORKER_KILLED: Row = Row {
    name: "worker-killed",
    what: "everything on a worker is killed: its tasks are assigned, and run, elsewhere",
    measure: by_turns::<WorkerKilled, 2>,
};

/// The row `link-cut`.
pub(crate) const LINK_CUT: Row =
    Row { name: "link-cut", what: "a worker's link is cut: its tasks run elsewhere", measure: by_turns::<LinkCut, 1> };

/// The row `leader-killed`.
pub(crate) const LEADER_KILLED: Row = Row {
    name: "leader-killed",
    what: "everything on the leader's host is killed: a write is accepted again",
    measure: by_turns::<LeaderKilled, 1>,
};

/// Index of the worker that is lost, the last of the five daemons.
pub(super) const VICTIM: usize = 4;

/// Time after which attempts to write are given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(90);

struct WorkerKilled;
struct LinkCut;
struct LeaderKilled;

impl Measure<2> for WorkerKilled {
    const LINES: [(&'static str, Unit, Goal); 2] = [
        ("worker killed: all reassigned", Unit::Millis, Goal::Ratio(15.0)),
        ("worker killed: all running elsewhere", Unit::Millis, Goal::Ratio(10.0)),
    ];
    const JUDGED: Judged = Judged::AtEnd;
    type Ours = Daemon;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 2], String> {
        lose(|five: &mut Five<C>| five.daemons[VICTIM].kill_host())
    }
}

impl Measure<1> for LinkCut {
    const LINES: [(&'static str, Unit, Goal); 1] =
        [("a worker's link cut: all running elsewhere", Unit::Millis, Goal::Ratio(7.0))];
    const JUDGED: Judged = Judged::AtEnd;
    type Ours = Daemon;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 1], String> {
        let [_, running] = lose(|five: &mut Five<C>| five.lab.cut(VICTIM as u8 + 1))?;
        Ok([running])
    }
}

impl Measure<1> for LeaderKilled {
    const LINES: [(&'static str, Unit, Goal); 1] =
        [("leader killed: first accepted write", Unit::Millis, Goal::Ratio(10.0))];
    const JUDGED: Judged = Judged::AtEnd;
    type Ours = Daemon;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 1], String> {
        let (mut five, _) = Five::<C>::settled()?;
        let leader = five.leader()?;
        calm::wait();
        let begun = Instant::now();
        five.daemons[leader].kill_host();
        let accepted = first_accepted(&five, leader)?;
        Ok([millis(accepted.duration_since(begun))])
    }
}

/// Loses the worker; returns the milliseconds until all tasks are assigned to other nodes, and until all run there.
pub(super) fn lose<C: Contender>(loss: impl FnOnce(&mut Five<C>)) -> Result<[f64; 2], String> {
    let (mut five, service) = Five::<C>::settled()?;
    let lost = five.node_id(VICTIM)?;
    if five.look(0, &service, &lost)?.running as u64 == REPLICAS {
        return Err("no task ran on the node that would be lost".into());
    }
    calm::wait();
    let begun = Instant::now();
    loss(&mut five);
    let mut assigned = None;
    until("all run elsewhere", || {
        let seen = five.look(0, &service, &lost)?;
        let now = begun.elapsed();
        if seen.assigned as u64 == REPLICAS {
            assigned.get_or_insert(now);
        }
        if seen.running as u64 == REPLICAS { Ok(()) } else { Err(format!("{seen:?}")) }
    })?;
    let running = begun.elapsed();
    Ok([millis(assigned.unwrap_or(running)), millis(running)])
}

/// Asks each surviving manager again and again to create a service; returns the time at which the first one accepted.
fn first_accepted<C: Contender>(five: &Five<C>, leader: usize) -> Result<Instant, String> {
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (said, heard) = mpsc::channel();
        for at in (0..MANAGERS).filter(|at| *at != leader) {
            let (said, done, socket) = (said.clone(), &done, five.daemons[at].socket().to_owned());
            scope.spawn(move || {
                let mut attempt = 0;
                while !done.load(Ordering::Relaxed) && begun.elapsed() < WRITE_PATIENCE {
                    attempt += 1;
                    // Each attempt has a name of its own, since an attempt that was not confirmed may have been
                    // applied.
                    if create::<C>(&socket, &format!("after-{at}-{attempt}"), 0).is_ok() {
                        let _ = said.send(Instant::now());
                        return;
                    }
                    std::thread::sleep(GLANCE);
                }
            });
        }
        drop(said);
        let accepted = heard.recv().map_err(|_| "no write was accepted".to_owned());
        done.store(true, Ordering::Relaxed);
        accepted
    })
}

pub(super) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}
