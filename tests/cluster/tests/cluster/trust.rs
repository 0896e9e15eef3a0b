//! Trust: which nodes may join, and refusal of nodes that were removed.

use essaim_cluster_tests::harness::{Cluster, eventually};

#[test]
fn a_bad_token_is_refused_and_says_which_half_is_wrong() {
    let cluster = Cluster::of_strangers(&["n1", "n2", "n3"]);
    cluster.init(0);
    let good = cluster.token(0, "Worker");
    let refuse = |token: &str, words: &str| {
        let answer = cluster.daemons[1].ask("POST", "/swarm/join", Some(&cluster.join_request(1, 0, token)));
        assert!(answer.status >= 400, "{token} was taken");
        assert!(answer.message().contains(words), "{token}: {}", answer.message());
        assert_eq!(
            cluster.daemons[1].get("/info")["Swarm"]["LocalNodeState"],
            "inactive",
            "a refusal leaves nothing behind"
        );
    };
    refuse("nonsense", "invalid join token");
    let (head, secret) = good.rsplit_once('-').expect("a token has parts");
    let (version, digest) = head.rsplit_once('-').expect("a token has parts");
    // Only the last digit is changed, so that the number stays in the range of that half of a token.
    let changed = |half: &str| {
        let (rest, last) = half.split_at(half.len() - 1);
        format!("{rest}{}", if last == "0" { "1" } else { "0" })
    };
    refuse(&format!("{version}-{}-{secret}", changed(digest)), "CA");
    refuse(&format!("{version}-{digest}-{}", changed(secret)), "A valid join token is necessary to join this cluster");
    cluster.join(1, 0, "Worker");
    let (code, _, error) = cluster.daemons[0].essaim(&["swarm", "join-token", "--rotate", "worker"]);
    assert_eq!(code, 0, "{error}");
    assert_ne!(cluster.token(0, "Worker"), good);
    let old = cluster.daemons[2].ask("POST", "/swarm/join", Some(&cluster.join_request(2, 0, &good)));
    assert!(old.message().contains("A valid join token is necessary to join this cluster"), "{}", old.message());
    cluster.join(2, 0, "Worker");
    cluster.wait_ready(1);
}

#[test]
fn whoever_is_in_a_cluster_joins_no_other() {
    let cluster = Cluster::on_loopback(2, 1);
    let token = cluster.token(0, "Worker");
    let answer = cluster.daemons[1].ask("POST", "/swarm/join", Some(&cluster.join_request(1, 0, &token)));
    assert_eq!(answer.status, 503);
    assert!(answer.message().contains("already part of a swarm"), "{}", answer.message());
}

#[test]
fn a_removed_node_is_refused_everywhere() {
    let mut cluster = Cluster::on_loopback(4, 3);
    let service = cluster.create("web", 8);
    cluster.wait_running(&service, 8, &[]);
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "rm", "n4"]);
    assert_eq!(code, 1);
    assert!(error.contains("is not down and can't be removed"), "{error}");
    let (code, out, error) = cluster.daemons[0].essaim(&["node", "rm", "--force", "n4"]);
    assert_eq!((code, out.as_str()), (0, "n4\n"), "{error}");
    cluster.wait_running(&service, 8, &[3]);
    // A removed node stays out of the cluster, also after a restart of its daemon.
    cluster.daemons[3].kill();
    cluster.daemons[3].restart();
    for manager in 0..3 {
        let nodes = cluster.daemons[manager].get("/nodes");
        let names: Vec<_> =
            nodes.as_array().into_iter().flatten().map(|node| node["Description"]["Hostname"].clone()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
    eventually("it says that it was removed", || {
        let swarm = cluster.daemons[3].get("/info")["Swarm"].clone();
        let says = swarm["Error"].as_str().is_some_and(|why| why.contains("was removed from the cluster"));
        if swarm["LocalNodeState"] == "error" && says { Ok(()) } else { Err(swarm.to_string()) }
    });
    // A removed node can leave, and join again as another node. Its tasks have ended.
    cluster.daemons[3].post("/swarm/leave?force=1", None);
    eventually("it runs nothing of the cluster's", || {
        let left = cluster.daemons[3].tasks().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks run")) }
    });
    cluster.join(3, 0, "Worker");
    cluster.wait_ready(3);
}
