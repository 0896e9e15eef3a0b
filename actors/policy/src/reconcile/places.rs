//! Updates that change where tasks may run, including changes that no node satisfies.

use crate::tests::world::{GIB, World, id};
use essaim_model::service::DRAIN_LABEL;
use essaim_model::*;
use essaim_wire::NodeId;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn constrain(constraints: &'static [&'static str]) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints = constraints.iter().map(|text| text.parse().expect("a constraint")).collect();
    }
}

fn reserve(memory_bytes: u64) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        let reservation = Some(Share { memory_bytes, ..Share::default() });
        spec.task.resources = Some(Resources { reservation, ..Resources::default() });
    }
}

fn order(order: UpdateOrder) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| spec.update.get_or_insert_default().order = order
}

fn set_image(image: &'static str) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| spec.task.container.image = image.into()
}

fn publish_on_the_host(spec: &mut ServiceSpec) {
    let protocol = PortProtocol::Tcp;
    let port = PortConfig { name: String::new(), protocol, target: 80, published: 80, mode: PublishMode::Host };
    spec.endpoint.get_or_insert_default().ports.push(port);
}

fn label(world: &mut World, node: u128, value: Option<&str>) {
    world.set_node(node, |spec| match value {
        Some(value) => drop(spec.labels.insert("x".into(), value.into())),
        None => drop(spec.labels.remove("x")),
    });
}

fn update(world: &World, service: ServiceId) -> UpdateStatus {
    world.state.service(service).expect("there").update.clone().expect("an update")
}

fn running_on(world: &World, service: ServiceId) -> Vec<u128> {
    let running = world.state.tasks_of(service).filter(|task| task.is_running() && task.is_wanted());
    let mut nodes: Vec<u128> = running.filter_map(|task| task.node().map(NodeId::bits)).collect();
    nodes.sort_unstable();
    nodes
}

/// Tasks that run, whatever their desired state is.
fn all_running(world: &World, service: ServiceId) -> Vec<TaskId> {
    world.state.tasks_of(service).filter(|task| task.is_running()).map(|task| task.id).collect()
}

/// Lets leader and workers work for a while, and asserts that at least `running_min` tasks run at any time.
fn live_with(world: &mut World, service: ServiceId, running_min: usize) {
    for _ in 0..100 {
        world.lead();
        assert!(all_running(world, service).len() >= running_min, "something was taken down");
        world.work();
        assert!(all_running(world, service).len() >= running_min, "something was taken down");
        world.pass(SECOND / 5);
    }
    world.settle();
}

#[test]
fn a_constraint_that_fits_no_node_takes_nothing_down_and_says_why() {
    let mut world = World::of(3);
    let web = world.create("web", 2, |_| ());
    world.settle();
    let before = all_running(&world, web);
    world.update(web, constrain(&["node.labels.x==1"]));
    live_with(&mut world, web, 2);
    assert_eq!(all_running(&world, web), before);
    let reason = "no suitable node (scheduling constraints not satisfied on 3 nodes)";
    assert_eq!(world.reasons(web), [reason], "one at a time");
    let status = update(&world, web);
    assert_eq!(status.state, UpdateState::Updating);
    assert!(status.message.starts_with("update in progress; ") && status.message.ends_with(reason), "{status:?}");

    world.update(web, constrain(&[]));
    live_with(&mut world, web, 2);
    assert_eq!(all_running(&world, web), before, "they are what is asked for again");
    assert_eq!(world.reasons(web), [""; 0]);
    let status = update(&world, web);
    assert_eq!((status.state, status.message.as_str()), (UpdateState::Completed, "update completed"));
}

#[test]
fn what_waits_for_a_place_goes_where_the_spec_in_force_lets_it() {
    let mut world = World::of(3);
    let web = world.create("web", 2, constrain(&["node.labels.x==1"]));
    world.settle();
    assert_eq!(world.reasons(web).len(), 2);
    world.update(web, constrain(&["node.labels.x!=1"]));
    world.settle();
    assert_eq!(world.running(web), 2);

    let api = world.create("api", 4, |spec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 1);
    world.settle();
    assert_eq!((world.running(api), world.reasons(api).len()), (3, 1));
    world.update(api, |spec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 2);
    world.settle();
    assert_eq!(world.running(api), 4);

    let big = world.create("big", 1, reserve(1024 * GIB));
    world.settle();
    assert_eq!(world.running(big), 0);
    world.update(big, reserve(GIB));
    world.settle();
    assert_eq!(world.running(big), 1);
}

