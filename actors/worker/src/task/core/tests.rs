//! The steps of a task, played as inputs and effects.

use super::*;
use essaim_model::TaskId;

const UTC: Timestamp = Timestamp::from_micros(9);
const STARTED: Started = Started::new(Some(7), Timestamp::from_micros(5));

fn ended(exit: Exit) -> Ended {
    Ended { exit, at: Timestamp::from_micros(6) }
}

fn found(phase: Option<Phase>) -> Input {
    Input::Found(Ok(phase))
}

fn failed<T>() -> Result<T, EngineError> {
    Err(EngineError::Failed("disk".into()))
}

/// Plays inputs and returns each effect as one word, for an observation its state. A claim is answered at once.
fn play(core: &mut Core, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
    let mut words = Vec::new();
    for input in inputs {
        let mut effects = Vec::new();
        core.handle(Moment::START, UTC, input, &mut effects);
        if effects.contains(&Effect::Claim) {
            core.handle(Moment::START, UTC, Input::Claimed(Ok(None)), &mut effects);
        }
        words.extend(effects.into_iter().map(|effect| match effect {
            Effect::Observe(observed) => observed.state.as_str().to_owned(),
            Effect::WakeAt(..) => "Wake".into(),
            other => format!("{other:?}"),
        }));
    }
    words
}

fn core(goal: Goal, known: TaskState) -> Core {
    let known = Observed { state: known, ..Observed::nothing(UTC) };
    let mut effects = Vec::new();
    let core = Core::new(goal, &known, true, &mut effects);
    assert_eq!(effects, [Effect::Find]);
    core
}

fn check(goal: Goal, inputs: &[Input], expected: &[&str]) {
    assert_eq!(play(&mut core(goal, TaskState::New), inputs.iter().cloned()), expected, "{goal:?} {inputs:?}");
}

#[test]
fn a_new_task_goes_its_way_step_by_step() {
    check(
        Goal::Running,
        &[
            found(None),
            Input::Prepared(Ok(())),
            Input::Started(Ok(STARTED)),
            Input::Observed(Ok(Observation::Ended(ended(Exit::Code(0))))),
        ],
        &[
            "accepted",
            "preparing",
            "Claim",
            "Prepare",
            "ready",
            "starting",
            "Start",
            "running",
            "Watch",
            "complete",
            "Done",
        ],
    );
}

#[test]
fn a_task_that_is_wished_ready_waits_there_for_its_turn() {
    let prepared = [found(None), Input::Prepared(Ok(()))];
    check(Goal::Ready, &prepared, &["accepted", "preparing", "Claim", "Prepare", "ready"]);
    let mut waiting = core(Goal::Ready, TaskState::New);
    play(&mut waiting, prepared);
    assert_eq!(play(&mut waiting, [Input::Goal(Goal::Running)]), ["starting", "Start"]);
    assert_eq!(play(&mut waiting, [Input::Goal(Goal::Ready)]), [""; 0], "a goal only grows");
}

#[test]
fn how_it_ended_decides_what_is_reported() {
    for (exit, state, error, code) in [
        (Exit::Code(0), TaskState::Complete, None, Some(0)),
        (Exit::Code(7), TaskState::Failed, Some("task: non-zero exit (7)"), Some(7)),
        (Exit::Signal(9), TaskState::Failed, Some("task: non-zero exit (137)"), Some(137)),
        (
            Exit::Lost,
            TaskState::Failed,
            Some("nobody saw it end: the machine, the engine or the task's shim went down with it"),
            None,
        ),
    ] {
        let mut running = core(Goal::Running, TaskState::New);
        play(&mut running, [found(Some(Phase::Running(STARTED)))]);
        let mut effects = Vec::new();
        running.handle(Moment::START, UTC, Input::Observed(Ok(Observation::Ended(ended(exit)))), &mut effects);
        let Effect::Observe(seen) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((seen.state, seen.error.as_deref(), seen.exit_code), (state, error, code));
        assert_eq!((seen.at, seen.pid), (Timestamp::from_micros(6), Some(7)), "when it happened, not when seen");
    }
}

