//! Recovery from crashes: lost tasks run elsewhere, returning nodes are recognised, and no healthy node is reported as
//! down.

use std::collections::BTreeSet;

use serde_json::Value;

use essaim_cluster_tests::harness::{Cluster, Events, Process, eventually, sleepers};

fn ids(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().map(|task| task["ID"].as_str().unwrap_or("").to_owned()).collect()
}

/// Story of a worker whose host is lost; used on the loopback and in network namespaces.
pub(crate) fn a_lost_host_is_replaced(cluster: &mut Cluster, lose: impl FnOnce(&mut Cluster, usize)) {
    const VICTIM: usize = 4;
    let service = cluster.create("web", 8);
    let before = ids(&cluster.wait_running(&service, 8, &[]));
    let events = Events::listen(&cluster.daemons[0]);
    lose(cluster, VICTIM);
    let name = cluster.daemons[VICTIM].name.clone();
    eventually("the node reads down", || match cluster.node(&name, &[VICTIM])?["Status"]["State"].as_str() {
        Some("down") => Ok(()),
        other => Err(format!("it is {other:?}")),
    });
    let after = cluster.wait_running(&service, 8, &[VICTIM]);
    // Tasks on other nodes must not be replaced.
    let kept = ids(&after).intersection(&before).count();
    let node = cluster.node(&name, &[VICTIM]).expect("a lost node keeps its record");
    let tasks = cluster.tasks(&service, &[VICTIM]).expect("a manager answers");
    let lost = tasks
        .iter()
        .filter(|task| task["NodeID"] == node["ID"] && before.contains(task["ID"].as_str().unwrap_or("")))
        .count();
    assert_eq!(kept + lost, 8, "every task either stayed where it was or was lost with its node");
    assert!(lost > 0, "tasks are spread over the nodes, so some were there");
    let down: BTreeSet<_> = events.reported_down().into_iter().collect();
    assert_eq!(down, BTreeSet::from([name]), "nobody else was ever down");
}

#[test]
fn a_killed_node_is_replaced() {
    let mut cluster = Cluster::on_loopback(5, 3);
    a_lost_host_is_replaced(&mut cluster, |cluster, victim| cluster.daemons[victim].kill_host());
}

#[test]
fn a_restarted_daemon_adopts_its_tasks() {
    let mut cluster = Cluster::on_loopback(3, 1);
    let service = cluster.create("web", 6);
    let before = ids(&cluster.wait_running(&service, 6, &[]));
    let processes: Vec<Process> = cluster.daemons[2].tasks();
    assert!(!processes.is_empty(), "tasks are spread over the nodes");
    let events = Events::listen(&cluster.daemons[0]);
    cluster.daemons[2].kill();
    cluster.daemons[2].restart();
    cluster.wait_ready(1);
    assert_eq!(ids(&cluster.wait_running(&service, 6, &[])), before, "the same tasks");
    assert_eq!(cluster.daemons[2].tasks(), processes, "in the same processes");
    assert_eq!(
        Vec::<String>::new(),
        events.reported_down().into_iter().filter(|name| name != "n3").collect::<Vec<_>>()
    );
}

/// Power cut: all daemons and all tasks are killed at once.
#[test]
fn a_cluster_that_lost_its_power_is_the_same_cluster() {
    let mut cluster = Cluster::on_loopback(5, 3);
    let service = cluster.create("web", 5);
    cluster.wait_running(&service, 5, &[]);
    let swarm = cluster.daemons[0].get("/swarm")["ID"].clone();
    let nodes: BTreeSet<_> =
        cluster.nodes().expect("a manager answers").iter().map(|node| node["ID"].to_string()).collect();
    for daemon in &mut cluster.daemons {
        daemon.kill_host();
    }
    for daemon in &mut cluster.daemons {
        daemon.restart();
    }
    cluster.wait_ready(3);
    assert_eq!(cluster.daemons[0].get("/swarm")["ID"], swarm);
    let again: BTreeSet<_> =
        cluster.nodes().expect("a manager answers").iter().map(|node| node["ID"].to_string()).collect();
    assert_eq!(again, nodes, "every node is the one it was");
    cluster.wait_running(&service, 5, &[]);
}

/// All daemons are killed at once, as when all are upgraded together; no task ends.
#[test]
fn all_daemons_killed_and_started_adopt_every_task() {
    let mut cluster = Cluster::on_loopback(5, 3);
    let service = cluster.create("web", 5);
    let before = ids(&cluster.wait_running(&service, 5, &[]));
    let processes: Vec<_> = cluster.daemons.iter().map(|daemon| daemon.tasks()).collect();
    for daemon in &mut cluster.daemons {
        daemon.kill();
    }
    for daemon in &mut cluster.daemons {
        daemon.restart();
    }
    cluster.wait_ready(3);
    assert_eq!(ids(&cluster.wait_running(&service, 5, &[])), before);
    assert_eq!(cluster.daemons.iter().map(|daemon| daemon.tasks()).collect::<Vec<_>>(), processes);
}

