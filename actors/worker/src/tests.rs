//! The worker's actors against a simulated machine and stand-ins for managers, in virtual time.

use crate::engine::{Payloads, Progress};
use crate::fixture::cluster::{Cluster, World};
use crate::fixture::{assignment, order, run, seen, version};
use crate::orders::{self, Orders};
use crate::sim::{Behaviour, Mood};
use essaim_model::service::{ON_DISCONNECT_LABEL, RegistryAuth};
use essaim_model::{Desired, EngineKind, GenericStock, Health, ServiceSpec, TaskState};
use essaim_protocol::{Assignment, LogEnd, LogFrame, LogRequest, Packed, TaskOrder, ToUplink};
use essaim_system::RecordKind;
use essaim_system::env::{DiskFault, SimDisk};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

fn with_wish(bits: u128, desired: Desired) -> TaskOrder {
    TaskOrder { desired, ..order(bits) }
}

#[tokio::test(start_paused = true)]
async fn an_assigned_task_runs_and_its_way_is_reported() {
    let world = World::with(assignment(5, &[order(1), order(2)])).await;
    let running = world.until_reported(order(1).id, TaskState::Running).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    assert_eq!(running.address, Some([127, 70, 3, 2].into()));
    assert!(running.pid.is_some());
    let run = world.machine.tasks()[&order(1).id].run.clone();
    assert!(run.env.contains(&("ESSAIM_ADDRESS".into(), "127.70.3.2".into())), "{:?}", run.env);
    let mut states = world.cluster.reported_all(order(1).id);
    states.dedup();
    assert!(states.is_sorted(), "{states:?}");
    let tree = world.tree();
    for path in ["/n/worker", "/n/worker/uplink", "/n/worker/logs"] {
        assert!(tree.iter().any(|found| found == path), "{path} in {tree:?}");
    }
    assert!(tree.iter().any(|path| path.starts_with("/n/worker/task.web.1.")), "{tree:?}");
    assert_eq!(world.cluster.shared().hellos[0].1.description.hostname, "n");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_told_to_end_is_stopped_and_its_actor_leaves() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.cluster.order(assignment(6, &[with_wish(1, Desired::Shutdown)]));
    let ended = world.until_reported(order(1).id, TaskState::Shutdown).await;
    assert_eq!(ended.exit_code, Some(143));
    assert!(!world.runs(order(1).id));
    world.until("its actor left", |world| !world.tree().iter().any(|path| path.contains("task."))).await;
}