#[test]
fn a_missing_program_rejects_and_a_failing_engine_fails_the_task() {
    let rejected = Input::Prepared(Err(EngineError::Rejected("No such image: x".into())));
    check(Goal::Running, &[found(None), rejected], &["accepted", "preparing", "Claim", "Prepare", "rejected", "Done"]);
    check(
        Goal::Running,
        &[found(None), Input::Prepared(failed())],
        &["accepted", "preparing", "Claim", "Prepare", "failed", "Done"],
    );
    check(
        Goal::Running,
        &[found(Some(Phase::Prepared)), Input::Started(failed())],
        &["ready", "starting", "Start", "failed", "Done"],
    );
}

#[test]
fn a_task_that_waits_for_its_turn_is_refused_when_it_comes() {
    let rejected = || Input::Prepared(Err(EngineError::Rejected("No such image: x".into())));
    let waits = [found(None), rejected()];
    check(Goal::Ready, &waits, &["accepted", "preparing", "Claim", "Prepare"]);
    let turn = [found(None), rejected(), Input::Goal(Goal::Running), rejected()];
    check(Goal::Ready, &turn, &["accepted", "preparing", "Claim", "Prepare", "Claim", "Prepare", "rejected", "Done"]);
    let stopped = [found(None), rejected(), Input::Goal(Goal::Shutdown)];
    check(Goal::Ready, &stopped, &["accepted", "preparing", "Claim", "Prepare", "shutdown", "Done"]);
}

#[test]
fn a_stop_waits_for_the_step_under_way_and_for_the_end() {
    check(
        Goal::Running,
        &[
            found(Some(Phase::Prepared)),
            Input::Goal(Goal::Shutdown),
            Input::Started(Ok(STARTED)),
            Input::Stopped(Ok(ended(Exit::Signal(15)))),
        ],
        &["ready", "starting", "Start", "running", "Watch", "Stop", "shutdown", "Done"],
    );
    check(
        Goal::Shutdown,
        &[found(Some(Phase::Running(STARTED))), Input::Stopped(failed()), Input::Elapsed(Wake(1))],
        &["running", "Watch", "Stop", "Wake", "Stop"],
    );
}

#[test]
fn a_task_that_never_started_is_shut_down_without_starting() {
    check(Goal::Shutdown, &[found(None)], &["shutdown", "Done"]);
    check(Goal::Shutdown, &[found(Some(Phase::Prepared))], &["ready", "shutdown", "Done"]);
}

#[test]
fn what_nobody_wants_any_more_is_stopped_and_removed() {
    check(
        Goal::Gone,
        &[
            found(Some(Phase::Running(STARTED))),
            Input::Observed(Ok(Observation::Ended(ended(Exit::Signal(15))))),
            Input::Stopped(Ok(ended(Exit::Signal(15)))),
            Input::Removed(failed()),
            Input::Elapsed(Wake(1)),
            Input::Removed(Ok(())),
        ],
        &["Watch", "Stop", "Remove", "Wake", "Remove", "Done"],
    );
    check(Goal::Gone, &[found(None)], &["Remove"]);
    let ended = Input::Stopped(Ok(ended(Exit::Signal(15))));
    check(Goal::Dropped, &[found(Some(Phase::Running(STARTED))), ended], &["Watch", "Stop", "Done"]);
    check(Goal::Dropped, &[found(Some(Phase::Prepared))], &["Remove"]);
}

#[test]
fn a_task_that_is_found_running_is_adopted_and_not_started() {
    check(Goal::Running, &[found(Some(Phase::Running(STARTED)))], &["running", "Watch"]);
    check(Goal::Running, &[found(Some(Phase::Ended(ended(Exit::Code(1)))))], &["failed", "Done"]);
}

