//! Decides the next step of a task. Knows nothing of engines, clocks or actors.
//!
//! One operation of the engine is under way at a time; a goal that comes meanwhile is remembered and decides what
//! follows. There are two exceptions: a stop does not wait for the end of the watch on a started task, and a
//! preparation that is no longer wanted is dropped, since it may take ten minutes.
//!
//! A task is running when it was started and, if it has a health check, has been healthy once. A running task that
//! turns unhealthy is stopped and has failed.

use crate::engine::{Ended, EngineError, Exit, Observation, Phase, Started};
use essaim_model::{ContainerId, Desired, Health, Observed, TaskState};
use essaim_wire::{Moment, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

/// Delay after a failure of the engine before the same operation is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the worker wants of a task, in rising order; a goal never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goal {
    /// The task shall be prepared and ready to start.
    Ready,
    /// The task shall run.
    Running,
    /// The task shall end; its logs stay.
    Shutdown,
    /// The task shall end and is no longer reported, because the managers dropped its order; its logs stay for a while.
    Dropped,
    /// The task shall end and be forgotten with its logs.
    Gone,
}

impl From<Desired> for Goal {
    fn from(desired: Desired) -> Self {
        match desired {
            Desired::Ready => Self::Ready,
            Desired::Running => Self::Running,
            Desired::Shutdown => Self::Shutdown,
            // Managers remove the record of the task once its end was reported; until then the end has to be reported.
            Desired::Remove => Self::Shutdown,
        }
    }
}

/// Inputs of the core: answers of the engine, goals and delays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Answer to `Find`: the task's phase, `None` when the engine does not know the task, or the engine's failure.
    Found(Result<Option<Phase>, EngineError>),
    /// The managers' goal for the task.
    Goal(Goal),
    /// A manager has confirmed the orders on disk; nothing is prepared or started by unconfirmed orders.
    Confirmed,
    /// Answer to `Claim`: the claimed address, or none when the engine needs none.
    Claimed(Result<Option<IpAddr>, EngineError>),
    /// Progress message of the preparation.
    Progress(String),
    /// Answer to `Prepare`.
    Prepared(Result<(), EngineError>),
    /// Answer to `Start`.
    Started(Result<Started, EngineError>),
    /// An observation of the started task, or an error when the engine lost track of the task.
    Observed(Result<Observation, EngineError>),
    /// Answer to `Stop`: how the task ended.
    Stopped(Result<Ended, EngineError>),
    /// Answer to `Remove`.
    Removed(Result<(), EngineError>),
    /// A delay that the core asked for by `WakeAt` has elapsed.
    Elapsed(Wake),
}

/// Number of a delay; a wake-up with an older number is stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

/// Effects that the core asks its actor to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the engine for the task's phase.
    Find,
    /// Have the engine claim an address for the task.
    Claim,
    /// Have the engine prepare the task.
    Prepare,
    /// Drop the preparation under way, whose result is no longer wanted.
    Abandon,
    /// Have the engine start the task.
    Start,
    /// Watch the started task until it ends.
    Watch,
    /// Have the engine stop the task.
    Stop,
    /// Have the engine forget the task with its logs.
    Remove,
    /// Record this observation, so that it is reported.
    Observe(Observed),
    /// Send `Elapsed` with this number at this time.
    WakeAt(Moment, Wake),
    /// End the actor: nothing is left to do about the task.
    Done,
}

/// State machine of one task on this machine.
#[derive(Debug)]
pub(crate) struct Core {
    goal: Goal,
    confirmed: bool,
    phase: Life,
    /// Whether the task was started, by this core or as far as the managers know. If the engine then does not know the
    /// task, it has failed and is not started again.
    has_run: bool,
    /// Whether the managers know that the task was running.
    ran: bool,
    address: Option<IpAddr>,
    pid: Option<u32>,
    container: Option<ContainerId>,
    health: Option<Health>,
    wakes: u64,
}

/// Phase of the task in the core. The phases that end in `ing` wait for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The engine has not yet answered what phase the task is in.
    Finding,
    /// The task is not prepared.
    New,
    Claiming,
    Preparing,
    /// Preparation failed while only readiness was wanted. It is tried again when the task shall run, and a second
    /// failure is reported. Reported at once, the task would be replaced at once, and so would its successor, without
    /// any back-off.
    Held,
    /// The task is prepared and can be started.
    Ready,
    Starting,
    /// The task was started, and its health check has not passed yet.
    Proving,
    Running,
    Stopping,
    /// The task has ended, and its end is recorded.
    Ended,
    Removing,
    /// A failed operation waits to be tried again.
    Pausing(Wake, Again),
}