/// Story of a leader that is killed; used on the loopback and in network namespaces.
pub(crate) fn the_next_leader_loses_nothing(cluster: &mut Cluster) {
    let service = cluster.create("web", 8);
    cluster.wait_running(&service, 8, &[]);
    let leader = cluster.leader();
    cluster.create("acknowledged", 1);
    let observer = (0..3).find(|at| *at != leader).expect("there are three managers");
    let events = Events::listen(&cluster.daemons[observer]);
    // Only the leader's daemon dies; the processes of all tasks live on, and no task on another node has a reason to
    // end.
    let workers: Vec<_> = (3..5).map(|at| (at, cluster.daemons[at].tasks())).collect();
    cluster.daemons[leader].kill();
    eventually("a write is accepted", || {
        let spec = sleepers("written", 1);
        let answer = cluster.daemons[observer]
            .try_ask("POST", "/services/create", Some(&spec))
            .map_err(|error| error.to_string())?;
        // A write that was not confirmed in time may still have been applied: "already exists" then counts as success.
        match answer.status {
            201 => Ok(()),
            _ if answer.message().contains("already exists") => Ok(()),
            _ => Err(answer.message()),
        }
    });
    let names: Vec<_> = eventually("the services are listed", || {
        let answer = cluster.daemons[observer].try_ask("GET", "/services", None).map_err(|error| error.to_string())?;
        let names = answer
            .json()
            .as_array()
            .map(|all| all.iter().map(|one| one["Spec"]["Name"].as_str().unwrap_or("").to_owned()).collect());
        names.filter(|_| answer.status == 200).ok_or_else(|| answer.message())
    });
    for name in ["web", "acknowledged", "written"] {
        assert!(names.iter().any(|known| known == name), "{name} is lost: {names:?}");
    }
    cluster.wait_running(&service, 8, &[leader]);
    for (at, processes) in workers {
        let now = cluster.daemons[at].tasks();
        assert!(
            processes.iter().all(|process| now.contains(process)),
            "a task of {} noticed",
            cluster.daemons[at].name
        );
    }
    let blamed: BTreeSet<_> =
        events.reported_down().into_iter().filter(|name| *name != cluster.daemons[leader].name).collect();
    assert!(blamed.is_empty(), "{blamed:?} were marked down because the leader changed");
}

#[test]
fn a_killed_leader_loses_nothing() {
    let mut cluster = Cluster::on_loopback(5, 3);
    the_next_leader_loses_nothing(&mut cluster);
}

/// Story of a cluster that loses its quorum and gets it back; used on the loopback and in network namespaces.
pub(crate) fn without_a_quorum_it_says_so_and_with_one_it_goes_on(cluster: &mut Cluster) {
    let service = cluster.create("web", 4);
    cluster.wait_running(&service, 4, &[]);
    let swarm = cluster.daemons[2].get("/swarm")["ID"].clone();
    cluster.daemons[0].kill();
    cluster.daemons[1].kill();
    let refused = eventually("the last manager refuses", || {
        let (code, _, error) = cluster.daemons[2].essaim(&["node", "ls"]);
        if code == 0 { Err("it answers still".to_owned()) } else { Ok((code, error)) }
    });
    assert!(refused.1.contains("leader") || refused.1.contains("quorum"), "{}", refused.1);
    assert_eq!(refused.0, 6, "{}", refused.1);
    let (code, _, error) = cluster.daemons[2].essaim(&["service", "create", "-d", "--name", "never", "sleep", "1"]);
    assert_eq!(code, 6, "{error}");
    let (code, out, error) = cluster.daemons[2].essaim(&["info"]);
    assert_eq!(code, 0, "info always answers: {out}{error}");
    cluster.daemons[1].restart();
    eventually("it goes on", || {
        let nodes = cluster.nodes_without(&[0])?;
        if nodes.iter().filter(|node| node["ManagerStatus"]["Reachability"] == "reachable").count() == 2 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    assert_eq!(
        eventually("the swarm is told", || {
            let answer = cluster.daemons[2].try_ask("GET", "/swarm", None).map_err(|error| error.to_string())?;
            if answer.status == 200 { Ok(answer.json()["ID"].clone()) } else { Err(answer.message()) }
        }),
        swarm
    );
    eventually("a write is accepted", || {
        let spec = sleepers("after", 1);
        let answer =
            cluster.daemons[2].try_ask("POST", "/services/create", Some(&spec)).map_err(|error| error.to_string())?;
        if answer.status == 201 || answer.message().contains("already exists") { Ok(()) } else { Err(answer.message()) }
    });
}

#[test]
fn without_a_quorum_every_command_answers() {
    let mut cluster = Cluster::on_loopback(5, 3);
    without_a_quorum_it_says_so_and_with_one_it_goes_on(&mut cluster);
}
