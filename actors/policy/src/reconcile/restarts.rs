//! Restarts: when a task that ended is followed by another one, and how often.

use super::tests::{SECOND, restart, scale, set_image, slots};
use crate::tests::world::{World, id, node};
use essaim_model::*;
use essaim_wire::Reachability;
use std::time::Duration;

#[test]
fn whether_an_ended_task_is_followed_is_what_the_condition_says() {
    use RestartCondition::*;
    use TaskState::{Complete, Failed};
    for (condition, end, follows) in [
        (Any, Complete, true),
        (Any, Failed, true),
        (OnFailure, Complete, false),
        (OnFailure, Failed, true),
        (None, Complete, false),
        (None, Failed, false),
    ] {
        let mut world = World::of(1);
        let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.condition = Some(condition)));
        world.settle();
        world.end(id(1), end);
        world.settle();
        assert_eq!(world.running(web) == 1, follows, "{condition:?} after {end:?}");
        let ended = world.state.tasks_of(web).find(|task| task.has_ended()).expect("history");
        assert_eq!(ended.desired, Desired::Shutdown);
    }
}

#[test]
fn a_restart_waits_for_its_delay_and_is_ready_by_then() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.settle();
    world.end(id(1), TaskState::Failed);
    world.live(4 * SECOND);
    let next = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("it was made at once");
    assert_eq!((next.desired, next.observed.state), (Desired::Ready, TaskState::Ready));
    let again = world.plan(web).again.expect("a moment to look again");
    assert!(again > world.now() && again.saturating_since(world.now()) < 2 * SECOND);
    world.live(2 * SECOND);
    assert_eq!(world.running(web), 1);
}

/// A missing program is missing again at once: without this delay, a slot would use up five tasks in half a second.
#[test]
fn a_task_that_cannot_even_be_prepared_is_followed_after_the_delay_and_not_before() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.delay = Some(5 * SECOND)));
    world.lead();
    world.reject_all(web);
    world.lead();
    let successor = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("one follows at once").clone();
    assert_eq!(successor.desired, Desired::Ready);
    world.reject_all(web);
    world.lead();
    assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 0);
    world.pass(5 * SECOND);
    world.lead();
    assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 1);
}

#[test]
fn attempts_are_limited_and_a_new_spec_begins_to_count_anew() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.max_attempts = Some(2)));
    world.settle();
    for attempt in 0..3 {
        assert_eq!(world.running(web), 1, "attempt {attempt}");
        world.end(id(1), TaskState::Failed);
        world.settle();
    }
    assert_eq!(world.running(web), 0);
    world.update(web, set_image("b"));
    world.settle();
    assert_eq!(world.running(web), 1);
}

/// Ends the running task in a slot.
fn end(world: &mut World, service: ServiceId, slot: u32, state: TaskState) {
    let task = world.state.tasks_in(service, Slot::Number(slot)).find(|task| task.is_running()).expect("one runs");
    let (id, node) = (task.id, task.node().expect("it runs"));
    let observed = Observed { state, at: world.now(), ..task.observed.clone() };
    world.done(vec![Change::Observe { node, reports: vec![(id, observed)] }]);
}

#[test]
fn a_slot_that_is_done_is_left_alone_by_an_update_that_asks_for_the_same_task_and_run_again_by_another() {
    for (condition, ends, left) in [
        (RestartCondition::OnFailure, [TaskState::Failed, TaskState::Complete], 1),
        (RestartCondition::None, [TaskState::Failed, TaskState::Complete], 0),
    ] {
        let mut world = World::of(1);
        let web = world.create("web", 2, |spec| spec.task.restart = restart(|it| it.condition = Some(condition)));
        world.settle();
        for (slot, state) in (1..).zip(ends) {
            end(&mut world, web, slot, state);
        }
        world.settle();
        assert_eq!(world.running(web), left, "{condition:?}");
        world.update(web, |spec| drop(spec.labels.insert("a".into(), "b".into())));
        world.live(10 * SECOND);
        assert_eq!(world.running(web), left, "{condition:?}: the tasks are the same");
        world.update(web, |spec| spec.task.force_update += 1);
        world.live(20 * SECOND);
        assert_eq!((world.running(web), slots(&world, web)), (2, vec![1, 2]), "{condition:?}");
    }
}

