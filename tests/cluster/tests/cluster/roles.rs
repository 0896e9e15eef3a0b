//! Drain, promotion, demotion, leaving, and requests that must be refused.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use essaim_cluster_tests::harness::{Cluster, eventually, sleepers, throughout};

fn service(cluster: &Cluster, id: &str) -> Value {
    cluster.daemons[0].get(&format!("/services/{id}"))
}

fn availability(cluster: &Cluster, node: &str, word: &str) {
    let (code, out, error) = cluster.daemons[0].essaim(&["node", "update", "--availability", word, node]);
    assert_eq!((code, out.trim()), (0, node), "{error}");
}

#[test]
fn drain_moves_before_it_stops() {
    let cluster = Cluster::on_loopback(3, 1);
    let id = cluster.create("web", 6);
    let before = cluster.wait_running(&id, 6, &[]);
    let node = cluster.node("n3", &[]).expect("n3 is there")["ID"].clone();
    let moved: Vec<u64> =
        before.iter().filter(|task| task["NodeID"] == node).filter_map(|task| task["Slot"].as_u64()).collect();
    assert!(!moved.is_empty(), "tasks are spread over the nodes");
    availability(&cluster, "n3", "drain");
    eventually("the node is empty", || {
        // Every slot has a running task at all times.
        let running = cluster.running(&id, &[])?;
        let slots: std::collections::BTreeSet<_> = running.iter().filter_map(|task| task["Slot"].as_u64()).collect();
        assert_eq!(slots.len(), 6, "a slot was empty while its task moved");
        let left = cluster.daemons[2].tasks().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks are there still")) }
    });
    // The timestamps of the tasks agree: each replacement ran before its predecessor ended.
    let mut runs: BTreeMap<u64, String> = BTreeMap::new();
    let mut ended: BTreeMap<u64, String> = BTreeMap::new();
    let tasks = eventually("the old tasks have ended", || {
        let tasks = cluster.tasks(&id, &[])?;
        let on_node: Vec<_> = tasks.iter().filter(|task| task["NodeID"] == node).collect();
        let over = on_node
            .iter()
            .all(|task| ["shutdown", "complete", "failed"].iter().any(|state| task["Status"]["State"] == *state));
        if over { Ok(tasks) } else { Err("one runs".to_owned()) }
    });
    for task in &tasks {
        let (Some(slot), Some(at)) = (task["Slot"].as_u64(), task["Status"]["Timestamp"].as_str()) else { continue };
        if task["NodeID"] == node {
            ended.insert(slot, at.to_owned());
        } else if task["Status"]["State"] == "running" {
            runs.insert(slot, at.to_owned());
        }
    }
    for slot in moved {
        assert!(
            runs[&slot] <= ended[&slot],
            "slot {slot}: its replacement ran at {}, it ended at {}",
            runs[&slot],
            ended[&slot]
        );
    }
    availability(&cluster, "n3", "active");
    let (code, _, error) = cluster.daemons[0].essaim(&["service", "scale", "-d", "web=12"]);
    assert_eq!(code, 0, "{error}");
    cluster.wait_running(&id, 12, &[]);
    assert!(!cluster.daemons[2].tasks().is_empty(), "an active node is used again");
}

#[test]
fn a_promoted_worker_counts_and_a_demoted_manager_does_not() {
    let cluster = Cluster::on_loopback(3, 1);
    for (node, managers) in [("n2", 2), ("n3", 3)] {
        let (code, out, error) = cluster.daemons[0].essaim(&["node", "promote", node]);
        assert_eq!(
            (code, out.as_str()),
            (0, format!("Node {node} promoted to a manager in the swarm.\n").as_str()),
            "{error}"
        );
        cluster.wait_ready(managers);
    }
    // A promoted manager takes writes.
    let answer = eventually("n3 takes a write", || {
        let answer = cluster.daemons[2]
            .try_ask("POST", "/services/create", Some(&sleepers("web", 2)))
            .map_err(|error| error.to_string())?;
        if answer.status == 201 { Ok(answer) } else { Err(answer.message()) }
    });
    cluster.wait_running(answer.json()["ID"].as_str().expect("a service has an id"), 2, &[]);
    let (code, out, error) = cluster.daemons[0].essaim(&["node", "demote", "n2"]);
    assert_eq!((code, out.as_str()), (0, "Manager n2 demoted in the swarm.\n"), "{error}");
    cluster.wait_ready(2);
    eventually("n2 says that it is a worker", || {
        let answer = cluster.daemons[1].try_ask("GET", "/nodes", None).map_err(|error| error.to_string())?;
        let worker = answer.message().contains("Worker nodes can't be used to view or modify cluster state");
        if answer.status == 503 && worker { Ok(()) } else { Err(answer.text) }
    });
}

#[test]
fn the_last_manager_stays() {
    let cluster = Cluster::on_loopback(2, 1);
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "demote", "n1"]);
    assert_eq!(code, 1);
    assert!(error.contains("attempting to demote the last manager of the swarm"), "{error}");
    let (code, _, error) = cluster.daemons[0].essaim(&["swarm", "leave"]);
    assert_eq!(code, 1);
    assert!(error.contains("Removing the last manager erases all current state of the swarm"), "{error}");
}

