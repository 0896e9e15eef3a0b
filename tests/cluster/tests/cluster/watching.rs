//! Observability: the actor tree, the journal and the members; and actors that are restarted while their tasks run on.

use serde_json::Value;

use essaim_cluster_tests::harness::{Cluster, eventually};

fn actor(cluster: &Cluster, path: &str) -> Result<Value, String> {
    let trees = cluster.daemons[0].get("/essaim/v1/tree");
    let mut actors = trees["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|node| node["actors"].as_array().into_iter().flatten());
    actors.find(|actor| actor["path"] == path).cloned().ok_or_else(|| format!("there is no {path}"))
}

#[test]
fn the_tree_shows_every_node_and_where_its_actors_live() {
    let cluster = Cluster::on_loopback(3, 1);
    let service = cluster.create("web", 3);
    cluster.wait_running(&service, 3, &[]);
    for node in ["n1", "n2", "n3"] {
        eventually("the tree has the node's worker", || actor(&cluster, &format!("/{node}/worker/uplink")));
    }
    actor(&cluster, "/n1/manager").expect("the manager has its place");
    let (code, out, error) = cluster.daemons[0].essaim(&["tree", "--source"]);
    assert_eq!(code, 0, "{error}");
    for words in ["/n1", "/n2", "/n3", "uplink", "roster", "endpoint", "actors/worker/src/uplink"] {
        assert!(out.contains(words), "{words} is not in\n{out}");
    }
    let (code, out, error) = cluster.daemons[0].essaim(&["members"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(out.lines().filter(|line| line.contains(" alive ")).count(), 3, "{out}");
}

/// The journal has the actor's failure, back-off and restart, in this order.
#[test]
fn an_actor_killed_on_purpose_is_restarted_and_no_task_notices() {
    let cluster = Cluster::on_loopback(3, 1);
    let service = cluster.create("web", 6);
    cluster.wait_running(&service, 6, &[]);
    for path in ["/n2/worker/uplink", "/n3/roster", "/n1/manager/leader/scheduler"] {
        let before: Vec<_> = cluster.daemons.iter().map(|daemon| daemon.tasks()).collect();
        let restarts = actor(&cluster, path).map_or(0, |actor| actor["restarts"].as_u64().unwrap_or(0));
        let node: usize = path[2..3].parse::<usize>().expect("paths begin with their node") - 1;
        let (code, _, error) = cluster.daemons[node].essaim(&["debug", "kill-actor", path]);
        assert_eq!(code, 0, "{path}: {error}");
        eventually("it is started again", || {
            let actor = actor(&cluster, path)?;
            let again = actor["restarts"].as_u64().unwrap_or(0) > restarts && actor["state"] == "running";
            if again { Ok(()) } else { Err(actor.to_string()) }
        });
        let (code, out, error) = cluster.daemons[node].essaim(&["journal", "--json"]);
        assert_eq!(code, 0, "{error}");
        let records: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of_it: Vec<_> = records.iter().filter(|record| record["path"] == path).collect();
        let mut kinds = of_it.iter().filter_map(|record| record["kind"].as_str());
        for kind in ["failed", "restarting", "restarted"] {
            assert!(kinds.any(|found| found == kind), "{path}: no {kind} after what came before in {of_it:#?}");
        }
        let after: Vec<_> = cluster.daemons.iter().map(|daemon| daemon.tasks()).collect();
        assert_eq!(after, before, "the end of {path} touched a task");
    }
}
