//! Nodes that leave, managers among them; drains that are waited for; updates that no node can take.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use essaim_cluster_tests::harness::{Cluster, eventually, sleepers, throughout};

/// Ids of the running tasks of a service.
fn running(cluster: &Cluster, id: &str) -> Result<BTreeSet<String>, String> {
    let tasks = cluster.running(id, &[])?;
    Ok(tasks.iter().filter_map(|task| task["ID"].as_str().map(str::to_owned)).collect())
}

/// Why the pending tasks of a service wait for a node.
fn reasons(cluster: &Cluster, id: &str) -> Result<Vec<String>, String> {
    let tasks = cluster.tasks(id, &[])?;
    let waiting = tasks.iter().filter(|task| task["Status"]["State"] == "pending");
    Ok(waiting.filter_map(|task| task["Status"]["Err"].as_str().map(str::to_owned)).collect())
}

/// Runs an `essaim` command against the first daemon and asserts that it succeeds; returns stdout and stderr.
fn done(cluster: &Cluster, arguments: &[&str]) -> (String, String) {
    let (code, out, error) = cluster.daemons[0].essaim(arguments);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    (out, error)
}

#[test]
fn a_constraint_that_fits_no_node_takes_nothing_down_and_can_be_taken_back() {
    let cluster = Cluster::on_loopback(2, 1);
    // Like docker's, the command line names the tag in every update; a spec without it would be another one.
    let mut spec = sleepers("web", 2);
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "sleep:latest".into();
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].as_str().expect("an id").to_owned();
    cluster.wait_running(&id, 2, &[]);
    let before = running(&cluster, &id).expect("it answers");
    done(&cluster, &["service", "update", "-d", "--constraint-add", "node.labels.x==1", "web"]);
    let reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)";
    eventually("the reason stands in `service ps` and in the update", || {
        let said = reasons(&cluster, &id)?;
        let update = cluster.daemons[0].get(&format!("/services/{id}"))["UpdateStatus"]["Message"].clone();
        let in_update = update.as_str().is_some_and(|message| message.contains(reason));
        if said == [reason] && in_update { Ok(()) } else { Err(format!("{said:?}, {update}")) }
    });
    throughout(Duration::from_secs(2), || assert_eq!(running(&cluster, &id).expect("it answers"), before));
    done(&cluster, &["service", "update", "-d", "--constraint-rm", "node.labels.x==1", "web"]);
    eventually("nothing waits any more", || {
        let said = reasons(&cluster, &id)?;
        if said.is_empty() { Ok(()) } else { Err(format!("{said:?}")) }
    });
    assert_eq!(running(&cluster, &id).expect("it answers"), before, "they are what is asked for again");
}

#[test]
fn a_task_whose_node_loses_its_label_goes_on_until_another_one_runs_and_is_then_shown_as_rejected() {
    let cluster = Cluster::on_loopback(2, 1);
    done(&cluster, &["node", "update", "--label-add", "x=1", "n1"]);
    let mut spec = sleepers("web", 1);
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.labels.x==1"]});
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].as_str().expect("an id").to_owned();
    let first = cluster.wait_running(&id, 1, &[])[0]["ID"].clone();
    let why = "assigned node no longer meets constraints";
    let wait_for = |what: &str, state: &str| {
        eventually(what, || {
            let tasks = cluster.tasks(&id, &[])?;
            let task = tasks.iter().find(|task| task["ID"] == first).ok_or("it is forgotten")?;
            let status = &task["Status"];
            let is_so = status["State"] == state && status["Err"] == why;
            if is_so { Ok(()) } else { Err(status.to_string()) }
        });
    };
    done(&cluster, &["node", "update", "--label-rm", "x", "n1"]);
    wait_for("it goes on, and says that it is out of place", "running");
    done(&cluster, &["node", "update", "--label-add", "x=1", "n2"]);
    wait_for("it is shown as rejected", "rejected");
    let now = cluster.wait_running(&id, 1, &[]);
    assert_eq!(now[0]["NodeID"], cluster.node("n2", &[]).expect("it is listed")["ID"]);
    // The row of `service ps` reads as in Swarm.
    let (out, error) = done(&cluster, &["service", "ps", "--no-trunc", "web"]);
    assert!(out.lines().any(|line| line.contains("Rejected") && line.contains(why)), "{out}{error}");
}

