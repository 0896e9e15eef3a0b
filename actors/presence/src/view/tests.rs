//! Tests of views on the simulated network.

use crate::fixture::{Cluster, Node, ip, node};
use crate::view::{NoFacts, View};
use essaim_system::Path;
use essaim_system::fixture::scope;
use essaim_system::journal::RecordKind;
use essaim_wire::{Reachability, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(3);

/// Starts a manager and two workers that know each other.
async fn three() -> (Cluster, Vec<Node>) {
    let cluster = Cluster::new(1);
    let nodes = vec![
        cluster.start(1, Role::Manager).await,
        cluster.start(2, Role::Worker).await,
        cluster.start(3, Role::Worker).await,
    ];
    nodes[1].learn(&nodes[0]);
    nodes[2].learn(&nodes[0]);
    sleep(SOON).await;
    (cluster, nodes)
}

#[tokio::test(start_paused = true)]
async fn every_node_shows_its_tree_and_the_silent_one_is_named() {
    let (cluster, nodes) = three().await;
    let all = nodes[0].view.nodes();
    assert_eq!(all, [node(1), node(2), node(3)]);
    cluster.network.power_off(ip(3));
    let before = tokio::time::Instant::now();
    let answers = nodes[0].view.trees(&all, Duration::from_secs(1)).await;
    assert!(before.elapsed() <= Duration::from_secs(1));
    let paths: Vec<String> = answers.said[&node(1)].iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(paths, ["/n1", "/n1/endpoint", "/n1/journal", "/n1/roster"]);
    assert_eq!(answers.said[&node(1)][3].source, "actors/presence/src/roster/");
    assert_eq!(answers.silent.keys().collect::<Vec<_>>(), [&node(3)]);
}

#[tokio::test(start_paused = true)]
async fn journals_are_read_from_a_number_on_and_forgotten_records_are_owned_up_to() {
    let (_cluster, nodes) = three().await;
    let last = nodes[1].scope.journal.last();
    nodes[1].scope.record(RecordKind::Note, "something happened");
    let from = [(node(2), last + 1), (node(1), 0)].into();
    let answers = nodes[0].view.records(&from, 10, SOON).await;
    let records = &answers.said[&node(2)];
    assert_eq!(records.records.len(), 1);
    assert_eq!((records.records[0].reason.as_str(), records.next), ("something happened", last + 2));
    assert!(!answers.said[&node(1)].records.is_empty());
    for n in 0..essaim_system::journal::CAPACITY {
        nodes[1].scope.record(RecordKind::Note, format!("{n}"));
    }
    let answers = nodes[0].view.records(&[(node(2), 1)].into(), 10, SOON).await;
    let records = &answers.said[&node(2)];
    assert!(records.forgotten_before.is_some_and(|oldest| oldest == records.records[0].seq && oldest > 1));
}

#[tokio::test(start_paused = true)]
async fn each_node_says_who_it_takes_for_alive() {
    let (cluster, nodes) = three().await;
    cluster.network.power_off(ip(3));
    sleep(SOON * 3).await;
    let answers = nodes[0].view.members(&[node(1), node(2)], SOON).await;
    for n in [1, 2] {
        let lines = &answers.said[&node(n)];
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].node, lines[0].state.as_str()), (node(n), "alive"));
        let lost = lines.iter().find(|line| line.node == node(3)).expect("known");
        assert_eq!((lost.state.as_str(), lost.reachability), ("down", Reachability::Down));
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_makes_an_actor_of_another_node_fail_and_a_worker_may_not() {
    let (_cluster, nodes) = three().await;
    let path = Path::root("n3").child("roster");
    let refused = nodes[1].view.kill(node(3), &path, SOON).await.expect_err("a worker");
    assert!(refused.ends_with("is a worker, and the lane view is for managers"), "{refused}");
    nodes[0].view.kill(node(3), &path, SOON).await.expect("a manager");
    sleep(SOON).await;
    let entry = nodes[2].scope.journal.entry(&path).expect("it is back");
    assert_eq!(entry.restarts, 1);
    let refused = nodes[0].view.kill(node(3), &path.child("nobody"), SOON).await.expect_err("nobody there");
    assert!(refused.contains("no actor at /n3/roster/nobody"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_sees_itself_and_is_shown_nothing_of_others() {
    let (_cluster, nodes) = three().await;
    assert_eq!(nodes[1].view.nodes(), [node(2)]);
    let all = [node(1), node(2), node(3)];
    let answers = nodes[1].view.trees(&all, SOON).await;
    assert_eq!(answers.said.keys().collect::<Vec<_>>(), [&node(2)]);
    let from = all.map(|node| (node, 0)).into();
    let answers = nodes[1].view.records(&from, 10, SOON).await;
    assert_eq!(answers.said.keys().collect::<Vec<_>>(), [&node(2)]);
    let answers = nodes[1].view.members(&all, SOON).await;
    for why in [&answers.silent[&node(1)], &answers.silent[&node(3)]] {
        assert!(why.ends_with("is a worker, and the lane view is for managers"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_in_no_cluster_shows_itself() {
    let view = View::alone(scope().journal, Arc::new(NoFacts));
    let answers = view.trees(&[node(1)], SOON).await;
    assert_eq!(answers.said[&node(1)].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_manager_asks_for_facts_and_clocks_and_names_the_node_that_is_silent() {
    let (cluster, nodes) = three().await;
    let all = nodes[0].view.nodes();
    cluster.network.power_off(ip(3));
    let within = Duration::from_secs(1);
    let facts = nodes[0].view.facts(&all, within).await;
    assert_eq!((facts.said.len(), facts.silent.keys().collect::<Vec<_>>()), (2, vec![&node(3)]));
    let clocks = nodes[0].view.clocks(&all, within).await;
    let skew = clocks.said[&node(2)];
    // The simulated nodes share one clock, so the skew is what the round trip leaves open.
    assert!(skew.micros.unsigned_abs() <= skew.within_micros && skew.within_micros < 100_000, "{skew:?}");
    assert_eq!(clocks.silent.keys().collect::<Vec<_>>(), [&node(3)]);
}