/// Swarm replaces every task that has ended when the credentials change, those that have completed too.
#[test]
fn new_credentials_run_again_what_was_never_begun_and_replace_nothing_that_runs_or_has_completed() {
    let credentials = |text: &'static str| {
        move |spec: &mut ServiceSpec| {
            spec.task.container.registry_auth = Some(service::RegistryAuth::parse(text).expect("credentials"));
        }
    };
    let mut world = World::of(1);
    let web = world.create("web", 3, |spec| {
        spec.task.restart = restart(|it| it.condition = Some(RestartCondition::None));
        credentials("b2xk")(spec);
    });
    let mut task = |slot, state| world.leave_task(web, Slot::Number(slot), Some(1), Desired::Running, state);
    let (refused, completed) = (task(1, TaskState::Rejected), task(2, TaskState::Complete));
    let runs = task(3, TaskState::Running);
    world.settle();
    assert_eq!(slots(&world, web), [3], "nothing is restarted");
    world.update(web, credentials("bmV3"));
    world.live(10 * SECOND);
    assert_eq!((slots(&world, web), world.running(web)), (vec![1, 3], 2));
    let tasks = world.state.tasks_of(web).map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(tasks.len(), 4, "one is new");
    assert!([refused, completed, runs].iter().all(|it| tasks.contains(it)));
}

#[test]
fn attempts_are_counted_for_each_slot() {
    let mut world = World::of(1);
    let attempts = |spec: &mut ServiceSpec| {
        spec.task.restart = restart(|it| (it.max_attempts, it.delay) = (Some(1), Some(SECOND / 10)));
    };
    let web = world.create("web", 2, attempts);
    world.settle();
    for image in ["b", "c"] {
        for (slot, left) in [(1, vec![1, 2]), (2, vec![1, 2]), (1, vec![2]), (2, vec![])] {
            end(&mut world, web, slot, TaskState::Failed);
            world.live(SECOND);
            assert_eq!(slots(&world, web), left);
        }
        // A new spec begins to count anew, in every slot.
        world.update(web, set_image(image));
        world.live(20 * SECOND);
        assert_eq!(world.running(web), 2);
    }
    // So does a slot that is made anew.
    end(&mut world, web, 2, TaskState::Failed);
    world.live(SECOND);
    for replicas in [1, 2] {
        world.update(web, scale(replicas));
        world.settle();
    }
    end(&mut world, web, 2, TaskState::Failed);
    world.live(SECOND);
    assert_eq!(world.running(web), 2);
}

/// The case of Swarm's test has the same result here, although the window means another thing (see `restart`): Swarm
/// restarts the second task because its last restart was long ago, and we because it ran for the window.
#[test]
fn a_task_that_fails_soon_after_its_restart_is_given_up_and_one_that_fails_after_the_window_is_not() {
    let mut world = World::of(1);
    let web = world.create("web", 2, |spec| {
        spec.task.restart = restart(|it| {
            (it.max_attempts, it.window, it.delay) = (Some(1), Some(SECOND / 2), Some(SECOND / 10));
        });
    });
    world.settle();
    for slot in [1, 2] {
        end(&mut world, web, slot, TaskState::Failed);
        while !world.state.tasks_in(web, Slot::Number(slot)).any(|task| task.is_running()) {
            world.lead();
            world.work();
            world.pass(SECOND / 20);
        }
    }
    end(&mut world, web, 1, TaskState::Failed);
    world.live(SECOND);
    assert_eq!(slots(&world, web), [2]);
    end(&mut world, web, 2, TaskState::Failed);
    world.live(SECOND);
    assert_eq!((slots(&world, web), world.running(web)), (vec![2], 1));
}

/// A service of one task that may be restarted three times; a restart fails unless its task ran for `window`.
fn three_attempts(window: Duration, delay: Duration) -> (World, ServiceId) {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| {
        spec.task.restart = restart(|it| {
            it.max_attempts = Some(3);
            it.window = Some(window);
            it.delay = Some(delay);
        });
    });
    world.settle();
    (world, web)
}

