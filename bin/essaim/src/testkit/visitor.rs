//! Visitors of a run: they connect to published ports of any node, all the time, and read which task has answered.
//!
//! A connection may fail while faults are under way; what must never happen is that it reaches a task which was told to
//! end. After healing, every published port must lead to a task of its service, on every node.

use crate::testkit::fault::Number;
use crate::testkit::nodes::{Running, name};
use essaim_model::{Mode, PortKey, State, TaskId};
use essaim_worker::sim::SimSockets;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Pause between two visits.
const PAUSE: Duration = Duration::from_millis(70);

/// Time that a visit takes at most: a connection waits five seconds for a backend.
const VISIT_MAX: Duration = Duration::from_secs(8);

/// Visits under way at most.
const VISITS_MAX: usize = 128;

/// The sockets of every machine of a run.
pub(crate) type Doorsteps = BTreeMap<Number, SimSockets>;

/// Visits published ports until `stop` is set. Returns how many visits were answered, and how many were not.
pub(crate) async fn visit_all(seed: u64, running: Running, doorsteps: Doorsteps, stop: Arc<AtomicBool>) -> (u64, u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7669_7369);
    let (mut visits, mut answered, mut failed) = (JoinSet::new(), 0, 0);
    let mut count = |visited: Result<Option<TaskId>, _>| match visited {
        Ok(Some(_)) => answered += 1,
        Ok(None) | Err(_) => failed += 1,
    };
    while !stop.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
        while let Some(visited) = visits.try_join_next() {
            count(visited);
        }
        let state = running.lock().values().find_map(|handle| Some(handle.control().ok()?.store().state()));
        let ports: Vec<PortKey> = state.iter().flat_map(|state| state.ingress().keys().copied()).collect();
        if ports.is_empty() || visits.len() >= VISITS_MAX {
            continue;
        }
        let port = ports[rng.random_range(0..ports.len())];
        let doorstep = doorsteps.values().nth(rng.random_range(0..doorsteps.len())).cloned();
        if let Some(doorstep) = doorstep {
            visits.spawn(async move { visit(&doorstep, port).await });
        }
    }
    while let Some(visited) = visits.join_next().await {
        count(visited);
    }
    (answered, failed)
}

/// Visits one port of one machine; `None` when no task has answered.
async fn visit(doorstep: &SimSockets, port: PortKey) -> Option<TaskId> {
    let mut stream = doorstep.connect(port.number)?;
    let mut id = [0; 16];
    timeout(VISIT_MAX, stream.read_exact(&mut id)).await.ok()?.ok()?;
    Some(TaskId::from_bits(u128::from_be_bytes(id)))
}

/// Checks, some time after healing, that every published port of a service with running tasks leads to one of them, on
/// every node, and that no other port is published.
pub(crate) async fn check(state: &State, doorsteps: &Doorsteps) -> Result<(), String> {
    let published: Vec<u16> = state.ingress().keys().map(|port| port.number).collect();
    for (number, doorstep) in doorsteps {
        let listening = doorstep.listening();
        if listening != published {
            return Err(format!("{} publishes the ports {listening:?} instead of {published:?}", name(*number)));
        }
        for (port, leads) in state.ingress() {
            let has_tasks = state.tasks_of(leads.service).any(|task| task.is_running() && task.is_wanted());
            let is_job = state.service(leads.service).is_none_or(|service| service.spec.mode.is_job());
            let is_none = matches!(
                state.service(leads.service).map(|service| service.spec.mode),
                Some(Mode::Replicated { replicas: 0 })
            );
            if !has_tasks || is_job || is_none {
                continue;
            }
            let answered = visit(doorstep, *port).await;
            let service = answered.and_then(|task| state.task(task)).map(|task| task.service);
            if service != Some(leads.service) {
                return Err(format!("port {port} of {} does not lead to its service: {answered:?}", name(*number)));
            }
        }
    }
    Ok(())
}
