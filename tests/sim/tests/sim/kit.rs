//! The test kit as a developer of an extension uses it: a whole cluster in one test, and every kind of fault.

use crate::api::stage::Client;
use crate::stories::within;
use essaim::testkit::{self, Cluster, Failed, Fault};
use essaim_model::{Availability, State};
use essaim_wire::Role;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const WALL_MAX: Duration = Duration::from_secs(300);

/// Plays a story on a cluster of five nodes, three of them managers; panics with the seed and the reason when it fails.
fn tell<T: Send + 'static>(
    seed: u64,
    story: impl AsyncFnOnce(&mut Cluster) -> Result<T, String> + Send + 'static,
) -> T {
    within(WALL_MAX, move || testkit::cluster(seed).run(story)).unwrap_or_else(|failed| panic!("{failed}"))
}

async fn read(cluster: &Cluster) -> Result<Arc<State>, String> {
    cluster.control()?.read().await.map_err(|why| why.to_string())
}

fn node<'a>(state: &'a State, name: &str) -> &'a Arc<essaim_model::Node> {
    state.nodes().find(|node| node.name() == name).expect("it is a node")
}

#[test]
fn a_cluster_is_a_few_lines_and_every_daemon_has_what_the_story_adds() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    within(WALL_MAX, move || -> Result<(), Failed> {
        let fit = move |_: u16, parts: &mut essaim_node::Parts| {
            assert_eq!(parts.engines.len(), 1, "the simulated machine's");
            counted.fetch_add(1, Ordering::Relaxed);
        };
        testkit::cluster(11).nodes(4).managers(1).parts(fit).run(async |cluster| {
            cluster.strike(Fault::Crash(4)).await?;
            cluster.pass(Duration::from_secs(6)).await?;
            let state = read(cluster).await?;
            assert!(!node(&state, "n4").is_ready());
            let state = cluster.settled().await?;
            assert!(node(&state, "n4").is_ready());
            Ok(())
        })
    })
    .unwrap_or_else(|failed| panic!("{failed}"));
    assert_eq!(started.load(Ordering::Relaxed), 5, "four, and one again");
}

#[test]
fn a_leader_whose_disk_takes_nothing_leads_no_more_and_is_a_manager_again_when_it_does() {
    type Wrong = fn(u16) -> Fault;
    let ways: [Wrong; 4] = [Fault::FailingDisk, Fault::FailingSyncs, Fault::TornWrites, Fault::FullDisk];
    for (seed, wrong) in (21..).zip(ways) {
        tell(seed, async move |cluster| {
            let first = cluster.run().world.leader().ok_or("nobody leads")?;
            cluster.strike(wrong(first)).await?;
            // A disk fault is noticed at the next write, and an update of a service is written to the log.
            let mut next = first;
            for _ in 0..20 {
                cluster.pass(Duration::from_secs(1)).await?;
                let Some(leader) = cluster.run().world.leader() else { continue };
                next = leader;
                let state = read(cluster).await?;
                let service = state.services().next().expect("the first service");
                let mut spec = service.spec.clone();
                spec.task.force_update += 1;
                // The update may be refused while an election is under way.
                let _ = cluster.control()?.update_service(service.id, service.meta.version, spec).await;
            }
            // On a full disk the log file has free space inside for a while, so that node may go on leading.
            assert!(next != first || matches!(wrong(first), Fault::FullDisk(_)), "{}", wrong(first));
            let state = cluster.settled().await?;
            let failed = node(&state, &format!("n{first}"));
            assert!(failed.role == Role::Manager && failed.manager.is_some_and(|manager| manager.voter));
            Ok(())
        });
    }
}

#[test]
fn everybody_is_restarted_at_once_and_no_task_ends() {
    for (seed, fault) in (31..).zip([Fault::CrashAll, Fault::RestartAll]) {
        tell(seed, async move |cluster| {
            let tasks = |cluster: &mut Cluster| -> Vec<_> {
                (1..=5).flat_map(|number| cluster.run().world.machine(number).running()).collect()
            };
            let before = tasks(cluster);
            cluster.strike(fault).await?;
            cluster.pass(Duration::from_secs(1)).await?;
            cluster.settled().await?;
            assert_eq!(tasks(cluster), before);
            Ok(())
        });
    }
}

#[test]
fn clocks_that_are_wrong_by_an_hour_stop_nothing() {
    tell(41, async |cluster| {
        cluster.strike(Fault::ClockJump(1, -3_600)).await?;
        cluster.strike(Fault::ClockJump(4, 3_600)).await?;
        cluster.pass(Duration::from_secs(5)).await?;
        cluster.strike(Fault::Crash(5)).await?;
        cluster.pass(Duration::from_secs(10)).await?;
        let state = read(cluster).await?;
        let lost = node(&state, "n5").id;
        assert_eq!(state.tasks().filter(|task| task.is_running() && task.is_wanted()).count(), 8);
        assert!(state.tasks().filter(|task| task.is_wanted()).all(|task| task.node() != Some(lost)));
        cluster.settled().await.map(drop)
    });
}

