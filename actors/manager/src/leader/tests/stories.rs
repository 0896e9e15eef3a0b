//! Tests of what operators and failures do to a cluster, and of where its tasks are in the end.

use super::bed::{Bed, id};
use essaim_model::service::labels::REBALANCE_LABEL;
use essaim_model::*;
use essaim_system::env::DiskFault;
use essaim_wire::{Level, Reachability};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_service_is_created_placed_and_runs() {
    let bed = Bed::led(3).await;
    let web = bed.create("web", 6, |_| ()).await;
    bed.wait("six run", |bed| bed.running(web).len() == 6).await;
    assert_eq!(bed.nodes_of(web), [1, 1, 2, 2, 3, 3]);
    assert!(bed.runs("leader/service.web"));
    assert!(bed.records().iter().any(|line| line.ends_with("tasks of web placed: 6")), "one batch");
}

#[tokio::test(start_paused = true)]
async fn what_was_wished_before_this_manager_led_is_done_when_it_does() {
    let bed = Bed::of(2).await;
    let web = bed.create("web", 2, |_| ()).await;
    bed.lead().await;
    bed.wait("two are placed", |bed| bed.nodes_of(web) == [1, 2]).await;
}

#[tokio::test(start_paused = true)]
async fn many_services_at_once_become_few_proposals() {
    let bed = Bed::of(3).await;
    let mut services = Vec::new();
    for number in 0..40 {
        services.push(bed.create(&format!("s{number}"), 3, |_| ()).await);
    }
    let before = bed.state().applied().index;
    bed.lead().await;
    bed.wait("all are placed", |bed| bed.state().tasks().len() == 120).await;
    let entries = bed.state().applied().index.0 - before.0;
    assert!(entries < 20, "{entries} entries for forty services");
    assert!(services.iter().all(|service| bed.nodes_of(*service) == [1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn what_a_former_tree_has_still_under_way_is_not_planned_a_second_time() {
    let bed = Bed::led(3).await;
    bed.leader.disk.set_fault(DiskFault::Slow(Duration::from_secs(1)));
    let web = bed.create("web", 3, |_| ()).await;
    let mut events = bed.store.events(bed.state().applied().index);
    // After this pause the proposal waits for the slow disk, and the tree that made it is stopped before the answer.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bed.depose().await;
    bed.lead().await;
    assert_eq!(bed.state().tasks().len(), 0, "the tree began without it");
    bed.wait("three run", |bed| bed.running(web).len() == 3).await;
    let mut created = 0;
    while let Ok(Some(happened)) = events.try_next() {
        created += happened.events.iter().filter(|it| matches!(it, Event::Task { old: None, .. })).count();
    }
    assert_eq!(created, 3, "each slot was filled once");
    assert!(bed.records().iter().any(|line| line.contains("another plan for the service was carried out meanwhile")));
}

#[tokio::test(start_paused = true)]
async fn a_removed_service_ends_with_its_actor() {
    let bed = Bed::led(2).await;
    let web = bed.create("web", 2, |_| ()).await;
    bed.wait("two run", |bed| bed.running(web).len() == 2).await;
    bed.store.change(vec![Change::RemoveService { id: web }], None).await.expect("removed");
    bed.wait("nothing is left", |bed| bed.state().tasks().len() == 0 && !bed.runs("leader/service.web")).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_machines_tasks_run_elsewhere_and_the_surplus_goes_when_it_is_back() {
    let bed = Bed::led(5).await;
    bed.store.change(grace(&bed, Duration::from_secs(30)), None).await.expect("set");
    let web = bed.create("web", 5, |_| ()).await;
    bed.wait("five run", |bed| bed.running(web).len() == 5).await;
    let before: Vec<_> = bed.running(web).iter().map(|task| task.id).collect();

    bed.cut(4);
    bed.wait("it is unreachable", |bed| bed.reachability(4) == Reachability::Unreachable).await;
    bed.wait("five run elsewhere", |bed| {
        bed.running(web).iter().filter(|task| task.node() != Some(id(4))).count() == 5
    })
    .await;

    bed.mend(4);
    bed.wait("it is reachable", |bed| bed.reachability(4) == Reachability::Reachable).await;
    bed.wait("the stand-in is gone", |bed| bed.nodes_of(web).len() == 5).await;
    let after: Vec<_> = bed.running(web).iter().map(|task| task.id).collect();
    assert_eq!(before, after);
    let downs = bed.records().into_iter().filter(|line| line.contains("node is down")).count();
    assert_eq!(downs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stays_away_is_down_and_its_tasks_are_written_off() {
    let bed = Bed::led(5).await;
    let web = bed.create("web", 5, |_| ()).await;
    bed.wait("five run", |bed| bed.running(web).len() == 5).await;
    bed.cut(4);
    bed.wait("it is down", |bed| bed.reachability(4) == Reachability::Down).await;
    bed.wait("its task is written off", |bed| bed.state().tasks_on(id(4)).all(|task| task.written_off.is_some())).await;
    assert_eq!(bed.running(web).len(), 5);
    // The node was recorded as unreachable before its slots were released and before it was down.
    let records = bed.records();
    let first = |what: &str| records.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}"));
    assert!(first("n4: node is unreachable") < first("slots may be filled elsewhere: n4"));
    assert!(first("n4: node is unreachable") < first("n4: node is down"));
}

#[tokio::test(start_paused = true)]
async fn a_drained_machine_gives_its_tasks_away_and_gets_new_ones_when_it_is_active() {
    let bed = Bed::led(3).await;
    let web = bed.create("web", 3, |_| ()).await;
    bed.wait("three run", |bed| bed.running(web).len() == 3).await;
    bed.set_node(3, |spec| spec.availability = Availability::Drain).await;
    bed.wait("it is empty", |bed| bed.nodes_of(web).iter().all(|node| *node != 3)).await;
    assert_eq!(bed.running(web).len(), 3, "none was missing");
    bed.set_node(3, |spec| spec.availability = Availability::Active).await;
    bed.update(web, |spec| spec.mode = Mode::Replicated { replicas: 4 }).await;
    bed.wait("it has one", |bed| bed.nodes_of(web).contains(&3)).await;
}

/// The service has never had a task on the machine, so only its label lets it look at the machine.
#[tokio::test(start_paused = true)]
async fn a_rebalanced_service_moves_a_slot_to_a_machine_that_becomes_active() {
    let bed = Bed::led(3).await;
    bed.set_node(3, |spec| spec.availability = Availability::Drain).await;
    let web = bed.create("web", 4, |_| ()).await;
    bed.wait("four run", |bed| bed.running(web).len() == 4).await;
    bed.update(web, |spec| drop(spec.labels.insert(REBALANCE_LABEL.into(), "1s".into()))).await;
    bed.set_node(3, |spec| spec.availability = Availability::Active).await;
    bed.wait("it has one", |bed| bed.nodes_of(web).contains(&3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fits_nowhere_waits_with_the_reason_and_goes_when_it_can() {
    let bed = Bed::led(2).await;
    let placement =
        Placement { constraints: vec!["node.labels.disk==ssd".parse().expect("a constraint")], ..Placement::default() };
    let web = bed.create("web", 1, |spec| spec.task.placement = Some(placement)).await;
    let reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)";
    bed.wait("it waits", |bed| {
        bed.state().tasks_of(web).any(|task| task.assigned == Assigned::Pending { reason: reason.into() })
    })
    .await;
    bed.set_node(2, |spec| drop(spec.labels.insert("disk".into(), "ssd".into()))).await;
    bed.wait("it runs", |bed| bed.running(web).len() == 1).await;
    assert_eq!(bed.nodes_of(web), [2]);
}

#[tokio::test(start_paused = true)]
async fn five_thousand_tasks_that_waited_all_run_and_none_is_counted_that_does_not() {
    // Nodes of the test: each has addresses for 253 tasks.
    const NODES: u8 = 20;
    let bed = Bed::led(NODES).await;
    for number in 1..=NODES {
        bed.set_node(number, |spec| spec.availability = Availability::Drain).await;
    }
    // The tasks need more than one proposal, and reserve all the memory that the nodes have. A booking that was counted
    // and not proposed would leave one of them without a place.
    let each = u64::from(NODES) * 8 * fixtures::GIB / 5_000;
    let reservation = Some(Share { memory_bytes: each, ..Share::default() });
    let web = bed
        .create("web", 5_000, |spec| spec.task.resources = Some(Resources { reservation, ..Resources::default() }))
        .await;
    let waiting = |bed: &Bed| bed.state().tasks_of(web).filter(|task| task.node().is_none()).count();
    bed.wait("all wait", |bed| waiting(bed) == 5_000).await;
    let before = bed.state().applied().index;
    for number in 1..=NODES {
        bed.set_node(number, |spec| spec.availability = Availability::Active).await;
    }
    let fit = usize::from(NODES) * (8 * fixtures::GIB / each) as usize;
    bed.wait("all that fit run", |bed| bed.running(web).len() == fit).await;
    assert!(waiting(&bed) <= 3, "rounding");
    let entries = bed.state().applied().index.0 - before.0;
    assert!(entries < 60, "{entries} entries");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_task_comes_back_after_its_delay_and_history_is_kept_short() {
    let bed = Bed::led(2).await;
    let policy = RestartPolicy { delay: Some(Duration::from_millis(200)), ..RestartPolicy::default() };
    let web = bed.create("web", 1, |spec| spec.task.restart = Some(policy)).await;
    for crash in 0..9 {
        bed.wait("it runs", |bed| bed.running(web).len() == 1).await;
        let task = bed.running(web).remove(0);
        let observed = Observed { state: TaskState::Failed, exit_code: Some(1), ..task.observed.clone() };
        let node = task.node().expect("it ran");
        let report = Change::Observe { node, reports: vec![(task.id, observed)] };
        bed.store.change(vec![report], None).await.expect("reported");
        assert!(bed.running(web).is_empty(), "crash {crash}");
    }
    bed.wait("it runs again", |bed| bed.running(web).len() == 1).await;
    bed.wait("five ended ones are kept", |bed| bed.state().tasks_of(web).count() == 6).await;
    let cluster = bed.state().cluster().expect("founded").clone();
    let spec = ClusterSpec { task_history: 1, ..cluster.spec.clone() };
    let shorter = Change::SetCluster { expect: cluster.meta.version, spec };
    bed.store.change(vec![shorter], None).await.expect("set");
    bed.wait("one is kept", |bed| bed.state().tasks_of(web).count() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_one_by_one_to_its_end() {
    let bed = Bed::led(3).await;
    let web = bed.create("web", 3, |_| ()).await;
    bed.wait("three run", |bed| bed.running(web).len() == 3).await;
    bed.update(web, |spec| spec.task.container.image = "b".into()).await;
    bed.wait("it is complete", |bed| {
        let state = bed.state();
        let update = state.service(web).and_then(|service| service.update.clone());
        update.is_some_and(|update| update.state == UpdateState::Completed)
    })
    .await;
    let version = bed.state().service(web).expect("there").spec_version;
    assert!(bed.running(web).iter().all(|task| task.spec_version == version));
    assert!(bed.records().iter().any(|line| line.ends_with("/service.web update completed")));
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_was_stopped_decides_nothing_and_another_goes_on() {
    let bed = Bed::led(2).await;
    bed.depose().await;
    let web = bed.create("web", 2, |_| ()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.state().tasks().len(), 0);
    bed.lead().await;
    bed.wait("two run", |bed| bed.running(web).len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn whichever_actor_of_the_tree_is_killed_no_task_notices_and_the_next_wish_is_done() {
    let bed = Bed::led(2).await;
    let web = bed.create("web", 2, |_| ()).await;
    bed.wait("two run", |bed| bed.running(web).len() == 2).await;
    let mut before: Vec<_> = bed.running(web).iter().map(|task| task.id).collect();
    let victims = ["/scheduler", "/service.web", "/liveness", "/roles", "/authority", "/reaper", ""];
    for (more, victim) in (3..).zip(victims) {
        let path = format!("/n1/leader{victim}").parse().expect("a path");
        bed.leader.scope.journal.kill(&path).expect("it runs");
        bed.update(web, |spec| spec.mode = Mode::Replicated { replicas: more }).await;
        bed.wait("one more runs", |bed| bed.running(web).len() == more as usize).await;
        let after: Vec<_> = bed.running(web).iter().map(|task| task.id).collect();
        assert!(before.iter().all(|task| after.contains(task)), "{victim}");
        before = after;
        // The pause keeps the restarts below the limit at which the tree fails.
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!(bed.records().iter().any(|line| line.starts_with("restarted /n1/leader/scheduler")));
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_is_lost_with_the_scheduler_is_wished_again() {
    let bed = Bed::led(2).await;
    let path = "/n1/leader/scheduler".parse().expect("a path");
    let web = bed.create("web", 2, |_| ()).await;
    // Each round kills the scheduler at another moment between the plan and its proposal.
    for _ in 0..4 {
        let _ = bed.leader.scope.journal.kill(&path);
        bed.update(web, |spec| spec.mode = Mode::Replicated { replicas: spec.replicas().unwrap_or(0) + 1 }).await;
        tokio::task::yield_now().await;
    }
    bed.wait("six run", |bed| bed.running(web).len() == 6).await;
}

fn grace(bed: &Bed, grace: Duration) -> Vec<Change> {
    let cluster = bed.state().cluster().expect("founded").clone();
    vec![Change::SetCluster { expect: cluster.meta.version, spec: ClusterSpec { grace, ..cluster.spec.clone() } }]
}

#[tokio::test(start_paused = true)]
async fn tasks_leave_a_node_that_is_started_with_a_program_that_cannot_read_them() {
    let bed = Bed::led(3).await;
    let config_id = ConfigId::from_bits(70);
    let config = ConfigSpec { name: "motd".into(), labels: Labels::new(), data: vec![1].into() };
    let put = AnyPut::Config(Put { id: config_id, expect: None, spec: config });
    bed.store.change(vec![Change::PutObject(Box::new(put))], None).await.expect("created");
    let target = service::ConfigTarget::Runtime;
    let reference = service::ConfigReference { id: config_id, name: "motd".into(), target };
    let configs = service::ConfigReferences::parse(vec![reference]).expect("one config");
    let web = bed.create("web", 3, |spec| spec.task.container.configs = configs).await;
    bed.wait("three run", |bed| bed.running(web).len() == 3).await;
    assert_eq!(bed.nodes_of(web), [1, 2, 3]);
    let node = bed.state().node(id(3)).cloned().expect("there");
    let older = Change::DescribeNode {
        id: node.id,
        generation: node.generation,
        addr: node.addr.expect("accepted with it"),
        level: Level::FIRST,
        description: None,
    };
    bed.store.change(vec![older], None).await.expect("made");
    bed.wait("they have moved", |bed| bed.running(web).len() == 3 && !bed.nodes_of(web).contains(&3)).await;
}