#[test]
fn an_update_that_is_too_big_for_every_node_takes_nothing_down_and_can_be_taken_back() {
    let mut world = World::of(2);
    let web = world.create("web", 2, reserve(GIB));
    world.settle();
    let before = all_running(&world, web);
    world.update(web, reserve(1024 * GIB));
    live_with(&mut world, web, 2);
    assert_eq!(world.reasons(web), ["no suitable node (insufficient resources on 2 nodes)"]);
    let expect = world.state.service(web).expect("there").meta.version;
    world.done(vec![Change::UpdateService { id: web, expect, spec: None }]);
    live_with(&mut world, web, 2);
    assert_eq!(all_running(&world, web), before);
    assert_eq!((update(&world, web).state, world.reasons(web).len()), (UpdateState::RollbackCompleted, 0));
}

#[test]
fn an_update_that_waits_goes_on_when_there_is_a_place_and_its_message_with_it() {
    let mut world = World::of(2);
    let web = world.create("web", 2, reserve(GIB));
    world.settle();
    world.update(web, reserve(12 * GIB));
    live_with(&mut world, web, 2);
    world.describe(1, |node| node.hardware.memory_bytes = 32 * GIB);
    live_with(&mut world, web, 1);
    assert_eq!(running_on(&world, web), [1, 1]);
    assert_eq!(update(&world, web).message, "update completed");
}

#[test]
fn the_room_and_the_port_of_what_is_replaced_count_as_free() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |spec| {
        reserve(6 * GIB)(spec);
        publish_on_the_host(spec);
    });
    world.settle();
    world.update(web, set_image("b"));
    for _ in 0..100 {
        world.lead();
        let live = world.state.tasks_of(web).filter(|task| !task.has_ended());
        let mut nodes: Vec<_> =
            live.filter(|it| it.observed.state >= TaskState::Starting).map(|it| it.node()).collect();
        let all = nodes.len();
        nodes.dedup();
        assert_eq!(nodes.len(), all, "both cannot have the port");
        world.work();
        world.pass(SECOND / 5);
    }
    assert_eq!((running_on(&world, web), update(&world, web).state), (vec![1, 2], UpdateState::Completed));
}

#[test]
fn start_first_needs_room_of_its_own_and_says_so_until_the_order_is_changed() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| {
        publish_on_the_host(spec);
        order(UpdateOrder::StartFirst)(spec);
    });
    world.settle();
    let before = all_running(&world, web);
    world.update(web, set_image("b"));
    live_with(&mut world, web, 1);
    assert_eq!(all_running(&world, web), before);
    assert_eq!(world.reasons(web), ["no suitable node (host-mode port already in use on 1 node)"]);
    world.update(web, order(UpdateOrder::StopFirst));
    world.live(20 * SECOND);
    assert_eq!((world.running(web), world.reasons(web).len()), (1, 0));
    assert_ne!(all_running(&world, web), before);
}

#[test]
fn a_task_that_is_given_the_room_of_another_one_is_not_told_meanwhile_to_run_beside_it() {
    let mut world = World::of(1);
    let web = world.create("web", 1, reserve(6 * GIB));
    world.settle();
    let before = all_running(&world, web);
    world.update(web, reserve(100 * GIB));
    world.live(SECOND);
    assert_eq!(world.reasons(web).len(), 1);
    world.update(web, |spec| {
        set_image("b")(spec);
        reserve(6 * GIB)(spec);
        order(UpdateOrder::StartFirst)(spec);
    });
    // The scheduler and the reconciliation of the service decide on the same state.
    let (state, now, plan) = (world.state.clone(), world.now(), world.plan(web));
    let placed = world.board.assign_pending(&state, now, &mut |_| true).changes;
    assert!(placed.iter().any(|change| matches!(change, Change::AssignTask { .. })), "{placed:?}");
    world.done(placed);
    world.done(plan.changes);
    let is_to_run = |task: &&Arc<Task>| task.desired == Desired::Running && task.node().is_some() && !task.has_ended();
    assert_eq!(world.state.tasks_of(web).filter(is_to_run).count(), 1);
    live_with(&mut world, web, 1);
    assert_eq!(all_running(&world, web), before, "there is no room beside it");
    assert_eq!(world.reasons(web), ["no suitable node (insufficient resources on 1 node)"]);
}

