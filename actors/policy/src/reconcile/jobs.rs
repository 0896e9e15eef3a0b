//! Jobs against the tables of Swarm's jobs orchestrator.

use super::tests::{SECOND, restart, set_image};
use crate::history::forgettable;
use crate::tests::world::{World, id, node};
use essaim_model::*;
use essaim_wire::{NodeId, Reachability};
use std::collections::BTreeSet;
use std::time::Duration;

fn job(concurrent_max: u64, completions: u64) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        spec.mode = Mode::ReplicatedJob { concurrent_max: Some(concurrent_max), completions: Some(completions) };
        spec.task.restart = restart(|_| ());
    }
}

fn global_job(spec: &mut ServiceSpec) {
    spec.mode = Mode::GlobalJob;
    spec.task.restart = restart(|_| ());
}

fn live(world: &World, job: ServiceId) -> Vec<u32> {
    let live = world.state.tasks_of(job).filter(|task| !task.has_ended());
    live.map(|task| task.slot.number()).collect()
}

/// Tasks of the present iteration that completed.
fn completed(world: &World, job: ServiceId) -> usize {
    let iteration = world.state.service(job).expect("there").iteration();
    let complete = |task: &&std::sync::Arc<Task>| task.observed.state == TaskState::Complete;
    world.state.tasks_of(job).filter(complete).filter(|task| task.job_iteration == iteration).count()
}

/// Ends one running task of the job in this state, the one with the lowest slot.
fn end_one(world: &mut World, job: ServiceId, state: TaskState) -> Slot {
    let task = world.state.tasks_of(job).find(|task| task.is_running()).expect("one runs").clone();
    end(world, &task, state);
    task.slot
}

fn end(world: &mut World, task: &Task, state: TaskState) {
    let observed = Observed { state, at: world.now(), ..task.observed.clone() };
    let node = task.node().expect("it was placed");
    world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
}

fn on(world: &World, job: ServiceId) -> BTreeSet<NodeId> {
    world.state.tasks_of(job).filter(|task| task.is_running()).filter_map(|task| task.node()).collect()
}

#[test]
fn no_more_tasks_than_may_run_at_a_time_are_made_and_no_more_than_must_complete() {
    let mut world = World::of(3);
    let job = world.create("job", 0, job(2, 5));
    let mut seen = BTreeSet::new();
    for done in 0..5 {
        world.settle();
        assert_eq!(live(&world, job).len(), 2.min(5 - done), "after {done}");
        seen.insert(end_one(&mut world, job, TaskState::Complete));
    }
    world.settle();
    assert_eq!((live(&world, job).len(), completed(&world, job)), (0, 5));
    assert_eq!(seen, (0..5).map(Slot::Number).collect(), "every task has a slot of its own");
    assert!(world.plan(job).is_empty());
}

#[test]
fn a_job_of_no_completions_makes_no_task_and_one_that_may_run_none_waits() {
    for (concurrent_max, completions) in [(3, 0), (0, 3)] {
        let mut world = World::of(2);
        let job = world.create("job", 0, job(concurrent_max, completions));
        world.settle();
        assert_eq!(world.state.tasks_of(job).count(), 0);
    }
}

#[test]
fn a_number_that_is_left_out_means_one_at_a_time_and_as_many_completions_as_that() {
    for (concurrent_max, completions, expected) in
        [(None, None, (1, 1)), (Some(3), None, (3, 3)), (None, Some(4), (1, 4)), (Some(2), Some(7), (2, 7))]
    {
        let mode = Mode::ReplicatedJob { concurrent_max, completions };
        assert_eq!(mode.of_replicated_job(), Some(expected));
    }
    assert_eq!(Mode::GlobalJob.of_replicated_job(), None);
}