#[test]
fn a_task_that_ran_for_the_window_begins_to_count_anew() {
    let (mut world, web) = three_attempts(30 * SECOND, Duration::ZERO);
    for _ in 0..9 {
        world.pass(31 * SECOND);
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!(world.running(web), 1, "each of them ran for the window");
    }
    for _ in 0..3 {
        world.pass(20 * SECOND);
        world.end(id(1), TaskState::Failed);
        world.settle();
    }
    assert_eq!(world.running(web), 0, "none of the three ran for the window, however far apart they are");
}

#[test]
fn a_program_that_fails_at_once_is_restarted_three_times_also_when_the_delay_is_as_long_as_the_window() {
    let (mut world, web) = three_attempts(2 * SECOND, 2 * SECOND);
    let mut restarts = 0;
    for _ in 0..10 {
        world.end(id(1), TaskState::Failed);
        // The task waits for its delay, and then runs for half a second.
        world.live(Duration::from_millis(2_500));
        restarts += world.running(web);
    }
    assert_eq!(restarts, 3);
    // The slot stays empty under another leader, until the service is changed.
    world.change_leader(Duration::ZERO);
    world.live(60 * SECOND);
    assert_eq!(world.running(web), 0);
}

#[test]
fn a_lost_node_spends_no_attempt_and_gives_none_back() {
    let (mut world, web) = three_attempts(30 * SECOND, Duration::ZERO);
    world.done(vec![Change::AcceptNode(Box::new(node(2)))]);
    for _ in 0..2 {
        let on =
            world.state.tasks_of(web).find(|task| task.is_running()).and_then(|task| task.node()).expect("it runs");
        world.end(on, TaskState::Failed);
        world.settle();
    }
    let on = world.state.tasks_of(web).find(|task| task.is_running()).and_then(|task| task.node()).expect("it runs");
    world.reach(on.bits(), Reachability::Down);
    world.settle();
    let restarts: Vec<_> = world.state.tasks_of(web).filter(|task| task.is_running()).map(|it| it.restarts).collect();
    assert_eq!(restarts, [2]);
}

/// How a task comes to be replaced while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Drain,
    Constraint,
    Loss,
    Update,
}

const CAUSES: [Cause; 4] = [Cause::Drain, Cause::Constraint, Cause::Loss, Cause::Update];

/// A service with one task that runs on node 2 and can run nowhere else, and is to be replaced for this cause. Returns the
/// task as well.
fn replaced(cause: Cause, restart: Option<RestartPolicy>) -> (World, ServiceId, TaskId) {
    let mut world = World::of(3);
    world.set_node(2, |spec| drop(spec.labels.insert("fits".into(), "yes".into())));
    let web = world.create("web", 1, |spec| {
        spec.task.restart = restart;
        spec.update = Some(UpdateConfig {
            order: UpdateOrder::StartFirst,
            failure_action: FailureAction::Continue,
            parallelism: 0,
            ..UpdateConfig::default()
        });
        spec.task
            .placement
            .get_or_insert_default()
            .constraints
            .push("node.labels.fits!=no".parse().expect("a constraint"));
    });
    for node in [1, 3] {
        world.set_node(node, |spec| spec.availability = Availability::Pause);
    }
    world.settle();
    let task = world.state.tasks_of(web).next().expect("it runs").id;
    assert_eq!((world.running(web), world.state.tasks_on(id(2)).count()), (1, 1));
    for node in [1, 3] {
        world.set_node(node, |spec| spec.availability = Availability::Active);
    }
    match cause {
        Cause::Drain => world.set_node(2, |spec| spec.availability = Availability::Drain),
        Cause::Constraint => world.set_node(2, |spec| drop(spec.labels.insert("fits".into(), "no".into()))),
        Cause::Loss => world.reach(2, Reachability::Unreachable),
        Cause::Update => world.update(web, set_image("b")),
    }
    (world, web, task)
}