#[test]
fn a_node_that_left_says_so_and_is_not_counted() {
    let cluster = Cluster::on_loopback(3, 1);
    cluster.daemons[2].post("/swarm/leave", None);
    let node = eventually("its record says that it left", || {
        let node = cluster.node("n3", &[])?;
        let message = node["Status"]["Message"].as_str().unwrap_or("").to_owned();
        if message == "the node left the cluster" { Ok(node) } else { Err(message) }
    });
    assert_eq!(node["Status"]["State"], "down");
    assert_eq!(cluster.daemons[0].get("/info")["Swarm"]["Nodes"], 2);
    cluster.join(2, 0, "Worker");
    eventually("it is back as another node", || {
        let nodes = cluster.daemons[0].get("/info")["Swarm"]["Nodes"].clone();
        if nodes == 3 { Ok(()) } else { Err(format!("{nodes} nodes")) }
    });
    // The machine has two records with the same name now. Views must not miss the node that left, and the name must
    // mean the node that is present.
    eventually("every node shows its tree", || {
        let (out, error) = done(&cluster, &["tree"]);
        let shown = out.lines().filter(|line| line.starts_with("/n")).count();
        if shown == 3 && error.is_empty() { Ok(()) } else { Err(format!("{shown} trees: {error}")) }
    });
    let (_, error) = done(&cluster, &["journal"]);
    assert_eq!(error, "");
    // The name of a node that joined is known once its first description has arrived over its link.
    eventually("the name means the node that is there", || {
        let (code, _, error) = cluster.daemons[0].essaim(&["debug", "kill-actor", "/n3/worker/uplink"]);
        if code == 0 { Ok(()) } else { Err(error) }
    });
    // The record of the node that left is removed after a time that an operator may set.
    done(&cluster, &["swarm", "update", "--left-nodes-kept", "1s"]);
    let id = node["ID"].as_str().expect("a node has an id").to_owned();
    eventually("the record is gone", || {
        let nodes = cluster.nodes()?;
        if nodes.iter().any(|node| node["ID"] == id.as_str()) { Err("it is there".into()) } else { Ok(()) }
    });
}

#[test]
fn managers_that_leave_are_let_go_by_the_group_until_one_is_left() {
    let cluster = Cluster::on_loopback(3, 3);
    for (at, left) in [(2, 2), (1, 1)] {
        let (code, _, error) = cluster.daemons[at].essaim(&["swarm", "leave"]);
        assert_eq!(code, 1);
        let words = format!("Removing this node leaves {left} managers out of {}", left + 1);
        assert!(error.contains(&words) && error.contains("The group of managers lets it go first"), "{error}");
        let (code, out, error) = cluster.daemons[at].essaim(&["swarm", "leave", "--force"]);
        assert_eq!((code, out.as_str()), (0, "Node left the swarm.\n"), "{error}");
        eventually("the others go on without it", || {
            let answer = cluster.daemons[0].try_ask("GET", "/info", None).map_err(|error| error.to_string())?;
            let (nodes, managers) = (&answer.json()["Swarm"]["Nodes"], &answer.json()["Swarm"]["Managers"]);
            if *managers == left && *nodes == left {
                Ok(())
            } else {
                Err(format!("{managers} managers, {nodes} nodes"))
            }
        });
        let id = eventually("they take writes", || {
            let name = format!("web{left}");
            let (code, out, error) =
                cluster.daemons[0].essaim(&["service", "create", "-d", "--name", &name, "sleep", "1000"]);
            if code == 0 { Ok(out.trim().to_owned()) } else { Err(error) }
        });
        cluster.wait_running(&id, 1, &[]);
    }
}

#[test]
fn a_manager_that_is_down_is_removed_by_force_and_no_longer_votes() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.daemons[2].kill();
    eventually("n3 is down", || {
        let state = cluster.node("n3", &[2])?["Status"]["State"].clone();
        if state == "down" { Ok(()) } else { Err(state.to_string()) }
    });
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "rm", "n3"]);
    assert_eq!(code, 1);
    assert!(error.contains("must be demoted to worker before removal"), "{error}");
    eventually("it is removed by force", || {
        let (code, _, error) = cluster.daemons[0].essaim(&["node", "rm", "--force", "n3"]);
        if code == 0 { Ok(()) } else { Err(error) }
    });
    // The two remaining voters are both running, so either may be asked.
    let nodes = cluster.nodes_without(&[2]).expect("the others answer");
    let managers = nodes.iter().filter(|node| node["ManagerStatus"].is_object()).count();
    assert_eq!((nodes.len(), managers), (2, 2));
}

#[test]
fn a_drain_can_be_waited_for() {
    let cluster = Cluster::on_loopback(2, 1);
    let id = cluster.create("web", 4);
    cluster.wait_running(&id, 4, &[]);
    let (out, error) = done(&cluster, &["node", "update", "--availability", "drain", "--wait", "n2"]);
    assert_eq!(out, "n2\n");
    assert!(error.contains("tasks left: web.") && error.contains("node n2 is empty"), "{error}");
    assert_eq!(cluster.daemons[1].tasks(), Vec::new());

    done(&cluster, &["node", "update", "--availability", "active", "n2"]);
    let arguments = ["service", "create", "-d", "--name", "here", "--constraint", "node.hostname==n2", "sleep", "1000"];
    let (out, _) = done(&cluster, &arguments);
    cluster.wait_running(out.trim(), 1, &[]);
    let (code, out, error) =
        cluster.daemons[0].essaim(&["node", "update", "--availability", "drain", "--wait=2s", "n2"]);
    assert_eq!((code, out.as_str()), (3, ""), "{error}");
    assert!(error.contains("here.1: what is to run in its place waits: no suitable node"), "{error}");
    let running: Vec<Value> = cluster.running(&id, &[]).expect("it answers");
    assert_eq!(running.len(), 4);
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "update", "--availability", "active", "--wait", "n2"]);
    assert_eq!(code, 2, "{error}");
}