#[test]
fn a_failed_task_is_followed_in_its_own_slot_and_a_completed_one_never() {
    use RestartCondition::*;
    use TaskState::{Complete, Failed};
    for (condition, end, follows) in [
        (Any, Complete, false),
        (Any, Failed, true),
        (OnFailure, Complete, false),
        (OnFailure, Failed, true),
        (None, Complete, false),
        (None, Failed, false),
    ] {
        let mut world = World::of(2);
        let job = world.create("job", 0, |spec| {
            job(2, 2)(spec);
            spec.task.restart = restart(|it| it.condition = Some(condition));
        });
        world.settle();
        let slot = end_one(&mut world, job, end);
        world.settle();
        let again = live(&world, job).contains(&slot.number());
        assert_eq!(again, follows, "{condition:?} after {end:?}");
    }
}

/// Swarm fills a slot whose attempts are spent again when another slot's task ends.
#[test]
fn attempts_are_limited_for_each_slot_and_a_spent_slot_is_not_used_again_in_its_iteration() {
    let mut world = World::of(2);
    let job = world.create("job", 0, |spec| {
        job(1, 3)(spec);
        spec.task.restart = restart(|it| it.max_attempts = Some(1));
    });
    world.settle();
    for _ in 0..2 {
        assert_eq!(end_one(&mut world, job, TaskState::Failed), Slot::Number(0));
        world.settle();
    }
    assert_eq!(live(&world, job), [1], "the next slot has its turn");
    assert_eq!(end_one(&mut world, job, TaskState::Failed), Slot::Number(1));
    world.settle();
    assert_eq!(live(&world, job), [1], "and attempts of its own");
    end_one(&mut world, job, TaskState::Complete);
    world.settle();
    end_one(&mut world, job, TaskState::Complete);
    world.settle();
    assert_eq!((live(&world, job).len(), completed(&world, job)), (0, 2));
    world.update(job, |spec| spec.task.force_update += 1);
    world.settle();
    assert_eq!(live(&world, job), [0], "a new iteration runs every slot");
}

/// SwarmKit's supervisor counts the attempts of a global job over all nodes together.
#[test]
fn a_global_jobs_attempts_are_counted_on_each_node() {
    let mut world = World::of(3);
    let job = world.create("job", 0, |spec| {
        global_job(spec);
        spec.task.restart = restart(|it| it.max_attempts = Some(1));
    });
    for node in 1..=3 {
        world.settle();
        world.end(id(node), TaskState::Failed);
    }
    world.settle();
    assert_eq!(on(&world, job).len(), 3, "each node has one more attempt");
    world.end(id(2), TaskState::Failed);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(1), id(3)]));
}

#[test]
fn a_restart_waits_for_its_delay() {
    let mut world = World::of(1);
    let job = world.create("job", 0, |spec| {
        job(1, 2)(spec);
        spec.task.restart = restart(|it| it.delay = Some(5 * SECOND));
    });
    world.settle();
    end_one(&mut world, job, TaskState::Failed);
    world.live(4 * SECOND);
    assert_eq!((world.running(job), live(&world, job)), (0, vec![0]), "the failed slot keeps its turn");
    world.live(2 * SECOND);
    assert_eq!(world.running(job), 1);
}

#[test]
fn an_update_begins_a_new_iteration_in_which_everything_runs_again() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(2, 2));
    world.settle();
    assert_eq!(world.state.service(job).expect("there").iteration(), Some(0));
    world.pass(SECOND);
    let first = world.state.service(job).expect("there").job.clone().expect("a job").last_execution;
    for _ in 0..2 {
        end_one(&mut world, job, TaskState::Complete);
    }
    world.settle();
    world.update(job, |spec| spec.task.force_update += 1);
    world.settle();
    let service = world.state.service(job).expect("there");
    assert_eq!((service.iteration(), service.update.as_ref()), (Some(1), None));
    assert!(service.job.as_ref().is_some_and(|job| job.last_execution > first));
    assert_eq!((live(&world, job), completed(&world, job)), (vec![0, 1], 0));
    assert!(world.state.tasks_of(job).filter(|task| !task.has_ended()).all(|task| task.job_iteration == Some(1)));
}