/// Leads for this time, while every new task of the service is rejected. Returns the number of tasks that were tried.
fn live_in_vain(world: &mut World, service: ServiceId, time: Duration) -> usize {
    let mut tried = 0;
    for _ in 0..time.as_millis() / 100 {
        world.lead();
        let new: Vec<_> =
            world.state.tasks_of(service).filter(|task| task.is_wanted() && !task.is_running()).cloned().collect();
        for task in new {
            tried += 1;
            for state in [TaskState::Preparing, TaskState::Rejected] {
                let reports = vec![(task.id, Observed { state, ..Observed::nothing(world.now()) })];
                world.done(vec![Change::Observe { node: task.node().expect("it was placed"), reports }]);
            }
        }
        world.pass(Duration::from_millis(100));
    }
    tried
}

#[test]
fn a_replacement_that_fails_is_followed_after_the_delay_while_what_it_was_to_replace_goes_on() {
    for cause in CAUSES {
        let (mut world, web, task) = replaced(cause, restart(|it| it.delay = Some(10 * SECOND)));
        let tried = live_in_vain(&mut world, web, 35 * SECOND);
        assert_eq!(tried, 4, "{cause:?}: at once, and after 10, 20 and 30 seconds");
        assert!(world.state.task(task).is_some_and(|task| task.is_running() && task.is_wanted()), "{cause:?}");
        world.live(15 * SECOND);
        assert_eq!(world.running(web), 1 + usize::from(cause == Cause::Loss), "{cause:?}: the next attempt succeeds");
    }
}

#[test]
fn a_replacement_that_may_not_be_tried_again_ends_a_drain_and_leaves_an_update_as_it_is() {
    let policies: [fn(&mut RestartPolicy); 2] =
        [|it| it.condition = Some(RestartCondition::None), |it| it.max_attempts = Some(2)];
    for (cause, (allowed, policy)) in
        CAUSES.into_iter().flat_map(|it| [1, 3].into_iter().zip(policies).map(move |own| (it, own)))
    {
        let (mut world, web, task) = replaced(
            cause,
            restart(|it| {
                it.delay = Some(SECOND);
                policy(it);
            }),
        );
        assert_eq!(live_in_vain(&mut world, web, 20 * SECOND), allowed, "{cause:?}");
        let goes_on = world.state.task(task).is_some_and(|task| task.is_wanted());
        assert_eq!(goes_on, matches!(cause, Cause::Loss | Cause::Update), "{cause:?}");
    }
}

#[test]
fn an_update_that_starts_first_and_goes_on_after_failures_comes_to_its_end_and_is_tried_on() {
    let (mut world, web, _) = replaced(Cause::Update, restart(|it| it.delay = Some(10 * SECOND)));
    live_in_vain(&mut world, web, 30 * SECOND);
    let state = world.state.service(web).and_then(|service| service.update.as_ref().map(|update| update.state));
    assert_eq!(state, Some(UpdateState::Completed));
    assert!(live_in_vain(&mut world, web, 60 * SECOND) >= 5);
    world.live(15 * SECOND);
    let runs = world.state.tasks_of(web).find(|task| task.is_running() && task.is_wanted()).expect("it runs");
    assert_eq!(runs.spec_version, world.state.service(web).expect("there").spec_version);
}

#[test]
fn nothing_more_is_wanted_of_attempts_that_failed_and_history_forgets_them() {
    for cause in CAUSES {
        let (mut world, web, _) = replaced(cause, restart(|it| it.delay = Some(Duration::ZERO)));
        assert!(live_in_vain(&mut world, web, 20 * SECOND) > 20, "{cause:?}: a delay of nothing is no delay");
        let forget = crate::history::forgettable(&world.state, web, Slot::Number(1));
        world.done(forget);
        let ended = world.state.tasks_of(web).filter(|task| task.has_ended()).count();
        assert!(ended <= 8, "{cause:?}: {ended}");
        world.live(SECOND);
        let wanted =
            world.state.tasks_of(web).filter(|task| task.has_ended() && task.desired < Desired::Shutdown).count();
        assert_eq!(wanted, 0, "{cause:?}");
    }
}