#[test]
fn what_an_operator_does_is_a_fault_like_any_other() {
    tell(51, async |cluster| {
        cluster.strike(Fault::Drain(5)).await?;
        cluster.strike(Fault::Promote(4)).await?;
        cluster.strike(Fault::Demote(2)).await?;
        cluster.strike(Fault::HandOver).await?;
        cluster.pass(Duration::from_secs(15)).await?;
        let state = read(cluster).await?;
        assert_eq!(node(&state, "n5").spec.availability, Availability::Drain);
        assert!(cluster.run().world.machine(5).running().is_empty());
        assert_eq!((node(&state, "n4").role, node(&state, "n2").role), (Role::Manager, Role::Worker));
        let state = cluster.settled().await?;
        assert_eq!(node(&state, "n5").spec.availability, Availability::Active);
        assert_eq!((node(&state, "n4").role, node(&state, "n2").role), (Role::Worker, Role::Manager));
        Ok(())
    });
}

#[test]
fn a_manager_that_leaves_in_order_joins_again_as_another_node() {
    tell(61, async |cluster| {
        let state = read(cluster).await?;
        let before = node(&state, "n3").id;
        cluster.strike(Fault::Leave(3)).await?;
        cluster.pass(Duration::from_secs(20)).await?;
        let state = read(cluster).await?;
        let left = state.node(before).expect("its record stays until somebody removes it");
        assert!(left.has_left() && left.role == Role::Worker, "{:?}, {}", left.reachability, left.role);
        assert_eq!(state.tasks().filter(|task| task.is_running() && task.is_wanted()).count(), 8);
        let state = cluster.settled().await?;
        let present: Vec<_> = state.nodes().filter(|node| !node.has_left()).collect();
        let again = present.iter().find(|node| node.name() == "n3").expect("it joined again");
        assert_eq!((again.role, present.len()), (Role::Manager, 5));
        assert_ne!(again.id, before);
        Ok(())
    });
}

#[test]
fn a_node_that_is_restored_from_an_older_copy_of_its_disk_is_heard_again() {
    tell(31, async |cluster| {
        for _ in 0..3 {
            cluster.strike(Fault::Restart(5)).await?;
            cluster.mend().await?;
            cluster.pass(Duration::from_secs(3)).await?;
        }
        let known = cluster.node(5)?.generation();
        assert!(known.0 >= 4, "{known:?}");
        // The older copy holds a format version and the generation of a daemon that was started once.
        let disk = Arc::clone(&cluster.node(5)?.scope().env.disk);
        disk.write("generation", &[1, 1]).map_err(|why| why.to_string())?;
        cluster.strike(Fault::Restart(5)).await?;
        cluster.mend().await?;
        cluster.pass(Duration::from_secs(5)).await?;
        cluster.settled().await?;
        assert!(cluster.node(5)?.generation() > known, "it counts on from what the cluster knows");
        let state = read(cluster).await?;
        assert!(node(&state, "n5").is_ready());
        assert_eq!(node(&state, "n5").generation, cluster.node(5)?.generation());
        Ok(())
    });
}

#[test]
fn a_manager_that_was_removed_while_it_was_away_reads_error_and_says_why_until_it_leaves() {
    tell(81, async |cluster| {
        let id = node(&*read(cluster).await?, "n3").id;
        cluster.strike(Fault::Crash(3)).await?;
        cluster.pass(Duration::from_secs(10)).await?;
        // The request waits until the group has let the manager go, so time has to pass meanwhile.
        let control = cluster.control()?;
        let removal = tokio::spawn(async move { control.remove_node(id, true).await });
        cluster.pass(Duration::from_secs(10)).await?;
        removal.await.map_err(|why| why.to_string())?.map_err(|why| why.to_string())?;
        assert!(!cluster.run().world.machine(3).running().is_empty(), "its tasks live on while its daemon is away");

        cluster.mend().await?;
        let client = Client::on("n3", &cluster.node(3)?);
        let info = async || client.get("/info").await.json()["Swarm"].clone();
        cluster.pass(Duration::from_secs(15)).await?;
        let swarm = info().await;
        assert_eq!((&swarm["LocalNodeState"], &swarm["ControlAvailable"]), (&json!("error"), &json!(false)));
        let why = swarm["Error"].as_str().unwrap_or_default();
        assert!(why.starts_with("this node was removed from the cluster: run \"docker swarm leave --force\""), "{why}");
        assert_eq!(client.get("/nodes").await.message(), why);
        assert!(cluster.run().world.machine(3).running().is_empty(), "they run elsewhere");

        // A daemon that is started again hears it again.
        cluster.strike(Fault::Restart(3)).await?;
        cluster.mend().await?;
        cluster.pass(Duration::from_secs(15)).await?;
        assert_eq!(Client::on("n3", &cluster.node(3)?).get("/info").await.json()["Swarm"]["LocalNodeState"], "error");

        cluster.node(3)?.leave(true).await.map_err(|why| why.to_string())?;
        let swarm = Client::on("n3", &cluster.node(3)?).get("/info").await.json()["Swarm"].clone();
        assert_eq!((&swarm["LocalNodeState"], &swarm["Error"]), (&json!("inactive"), &json!("")));
        Ok(())
    });
}