#[test]
fn a_task_that_ran_and_is_not_found_is_not_started_again() {
    for known in [TaskState::Starting, TaskState::Running] {
        assert_eq!(play(&mut core(Goal::Running, known), [found(None)]), ["failed", "Done"]);
    }
    let prepared = || [found(Some(Phase::Prepared))];
    assert_eq!(play(&mut core(Goal::Running, TaskState::Running), prepared()), ["failed", "Done"]);
    assert_eq!(play(&mut core(Goal::Running, TaskState::Starting), prepared()), ["starting", "Start"]);
    assert_eq!(
        play(&mut core(Goal::Running, TaskState::Ready), [found(None)]),
        ["accepted", "preparing", "Claim", "Prepare"]
    );
}

#[test]
fn nothing_starts_before_a_manager_has_confirmed_the_disk() {
    let known = Observed::nothing(UTC);
    let mut waiting = Core::new(Goal::Running, &known, false, &mut Vec::new());
    assert_eq!(play(&mut waiting, [found(None)]), ["accepted"]);
    assert_eq!(play(&mut waiting, [Input::Confirmed(TaskState::New)]), ["preparing", "Claim", "Prepare"]);
    let mut running = Core::new(Goal::Running, &known, false, &mut Vec::new());
    assert_eq!(play(&mut running, [found(Some(Phase::Running(STARTED)))]), ["running", "Watch"]);
}

#[test]
fn a_task_that_managers_know_to_have_run_is_not_started_again_whenever_they_say_so() {
    let known = Observed::nothing(UTC);
    for (phase, state, starts) in [
        (None, TaskState::Starting, false),
        (None, TaskState::Ready, true),
        (Some(Phase::Prepared), TaskState::Running, false),
        (Some(Phase::Prepared), TaskState::Starting, true),
    ] {
        let orders = [[found(phase), Input::Confirmed(state)], [Input::Confirmed(state), found(phase)]];
        for inputs in orders {
            let mut core = Core::new(Goal::Running, &known, false, &mut Vec::new());
            let done = play(&mut core, inputs);
            assert_eq!(!done.contains(&"failed".to_owned()), starts, "{phase:?}, {state:?}: {done:?}");
        }
    }
}

#[test]
fn an_engine_that_lost_track_is_asked_again() {
    check(
        Goal::Running,
        &[
            found(Some(Phase::Running(STARTED))),
            Input::Observed(failed()),
            Input::Elapsed(Wake(0)),
            Input::Elapsed(Wake(1)),
            found(Some(Phase::Running(STARTED))),
            Input::Observed(Err(EngineError::Unknown(TaskId::from_bits(1)))),
        ],
        &["running", "Watch", "Wake", "Find", "running", "Watch", "failed", "Done"],
    );
    check(Goal::Running, &[Input::Found(failed()), Input::Elapsed(Wake(1))], &["Wake", "Find"]);
}

fn absent<T>() -> Result<T, EngineError> {
    Err(EngineError::Absent("nobody listens".into()))
}

fn no_answer<T>() -> Result<T, EngineError> {
    Err(EngineError::NoAnswer("it hangs".into()))
}

/// Answers every question of a core with silence, 100 ms after 100 ms, until the core has reported the task's end.
/// Returns the time of that, the error, and the number of questions.
fn wait_for_the_end(core: &mut Core, first: Input) -> (Duration, String, usize) {
    wait_for_the_end_with(core, first, no_answer)
}

fn wait_for_the_end_with(
    core: &mut Core,
    first: Input,
    mut answer: impl FnMut() -> Result<Option<Phase>, EngineError>,
) -> (Duration, String, usize) {
    let (mut inputs, mut asked, mut wakes) = (vec![first], 0, Vec::new());
    let tick = Duration::from_millis(100);
    for elapsed in (0..6_000).map(|ticks| tick * ticks) {
        let now = Moment::START + elapsed;
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            core.handle(now, UTC, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Observe(Observed { state: TaskState::Failed, error, .. }) => {
                        return (elapsed, error.unwrap_or_default(), asked);
                    }
                    Effect::WakeAt(at, wake) => wakes.push((at, wake)),
                    Effect::Find => {
                        asked += 1;
                        inputs.push(Input::Found(answer()));
                    }
                    Effect::Stop => {
                        asked += 1;
                        inputs.extend(answer().err().map(|why| Input::Stopped(Err(why))));
                    }
                    _ => (),
                }
            }
        }
        let due = wakes.extract_if(.., |(at, _)| *at <= now + tick);
        inputs.extend(due.map(|(_, wake)| Input::Elapsed(wake)));
    }
    panic!("it is never given up");
}