#[test]
fn an_update_ends_the_tasks_of_an_iteration_that_is_not_complete_and_waits_for_their_end() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(2, 4));
    world.settle();
    world.update(job, |spec| {
        set_image("b")(spec);
        spec.mode = Mode::ReplicatedJob { concurrent_max: Some(1), completions: Some(4) };
    });
    for _ in 0..40 {
        world.lead();
        let at_work = world.state.tasks_of(job).filter(|task| !task.has_ended() && task.desired == Desired::Running);
        let of_new = at_work.filter(|task| task.job_iteration == Some(1)).count();
        let of_old =
            world.state.tasks_of(job).filter(|task| task.is_running() && task.job_iteration == Some(0)).count();
        assert!(of_new == 0 || of_new + of_old <= 1, "one at a time, {of_old} of the old iteration still run");
        world.work();
    }
    assert_eq!(live(&world, job), [0]);
    let ended: Vec<_> = world.state.tasks_of(job).filter(|task| task.job_iteration == Some(0)).collect();
    assert!(ended.iter().all(|task| task.observed.state == TaskState::Shutdown) && ended.len() == 2);
}

#[test]
fn a_task_that_waits_for_a_node_serves_the_new_iteration() {
    let mut world = World::of(1);
    let job = world.create("job", 0, |spec| {
        job(1, 1)(spec);
        spec.task.placement.get_or_insert_default().constraints = vec!["node.labels.x==1".parse().expect("one")];
    });
    world.settle();
    let waiting = world.state.tasks_of(job).next().expect("it waits").id;
    world.update(job, |spec| spec.task.placement = None);
    world.settle();
    let task = world.state.task(waiting).expect("there");
    assert_eq!((task.job_iteration, task.is_running()), (Some(1), true));
    assert_eq!(world.state.tasks_of(job).count(), 1);
}

#[test]
fn slots_beyond_the_completions_of_the_new_spec_are_removed() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(5, 5));
    world.settle();
    world.update(job, |spec| spec.mode = Mode::ReplicatedJob { concurrent_max: Some(2), completions: Some(2) });
    world.settle();
    assert_eq!(live(&world, job), [0, 1]);
    assert!(world.state.tasks_of(job).all(|task| task.slot < Slot::Number(2)));
}

#[test]
fn a_rollback_of_a_job_runs_its_former_spec_in_a_new_iteration() {
    let mut world = World::of(1);
    let job = world.create("job", 0, job(1, 1));
    world.update(job, set_image("b"));
    world.settle();
    let expect = world.state.service(job).expect("there").meta.version;
    world.done(vec![Change::UpdateService { id: job, expect, spec: None }]);
    world.settle();
    let service = world.state.service(job).expect("there");
    assert_eq!((service.spec.task.container.image.as_str(), service.iteration()), ("a", Some(2)));
    assert_eq!((service.update.as_ref(), live(&world, job)), (None, vec![0]));
}

#[test]
fn a_global_job_has_one_task_on_every_node_that_may_have_it_and_none_twice() {
    let mut world = World::of(5);
    world.set_node(2, |spec| spec.availability = Availability::Drain);
    world.set_node(3, |spec| spec.availability = Availability::Pause);
    world.reach(4, Reachability::Down);
    let job = world.create("job", 0, global_job);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(1), id(5)]), "not on drained, paused and lost nodes");
    world.end(id(1), TaskState::Complete);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(5)]), "what is done is done");
    world.done(vec![Change::AcceptNode(Box::new(node(6)))]);
    world.set_node(2, |spec| spec.availability = Availability::Active);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(2), id(5), id(6)]), "only where it has not run yet");
    world.set_node(5, |spec| spec.availability = Availability::Drain);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(2), id(6)]));
    world.set_node(5, |spec| spec.availability = Availability::Active);
    world.set_node(1, |spec| spec.availability = Availability::Drain);
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(2), id(5), id(6)]), "it was stopped, and runs again");
    assert_eq!(completed(&world, job), 1, "a drain takes no completion back");
}

#[test]
fn a_global_job_obeys_its_constraints() {
    let mut world = World::of(3);
    let job = world.create("job", 0, |spec| {
        global_job(spec);
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.role==worker".parse().expect("a constraint"));
    });
    world.settle();
    assert_eq!(on(&world, job), BTreeSet::from([id(2), id(3)]));
}