#[test]
fn a_label_that_goes_takes_a_task_away_only_when_another_one_runs() {
    let mut world = World::of(3);
    for node in [1, 2] {
        label(&mut world, node, Some("1"));
    }
    let web = world.create("web", 2, |spec| {
        constrain(&["node.labels.x==1"])(spec);
        spec.task.placement.get_or_insert_default().replicas_max_per_node = 1;
    });
    world.settle();
    assert_eq!(running_on(&world, web), [1, 2]);
    label(&mut world, 2, None);
    live_with(&mut world, web, 2);
    assert_eq!(running_on(&world, web), [1, 2], "there is nowhere to go");
    assert_eq!(world.reasons(web).len(), 1);
    label(&mut world, 3, Some("1"));
    live_with(&mut world, web, 2);
    assert_eq!(running_on(&world, web), [1, 3]);
    assert_eq!(world.state.tasks_of(web).filter(|task| !task.has_ended()).count(), 2);
    let rejected = world.state.tasks_of(web).filter(|task| task.rejected_at.is_some());
    let rejected: Vec<_> = rejected.map(|task| (task.node().map(NodeId::bits), task.desired)).collect();
    assert_eq!(rejected, [(Some(2), Desired::Shutdown)], "as Swarm shows it");
}

/// What counts are the constraints in force, not those of the spec that the task was placed by: an update of the
/// constraints alone keeps a task that fits.
#[test]
fn a_label_that_goes_takes_a_task_away_that_was_placed_without_the_constraint() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |_| ());
    world.settle();
    let before = all_running(&world, web);
    label(&mut world, 1, Some("1"));
    world.update(web, constrain(&["node.labels.x==1"]));
    world.live(10 * SECOND);
    assert_eq!((all_running(&world, web), update(&world, web).state), (before, UpdateState::Completed));
    label(&mut world, 1, None);
    label(&mut world, 2, Some("1"));
    world.live(10 * SECOND);
    assert_eq!(running_on(&world, web), [2]);
}

#[test]
fn a_label_that_goes_and_comes_back_changes_nothing() {
    let mut world = World::of(1);
    label(&mut world, 1, Some("1"));
    let web = world.create("web", 1, constrain(&["node.labels.x==1"]));
    world.settle();
    let before = all_running(&world, web);
    label(&mut world, 1, None);
    live_with(&mut world, web, 1);
    label(&mut world, 1, Some("1"));
    live_with(&mut world, web, 1);
    assert_eq!((all_running(&world, web), world.reasons(web).len()), (before, 0));
}

#[test]
fn where_two_may_not_run_a_misfit_is_stopped_when_its_replacement_has_a_place() {
    let mut world = World::of(2);
    label(&mut world, 1, Some("1"));
    let web = world.create("web", 1, |spec| {
        constrain(&["node.labels.x==1"])(spec);
        spec.labels.insert(DRAIN_LABEL.into(), "stop-first".into());
    });
    world.settle();
    label(&mut world, 1, None);
    live_with(&mut world, web, 1);
    label(&mut world, 2, Some("1"));
    for _ in 0..50 {
        world.lead();
        let started = world.state.tasks_of(web).filter(|it| !it.has_ended() && it.observed.state > TaskState::Ready);
        assert!(started.count() <= 1, "one at a time");
        world.work();
        world.pass(SECOND / 5);
    }
    assert_eq!(running_on(&world, web), [2]);
}

#[test]
fn a_limit_per_node_that_is_lowered_moves_what_is_too_much() {
    let mut world = World::of(2);
    let web = world.create("web", 4, |_| ());
    world.settle();
    assert_eq!(running_on(&world, web), [1, 1, 2, 2]);
    world.update(web, |spec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 1);
    live_with(&mut world, web, 4);
    assert_eq!(world.reasons(web), ["no suitable node (max replicas per node limit exceed)"]);
    for node in [3, 4] {
        world.done(vec![Change::AcceptNode(Box::new(crate::tests::world::node(node)))]);
    }
    live_with(&mut world, web, 3);
    assert_eq!(running_on(&world, web), [1, 2, 3, 4]);
    assert_eq!(update(&world, web).state, UpdateState::Completed);
}

#[test]
fn a_limit_per_node_is_kept_while_an_update_replaces_tasks_in_place() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |spec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 1);
    world.settle();
    world.update(web, set_image("b"));
    live_with(&mut world, web, 1);
    assert_eq!((running_on(&world, web), update(&world, web).state), (vec![1, 2], UpdateState::Completed));
}