#[test]
fn a_start_without_an_answer_is_not_repeated_before_the_engine_said_that_nothing_runs() {
    let asked = [found(Some(Phase::Prepared)), Input::Started(no_answer()), Input::Elapsed(Wake(1))];
    let words = ["ready", "starting", "Start", "Wake", "Find"];
    for (then, last) in [
        (Some(Phase::Running(STARTED)), ["running", "Watch"].as_slice()),
        (Some(Phase::Prepared), &["starting", "Start"]),
        (Some(Phase::Ended(ended(Exit::Code(0)))), &["complete", "Done"]),
        (None, &["failed", "Done"]),
    ] {
        let mut task = core(Goal::Running, TaskState::New);
        assert_eq!(play(&mut task, asked.clone()), words);
        assert_eq!(play(&mut task, [found(then)]), last);
    }
}

#[test]
fn an_engine_that_does_not_answer_is_asked_seldom_and_the_task_given_up() {
    let mut waiting = core(Goal::Running, TaskState::New);
    let (after, error, asked) = wait_for_the_end(&mut waiting, Input::Found(no_answer()));
    assert!((PATIENCE_TO_START..PATIENCE_TO_START + RETRY_AFTER_MAX).contains(&after), "{after:?}");
    assert_eq!(error, "it hangs, and the task is given up");
    assert_eq!(asked, 4, "after 1, 2, 4 and 8 seconds");
    let mut running = core(Goal::Running, TaskState::New);
    play(&mut running, [found(Some(Phase::Running(STARTED)))]);
    let (after, ..) = wait_for_the_end(&mut running, Input::Observed(no_answer()));
    assert!((PATIENCE_WHILE_RUNNING..PATIENCE_WHILE_RUNNING + RETRY_AFTER_MAX).contains(&after), "{after:?}");
}

#[test]
fn an_engine_that_hangs_as_a_whole_is_given_up_sooner_also_by_a_task_that_is_to_end() {
    fn hangs<T>() -> Result<T, EngineError> {
        Err(EngineError::Hangs("it hangs as a whole".into()))
    }
    let mut running = core(Goal::Running, TaskState::New);
    play(&mut running, [found(Some(Phase::Running(STARTED)))]);
    let mut stopping = core(Goal::Running, TaskState::New);
    let stop = [found(Some(Phase::Running(STARTED))), Input::Goal(Goal::Shutdown)];
    assert_eq!(play(&mut stopping, stop), ["running", "Watch", "Stop"]);
    for (mut task, first) in [(running, Input::Observed(hangs())), (stopping, Input::Stopped(hangs()))] {
        let phase = task.phase;
        let (after, error, _) = wait_for_the_end_with(&mut task, first, hangs);
        assert_eq!(after, PATIENCE_HUNG, "{phase:?}");
        assert_eq!(error, "it hangs as a whole, and the task is given up");
        assert_eq!(task.goal, Goal::Dropped, "it is still ended when the engine answers");
    }
    // An engine that is slow on one question alone has the longer patience.
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, [found(Some(Phase::Running(STARTED)))]);
    let mut answers = 0;
    let (after, ..) = wait_for_the_end_with(&mut task, Input::Observed(hangs()), || {
        answers += 1;
        if answers % 10 == 0 { no_answer() } else { hangs() }
    });
    assert!(after >= PATIENCE_WHILE_RUNNING, "{after:?}");
}

