//! Tests in network namespaces, with each daemon on a host of its own: the stories of [`healing`], and those that need
//! a network cable to pull.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::healing;
use essaim_cluster_tests::harness::{Cluster, Events, eventually, missing_for_namespaces};

/// A cluster of five hosts with three managers; `None`, with a line on stderr, when this machine cannot have
/// namespaces.
fn cluster() -> Option<Cluster> {
    match missing_for_namespaces() {
        None => Some(Cluster::in_namespaces(5, 3)),
        Some(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

#[test]
fn a_host_that_is_killed_is_replaced() {
    let Some(mut cluster) = cluster() else { return };
    healing::a_lost_host_is_replaced(&mut cluster, |cluster, victim| cluster.daemons[victim].kill_host());
}

/// A host that is cut off keeps its tasks. When it is back, those that were replaced meanwhile are surplus and are
/// ended.
#[test]
fn a_host_that_is_cut_off_is_replaced_and_its_surplus_goes() {
    let Some(mut cluster) = cluster() else { return };
    healing::a_lost_host_is_replaced(&mut cluster, |cluster, victim| cable(cluster, victim, false));
    cable(&cluster, 4, true);
    cluster.wait_ready(3);
    eventually("eight processes are left", || {
        let left: usize = cluster.daemons.iter().map(|daemon| daemon.tasks().len()).sum();
        if left == 8 { Ok(()) } else { Err(format!("{left} run")) }
    });
}

fn cable(cluster: &Cluster, at: usize, plugged: bool) {
    let lab = cluster.lab.as_ref().expect("the cluster is in namespaces");
    let number = at as u8 + 1;
    if plugged { lab.heal(number) } else { lab.cut(number) }
}

/// A daemon is stopped with SIGSTOP and later continued: its tasks were replaced meanwhile, so they are surplus and are
/// ended.
#[test]
fn a_daemon_that_stood_still_is_taken_back() {
    let Some(mut cluster) = cluster() else { return };
    let events = Events::listen(&cluster.daemons[0]);
    healing::a_lost_host_is_replaced(&mut cluster, |cluster, victim| cluster.daemons[victim].signal(Signal::SIGSTOP));
    cluster.daemons[4].signal(Signal::SIGCONT);
    cluster.wait_ready(3);
    eventually("eight processes are left", || {
        let left: usize = cluster.daemons.iter().map(|daemon| daemon.tasks().len()).sum();
        if left == 8 { Ok(()) } else { Err(format!("{left} run")) }
    });
    let down: BTreeSet<_> = events.reported_down().into_iter().collect();
    assert!(down.iter().all(|name| name == "n5"), "healthy nodes were down: {down:?}");
}

#[test]
fn a_leader_that_is_killed_loses_nothing() {
    let Some(mut cluster) = cluster() else { return };
    healing::the_next_leader_loses_nothing(&mut cluster);
}

#[test]
fn two_of_three_managers_gone_is_said_at_once() {
    let Some(mut cluster) = cluster() else { return };
    healing::without_a_quorum_it_says_so_and_with_one_it_goes_on(&mut cluster);
}

/// n5 misses n4's packets for six seconds. This must mark neither node down: an accusation by one observer is not
/// enough.
#[test]
fn packets_lost_one_way_between_two_hosts_lose_no_node() {
    let Some(cluster) = cluster() else { return };
    let service = cluster.create("web", 5);
    let before: BTreeSet<_> =
        cluster.wait_running(&service, 5, &[]).iter().map(|task| task["ID"].to_string()).collect();
    let events = Events::listen(&cluster.daemons[0]);
    let lab = cluster.lab.as_ref().expect("the cluster is in namespaces");
    lab.drop_one_way(4, 5);
    std::thread::sleep(Duration::from_secs(6));
    lab.drop_nothing();
    assert_eq!(events.reported_down(), Vec::<String>::new());
    let after: BTreeSet<_> = cluster.wait_running(&service, 5, &[]).iter().map(|task| task["ID"].to_string()).collect();
    assert_eq!(after, before);
}
