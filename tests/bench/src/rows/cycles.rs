//! The row `cycles`: whether a manager's memory grows with what has come and gone.
//!
//! A simulated manager and worker in one process, with an engine that does nothing: a service is created, scaled, updated
//! (monitor 0) and removed, ten thousand times. The process's resident memory after all of them is compared with that
//! after the first thousand, by which every history, log and pool has its size. The simulated disk is in this memory too,
//! so a log or snapshot that grew would show.

use super::Row;
use crate::figure::{Figure, Goal, Samples, Unit};
use essaim::testkit::run::{Run, in_virtual_time};
use essaim::testkit::{Draws, Options};
use essaim_manager::Control;
use essaim_model::{Mode, State, UpdateConfig, fixtures};
use essaim_store::LogBounds;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The row `cycles`.
pub(super) const ROW: Row = Row {
    name: "cycles",
    what: "memory after 10,000 cycles of create, scale, update and remove, in per cent of that after 1,000",
    measure,
};

const CYCLES: u32 = 10_000;

/// Cycles after which memory is measured, for the first time and again.
const WARM: u32 = 1_000;

/// Per cent of the first measurement that the last may be.
const FLAT: f64 = 105.0;

/// Time between two looks at a condition that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Virtual time after which a wait is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One round: the figure takes minutes, and its memory differs little between rounds.
fn measure(_: u32) -> Vec<Figure> {
    let mut figure = Figure {
        what: format!("memory after {CYCLES} cycles, in per cent of that after {WARM}"),
        unit: Unit::Count,
        ours: Samples::default(),
        peer: None,
        goal: Goal::AtMost(FLAT),
        notes: Vec::new(),
    };
    match in_virtual_time(1, story()) {
        Ok(after) => {
            if let [first, .., last] = &after[..] {
                figure.ours.add(last / first * 100.0);
            }
            let after = after.iter().map(|mib| format!("{mib:.1}")).collect::<Vec<_>>().join(" ");
            figure.notes.push(format!("MiB after each {WARM} cycles: {after}"));
        }
        Err(why) => figure.notes.push(why),
    }
    vec![figure]
}

/// Resident memory in MiB after each thousand cycles.
async fn story() -> Result<Vec<f64>, String> {
    // A log that is as long as a daemon's would grow until the end.
    let log = LogBounds { snapshot_after: 256 << 10, entries_kept: 100 };
    let options = Options {
        nodes: 2,
        managers: 1,
        checks: false,
        client: false,
        mixed: false,
        draws: Draws::NONE,
        log,
        ..Options::of(1)
    };
    let mut run = Run::new(options);
    run.world.found(1).await?;
    for number in 1..=2 {
        run.world.machine(number).set_delays(Duration::ZERO, Duration::ZERO);
    }
    let control = run.world.running(1).ok_or("the manager does not run")?.control().map_err(|why| why.to_string())?;
    let mut after = Vec::new();
    for count in 1..=CYCLES {
        cycle(&control).await.map_err(|why| format!("in cycle {count}: {why}"))?;
        if count % WARM == 0 {
            after.push(resident()?);
        }
    }
    Ok(after)
}

/// Creates, scales, updates and removes a service.
async fn cycle(control: &Control) -> Result<(), String> {
    let mut spec = fixtures::service("cycle", 1);
    spec.update = Some(UpdateConfig { parallelism: 0, monitor: Some(Duration::ZERO), ..UpdateConfig::default() });
    let id = control.create_service(spec.clone()).await.map_err(|why| why.to_string())?;
    running(control, 1, 0).await?;
    spec.mode = Mode::Replicated { replicas: 3 };
    for force in [0, 1] {
        spec.task.force_update = force;
        let state = control.read().await.map_err(|why| why.to_string())?;
        let version = state.service(id).ok_or("the service is gone")?.meta.version;
        control.update_service(id, version, spec.clone()).await.map_err(|why| why.to_string())?;
        running(control, 3, force).await?;
    }
    control.remove_service(id).await.map_err(|why| why.to_string())?;
    until(control, |state| state.tasks().next().is_none()).await
}

/// Waits until so many tasks run that follow the spec with this number of forced updates.
async fn running(control: &Control, count: usize, force: u64) -> Result<(), String> {
    let follows = |state: &State| {
        let runs = state.tasks().filter(|task| {
            let spec = state.spec(task.service, task.spec_version);
            task.is_running() && task.is_wanted() && spec.is_some_and(|spec| spec.task.force_update == force)
        });
        runs.count() == count
    };
    until(control, follows).await
}

async fn until(control: &Control, holds: impl Fn(&State) -> bool) -> Result<(), String> {
    let waiting = async {
        while !holds(&control.last_known()) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| format!("not within {PATIENCE:?}"))
}

/// Resident memory of this process in MiB.
fn resident() -> Result<f64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|why| why.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().map_err(|_| "VmRSS is no number")?;
    Ok(kib / 1024.0)
}