#[test]
fn a_drained_nodes_job_task_is_stopped_before_it_runs_again_elsewhere() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(1, 1));
    world.settle();
    let first = on(&world, job).first().copied().expect("it runs");
    world.set_node(first.bits(), |spec| spec.availability = Availability::Drain);
    for _ in 0..10 {
        world.lead();
        let started = world.state.tasks_of(job).filter(|it| !it.has_ended() && it.observed.state > TaskState::Ready);
        assert!(started.count() <= 1, "one at a time");
        world.work();
    }
    assert_eq!((on(&world, job).len(), on(&world, job).contains(&first)), (1, false));
}

#[test]
fn a_job_task_of_an_unreachable_node_may_still_be_running_and_is_replaced_only_when_the_node_is_down() {
    for (label, early) in [(None, false), (Some("replace"), true)] {
        let mut world = World::of(2);
        let job = world.create("job", 0, |spec| {
            job(1, 1)(spec);
            spec.labels.extend(label.map(|value| (service::ON_UNREACHABLE_LABEL.into(), value.into())));
        });
        world.settle();
        let first = world.state.tasks_of(job).next().expect("it runs").clone();
        let there = first.node().expect("placed").bits();
        world.reach(there, Reachability::Unreachable);
        world.settle();
        assert_eq!(world.state.tasks_of(job).count(), if early { 2 } else { 1 });
        if early {
            // The node returns, and its task has completed meanwhile.
            world.reach(there, Reachability::Reachable);
            end(&mut world, &first, TaskState::Complete);
            world.settle();
            assert_eq!((live(&world, job).len(), completed(&world, job)), (0, 1));
        } else {
            world.reach(there, Reachability::Down);
            world.settle();
            assert_eq!((live(&world, job), world.running(job)), (vec![0], 1));
        }
    }
}

#[test]
fn completed_tasks_are_kept_while_they_count_and_are_history_afterwards() {
    let mut world = World::of(1);
    world.set_cluster(|spec| spec.task_history = 0);
    let job = world.create("job", 0, job(2, 3));
    let sweep = |world: &mut World| {
        for slot in 0..3 {
            let changes = forgettable(&world.state, job, Slot::Number(slot));
            world.done(changes);
        }
    };
    for _ in 0..3 {
        world.settle();
        sweep(&mut world);
        end_one(&mut world, job, TaskState::Complete);
    }
    world.settle();
    sweep(&mut world);
    assert_eq!((completed(&world, job), live(&world, job).len()), (3, 0));
    world.update(job, |spec| spec.task.force_update += 1);
    world.settle();
    sweep(&mut world);
    assert_eq!((world.state.tasks_of(job).count(), live(&world, job)), (3, vec![0, 1]), "slot 2 had no task since");
}

#[test]
fn a_removed_job_leaves_nothing_behind() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(2, 5));
    world.settle();
    end_one(&mut world, job, TaskState::Complete);
    world.settle();
    world.done(vec![Change::RemoveService { id: job }]);
    world.settle();
    assert_eq!(world.state.tasks().len(), 0);
}

#[test]
fn a_job_with_ten_thousand_completions_is_planned_in_a_moment() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(3, 10_000));
    world.settle();
    assert_eq!(live(&world, job), [0, 1, 2]);
}

#[test]
fn a_new_leader_goes_on_with_a_job_where_the_old_one_was() {
    let mut world = World::of(2);
    let job = world.create("job", 0, job(2, 4));
    world.settle();
    let first = end_one(&mut world, job, TaskState::Complete);
    world.change_leader(Duration::ZERO);
    world.settle();
    assert_eq!((live(&world, job).len(), completed(&world, job)), (2, 1));
    assert!(!live(&world, job).contains(&first.number()));
    world.change_leader(Duration::ZERO);
    for _ in 0..3 {
        end_one(&mut world, job, TaskState::Complete);
        world.settle();
    }
    world.change_leader(Duration::ZERO);
    world.settle();
    assert_eq!((live(&world, job).len(), completed(&world, job), world.state.tasks_of(job).count()), (0, 4, 4));
}
