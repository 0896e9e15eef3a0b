//! Tests of rosters on the simulated network.

use super::RosterMsg;
use super::members::exchange;
use crate::fixture::{Cluster, Node, ip, member, node};
use essaim_membership::{Goodbye, Input, MemberState, Table, Verdict};
use essaim_system::fixture::{failures, lines};
use essaim_wire::{NodeId, Role};
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(3);

/// Starts nodes 1 to `count` that know each other; node 1 is a manager, the others are workers.
async fn cluster_of(count: u8) -> (Cluster, Vec<Node>) {
    let cluster = Cluster::new(1);
    let mut nodes = Vec::new();
    for n in 1..=count {
        let role = if n == 1 { Role::Manager } else { Role::Worker };
        nodes.push(cluster.start(n, role).await);
    }
    for other in &nodes[1..] {
        other.learn(&nodes[0]);
    }
    sleep(SOON).await;
    (cluster, nodes)
}

fn states(node: &Node, of: NodeId) -> Option<MemberState> {
    node.roster.current().state(of)
}

fn verdicts(node: &Node, of: NodeId) -> Vec<String> {
    let all = lines(&node.scope);
    all.into_iter().filter(|line| line.starts_with("verdict") && line.contains(&of.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn nodes_that_know_one_of_them_know_all() {
    let (_cluster, nodes) = cluster_of(5).await;
    for one in &nodes {
        let roster = one.roster.current();
        assert_eq!(roster.members.len(), 4);
        for other in &nodes {
            assert!(roster.is_present(other.id()), "{} misses {}", one.id(), other.id());
            assert_eq!(roster.addr(other.id()), Some(member(other).addr));
        }
        assert!(!roster.isolated);
    }
}

#[tokio::test(start_paused = true)]
async fn tables_that_say_the_same_are_not_sent() {
    let (_cluster, nodes) = cluster_of(3).await;
    let shared = &nodes[0].roster.shared;
    let own = shared.actor.call(RosterMsg::Table, SOON).await.expect("it lives");
    let other = Table { sum: own.sum.wrapping_add(1), ..own.clone() };
    for peer in [nodes[1].id(), nodes[2].id()] {
        assert_eq!(exchange(shared, peer, own.clone()).await, None, "there is nothing to tell");
        let told = exchange(shared, peer, other.clone()).await;
        let Some(Input::Members { from, bytes }) = told else { panic!("{told:?}") };
        assert!(from == peer && bytes.len() == own.bytes.len(), "the same rows, in another order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_lost_power_is_unreachable_and_then_down_with_a_record_at_the_manager() {
    let (cluster, nodes) = cluster_of(5).await;
    let mut heard = nodes[0].roster.verdicts();
    let mut changes = nodes[0].roster.watch();
    changes.borrow_and_update();
    cluster.network.power_off(ip(5));
    sleep(Duration::from_secs(2)).await;
    assert!(changes.has_changed().expect("it lives"));
    for one in &nodes[..4] {
        assert_eq!(states(one, node(5)), Some(MemberState::Unreachable), "at {}", one.id());
    }
    sleep(Duration::from_secs(4)).await;
    assert_eq!(states(&nodes[0], node(5)), Some(MemberState::Down));
    let said = verdicts(&nodes[0], node(5));
    assert!(said.iter().any(|line| line.contains("is unreachable: missed by")), "{said:?}");
    assert!(said.last().is_some_and(|line| line.contains("is down: unreachable for the whole grace")), "{said:?}");
    let mut kinds = Vec::new();
    while let Ok(one) = heard.try_recv() {
        if one.verdict.node() == Some(node(5)) {
            kinds.push(matches!(one.verdict, Verdict::Down { .. }));
        }
    }
    assert_eq!(kinds.last(), Some(&true));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_says_what_is_meant() {
    let (_cluster, nodes) = cluster_of(5).await;
    nodes[4].roster.goodbye(Goodbye::Leaving).await;
    nodes[3].roster.goodbye(Goodbye::RESTARTING).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(states(&nodes[0], node(5)), Some(MemberState::Left));
    assert!(matches!(states(&nodes[0], node(4)), Some(MemberState::Restarting { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_a_new_generation_and_no_down() {
    let (cluster, mut nodes) = cluster_of(5).await;
    let disk = nodes.pop().expect("five").stop().await;
    sleep(Duration::from_secs(1)).await;
    let back = cluster.boot(5, disk, &[]).await;
    back.learn(&nodes[0]);
    sleep(SOON).await;
    let view = nodes[0].roster.current();
    assert_eq!(view.get(node(5)).map(|view| (view.state, view.member.generation.0)), Some((MemberState::Alive, 2)));
    let said = verdicts(&nodes[0], node(5));
    assert!(!said.iter().any(|line| line.contains("is down")), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn the_actor_fails_and_nobody_is_lost() {
    let (_cluster, nodes) = cluster_of(5).await;
    let before = nodes[2].roster.current().version;
    nodes[2].scope.journal.kill(&nodes[2].scope.path.child("roster")).expect("it is there");
    sleep(SOON * 2).await;
    assert_eq!(failures(&nodes[2].scope).len(), 3);
    assert!(nodes[2].roster.current().version > before, "to those who read, versions only grow");
    for one in &nodes {
        for other in &nodes {
            assert!(one.roster.current().is_present(other.id()), "{} misses {}", one.id(), other.id());
            let said = verdicts(one, other.id());
            assert!(!said.iter().any(|line| line.contains("is down")), "{said:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hears_nobody_says_so_about_itself_and_accuses_nobody() {
    let (cluster, nodes) = cluster_of(5).await;
    cluster.network.isolate(ip(5));
    sleep(Duration::from_secs(2)).await;
    assert!(nodes[4].roster.current().isolated);
    assert_eq!(states(&nodes[0], node(5)), Some(MemberState::Unreachable));
    let said = lines(&nodes[4].scope);
    assert!(said.iter().any(|line| line.contains("this node misses most of those it observes")), "{said:?}");
    cluster.network.heal_host(ip(5));
    sleep(SOON * 2).await;
    assert!(!nodes[4].roster.current().isolated);
    assert_eq!(states(&nodes[0], node(5)), Some(MemberState::Alive));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    // One run has a crash, a failed actor, a partition and its end. Compared are each node's journal and every packet.
    let run = |seed: u64| {
        let rng = RngSeed::from_bytes(&seed.to_be_bytes());
        let runtime =
            Builder::new_current_thread().enable_all().start_paused(true).rng_seed(rng).build().expect("a runtime");
        runtime.block_on(async {
            let (cluster, nodes) = cluster_of(5).await;
            cluster.network.crash(ip(5));
            nodes[4].scope.journal.kill_all();
            nodes[1].scope.journal.kill(&nodes[1].scope.path.child("roster")).expect("it is there");
            sleep(SOON).await;
            cluster.network.cut(ip(1), ip(2));
            sleep(SOON).await;
            cluster.network.heal_all();
            sleep(SOON).await;
            let journals: Vec<_> = nodes.iter().map(|node| lines(&node.scope)).collect();
            (journals, cluster.network.fingerprint())
        })
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert!(first.0[0].iter().any(|line| line.contains("is down")));
}
