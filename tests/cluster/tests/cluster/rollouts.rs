//! Updates and placement of services whose tasks are containers of real Docker Engines.
//!
//! The cases are those of the moby engine's own integration tests of swarm mode, restated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use essaim_cluster_tests::harness::{Cluster, eventually, missing_for_engines, throughout};

use super::containers::{alone, create};

/// Number of running containers of a service by image.
fn images(cluster: &Cluster, service: &str) -> BTreeMap<String, usize> {
    let mut images = BTreeMap::new();
    for (at, one) in cluster.containers(service).into_iter().filter(|(_, one)| one.is_running) {
        if let Some(seen) = cluster.engines[at].inspect(&one.id) {
            let image = seen["Config"]["Image"].as_str().unwrap_or("").to_owned();
            *images.entry(image).or_default() += 1;
        }
    }
    images
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().map(|(image, count)| (image.to_owned(), count)).collect()
}

fn wait_images<const N: usize>(cluster: &Cluster, service: &str, expected: [(&str, usize); N]) {
    let expected = counts(expected);
    eventually(&format!("{expected:?} run"), || {
        let now = images(cluster, service);
        if now == expected { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

fn wait_update(cluster: &Cluster, service: &str, state: &str) {
    eventually(&format!("the update is {state}"), || {
        let status = cluster.daemons[0].get(&format!("/services/{service}"))["UpdateStatus"].clone();
        if status["State"] == state { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn an_update_goes_two_two_one_and_its_rollback_three_two() {
    let Some(cluster) = alone() else { return };
    let delays = "--update-parallelism 2 --update-delay 4s --update-monitor 1s \
                  --rollback-parallelism 3 --rollback-delay 4s --rollback-monitor 1s";
    let service = create(&cluster, "web", &format!("--replicas 5 {delays} whoami:v1"));
    cluster.wait_running(&service, 5, &[]);
    cluster.daemons[0].done("docker service update -d --no-resolve-image --image whoami:v2 web");
    for batch in [[("whoami:v1", 3), ("whoami:v2", 2)], [("whoami:v1", 1), ("whoami:v2", 4)]] {
        wait_images(&cluster, &service, batch);
    }
    wait_images(&cluster, &service, [("whoami:v2", 5)]);
    wait_update(&cluster, &service, "completed");
    cluster.daemons[0].done("docker service update -d --rollback web");
    wait_images(&cluster, &service, [("whoami:v1", 3), ("whoami:v2", 2)]);
    wait_images(&cluster, &service, [("whoami:v1", 5)]);
    wait_update(&cluster, &service, "rollback_completed");
}

#[test]
fn an_update_of_which_a_quarter_may_fail_pauses_at_the_second_of_five_and_is_rolled_back_by_hand() {
    let Some(cluster) = alone() else { return };
    let failing = "--update-failure-action pause --update-max-failure-ratio 0.25 --update-parallelism 1";
    let service = create(&cluster, "web", &format!("--replicas 5 {failing} whoami:v1"));
    cluster.wait_running(&service, 5, &[]);
    cluster.daemons[0].done("docker service update -d --no-resolve-image --image nosuch:tag web");
    wait_update(&cluster, &service, "paused");
    throughout(Duration::from_secs(1), || {
        assert_eq!(images(&cluster, &service), counts([("whoami:v1", 3)]), "two slots failed, three are left alone");
    });
    cluster.daemons[0].done("docker service update -d --rollback web");
    wait_images(&cluster, &service, [("whoami:v1", 5)]);
    wait_update(&cluster, &service, "rollback_completed");
}

#[test]
fn an_update_that_starts_first_to_an_image_that_is_nowhere_takes_nothing_down_and_is_tried_after_each_delay() {
    let Some(cluster) = alone() else { return };
    let flags = "--update-order start-first --update-failure-action continue --restart-delay 4s";
    let service = create(&cluster, "web", &format!("--replicas 2 {flags} whoami:v1"));
    cluster.wait_running(&service, 2, &[]);
    cluster.daemons[0]
        .done("docker service update -d --no-resolve-image --update-parallelism 0 --image nowhere:v1 web");
    wait_update(&cluster, &service, "completed");
    let rejected = || {
        let tasks = cluster.tasks(&service, &[]).expect("it answers");
        tasks.iter().filter(|task| task["Status"]["State"] == "rejected").count()
    };
    let before = rejected();
    throughout(Duration::from_secs(9), || assert_eq!(images(&cluster, &service), counts([("whoami:v1", 2)])));
    let (after, most) = (rejected(), 2 * 3);
    assert!(after > before && after <= before + most, "{before} tasks were rejected, and {after} nine seconds later");
    cluster.daemons[0].done("docker service update -d --no-resolve-image --image whoami:v2 web");
    wait_images(&cluster, &service, [("whoami:v2", 2)]);
}

#[test]
fn constraints_preferences_pause_and_drain_decide_on_which_engine_containers_run() {
    if let Some(why) = missing_for_engines() {
        eprintln!("skipped: {why}");
        return;
    }
    let cluster = Cluster::with_engines();
    let done = |line: &str| cluster.daemons[0].done(line);
    let on = |service: &str, replicas: usize| -> Vec<usize> {
        cluster.wait_running(service, replicas, &[]);
        let mut each = vec![0; cluster.engines.len()];
        let running = cluster.containers(service).into_iter().filter(|(_, one)| one.is_running);
        running.for_each(|(at, _)| each[at] += 1);
        each
    };
    let many = create(&cluster, "many", "--replicas 6 alpine sleep 1000000");
    assert_eq!(on(&many, 6), [2, 2, 2], "they are spread");
    let service = create(&cluster, "managers", "--replicas 2 --constraint node.role==manager alpine sleep 1000000");
    assert_eq!(on(&service, 2), [2, 0, 0]);
    let service = create(&cluster, "workers", "--replicas 2 --constraint node.role!=manager alpine sleep 1000000");
    assert_eq!(on(&service, 2), [0, 1, 1]);
    // Two labels of nodes: one machine has rack a, two have rack b.
    for (node, rack) in [("n1", "a"), ("n2", "b"), ("n3", "b")] {
        done(&format!("docker node update --label-add rack={rack} {node}"));
    }
    let labelled = "--replicas 3 --constraint node.labels.rack==a alpine sleep 1000000";
    let service = create(&cluster, "labelled", labelled);
    assert_eq!(on(&service, 3), [3, 0, 0]);
    let both = "--replicas 1 --constraint node.labels.rack==a --constraint node.role!=manager alpine sleep 1000000";
    create(&cluster, "nowhere", both);
    eventually("it waits, and says why", || {
        let tasks = cluster.tasks("nowhere", &[])?;
        let why = tasks.first().and_then(|task| task["Status"]["Err"].as_str()).unwrap_or("").to_owned();
        let expected = "no suitable node (scheduling constraints not satisfied on 3 nodes)";
        if why == expected { Ok(()) } else { Err(why) }
    });
    let spread = "--replicas 4 --placement-pref spread=node.labels.rack alpine sleep 1000000";
    let service = create(&cluster, "spread", spread);
    assert_eq!(on(&service, 4), [2, 1, 1]);
    let seen = cluster.daemons[0].get("/services/spread");
    let preferences = &seen["Spec"]["TaskTemplate"]["Placement"]["Preferences"];
    assert_eq!(*preferences, json!([{"Spread": {"SpreadDescriptor": "node.labels.rack"}}]));
    // A paused node keeps what it has and gets nothing; a drained one keeps nothing.
    done("docker node update --availability pause n2");
    done("docker service scale -d many=9");
    let moved = on(&many, 9);
    assert_eq!((moved[1], moved.iter().sum::<usize>()), (2, 9), "{moved:?}");
    done("docker node update --availability drain n2");
    eventually("nothing runs on the drained node", || {
        let left = cluster.engines[1].containers().into_iter().filter(|one| one.is_running).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} run")) }
    });
    assert_eq!(on(&many, 9)[1], 0);
}

#[test]
fn a_limit_per_node_keeps_the_rest_waiting_and_a_global_service_is_not_scaled() {
    let Some(cluster) = alone() else { return };
    let service = create(&cluster, "web", "--replicas 3 --replicas-max-per-node 2 alpine sleep 1000000");
    cluster.wait_running(&service, 2, &[]);
    eventually("the third waits, and says why", || {
        let tasks = cluster.tasks(&service, &[])?;
        let reasons: Vec<_> = tasks.iter().filter_map(|task| task["Status"]["Err"].as_str()).collect();
        let expected = "no suitable node (max replicas per node limit exceed)";
        if reasons.contains(&expected) { Ok(()) } else { Err(format!("{reasons:?}")) }
    });
    cluster.daemons[0].done("docker service update -d --no-resolve-image --replicas-max-per-node 3 web");
    cluster.wait_running(&service, 3, &[]);
    create(&cluster, "agent", "--mode global alpine sleep 1000000");
    let said = cluster.daemons[0].shell("docker service scale -d agent=2");
    assert_ne!(said.code, 0);
    assert!(said.error.contains("scale can only be used with replicated or replicated-job mode"), "{said:?}");
}