#[test]
fn a_global_service_leaves_the_nodes_that_its_new_constraints_exclude_unless_that_is_all_of_them() {
    let mut world = World::of(3);
    label(&mut world, 1, Some("1"));
    label(&mut world, 2, Some("1"));
    let agent = world.create("agent", 0, |spec| spec.mode = Mode::Global);
    world.settle();
    world.update(agent, constrain(&["node.labels.x==2"]));
    live_with(&mut world, agent, 3);
    let status = update(&world, agent);
    assert!(status.message.ends_with("no node satisfies the constraints"), "{}", status.message);
    assert_eq!(status.state, UpdateState::Updating);

    world.update(agent, constrain(&["node.labels.x==1"]));
    world.live(10 * SECOND);
    assert_eq!((running_on(&world, agent), update(&world, agent).state), (vec![1, 2], UpdateState::Completed));
    for node in [2, 1] {
        label(&mut world, node, None);
        world.settle();
    }
    assert_eq!(world.running(agent), 0, "its places are nodes, and an operator took them away");
    assert_eq!(world.reasons(agent), [""; 0]);
}

#[test]
fn one_node_that_has_no_room_does_not_keep_a_global_service_from_the_others() {
    let mut world = World::of(3);
    world.describe(1, |node| node.hardware.memory_bytes = 2 * GIB);
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        reserve(GIB)(spec);
    });
    world.settle();
    world.update(agent, reserve(4 * GIB));
    live_with(&mut world, agent, 2);
    assert_eq!(world.running(agent), 3);
    let following = world.state.tasks_of(agent).filter(|task| task.is_running());
    let large = following.filter(|task| {
        world.state.spec(agent, task.spec_version).is_some_and(|spec| spec.task.reservation().memory_bytes == 4 * GIB)
    });
    assert_eq!(large.filter_map(|task| task.node()).collect::<Vec<_>>(), [id(2), id(3)]);
    assert!(update(&world, agent).message.contains("insufficient resources on 1 node"));
}

#[test]
fn many_tasks_that_are_replaced_at_once_take_no_room_of_each_other() {
    let mut world = World::of(4);
    let web = world.create("web", 4, |spec| {
        reserve(6 * GIB)(spec);
        publish_on_the_host(spec);
        spec.update = Some(UpdateConfig { parallelism: 0, ..UpdateConfig::default() });
    });
    world.settle();
    world.update(web, |spec| reserve(7 * GIB)(spec));
    world.live(10 * SECOND);
    assert_eq!((running_on(&world, web), update(&world, web).state), (vec![1, 2, 3, 4], UpdateState::Completed));
}

#[test]
fn a_failure_of_a_task_that_had_waited_counts_against_its_update() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |spec| {
        spec.task.restart = Some(RestartPolicy { delay: Some(Duration::ZERO), ..RestartPolicy::default() });
    });
    world.settle();
    world.update(web, constrain(&["node.labels.x==1"]));
    live_with(&mut world, web, 2);
    world.update(web, |spec| {
        constrain(&[])(spec);
        set_image("bad")(spec);
    });
    for _ in 0..30 {
        world.lead();
        let bad = |task: &&Arc<Task>| {
            let spec = world.state.spec(web, task.spec_version);
            task.is_running() && spec.is_some_and(|spec| spec.task.container.image == "bad")
        };
        let failing: Vec<_> = world.state.tasks_of(web).filter(bad).cloned().collect();
        for task in failing {
            let observed = Observed { state: TaskState::Failed, at: world.now(), ..task.observed.clone() };
            let node = task.node().expect("it ran");
            world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
        }
        world.work();
        world.pass(SECOND / 10);
    }
    assert_eq!(update(&world, web).state, UpdateState::Paused);
}

#[test]
fn a_task_that_waited_for_its_predecessor_runs_while_what_is_to_replace_it_has_no_place() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |_| ());
    world.settle();
    world.update(web, set_image("b"));
    // The successor has a node and waits for the old task, which takes long to end.
    while world.lead() {}
    world.update(web, reserve(1024 * GIB));
    while world.lead() {}
    world.live(10 * SECOND);
    let runs = world.state.tasks_of(web).find(|task| task.is_running()).expect("something runs");
    let image = world.state.spec(web, runs.spec_version).expect("kept").task.container.image.clone();
    assert_eq!((world.running(web), image.as_str(), world.reasons(web).len()), (1, "b", 1));
}

#[test]
fn an_update_that_replaces_no_task_is_in_progress_for_a_second() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.live(Duration::from_secs(6));
    world.update(web, constrain(&["node.hostname!=ghost"]));
    assert!(world.plan(web).is_empty(), "a client that looks now sees that it is in progress");
    world.live(Duration::from_secs(1));
    assert_eq!(update(&world, web).state, UpdateState::Completed);
}