#[test]
fn an_engine_that_is_gone_is_waited_for_ten_seconds_and_two_by_a_task_that_was_never_started() {
    let mut running = core(Goal::Running, TaskState::New);
    play(&mut running, [found(Some(Phase::Running(STARTED)))]);
    // After a restart of its daemon, a task may have been started although its node does not know it.
    let unconfirmed = Core::new(Goal::Running, &Observed::nothing(UTC), false, &mut Vec::new());
    let cases = [
        (running, Input::Observed(absent()), PATIENCE_ABSENT),
        (unconfirmed, Input::Found(absent()), PATIENCE_ABSENT),
        (core(Goal::Running, TaskState::New), Input::Found(absent()), PATIENCE_ABSENT_TO_START),
    ];
    for (mut task, first, patience) in cases {
        let (after, error, asked) = wait_for_the_end_with(&mut task, first, absent);
        let looks = patience.as_millis() / RETRY_ABSENT.as_millis();
        assert_eq!((after, asked as u128), (patience, looks));
        assert_eq!(error, "nobody listens, and the task is given up");
    }
    // A silence of another kind between two absences: the engine was there in between.
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, [found(Some(Phase::Running(STARTED)))]);
    let mut answers = 0;
    let (after, ..) = wait_for_the_end_with(&mut task, Input::Observed(no_answer()), || {
        answers += 1;
        if answers == 9 { no_answer() } else { absent() }
    });
    assert_eq!(after, RETRY_AFTER + 8 * RETRY_ABSENT + RETRY_AFTER_MAX + PATIENCE_ABSENT);
    // An engine that is gone says nothing about the task, however often it is asked to start it.
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, [found(Some(Phase::Prepared))]);
    for _ in 0..2 * UNANSWERED_MAX {
        assert_eq!(play(&mut task, [Input::Started(absent())]), ["Wake"]);
        let Life::Pausing(wake, _) = task.phase else { panic!("{:?}", task.phase) };
        assert_eq!(
            play(&mut task, [Input::Elapsed(wake), found(Some(Phase::Prepared))]),
            ["Find", "starting", "Start"]
        );
    }
}

#[test]
fn a_task_that_was_given_up_is_stopped_and_removed_when_its_engine_answers() {
    let wake = |core: &Core| match core.phase {
        Life::Pausing(wake, _) => Input::Elapsed(wake),
        other => panic!("{other:?}"),
    };
    let given_up = || {
        let mut task = core(Goal::Running, TaskState::New);
        play(&mut task, [found(Some(Phase::Prepared))]);
        wait_for_the_end(&mut task, Input::Started(no_answer()));
        let elapsed = wake(&task);
        assert_eq!(play(&mut task, [elapsed, Input::Found(no_answer())]), ["Find", "Wake"], "it never gives up this");
        let elapsed = wake(&task);
        assert_eq!(play(&mut task, [elapsed]), ["Find"]);
        task
    };
    let runs = [found(Some(Phase::Running(STARTED))), Input::Stopped(Ok(ended(Exit::Signal(15))))];
    assert_eq!(play(&mut given_up(), runs), ["Watch", "Stop", "Done"], "and its end is not reported again");
    let stands = [found(Some(Phase::Prepared)), Input::Removed(Ok(()))];
    assert_eq!(play(&mut given_up(), stands), ["Remove", "Done"]);
    assert_eq!(play(&mut given_up(), [found(None)]), ["Done"]);
}

#[test]
fn a_start_that_never_brings_an_answer_is_not_tried_for_ever() {
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, [found(Some(Phase::Prepared))]);
    let mut starts = 1;
    loop {
        let words = play(&mut task, [Input::Started(no_answer())]);
        if words.contains(&"failed".to_owned()) {
            break;
        }
        let Life::Pausing(wake, _) = task.phase else { panic!("{:?}", task.phase) };
        play(&mut task, [Input::Elapsed(wake), found(Some(Phase::Prepared))]);
        starts += 1;
    }
    assert_eq!(starts, UNANSWERED_MAX);
}

#[test]
fn a_container_that_somebody_removed_fails_its_task_with_the_cause() {
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, [found(Some(Phase::Running(STARTED)))]);
    let mut effects = Vec::new();
    let gone = Input::Observed(Err(EngineError::Unknown(TaskId::from_bits(1))));
    task.handle(Moment::START, UTC, gone, &mut effects);
    let Effect::Observe(seen) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((seen.state, seen.error.as_deref()), (TaskState::Failed, Some(FORGOTTEN)));
}

