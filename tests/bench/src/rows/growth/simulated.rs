//! The row `growth` in virtual time, at sizes that this kind of machine could not hold for real.
//!
//! All times here are virtual: the network has delays between 0.2 and 2 ms, and disk and processor take no time.
//! Processor time and memory would say nothing about a daemon here and are not measured.

use super::crowd::{are_known, running, spec, watch, write};
use super::measured::Measured;
use essaim::testkit::fault::{Fault, Number};
use essaim::testkit::run::{Run, in_virtual_time};
use essaim::testkit::{Draws, Options};
use essaim_manager::Control;
use essaim_model::State;
use essaim_wire::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const SEED: u64 = 1;

const MANAGERS: Number = 3;

/// Tasks per node.
const TASKS: u32 = 2;

/// Time for which a new cluster is left alone before it is measured at rest: joins leave unused sessions, which are
/// closed after fifteen seconds.
const SETTLE: Duration = Duration::from_secs(20);

/// Length of the measurement at rest.
const REST: Duration = Duration::from_secs(5);

/// Time between two looks at a condition that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Time after which any wait is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures a simulated cluster with this many nodes.
pub(super) fn measure(size: Number) -> Result<Measured, String> {
    let wall = std::time::Instant::now();
    let mut it = in_virtual_time(SEED, story(size))?;
    let took = wall.elapsed().as_secs();
    eprintln!("  simulated growth {size}: {took} s");
    it.notes.push(format!("simulated, in {took} s of real time"));
    Ok(it)
}

async fn story(size: Number) -> Result<Measured, String> {
    let mut it = Measured::default();
    let options = Options {
        nodes: size,
        managers: MANAGERS,
        checks: false,
        client: false,
        mixed: false,
        draws: Draws::NONE,
        ..Options::of(SEED)
    };
    let mut run = Run::new(options);
    let everybody = f64::from(size);

    let begun = Instant::now();
    run.world.found(MANAGERS).await?;
    let control = control(&run, 1)?;
    let missed = watch(&control);
    let ready = |state: &State, count: Number| {
        state.nodes().filter(|node| node.is_ready()).count() >= usize::from(count)
            && state.nodes().filter(|node| node.manager.is_some_and(|it| it.voter)).count() >= usize::from(MANAGERS)
    };
    until("all are ready", || ready(&control.last_known(), size)).await?;
    it.join = Some(millis(begun) / everybody);
    it.handshakes = Some(2.0 * run.world.network.handshakes() as f64 / everybody);
    eprintln!("  simulated growth {size}: joined");

    sleep(SETTLE).await;
    it.sessions = Some(2.0 * run.world.network.sessions() as f64 / everybody);
    let (packets, bytes) = (run.world.network.arrived(), run.world.network.carried());
    sleep(REST).await;
    let per_node = |more: u64| Some(more as f64 / REST.as_secs_f64() / everybody);
    it.packets = per_node(run.world.network.arrived() - packets);
    it.bytes = per_node(run.world.network.carried() - bytes);

    let replicas = u32::from(size) * TASKS;
    let (begun, log) = (Instant::now(), control.store().log_written());
    control.create_service(spec(replicas)).await.map_err(|why| why.to_string())?;
    let runs = |state: &State, lost: &BTreeSet<NodeId>| running(state, lost) >= u64::from(replicas);
    until("all tasks run", || runs(&control.last_known(), &BTreeSet::new())).await?;
    it.log_per_task = Some((control.store().log_written() - log) as f64 / f64::from(replicas));
    it.start_per_task = Some(millis(begun) / f64::from(replicas));
    eprintln!("  simulated growth {size}: {replicas} tasks run");

    // Crash the leader.
    let leader = run.world.leader().ok_or("nobody leads")?;
    let mut gone = BTreeSet::from([run.world.node_id(leader).ok_or("the leader is no node")?]);
    let dead = gone.first().copied();
    let missed = match leader {
        1 => watch(&self::control(&run, 2)?),
        _ => missed,
    };
    run.world.strike(0, Fault::Crash(leader)).await;
    let begun = Instant::now();
    let control = self::control(&run, if leader == 1 { 2 } else { 1 })?;
    write(&control).await;
    it.first_write = Some(millis(begun));
    until("all are linked again", || (1..=size).filter(|it| *it != leader).all(|it| is_linked(&run, it, dead))).await?;
    until("all are ready again", || {
        control.last_known().nodes().filter(|node| node.is_ready()).count() >= usize::from(size - 1)
    })
    .await?;
    it.relinked = Some(millis(begun));
    eprintln!("  simulated growth {size}: the leader is gone");

    // Cut the power of a tenth of the nodes at the same moment: their tasks end as well.
    for number in MANAGERS + 1..=MANAGERS + size / 10 {
        gone.extend(run.world.node_id(number));
        run.world.strike(usize::from(number), Fault::PowerCut(number)).await;
    }
    let begun = Instant::now();
    until("all are known to be lost", || are_known(&control.last_known(), &gone)).await?;
    it.known = Some(millis(begun));
    until("all tasks run elsewhere", || runs(&control.last_known(), &gone)).await?;
    it.elsewhere = Some(millis(begun));
    let missed = missed.lock();
    it.wronged = Some(missed.difference(&gone).count() as f64);
    Ok(it)
}

fn control(run: &Run, number: Number) -> Result<Control, String> {
    let handle = run.world.running(number).ok_or_else(|| format!("n{number} does not run"))?;
    handle.control().map_err(|why| why.to_string())
}

/// Whether a node is linked to a manager other than `dead`.
fn is_linked(run: &Run, number: Number, dead: Option<NodeId>) -> bool {
    let standing = run.world.running(number).map(|handle| handle.standing());
    let linked = standing.and_then(|standing| Some(*standing.membership()?.worker.linked().borrow()));
    linked.flatten().is_some_and(|manager| Some(manager) != dead)
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let waiting = async {
        while !holds() {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| format!("not within {PATIENCE:?}: {what}"))
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