/// The operation that is tried again after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Find,
    Stop,
    Remove,
}

impl Core {
    /// A core for a task of which the managers know `known`. Its first effect asks the engine for the task's phase.
    pub(crate) fn new(goal: Goal, known: &Observed, confirmed: bool, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Find);
        Self {
            goal,
            confirmed,
            phase: Life::Finding,
            has_run: known.state >= TaskState::Starting,
            ran: known.state >= TaskState::Running,
            address: known.address,
            pid: known.pid,
            container: known.container,
            health: known.health,
            wakes: 0,
        }
    }

    /// The address that was claimed for the task.
    pub(crate) const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Handles one input at this time, given by both clocks.
    pub(crate) fn handle(&mut self, now: Moment, utc: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match (self.phase, input) {
            (_, Input::Goal(goal)) => {
                self.goal = self.goal.max(goal);
                self.advance(utc, effects);
            }
            (_, Input::Confirmed) => {
                self.confirmed = true;
                self.advance(utc, effects);
            }
            (Life::Finding, Input::Found(Ok(found))) => self.on_found(utc, found, effects),
            (Life::Finding, Input::Found(Err(_))) => self.pause(now, Again::Find, effects),
            (Life::Claiming, Input::Claimed(Ok(address))) => {
                self.address = address;
                self.phase = Life::Preparing;
                effects.push(Effect::Prepare);
                self.advance(utc, effects);
            }
            (Life::Claiming, Input::Claimed(Err(why))) => self.on_prepared(utc, Err(why), effects),
            (Life::Preparing, Input::Progress(words)) => self.observe(TaskState::Preparing, utc, &words, effects),
            (Life::Preparing, Input::Prepared(done)) => self.on_prepared(utc, done, effects),
            (Life::Starting, Input::Started(done)) => self.on_started(utc, done, effects),
            (Life::Proving | Life::Running | Life::Stopping, Input::Observed(Ok(Observation::Ended(ended)))) => {
                self.on_ended(now, utc, Ok(ended), effects);
            }
            (Life::Proving | Life::Running | Life::Stopping, Input::Observed(Err(why))) => {
                self.on_ended(now, utc, Err(why), effects);
            }
            (Life::Proving | Life::Running, Input::Observed(Ok(seen))) => self.on_seen(utc, seen, effects),
            (Life::Stopping, Input::Stopped(done)) => self.on_ended(now, utc, done, effects),
            (Life::Removing, Input::Removed(Ok(()))) => effects.push(Effect::Done),
            (Life::Removing, Input::Removed(Err(_))) => self.pause(now, Again::Remove, effects),
            (Life::Pausing(wake, again), Input::Elapsed(elapsed)) if wake == elapsed => self.try_again(again, effects),
            // An answer to an outdated question, or a stale wake-up.
            (_, _) => (),
        }
    }

    fn on_found(&mut self, utc: Timestamp, found: Option<Phase>, effects: &mut Vec<Effect>) {
        match found {
            // A task whose start was reported but that the engine does not know, or that was reported running but is
            // only prepared, has failed, whatever a power cut left of its folder. A task that is prepared and was never
            // reported running may still be started: its daemon died before it could start it.
            None | Some(Phase::Prepared) if self.has_run && (found.is_none() || self.ran) => {
                let error = "the engine does not know the task any more: what it kept of the task is gone";
                self.end(TaskState::Failed, utc, "started", Some(error.into()), None, effects);
                self.advance(utc, effects);
            }
            None => {
                self.phase = Life::New;
                if self.goal < Goal::Shutdown {
                    self.observe(TaskState::Accepted, utc, "accepted", effects);
                }
                self.advance(utc, effects);
            }
            Some(Phase::Prepared) => {
                self.phase = Life::Ready;
                self.observe(TaskState::Ready, utc, "prepared", effects);
                self.advance(utc, effects);
            }
            Some(Phase::Running(started)) => self.run(started, utc, effects),
            Some(Phase::Ended(ended)) => {
                self.on_end(ended, effects);
                self.advance(utc, effects);
            }
        }
    }

    fn on_prepared(&mut self, utc: Timestamp, done: Result<(), EngineError>, effects: &mut Vec<Effect>) {
        match done {
            Ok(()) => {
                self.phase = Life::Ready;
                self.observe(TaskState::Ready, utc, "prepared", effects);
            }
            Err(_) if self.goal == Goal::Ready => self.phase = Life::Held,
            Err(why) => {
                let state = match why {
                    EngineError::Rejected(_) => TaskState::Rejected,
                    EngineError::Failed(_) | EngineError::Unknown(_) => TaskState::Failed,
                };
                self.end(state, utc, "preparing", Some(why.to_string()), None, effects);
            }
        }
        self.advance(utc, effects);
    }

    fn on_started(&mut self, utc: Timestamp, done: Result<Started, EngineError>, effects: &mut Vec<Effect>) {
        match done {
            Ok(started) => self.run(started, utc, effects),
            Err(why) => {
                self.end(TaskState::Failed, utc, "starting", Some(why.to_string()), None, effects);
                self.advance(utc, effects);
            }
        }
    }

    /// Handles that the task was started, now or before a restart of the actor.
    fn run(&mut self, started: Started, utc: Timestamp, effects: &mut Vec<Effect>) {
        self.has_run = true;
        self.pid = started.pid;
        self.container = started.container;
        self.address = started.address.or(self.address);
        self.health = started.health;
        match started.health {
            None | Some(Health::Healthy) => {
                self.phase = Life::Running;
                self.observe(TaskState::Running, started.at, "started", effects);
            }
            Some(Health::Starting | Health::Unhealthy) => {
                self.phase = Life::Proving;
                // The task may have been healthy before a restart of this actor, and its state never goes back.
                let state = if self.ran { TaskState::Running } else { TaskState::Starting };
                self.observe(state, started.at, "started, and not found healthy yet", effects);
            }
        }
        effects.push(Effect::Watch);
        if started.health == Some(Health::Unhealthy) {
            self.on_seen(utc, Observation::Unhealthy, effects);
        }
        self.advance(utc, effects);
    }

    /// Handles an observation of a started task that has not ended.
    fn on_seen(&mut self, utc: Timestamp, seen: Observation, effects: &mut Vec<Effect>) {
        match seen {
            Observation::Healthy if self.health != Some(Health::Healthy) || self.phase == Life::Proving => {
                self.phase = Life::Running;
                self.health = Some(Health::Healthy);
                self.observe(TaskState::Running, utc, "started", effects);
            }
            Observation::Unhealthy => {
                self.health = Some(Health::Unhealthy);
                let state =
                    if self.phase == Life::Running || self.ran { TaskState::Running } else { TaskState::Starting };
                self.phase = Life::Stopping;
                self.observe(state, utc, "unhealthy, and is stopped", effects);
                effects.push(Effect::Stop);
            }
            // `Running` and a repeated `Healthy` change nothing; the end is handled by `on_ended`.
            Observation::Running | Observation::Healthy | Observation::Ended(_) => (),
        }
    }

    fn on_ended(&mut self, now: Moment, utc: Timestamp, done: Result<Ended, EngineError>, effects: &mut Vec<Effect>) {
        match done {
            Ok(ended) => {
                self.on_end(ended, effects);
                self.advance(utc, effects);
            }
            Err(EngineError::Unknown(_)) => {
                let error = "the engine does not know the task any more: what it kept of the task is gone";
                self.end(TaskState::Failed, utc, "started", Some(error.into()), None, effects);
                self.advance(utc, effects);
            }
            Err(_) if self.phase == Life::Stopping => self.pause(now, Again::Stop, effects),
            Err(_) => self.pause(now, Again::Find, effects),
        }
    }

    /// Handles the end of the task: by order, by itself, or with an unknown exit status.
    fn on_end(&mut self, ended: Ended, effects: &mut Vec<Effect>) {
        let code = ended.exit.code();
        let (state, message, error) = match ended.exit {
            _ if self.goal >= Goal::Shutdown => (TaskState::Shutdown, "shutdown", None),
            _ if self.health == Some(Health::Unhealthy) => {
                (TaskState::Failed, "started", Some("task: unhealthy container".into()))
            }
            Exit::Code(0) => (TaskState::Complete, "finished", None),
            Exit::Code(code) => (TaskState::Failed, "started", Some(format!("task: non-zero exit ({code})"))),
            Exit::Signal(signal) => {
                (TaskState::Failed, "started", Some(format!("task: non-zero exit ({})", 128 + signal)))
            }
            Exit::OutOfMemory(code) => {
                let error = format!("task: non-zero exit ({code}): out of memory");
                (TaskState::Failed, "started", Some(error))
            }
            Exit::Lost => {
                let error = "nobody saw it end: the machine or the task's shim went down with it";
                (TaskState::Failed, "started", Some(error.into()))
            }
        };
        self.end(state, ended.at, message, error, code, effects);
    }

    /// Takes the next step towards the goal, if the present phase does not wait for the engine.
    fn advance(&mut self, utc: Timestamp, effects: &mut Vec<Effect>) {
        match (self.phase, self.goal) {
            (Life::New, Goal::Ready | Goal::Running) if self.confirmed => {
                self.phase = Life::Claiming;
                self.observe(TaskState::Preparing, utc, "preparing", effects);
                effects.push(Effect::Claim);
            }
            (Life::Held, Goal::Running) => {
                self.phase = Life::Claiming;
                effects.push(Effect::Claim);
            }
            // A claim takes a moment and is not interrupted. A preparation may take minutes, and ends when it is
            // dropped.
            (Life::Preparing, Goal::Shutdown | Goal::Dropped | Goal::Gone) => {
                effects.push(Effect::Abandon);
                self.phase = Life::New;
                self.advance(utc, effects);
            }
            (Life::Ready, Goal::Running) if self.confirmed => {
                self.phase = Life::Starting;
                self.has_run = true;
                self.observe(TaskState::Starting, utc, "starting", effects);
                effects.push(Effect::Start);
            }
            (Life::New | Life::Held | Life::Ready, Goal::Shutdown) => {
                self.end(TaskState::Shutdown, utc, "shutdown", None, None, effects);
                self.advance(utc, effects);
            }
            (Life::Proving | Life::Running, Goal::Shutdown | Goal::Dropped | Goal::Gone) => {
                self.phase = Life::Stopping;
                effects.push(Effect::Stop);
            }
            (Life::New | Life::Held | Life::Ready, Goal::Dropped | Goal::Gone) | (Life::Ended, Goal::Gone) => {
                self.phase = Life::Removing;
                effects.push(Effect::Remove);
            }
            (Life::Ended, _) => effects.push(Effect::Done),
            (_, _) => (),
        }
    }

    fn try_again(&mut self, again: Again, effects: &mut Vec<Effect>) {
        let (phase, effect) = match again {
            Again::Find => (Life::Finding, Effect::Find),
            Again::Stop => (Life::Stopping, Effect::Stop),
            Again::Remove => (Life::Removing, Effect::Remove),
        };
        self.phase = phase;
        effects.push(effect);
    }

    fn pause(&mut self, now: Moment, again: Again, effects: &mut Vec<Effect>) {
        self.wakes += 1;
        let wake = Wake(self.wakes);
        self.phase = Life::Pausing(wake, again);
        effects.push(Effect::WakeAt(now + RETRY_AFTER, wake));
    }

    /// Records an observation, unless the managers no longer want reports about the task.
    fn observe(&self, state: TaskState, at: Timestamp, message: &str, effects: &mut Vec<Effect>) {
        if self.goal < Goal::Dropped {
            effects.push(Effect::Observe(self.observed(state, at, message)));
        }
    }

    fn end(
        &mut self,
        state: TaskState,
        at: Timestamp,
        message: &str,
        error: Option<String>,
        exit_code: Option<i32>,
        effects: &mut Vec<Effect>,
    ) {
        self.phase = Life::Ended;
        if self.goal < Goal::Dropped {
            effects.push(Effect::Observe(Observed { error, exit_code, ..self.observed(state, at, message) }));
        }
    }

    fn observed(&self, state: TaskState, at: Timestamp, message: &str) -> Observed {
        let (pid, address, container, health) = (self.pid, self.address, self.container, self.health);
        Observed { state, pid, address, container, health, message: message.into(), ..Observed::nothing(at) }
    }
}

#[cfg(test)]
mod tests {
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
                Some("nobody saw it end: the machine or the task's shim went down with it"),
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
        check(
            Goal::Running,
            &[found(None), rejected],
            &["accepted", "preparing", "Claim", "Prepare", "rejected", "Done"],
        );
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
        check(
            Goal::Ready,
            &turn,
            &["accepted", "preparing", "Claim", "Prepare", "Claim", "Prepare", "rejected", "Done"],
        );
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
        assert_eq!(play(&mut core(Goal::Running, TaskState::Starting), prepared()), ["ready", "starting", "Start"]);
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
        assert_eq!(play(&mut waiting, [Input::Confirmed]), ["preparing", "Claim", "Prepare"]);
        let mut running = Core::new(Goal::Running, &known, false, &mut Vec::new());
        assert_eq!(play(&mut running, [found(Some(Phase::Running(STARTED)))]), ["running", "Watch"]);
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
}