/// Two daemons form three clusters in turn. Leaving must close every socket and file, or the next cluster could not
/// begin.
#[test]
fn a_daemon_leaves_and_begins_again() {
    let cluster = Cluster::of_strangers(&["n1", "n2"]);
    let mut known = Vec::new();
    for _ in 0..3 {
        cluster.init(0);
        cluster.join(1, 0, "Worker");
        cluster.wait_ready(1);
        let id = cluster.daemons[0].get("/swarm")["ID"].as_str().unwrap_or("").to_owned();
        assert!(!known.contains(&id), "every cluster is a new one");
        known.push(id);
        let service = cluster.create("web", 2);
        cluster.wait_running(&service, 2, &[]);
        cluster.daemons[1].post("/swarm/leave", None);
        cluster.daemons[0].post("/swarm/leave?force=1", None);
        for daemon in &cluster.daemons {
            eventually("nothing of it is left", || {
                let state = daemon.get("/info")["Swarm"]["LocalNodeState"].clone();
                let tasks = daemon.tasks().len();
                if state == "inactive" && tasks == 0 { Ok(()) } else { Err(format!("{state}, {tasks} tasks")) }
            });
        }
    }
}

#[test]
fn an_update_of_an_old_version_is_refused() {
    let cluster = Cluster::on_loopback(1, 1);
    let id = cluster.create("web", 1);
    let old = service(&cluster, &id);
    let version = old["Version"]["Index"].as_u64().expect("an object has a version");
    let mut spec = old["Spec"].clone();
    spec["Labels"] = json!({"a": "1"});
    cluster.daemons[0].post(&format!("/services/{id}/update?version={version}"), Some(&spec));
    let refused = cluster.daemons[0].ask("POST", &format!("/services/{id}/update?version={version}"), Some(&spec));
    assert!(refused.message().contains("update out of sequence"), "{} {}", refused.status, refused.text);
}

#[test]
fn bad_input_is_refused_in_words() {
    let cluster = Cluster::on_loopback(1, 1);
    let refuse = |change: &dyn Fn(&mut Value), words: &str| {
        let mut spec = sleepers("web", 1);
        change(&mut spec);
        let answer = cluster.daemons[0].ask("POST", "/services/create", Some(&spec));
        assert!(answer.status >= 400, "{spec} was taken");
        assert!(answer.message().contains(words), "{}", answer.message());
    };
    refuse(&|spec| spec["Name"] = json!("bad name"), "name must be valid as a DNS name component");
    refuse(
        &|spec| spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["foo"]}),
        "constraint expected one operator from ==, !=",
    );
    refuse(&|spec| spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.colour==red"]}), "node.colour");
    refuse(&|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!(""), "image");
    refuse(
        &|spec| spec["TaskTemplate"]["ContainerSpec"]["ReadOnly"] = json!(true),
        "--read-only is not supported by the process engine",
    );
    let garbage = cluster.daemons[0].ask("POST", "/services/create", Some(&json!([1, 2])));
    assert_eq!(garbage.status, 400, "{}", garbage.text);
    // After all refusals the daemon still accepts a good request.
    let id = cluster.create("web", 1);
    cluster.wait_running(&id, 1, &[]);
}

#[test]
fn a_node_whose_own_port_is_held_is_refused_before_the_cluster_knows_it() {
    let cluster = Cluster::of_strangers(&["n1", "n2"]);
    cluster.init(0);
    let held = UdpSocket::bind(cluster.daemons[1].host.address).expect("n2 listens nowhere yet");
    let request = cluster.join_request(1, 0, &cluster.token(0, "Worker"));
    let answer = cluster.daemons[1].ask("POST", "/swarm/join", Some(&request));
    assert!(answer.status >= 400, "{}", answer.text);
    assert!(answer.message().contains("choose another address with --listen-addr"), "{}", answer.message());
    assert_eq!(cluster.nodes().map(|nodes| nodes.len()), Ok(1));
    drop(held);
    cluster.join(1, 0, "Worker");
    cluster.wait_ready(1);
}

#[test]
fn a_program_that_is_not_there_rejects_the_task_with_that_reason() {
    let cluster = Cluster::on_loopback(1, 1);
    let mut spec = sleepers("web", 1);
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("no-such-program:latest");
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"]
        .as_str()
        .expect("a service has an id")
        .to_owned();
    let error = eventually("a task is rejected", || {
        let tasks = cluster.tasks(&id, &[])?;
        let rejected = tasks.iter().find(|task| task["Status"]["State"] == "rejected");
        rejected
            .map(|task| task["Status"]["Err"].as_str().unwrap_or("").to_owned())
            .ok_or_else(|| format!("{} tasks", tasks.len()))
    });
    assert!(error.contains("no-such-program"), "{error}");
}

/// The command line reports that no node fits the service's constraint; the task starts once a node gets the label.
#[test]
fn a_service_that_no_node_can_take_waits_for_one() {
    let cluster = Cluster::on_loopback(2, 1);
    let arguments = ["service", "create", "--name", "ssd", "--constraint", "node.labels.disk==ssd", "sleep", "1000"];
    let (code, out, error) = cluster.daemons[0].essaim(&arguments);
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("no suitable node (scheduling constraints not satisfied on 2 nodes)"), "{error}");
    let id = out.lines().next().expect("the id is on stdout").to_owned();
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "update", "--label-add", "disk=ssd", "n2"]);
    assert_eq!(code, 0, "{error}");
    let running = cluster.wait_running(&id, 1, &[]);
    assert_eq!(running[0]["NodeID"], cluster.node("n2", &[]).expect("n2 is there")["ID"]);
    throughout(Duration::from_secs(1), || assert_eq!(cluster.daemons[0].tasks(), Vec::new()));
}