#[test]
fn a_preparation_that_is_not_wanted_any_more_is_dropped() {
    for (goal, ends) in
        [(Goal::Shutdown, ["Abandon", "shutdown", "Done"].as_slice()), (Goal::Gone, &["Abandon", "Remove"])]
    {
        let mut pulling = core(Goal::Running, TaskState::New);
        assert_eq!(play(&mut pulling, [found(None)]), ["accepted", "preparing", "Claim", "Prepare"]);
        assert_eq!(play(&mut pulling, [Input::Goal(goal)]), ends);
        assert_eq!(play(&mut pulling, [Input::Prepared(Ok(()))]), [""; 0], "its answer comes too late");
    }
}

#[test]
fn what_the_engine_says_while_it_prepares_is_the_tasks_message() {
    let mut pulling = core(Goal::Running, TaskState::New);
    play(&mut pulling, [found(None)]);
    let mut effects = Vec::new();
    pulling.handle(Moment::START, UTC, Input::Progress("pulling layer 3 of 7".into()), &mut effects);
    let [Effect::Observe(seen)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((seen.state, seen.message.as_str()), (TaskState::Preparing, "pulling layer 3 of 7"));
    play(&mut pulling, [Input::Prepared(Ok(()))]);
    assert_eq!(play(&mut pulling, [Input::Progress("late".into())]), [""; 0]);
}

#[test]
fn an_address_that_cannot_be_claimed_fails_the_task_before_it_is_prepared() {
    let mut core = core(Goal::Running, TaskState::New);
    let mut effects = Vec::new();
    core.handle(Moment::START, UTC, found(None), &mut effects);
    assert_eq!(effects.last(), Some(&Effect::Claim));
    assert_eq!(play(&mut core, [Input::Claimed(failed())]), ["failed", "Done"]);
}

#[test]
fn a_task_with_a_health_check_runs_when_it_was_found_healthy() {
    let proving = || Input::Started(Ok(Started { health: Some(Health::Starting), ..STARTED }));
    let start = [found(Some(Phase::Prepared)), proving()];
    check(Goal::Running, &start, &["ready", "starting", "Start", "starting", "Watch"]);
    let mut task = core(Goal::Running, TaskState::New);
    play(&mut task, start);
    assert_eq!(play(&mut task, [Input::Observed(Ok(Observation::Running))]), [""; 0], "started is not healthy");
    assert_eq!(play(&mut task, [Input::Observed(Ok(Observation::Healthy))]), ["running"]);
    assert_eq!(play(&mut task, [Input::Observed(Ok(Observation::Healthy))]), [""; 0]);
}

#[test]
fn an_unhealthy_task_is_stopped_and_has_failed() {
    let started = Started { health: Some(Health::Starting), ..STARTED };
    for healthy_first in [false, true] {
        let mut task = core(Goal::Running, TaskState::New);
        play(&mut task, [found(Some(Phase::Running(started)))]);
        let state = if healthy_first { "running" } else { "starting" };
        if healthy_first {
            play(&mut task, [Input::Observed(Ok(Observation::Healthy))]);
        }
        assert_eq!(play(&mut task, [Input::Observed(Ok(Observation::Unhealthy))]), [state, "Stop"]);
        let mut effects = Vec::new();
        let end = Input::Stopped(Ok(ended(Exit::Code(0))));
        task.handle(Moment::START, UTC, end, &mut effects);
        let Effect::Observe(seen) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((seen.state, seen.error.as_deref()), (TaskState::Failed, Some("task: unhealthy container")));
        assert_eq!(seen.health, Some(Health::Unhealthy));
    }
}

#[test]
fn a_task_that_was_running_does_not_go_back_to_starting_when_it_is_found_again() {
    let started = Started { health: Some(Health::Starting), ..STARTED };
    let mut task = core(Goal::Running, TaskState::Running);
    assert_eq!(play(&mut task, [found(Some(Phase::Running(started)))]), ["running", "Watch"]);
}