/// An assignment of one task whose service ends its tasks when a node has no manager.
fn leased() -> Assignment {
    let mut given = assignment(5, &[order(1)]);
    for (_, _, spec) in &mut given.specs {
        let mut stops = ServiceSpec::clone(spec);
        stops.labels.insert(ON_DISCONNECT_LABEL.into(), "stop".into());
        *spec = Arc::new(stops);
    }
    given
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_lease_goes_on_while_a_manager_renews_it_and_ends_ten_seconds_after_the_last_one() {
    let world = World::with(leased()).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    sleep(Duration::from_secs(60)).await;
    assert!(world.runs(order(1).id));
    // The manager answers, and has no quorum.
    world.cluster.shared().quorum = false;
    sleep(Duration::from_secs(7)).await;
    assert!(world.runs(order(1).id), "the lease has not lapsed");
    sleep(Duration::from_secs(4)).await;
    assert!(!world.runs(order(1).id));
    world.cluster.shared().quorum = true;
    let ended = world.until_reported(order(1).id, TaskState::Shutdown).await;
    assert_eq!(ended.error.as_deref(), Some("its node had no manager for 10 s"));
    // What comes with a renewed lease is begun.
    let mut next = leased();
    (next.version, next.tasks) = (version(6), vec![order(2)]);
    world.cluster.order(next);
    world.until_reported(order(2).id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_manager_a_task_without_a_lease_goes_on_and_none_with_one_begins() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.cluster.shared().quorum = false;
    sleep(Duration::from_secs(60)).await;
    assert!(world.runs(order(1).id));
    let mut next = leased();
    (next.version, next.tasks) = (version(6), vec![order(2)]);
    world.cluster.order(next);
    sleep(Duration::from_secs(30)).await;
    assert!(!world.runs(order(2).id), "the lease lapsed long ago");
    world.cluster.shared().quorum = true;
    world.until_reported(order(2).id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_by_itself_is_reported_with_its_code_and_not_started_again() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.machine.exit(order(1).id, 7);
    let ended = world.until_reported(order(1).id, TaskState::Failed).await;
    assert_eq!((ended.exit_code, ended.error.as_deref()), (Some(7), Some("task: non-zero exit (7)")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_rejects_its_task_with_the_reason() {
    let cluster = Cluster::new(assignment(5, &[]));
    let world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.behave("sleep:latest", Behaviour::Missing);
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(assignment(6, &[order(1)]));
    let rejected = world.until_reported(order(1).id, TaskState::Rejected).await;
    assert_eq!(rejected.error.as_deref(), Some("No such image: sleep:latest"));
}

#[tokio::test(start_paused = true)]
async fn a_long_pull_tells_how_far_it_is_and_is_dropped_when_it_is_not_wanted_or_the_daemon_stops() {
    let cluster = Cluster::new(assignment(5, &[]));
    let mut world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.behave("sleep:latest", Behaviour::Pulls(Duration::from_secs(600)));
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(assignment(6, &[order(1), order(2)]));
    world.until("both are pulled", |world| world.machine.preparing() == 2).await;
    let says = |world: &World, words: &str| {
        let shared = world.cluster.shared();
        shared.reports.get(&order(1).id).into_iter().flatten().any(|seen| seen.message.contains(words))
    };
    world.until("its progress is known", |world| says(world, "pulling sleep:latest: 3")).await;
    world.cluster.order(assignment(7, &[with_wish(1, Desired::Shutdown), order(2)]));
    world.until_reported(order(1).id, TaskState::Shutdown).await;
    assert_eq!(world.machine.preparing(), 1);
    let before = tokio::time::Instant::now();
    world.stop().await;
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert_eq!(world.machine.preparing(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_health_check_is_running_when_healthy_and_failed_when_unhealthy() {
    let cluster = Cluster::new(assignment(5, &[]));
    let world = World::of(cluster, Arc::new(SimDisk::new())).await;
    let (healthy_after, unhealthy_after) = (Duration::from_secs(3), Some(Duration::from_secs(20)));
    world.machine.behave("sleep:latest", Behaviour::Checked { healthy_after, unhealthy_after });
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(assignment(6, &[order(1)]));
    world.until_reported(order(1).id, TaskState::Starting).await;
    sleep(Duration::from_secs(2)).await;
    assert!(world.runs(order(1).id));
    assert_eq!(world.cluster.reported(order(1).id), Some(TaskState::Starting), "not found healthy yet");
    let healthy = world.until_reported(order(1).id, TaskState::Running).await;
    assert_eq!(healthy.health, Some(Health::Healthy));
    let failed = world.until_reported(order(1).id, TaskState::Failed).await;
    assert_eq!(failed.error.as_deref(), Some("task: unhealthy container"));
    assert!(!world.runs(order(1).id));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_somebody_removed_fails_its_task_and_is_not_started_again() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    assert_eq!(world.machine.forget(0), Some(order(1).id));
    let failed = world.until_reported(order(1).id, TaskState::Failed).await;
    let error = "the engine does not know the task any more: what it kept of the task is gone";
    assert_eq!(failed.error.as_deref(), Some(error));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_restarted_with_its_tasks_costs_none_of_them() {
    let world = World::with(assignment(5, &[order(1), order(2)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    world.machine.set_mood(Mood::Down);
    sleep(Duration::from_secs(4)).await;
    world.cluster.order(assignment(6, &[order(1), with_wish(2, Desired::Shutdown)]));
    sleep(Duration::from_secs(4)).await;
    world.machine.set_mood(Mood::Well);
    world.until_reported(order(2).id, TaskState::Shutdown).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.cluster.reported(order(1).id), Some(TaskState::Running));
    assert_eq!((world.machine.starts(), world.machine.running()), (2, vec![order(1).id]));
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_engine_goes_down_while_it_starts_it_runs_once() {
    let cluster = Cluster::new(assignment(5, &[]));
    let world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.set_delays(Duration::from_millis(2), Duration::from_secs(2));
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(assignment(6, &[order(1)]));
    world.until("it runs, and its start was not answered", |world| world.runs(order(1).id)).await;
    world.machine.set_mood(Mood::Down);
    sleep(Duration::from_secs(5)).await;
    world.machine.set_mood(Mood::Well);
    world.until_reported(order(1).id, TaskState::Running).await;
    assert_eq!(world.machine.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_given_up_when_its_engine_does_not_come_back_and_nothing_of_it_stays_when_it_does() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.machine.set_mood(Mood::Down);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(world.cluster.reported(order(1).id), Some(TaskState::Failed));
    sleep(Duration::from_secs(100)).await;
    let failed = world.until_reported(order(1).id, TaskState::Failed).await;
    let error = "nothing listens at the engine's socket, and the task is given up";
    assert_eq!(failed.error.as_deref(), Some(error));
    world.cluster.order(assignment(6, &[]));
    world.machine.set_mood(Mood::Well);
    world.until("its container is stopped", |world| !world.runs(order(1).id)).await;
    assert_eq!(world.cluster.reported(order(1).id), Some(TaskState::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_whose_engine_hangs_starts_and_ends_what_is_not_wanted_when_the_engine_answers() {
    let mut world = World::with(assignment(5, &[order(1), order(2)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    world.stop().await;
    world.machine.set_mood(Mood::Hangs);
    // Only the machine knows task 2: the managers have dropped its order meanwhile.
    world.cluster.shared().orders = assignment(6, &[order(1)]);
    let hellos = world.cluster.shared().hellos.len();
    world.start().await;
    world.until("it is linked", |world| world.cluster.shared().hellos.len() > hellos).await;
    let engines = world.cluster.shared().hellos.last().expect("a hello").1.description.engines.clone();
    assert_eq!(engines, [], "it gets no tasks");
    world.machine.set_mood(Mood::Well);
    world.until("the other is stopped", |world| world.machine.running() == [order(1).id]).await;
    assert_eq!(world.machine.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_says_nothing_for_two_minutes_is_begun_anew() {
    let cluster = Cluster::new(assignment(5, &[]));
    let world = World::of(cluster, Arc::new(SimDisk::new())).await;
    let stalls = Duration::from_secs(600);
    world.machine.behave("sleep:latest", Behaviour::PullStalls { takes: Duration::from_secs(4), stalls });
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(assignment(6, &[order(1)]));
    sleep(Duration::from_secs(60)).await;
    world.machine.behave("sleep:latest", Behaviour::Forever);
    sleep(Duration::from_secs(70)).await;
    world.until_reported(order(1).id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_engine_this_node_lacks_is_rejected_with_the_reason() {
    let ordered = TaskOrder { engine: EngineKind::Docker, ..order(1) };
    let world = World::with(assignment(5, &[ordered])).await;
    let rejected = world.until_reported(order(1).id, TaskState::Rejected).await;
    assert_eq!(rejected.error.as_deref(), Some("this node has no docker engine"));
}

#[tokio::test(start_paused = true)]
async fn the_death_of_the_uplink_or_of_a_tasks_actor_touches_no_task() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let task = world.tree().into_iter().find(|path| path.contains("task.")).expect("an actor");
    for path in ["/n/worker/uplink".to_owned(), task] {
        let hellos = world.cluster.shared().hellos.len();
        world.scope.journal.kill(&path.parse().expect("a path")).expect("it is there");
        let restarted = format!("restarted {path} runs again");
        world.until(&restarted, |world| world.journal().contains(&restarted)).await;
        if path.ends_with("uplink") {
            world.until("another hello", |world| world.cluster.shared().hellos.len() > hellos).await;
            let shared = world.cluster.shared();
            let hello = &shared.hellos.last().expect("a hello").1;
            assert_eq!((hello.have, hello.seen), (None, Some(version(5))), "it asks for all, and turns no order back");
        }
        assert!(world.runs(order(1).id));
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.starts(), 1);
    // The adopted task still has an actor that watches it.
    world.machine.exit(order(1).id, 0);
    world.until_reported(order(1).id, TaskState::Complete).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_tasks_are_adopted_and_what_happened_meanwhile_is_reported() {
    let mut world = World::with(assignment(5, &[order(1), order(2), order(3)])).await;
    for bits in 1..=3 {
        world.until_reported(order(bits).id, TaskState::Running).await;
    }
    world.kill().await;
    world.machine.exit(order(2).id, 1);
    world.cluster.shared().reports.clear();
    world.start().await;
    world.until_reported(order(2).id, TaskState::Failed).await;
    assert!(world.runs(order(1).id) && world.runs(order(3).id));
    assert_eq!(world.machine.starts(), 3, "none was started again");
    let hello = world.cluster.shared().hellos.last().expect("a hello").1.clone();
    assert_eq!((hello.have, hello.seen, hello.generation.0), (None, Some(version(5)), 2));
    // The next task gets an address that no other task has.
    world.cluster.order(assignment(6, &[order(1), order(2), order(3), order(4)]));
    let fourth = world.until_reported(order(4).id, TaskState::Running).await;
    let taken = [1, 3].map(|bits| world.machine.tasks()[&order(bits).id].run.address);
    assert!(!taken.contains(&fourth.address), "{taken:?} {:?}", fourth.address);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_nobody_ordered_any_more_are_stopped_also_when_they_were_dropped_meanwhile() {
    let mut world = World::with(assignment(5, &[order(1), order(2)])).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.cluster.order(assignment(6, &[order(2)]));
    world.until("the first is stopped", |world| !world.runs(order(1).id)).await;
    assert_ne!(world.cluster.reported(order(1).id), Some(TaskState::Shutdown), "nobody wants to hear of it");
    world.stop().await;
    // The managers wrote the tasks off while the node was away.
    world.cluster.shared().orders = assignment(9, &[]);
    world.start().await;
    world.until("the second is stopped", |world| !world.runs(order(2).id)).await;
    assert_eq!(world.worker.tasks(), []);
}

#[tokio::test(start_paused = true)]
async fn older_orders_are_ignored_also_after_a_restart() {
    let mut world = World::with(assignment(9, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    for restarts in [false, true] {
        if restarts {
            world.restart().await;
            world.until("linked", |world| world.cluster.linked().is_some()).await;
        }
        world.cluster.say(ToUplink::Assign(Packed::new(&assignment(8, &[]))));
        let ignored = |world: &World| world.journal().iter().any(|line| line.contains("ignored orders"));
        world.until("ignored", ignored).await;
        assert!(world.runs(order(1).id), "after a restart: {restarts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_difference_on_something_else_makes_it_say_hello_again() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let all = assignment(8, &[order(1), order(2)]);
    world.cluster.shared().orders = all.clone();
    let difference = Assignment { base: Some(version(7)), ..all };
    world.cluster.say(ToUplink::Assign(Packed::new(&difference)));
    world.until_reported(order(2).id, TaskState::Running).await;
    assert_eq!(world.cluster.shared().hellos.last().expect("a hello").1.have, None);
}

#[tokio::test(start_paused = true)]
async fn when_its_manager_dies_it_links_to_another_and_no_task_notices() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let first = world.cluster.linked().expect("linked");
    world.cluster.take_down(first);
    world.until("linked to the other", |world| world.cluster.linked() == Some(3 - first)).await;
    assert!(world.runs(order(1).id));
    // What happens while no manager is linked is reported later.
    world.cluster.take_down(3 - first);
    world.machine.exit(order(1).id, 3);
    sleep(Duration::from_secs(30)).await;
    world.cluster.shared().up.insert(first);
    world.until_reported(order(1).id, TaskState::Failed).await;
    assert_eq!(*world.worker.linked().borrow(), Some(essaim_wire::NodeId::from_bits(first)));
}

/// A node that ran task 1, was removed from its cluster, and has ended the task.
async fn removed_from_the_cluster() -> World {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let first = world.cluster.linked().expect("linked");
    world.cluster.shared().removed = true;
    world.cluster.take_down(first);
    world.until("its task has ended", |world| !world.runs(order(1).id)).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_removed_ends_its_tasks() {
    let world = removed_from_the_cluster().await;
    assert!(world.journal().iter().any(|line| line.contains("this node was removed from the cluster")));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_not_kept_is_sent_again() {
    let cluster = Cluster::new(assignment(5, &[order(1)]));
    cluster.shared().quorum = false;
    let world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.until("it runs", |world| world.runs(order(1).id)).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.cluster.reported(order(1).id), None);
    world.cluster.shared().quorum = true;
    world.until_reported(order(1).id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_on_the_word_of_the_disk_alone() {
    let disk = Arc::new(SimDisk::new());
    let mut kept = Orders::default();
    kept.obey(&assignment(5, &[order(1), order(2)]));
    orders::save(&*disk, &kept).expect("kept");
    let cluster = Cluster::new(assignment(6, &[order(2)]));
    cluster.shared().up.clear();
    let world = World::of(cluster, disk).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.starts(), 0);
    world.cluster.shared().up = [1, 2].into();
    world.until_reported(order(2).id, TaskState::Running).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.machine.starts(), 1, "the other one was given to somebody else meanwhile");
}

#[tokio::test(start_paused = true)]
async fn when_the_node_leaves_every_task_is_stopped_and_removed() {
    let world = World::with(assignment(5, &[order(1), order(2)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    world.machine.exit(order(2).id, 0);
    world.until_reported(order(2).id, TaskState::Complete).await;
    world.worker.clear().await;
    assert!(world.machine.tasks().is_empty(), "{:?}", world.machine.tasks());
    // The node has left, so later orders are ignored.
    world.cluster.order(assignment(7, &[order(3)]));
    sleep(Duration::from_secs(5)).await;
    assert!(world.machine.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_the_machine_goes_down_every_task_is_stopped_and_that_is_reported() {
    let mut world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.worker.halt().await;
    world.stop().await;
    assert_eq!(world.cluster.reported(order(1).id), Some(TaskState::Shutdown));
    assert!(!world.runs(order(1).id));
}

/// Orders for these tasks, beside the ended tasks that the managers remember.
fn with_history(index: u64, orders: &[TaskOrder], ended: &[u128]) -> Assignment {
    Assignment { ended: ended.iter().map(|bits| order(*bits).id).collect(), ..assignment(index, orders) }
}

/// Lines of the task's log on the machine; `None` when the machine does not know the task.
async fn log_lines(world: &World, bits: u128) -> Option<usize> {
    let frames: Vec<LogFrame> = world.worker.logs(LogRequest::all(order(bits).id)).collect().await;
    match &frames[..] {
        [LogFrame::Lines(lines), LogFrame::End(LogEnd::Complete)] => Some(lines.len()),
        [LogFrame::End(LogEnd::Unknown)] => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_logs_of_an_ended_task_stay_as_long_as_its_record_and_no_longer() {
    let mut world = World::with(assignment(1, &[])).await;
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    // Consecutive attempts at one slot, all of which the managers remember.
    for bits in 1..=9 {
        let task = TaskOrder { slot: essaim_model::Slot::Number(1), ..order(bits) };
        world.cluster.order(with_history(bits as u64 + 1, &[task], &(1..bits).collect::<Vec<_>>()));
        world.until_reported(order(bits).id, TaskState::Running).await;
        world.machine.exit(order(bits).id, 1);
        world.until_reported(order(bits).id, TaskState::Failed).await;
    }
    world.cluster.order(with_history(20, &[], &[2, 3, 4, 5, 6, 7, 8, 9]));
    world.until("the forgotten one is removed", |world| world.machine.tasks().len() == 8).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((log_lines(&world, 1).await, log_lines(&world, 2).await), (None, Some(1)));
    world.restart().await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!((world.machine.tasks().len(), log_lines(&world, 2).await), (8, Some(1)), "the orders on disk name it");
    world.cluster.order(with_history(21, &[], &[9]));
    world.until("the others are removed", |world| world.machine.tasks().len() == 1).await;
    assert_eq!(log_lines(&world, 9).await, Some(1));
    assert_eq!(world.machine.starts(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_written_off_is_stopped_and_its_logs_stay() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.cluster.order(with_history(6, &[], &[1]));
    world.until("it is stopped", |world| !world.runs(order(1).id)).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(log_lines(&world, 1).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_away_while_a_service_was_removed_removes_all_of_it_when_it_is_back() {
    for restarts in [false, true] {
        let mut world = World::with(assignment(5, &[order(1), order(2)])).await;
        world.until_reported(order(1).id, TaskState::Running).await;
        world.until_reported(order(2).id, TaskState::Running).await;
        world.machine.exit(order(2).id, 0);
        world.until_reported(order(2).id, TaskState::Complete).await;
        if restarts {
            world.stop().await;
        } else {
            world.cluster.shared().up.clear();
            let linked = world.cluster.linked().expect("linked");
            world.cluster.take_down(linked);
        }
        world.cluster.shared().orders = assignment(9, &[]);
        sleep(Duration::from_secs(600)).await;
        assert!(world.runs(order(1).id) && world.machine.tasks().len() == 2, "nobody has told it");
        if restarts {
            world.start().await;
        } else {
            world.cluster.shared().up.extend([1, 2]);
        }
        world.until("all of it is removed", |world| world.machine.tasks().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_created_and_never_started_goes_with_its_task() {
    let mut world = World::with(assignment(5, &[with_wish(1, Desired::Ready), with_wish(2, Desired::Ready)])).await;
    world.until_reported(order(1).id, TaskState::Ready).await;
    world.until_reported(order(2).id, TaskState::Ready).await;
    // Task 1 was told to end and is remembered; while the daemon is down, task 2 is forgotten.
    world.cluster.order(assignment(6, &[with_wish(1, Desired::Shutdown), with_wish(2, Desired::Ready)]));
    world.until_reported(order(1).id, TaskState::Shutdown).await;
    world.kill().await;
    world.cluster.shared().orders = with_history(7, &[], &[1]);
    world.start().await;
    world.until("task 2 is removed", |world| !world.machine.tasks().contains_key(&order(2).id)).await;
    world.cluster.order(assignment(8, &[]));
    world.until("nothing is left", |world| world.machine.tasks().is_empty()).await;
    assert_eq!(world.machine.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_came_into_being_unseen_is_found_and_removed_within_minutes() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    // The engine carries out late what a daemon that was killed had asked for.
    world.machine.engine().prepare(&run(2), &Payloads::new(), &Progress::unheard()).await.expect("created");
    sleep(Duration::from_secs(200)).await;
    assert_eq!(world.machine.tasks().len(), 2);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(world.machine.tasks().into_keys().collect::<Vec<_>>(), [order(1).id]);
    assert!(world.runs(order(1).id) && world.machine.starts() == 1);
}

/// Waits until the task, which has ended, has been stopped on the machine once more; its end and its log stay.
async fn until_stopped_again(world: &World, bits: u128, ended: TaskState) {
    world.until("it is stopped", |world| !world.runs(order(bits).id)).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.cluster.reported(order(bits).id), Some(ended));
    assert_eq!(log_lines(world, bits).await, Some(1), "the container is kept for its log");
    let of_task = format!("task.web.{bits}.");
    assert!(!world.tree().iter().any(|path| path.contains(&of_task)), "{:?}", world.tree());
}

#[tokio::test(start_paused = true)]
async fn an_ended_task_that_somebody_starts_again_is_stopped_at_once() {
    let mut world = World::with(assignment(5, &[order(1), order(2)])).await;
    for bits in [1, 2] {
        world.until_reported(order(bits).id, TaskState::Running).await;
        world.machine.exit(order(bits).id, 0);
        world.until_reported(order(bits).id, TaskState::Complete).await;
    }
    world.until("their actors left", |world| !world.tree().iter().any(|path| path.contains("task."))).await;
    // Before and after its managers have taken note of its end.
    for index in [6, 7] {
        assert!(world.machine.revive(order(1).id));
        until_stopped_again(&world, 1, TaskState::Complete).await;
        world.cluster.order(with_history(index, &[order(3)], &[1, 2]));
        world.until_reported(order(3).id, TaskState::Running).await;
    }
    // A worker that was away meanwhile finds it so.
    world.stop().await;
    assert!(world.machine.revive(order(1).id));
    world.start().await;
    world.until("it is stopped", |world| !world.runs(order(1).id)).await;
    assert!(world.runs(order(3).id));
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_container_is_restarted_has_ended_and_does_not_run_on() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    // The engine is asked for the first time when both have happened.
    assert!(world.machine.exit(order(1).id, 7) && world.machine.revive(order(1).id));
    let ended = world.until_reported(order(1).id, TaskState::Failed).await;
    assert_eq!(ended.exit_code, Some(7));
    until_stopped_again(&world, 1, TaskState::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_generic_resource_begins_when_those_that_managers_gave_up_have_ended_here() {
    let gpu = |bits| TaskOrder { generic: GenericStock::parse(["gpu=a"]).expect("a resource"), ..order(bits) };
    let cluster = Cluster::new(assignment(5, &[gpu(1)]));
    let mut world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.behave("sleep:latest", Behaviour::IgnoresStop);
    world.until_reported(order(1).id, TaskState::Running).await;
    // The node was down for the managers: its task was written off, and its resource given to another task.
    world.cluster.order(Assignment { ended: vec![order(1).id], ..assignment(6, &[gpu(2), order(3)]) });
    world.until_reported(order(3).id, TaskState::Running).await;
    sleep(Duration::from_secs(5)).await;
    assert!(world.runs(order(1).id) && !world.runs(order(2).id), "the stop takes its grace");
    assert_eq!(world.cluster.reported(order(2).id), Some(TaskState::Ready), "it is prepared meanwhile");
    until_the_next_runs(&world, [1, 2]).await;
    // The same after a restart of the daemon, to which the engine says what it runs.
    world.kill().await;
    let ended = [1, 2].map(|bits| order(bits).id).into();
    world.cluster.shared().orders = Assignment { ended, ..assignment(7, &[gpu(4)]) };
    world.start().await;
    until_the_next_runs(&world, [2, 4]).await;
    // A task that is to end waits for no other one.
    world.kill().await;
    let gone = TaskOrder { desired: Desired::Remove, ..gpu(4) };
    world.cluster.shared().orders = assignment(8, &[gone, gpu(5)]);
    world.start().await;
    until_the_next_runs(&world, [4, 5]).await;
}

#[tokio::test(start_paused = true)]
async fn what_ends_without_a_generic_resource_holds_up_nobody_and_a_running_task_is_watched_over_a_restart() {
    let gpu = |bits, name| TaskOrder { generic: GenericStock::parse([name]).expect("a resource"), ..order(bits) };
    let cluster = Cluster::new(assignment(5, &[order(1), gpu(2, "gpu=a"), gpu(3, "gpu=b")]));
    let mut world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.behave("sleep:latest", Behaviour::IgnoresStop);
    for bits in [1, 2, 3] {
        world.until_reported(order(bits).id, TaskState::Running).await;
    }
    let gone = |order| TaskOrder { desired: Desired::Shutdown, ..order };
    let orders = [gone(order(1)), gpu(2, "gpu=a"), gpu(3, "gpu=b"), gpu(4, "gpu=c")];
    world.cluster.order(assignment(6, &orders));
    world.until("the next one runs", |world| world.runs(order(4).id)).await;
    assert!(world.runs(order(1).id), "it is still being stopped");
    // While one that holds a resource is stopped, the daemon is restarted, and another one ends by itself.
    world.kill().await;
    world.cluster.shared().orders = assignment(7, &[gone(gpu(2, "gpu=a")), gpu(3, "gpu=b")]);
    world.start().await;
    world
        .until("the stop is under way", |world| world.journal().iter().any(|line| line.contains("found 4 tasks")))
        .await;
    sleep(Duration::from_secs(1)).await;
    assert!(world.machine.exit(order(3).id, 1));
    world.until_reported(order(3).id, TaskState::Failed).await;
    assert!(world.runs(order(2).id), "it is still being stopped");
}

/// Waits until the second of two tasks runs, and asserts that both never run at a time.
async fn until_the_next_runs(world: &World, tasks: [u128; 2]) {
    let is_next = |world: &World| {
        let runs = tasks.map(|bits| world.runs(order(bits).id));
        assert_ne!(runs, [true, true]);
        runs[1]
    };
    world.until("the next one runs", is_next).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_keeps_its_orders_until_its_cluster_is_forgotten() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let (orders, hellos) = (world.worker.orders(), world.cluster.shared().hellos.len());
    world.worker.clear().await;
    world.scope.journal.kill(&"/n/worker/uplink".parse().expect("a path")).expect("it is there");
    world.until("another hello", |world| world.cluster.shared().hellos.len() > hellos).await;
    // A node that loses its power now is a member again when it returns, and obeys no older orders.
    let stored = orders::load(&*world.disk).expect("it is whole").expect("it is there");
    assert_eq!((stored.version, *orders.borrow()), (Some(version(5)), Some(version(5))));
}

#[tokio::test(start_paused = true)]
async fn many_ended_tasks_are_removed_some_at_a_time_and_all_in_the_end() {
    let orders: Vec<TaskOrder> = (1..=100).map(order).collect();
    let world = World::with(assignment(5, &orders)).await;
    for order in &orders {
        world.until_reported(order.id, TaskState::Running).await;
        world.machine.exit(order.id, 0);
    }
    for order in &orders {
        world.until_reported(order.id, TaskState::Complete).await;
    }
    world.machine.set_mood(Mood::Hangs);
    world.cluster.order(assignment(6, &[]));
    sleep(Duration::from_secs(1)).await;
    let removals = world.tree().iter().filter(|path| path.contains("/task.")).count();
    assert_eq!(removals, 16, "they wait for the engine");
    world.machine.set_mood(Mood::Well);
    world.until("all are removed", |world| world.machine.tasks().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_removed_keeps_the_logs_until_it_leaves() {
    let world = removed_from_the_cluster().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(log_lines(&world, 1).await, Some(1));
    world.worker.clear().await;
    assert!(world.machine.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_restarted_pulls_with_the_credentials_that_are_not_on_its_disk() {
    let mut given = assignment(5, &[order(1)]);
    let mut secret = ServiceSpec::clone(&given.specs[0].2);
    secret.task.container.registry_auth = Some(RegistryAuth::parse("c2VjcmV0").expect("credentials"));
    given.specs[0].2 = Arc::new(secret.clone());
    let cluster = Cluster::new(assignment(4, &[]));
    let mut world = World::of(cluster, Arc::new(SimDisk::new())).await;
    world.machine.behave("sleep:latest", Behaviour::Pulls(Duration::from_secs(600)));
    world.until("linked", |world| world.cluster.linked().is_some()).await;
    world.cluster.order(given);
    world.until("it is pulled", |world| world.machine.preparing() == 1).await;
    world.kill().await;
    world.machine.behave("sleep:latest", Behaviour::Forever);
    world.start().await;
    world.until_reported(order(1).id, TaskState::Running).await;
    assert_eq!(world.cluster.shared().hellos.last().expect("a hello").1.have, None, "it asks for all orders again");
    assert_eq!(world.machine.tasks()[&order(1).id].run.container, secret.task.container);
    // With the credentials at hand, the next link needs no orders.
    let linked = world.cluster.linked().expect("linked");
    world.cluster.take_down(linked);
    world.until("linked to the other", |world| world.cluster.linked() == Some(3 - linked)).await;
    assert_eq!(world.cluster.shared().hellos.last().expect("a hello").1.have, Some(version(5)));
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_container_was_removed_while_the_daemon_was_down_is_not_started_again() {
    let mut world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.kill().await;
    assert_eq!(world.machine.forget(0), Some(order(1).id));
    // The managers know how far it came; the orders on disk do not.
    world.cluster.shared().orders.tasks[0].observed = seen(TaskState::Running);
    world.start().await;
    world.until_reported(order(1).id, TaskState::Failed).await;
    assert_eq!(world.machine.attempts()[&order(1).id], 1);
}

#[tokio::test(start_paused = true)]
async fn orders_that_are_on_a_disk_that_fails_are_obeyed_without_writing_them_again() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let failures =
        |world: &World| world.journal().iter().filter(|it| it.starts_with("failed /n/worker/uplink")).count();
    let hellos = world.cluster.shared().hellos.len();
    world.scope.journal.kill(&"/n/worker/uplink".parse().expect("a path")).expect("it is there");
    world.until("it failed", |world| failures(world) == 1).await;
    world.disk.set_fault(DiskFault::WritesFail);
    world.until("another hello", |world| world.cluster.shared().hellos.len() > hellos).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(failures(&world), 1, "{:?}", world.journal());
    assert!(world.cluster.linked().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_orders_costs_no_link_and_they_are_obeyed_once_it_takes_them() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    world.disk.set_fault(DiskFault::WritesFail);
    world.cluster.order(assignment(7, &[order(1), order(2)]));
    sleep(Duration::from_secs(60)).await;
    // The latest orders are a difference to the refused ones.
    world.cluster.order(Assignment { base: Some(version(7)), ..assignment(9, &[order(3)]) });
    world.cluster.shared().orders = assignment(9, &[order(1), order(2), order(3)]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.tasks().len(), 1, "orders that are not on disk are not obeyed");
    assert!(world.cluster.linked().is_some());
    let (hellos, journal) = (world.cluster.shared().hellos.len(), world.journal());
    assert_eq!(hellos, 1, "nothing is asked for while the disk takes nothing");
    assert!(!journal.iter().any(|it| it.starts_with("failed")), "{journal:?}");
    world.disk.set_fault(DiskFault::None);
    world.until_reported(order(3).id, TaskState::Running).await;
    world.until_reported(order(2).id, TaskState::Running).await;
    let stored = orders::load(&*world.disk).expect("it is whole").expect("it is there");
    assert_eq!((stored.version, world.cluster.shared().hellos.len()), (Some(version(9)), 2));
    let said = |words: &str| world.journal().iter().filter(|it| it.contains(words)).count();
    assert_eq!((said("the disk does not take the orders"), said("the disk takes the orders again")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_detaches_or_talks_nonsense_is_left_for_another() {
    let world = World::with(assignment(5, &[order(1)])).await;
    world.until_reported(order(1).id, TaskState::Running).await;
    let first = world.cluster.linked().expect("linked");
    world.cluster.say(ToUplink::Detach(Packed::new(&essaim_protocol::Detach { why: "no leader".into() })));
    world.until("linked to the other", |world| world.cluster.linked() == Some(3 - first)).await;
    let nonsense = ractor::BytesConvertable::from_bytes(vec![255; 9]);
    world.cluster.say(ToUplink::Assign(nonsense));
    world.until("linked to the first", |world| world.cluster.linked() == Some(first)).await;
    assert!(world.runs(order(1).id));
    let failures = world.scope.journal.read(0, 1000).expect("all").records;
    assert!(!failures.iter().any(|record| record.kind == RecordKind::Failed), "{:?}", world.journal());
}
