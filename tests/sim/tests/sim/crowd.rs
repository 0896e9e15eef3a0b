//! Large clusters: services of thousands of tasks and specs of hundreds of kilobytes, which do not fit into one
//! proposal, one message or one report. Meanwhile the scheduler's board is compared with the state, as in every
//! simulated cluster.

use crate::stories::within;
use essaim::testkit::{self, Cluster};
use essaim_model::{Availability, Mode, NodeSpec, ServiceId, State, fixtures};
use std::sync::Arc;
use std::time::Duration;

const WALL_MAX: Duration = Duration::from_secs(600);

/// Number of nodes. A machine has 253 addresses for tasks, so five thousand tasks need twenty machines; one is spare.
const NODES: u16 = 21;

const REPLICAS: u32 = 5_000;

async fn read(cluster: &Cluster) -> Result<Arc<State>, String> {
    cluster.control()?.read().await.map_err(|why| why.to_string())
}

async fn set_all(cluster: &mut Cluster, availability: Availability) -> Result<(), String> {
    for id in read(cluster).await?.nodes().map(|node| node.id) {
        loop {
            // The update is refused when the node's record changed after it was read; it is read again then.
            let state = read(cluster).await?;
            let node = state.node(id).ok_or("a node is gone")?;
            let spec = NodeSpec { availability, ..node.spec.clone() };
            if cluster.control()?.update_node(id, node.meta.version, spec).await.is_ok() {
                break;
            }
            cluster.pass(Duration::from_millis(100)).await?;
        }
    }
    Ok(())
}

/// Waits, for two minutes of virtual time at most, until exactly `count` tasks of the service satisfy `is_so`.
async fn wait(
    cluster: &mut Cluster,
    service: ServiceId,
    count: u32,
    what: &str,
    is_so: impl Fn(&essaim_model::Task) -> bool,
) -> Result<(), String> {
    let mut found = 0;
    for _ in 0..120 {
        found = read(cluster).await?.tasks_of(service).filter(|task| is_so(task)).count();
        if found == count as usize {
            return Ok(());
        }
        cluster.pass(Duration::from_secs(1)).await?;
    }
    Err(format!("{found} of {count} tasks {what}"))
}

#[test]
fn five_thousand_tasks_that_waited_for_a_node_all_run_when_there_is_one() {
    within(WALL_MAX, || {
        testkit::cluster(1).nodes(NODES).managers(3).checks(false).run(async |cluster| {
            set_all(cluster, Availability::Drain).await?;
            let mut spec = fixtures::service("crowd", REPLICAS);
            spec.mode = Mode::Replicated { replicas: REPLICAS };
            let crowd = cluster.control()?.create_service(spec).await.map_err(|why| why.to_string())?;
            wait(cluster, crowd, REPLICAS, "wait", |task| task.node().is_none() && task.is_wanted()).await?;
            set_all(cluster, Availability::Active).await?;
            wait(cluster, crowd, REPLICAS, "run", |task| task.is_running() && task.is_wanted()).await?;
            cluster.settled().await.map(drop)
        })
    })
    .unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn services_with_large_specs_run_everywhere_and_a_node_that_was_away_is_told_of_all_of_them() {
    within(WALL_MAX, || {
        testkit::cluster(2).nodes(4).managers(1).checks(false).run(async |cluster| {
            cluster.strike(testkit::Fault::Crash(4)).await?;
            cluster.pass(Duration::from_secs(10)).await?;
            // Together these specs are larger than one message, and even than the outbox of a link; every node needs
            // all of them.
            for number in 0..8 {
                let mut spec = fixtures::service(&format!("large{number}"), 0);
                spec.mode = Mode::Global;
                spec.task.container.env = fixtures::environment(900_000);
                cluster.control()?.create_service(spec).await.map_err(|why| why.to_string())?;
            }
            cluster.pass(Duration::from_secs(5)).await?;
            cluster.settled().await.map(drop)
        })
    })
    .unwrap_or_else(|failed| panic!("{failed}"));
}
