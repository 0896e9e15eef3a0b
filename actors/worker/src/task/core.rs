//! Decides the next step of a task. Knows nothing of engines, clocks or actors.
//!
//! One operation of the engine is under way at a time; what is wished meanwhile is remembered and decides what comes
//! after it. The one exception is waiting for the end of a running task, which a stop does not wait for.

use crate::engine::{Ended, EngineError, Exit, Phase, Started};
use essaim_model::{Desired, Observed, TaskState};
use essaim_wire::{Moment, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

/// How long after a failure of the engine the same is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is wanted of a task. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// Ready to start.
    Ready,
    /// Running.
    Running,
    /// Ended; its logs stay.
    Shutdown,
    /// Ended, and nobody wants to hear of it; its logs stay for a while.
    Dropped,
    /// Ended and forgotten, logs and all.
    Gone,
}

impl From<Desired> for Wish {
    fn from(desired: Desired) -> Self {
        match desired {
            Desired::Ready => Self::Ready,
            Desired::Running => Self::Running,
            Desired::Shutdown => Self::Shutdown,
            // The record goes when the end was reported; until then the managers want to hear of it.
            Desired::Remove => Self::Shutdown,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The engine says how far the task is, `None` when it does not know it; or it cannot say.
    Found(Result<Option<Phase>, EngineError>),
    /// The managers want something.
    Wish(Wish),
    /// Nothing may be started on the word of the disk alone; now a manager has confirmed it.
    Confirmed,
    /// The engine prepared it.
    Prepared(Result<(), EngineError>),
    /// The engine started it.
    Started(Result<Started, EngineError>),
    /// It ended, or waiting for that failed.
    Ended(Result<Ended, EngineError>),
    /// The engine was asked to stop it, and it ended.
    Stopped(Result<Ended, EngineError>),
    /// The engine forgot it.
    Removed(Result<(), EngineError>),
    /// A delay is over.
    Elapsed(Wake),
}

/// Numbers the delays; an older wake-up is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the engine how far the task is.
    Find,
    /// Have it prepared.
    Prepare,
    /// Have it started.
    Start,
    /// Wait for its end.
    Wait,
    /// Have it stopped.
    Stop,
    /// Have it forgotten.
    Remove,
    /// Put this on the board.
    Observe(Observed),
    /// Come back later.
    WakeAt(Moment, Wake),
    /// There is nothing left to do.
    Done,
}

/// A task's life on this machine.
#[derive(Debug)]
pub(crate) struct Core {
    wish: Wish,
    confirmed: bool,
    phase: Life,
    /// It was seen to start, or the managers know that it did. It must not be started again.
    has_run: bool,
    /// The managers know that it ran.
    ran: bool,
    address: Option<IpAddr>,
    pid: Option<u32>,
    wakes: u64,
}

/// Where it stands. Those that end in `ing` wait for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The engine has not said yet.
    Finding,
    /// Not prepared.
    New,
    Preparing,
    /// It could not be prepared, but its turn has not come: it is tried again then, and refused then at the latest.
    /// Said at once it would be replaced at once, and so would its successor, without any delay between them.
    Held,
    /// Prepared.
    Ready,
    Starting,
    Running,
    Stopping,
    /// It has ended, and that is on the board.
    Ended,
    Removing,
    /// Waits to try again what failed.
    Pausing(Wake, Again),
}

/// What is tried again after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Find,
    Stop,
    Remove,
}

impl Core {
    /// A task of which the managers know `known`. Begins by asking the engine.
    pub(crate) fn new(wish: Wish, known: &Observed, confirmed: bool, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Find);
        Self {
            wish,
            confirmed,
            phase: Life::Finding,
            has_run: known.state >= TaskState::Starting,
            ran: known.state >= TaskState::Running,
            address: known.address,
            pid: known.pid,
            wakes: 0,
        }
    }

    /// The address that the task has.
    pub(crate) fn set_address(&mut self, address: Option<IpAddr>) {
        self.address = address;
    }

    /// What happened, and when by both clocks.
    pub(crate) fn handle(&mut self, now: Moment, utc: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match (self.phase, input) {
            (_, Input::Wish(wish)) => {
                self.wish = self.wish.max(wish);
                self.advance(utc, effects);
            }
            (_, Input::Confirmed) => {
                self.confirmed = true;
                self.advance(utc, effects);
            }
            (Life::Finding, Input::Found(Ok(found))) => self.on_found(utc, found, effects),
            (Life::Finding, Input::Found(Err(_))) => self.pause(now, Again::Find, effects),
            (Life::Preparing, Input::Prepared(done)) => self.on_prepared(utc, done, effects),
            (Life::Starting, Input::Started(done)) => self.on_started(utc, done, effects),
            (Life::Running | Life::Stopping, Input::Ended(done)) | (Life::Stopping, Input::Stopped(done)) => {
                self.on_ended(now, utc, done, effects);
            }
            (Life::Removing, Input::Removed(Ok(()))) => effects.push(Effect::Done),
            (Life::Removing, Input::Removed(Err(_))) => self.pause(now, Again::Remove, effects),
            (Life::Pausing(wake, again), Input::Elapsed(elapsed)) if wake == elapsed => self.try_again(again, effects),
            // An answer to what is not asked any more, or an old wake-up.
            (_, _) => (),
        }
    }

    fn on_found(&mut self, utc: Timestamp, found: Option<Phase>, effects: &mut Vec<Effect>) {
        match found {
            // A daemon that died before it could have a task started may do so now; one that reported it running may
            // not, whatever a power cut has left of the folder.
            None | Some(Phase::Prepared) if self.has_run && (found.is_none() || self.ran) => {
                let error = "the engine does not know the task any more: its folder is gone";
                self.end(TaskState::Failed, utc, "started", Some(error.into()), None, effects);
                self.advance(utc, effects);
            }
            None => {
                self.phase = Life::New;
                if self.wish < Wish::Shutdown {
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
            Err(_) if self.wish == Wish::Ready => self.phase = Life::Held,
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

    fn run(&mut self, started: Started, utc: Timestamp, effects: &mut Vec<Effect>) {
        self.phase = Life::Running;
        self.has_run = true;
        self.pid = started.pid;
        self.observe(TaskState::Running, started.at, "started", effects);
        effects.push(Effect::Wait);
        self.advance(utc, effects);
    }

    fn on_ended(&mut self, now: Moment, utc: Timestamp, done: Result<Ended, EngineError>, effects: &mut Vec<Effect>) {
        match done {
            Ok(ended) => {
                self.on_end(ended, effects);
                self.advance(utc, effects);
            }
            Err(EngineError::Unknown(_)) => {
                let error = "the engine does not know the task any more: its folder is gone";
                self.end(TaskState::Failed, utc, "started", Some(error.into()), None, effects);
                self.advance(utc, effects);
            }
            Err(_) if self.phase == Life::Stopping => self.pause(now, Again::Stop, effects),
            Err(_) => self.pause(now, Again::Find, effects),
        }
    }

    /// The program has ended: by order, by itself, or nobody saw it.
    fn on_end(&mut self, ended: Ended, effects: &mut Vec<Effect>) {
        let code = ended.exit.code();
        let (state, message, error) = match ended.exit {
            _ if self.wish >= Wish::Shutdown => (TaskState::Shutdown, "shutdown", None),
            Exit::Code(0) => (TaskState::Complete, "finished", None),
            Exit::Code(code) => (TaskState::Failed, "started", Some(format!("task: non-zero exit ({code})"))),
            Exit::Signal(signal) => {
                (TaskState::Failed, "started", Some(format!("task: non-zero exit ({})", 128 + signal)))
            }
            Exit::Lost => {
                let error = "nobody saw it end: the machine or the task's shim went down with it";
                (TaskState::Failed, "started", Some(error.into()))
            }
        };
        self.end(state, ended.at, message, error, code, effects);
    }

    /// Takes the next step that nobody waits for.
    fn advance(&mut self, utc: Timestamp, effects: &mut Vec<Effect>) {
        match (self.phase, self.wish) {
            (Life::New, Wish::Ready | Wish::Running) if self.confirmed => {
                self.phase = Life::Preparing;
                self.observe(TaskState::Preparing, utc, "preparing", effects);
                effects.push(Effect::Prepare);
            }
            (Life::Held, Wish::Running) => {
                self.phase = Life::Preparing;
                effects.push(Effect::Prepare);
            }
            (Life::Ready, Wish::Running) if self.confirmed => {
                self.phase = Life::Starting;
                self.has_run = true;
                self.observe(TaskState::Starting, utc, "starting", effects);
                effects.push(Effect::Start);
            }
            (Life::New | Life::Held | Life::Ready, Wish::Shutdown) => {
                self.end(TaskState::Shutdown, utc, "shutdown", None, None, effects);
                self.advance(utc, effects);
            }
            (Life::Running, Wish::Shutdown | Wish::Dropped | Wish::Gone) => {
                self.phase = Life::Stopping;
                effects.push(Effect::Stop);
            }
            (Life::New | Life::Held | Life::Ready, Wish::Dropped | Wish::Gone) | (Life::Ended, Wish::Gone) => {
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

    /// What is reported, unless nobody wants to hear of the task any more.
    fn observe(&self, state: TaskState, at: Timestamp, message: &str, effects: &mut Vec<Effect>) {
        if self.wish < Wish::Dropped {
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
        if self.wish < Wish::Dropped {
            effects.push(Effect::Observe(Observed { error, exit_code, ..self.observed(state, at, message) }));
        }
    }

    fn observed(&self, state: TaskState, at: Timestamp, message: &str) -> Observed {
        let (pid, address) = (self.pid, self.address);
        Observed { state, pid, address, message: message.into(), ..Observed::nothing(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::TaskId;

    const UTC: Timestamp = Timestamp::from_micros(9);
    const STARTED: Started = Started { pid: Some(7), at: Timestamp::from_micros(5) };

    fn ended(exit: Exit) -> Ended {
        Ended { exit, at: Timestamp::from_micros(6) }
    }

    fn found(phase: Option<Phase>) -> Input {
        Input::Found(Ok(phase))
    }

    fn failed<T>() -> Result<T, EngineError> {
        Err(EngineError::Failed("disk".into()))
    }

    /// Plays inputs and returns the effects in a word each; of an observation, its state.
    fn play(core: &mut Core, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
        let mut words = Vec::new();
        for input in inputs {
            let mut effects = Vec::new();
            core.handle(Moment::START, UTC, input, &mut effects);
            words.extend(effects.into_iter().map(|effect| match effect {
                Effect::Observe(observed) => observed.state.as_str().to_owned(),
                Effect::WakeAt(..) => "Wake".into(),
                other => format!("{other:?}"),
            }));
        }
        words
    }

    fn core(wish: Wish, known: TaskState) -> Core {
        let known = Observed { state: known, ..Observed::nothing(UTC) };
        let mut effects = Vec::new();
        let core = Core::new(wish, &known, true, &mut effects);
        assert_eq!(effects, [Effect::Find]);
        core
    }

    fn check(wish: Wish, inputs: &[Input], expected: &[&str]) {
        assert_eq!(play(&mut core(wish, TaskState::New), inputs.iter().cloned()), expected, "{wish:?} {inputs:?}");
    }

    #[test]
    fn a_new_task_goes_its_way_step_by_step() {
        check(
            Wish::Running,
            &[
                found(None),
                Input::Prepared(Ok(())),
                Input::Started(Ok(STARTED)),
                Input::Ended(Ok(ended(Exit::Code(0)))),
            ],
            &["accepted", "preparing", "Prepare", "ready", "starting", "Start", "running", "Wait", "complete", "Done"],
        );
    }

    #[test]
    fn a_task_that_is_wished_ready_waits_there_for_its_turn() {
        let prepared = [found(None), Input::Prepared(Ok(()))];
        check(Wish::Ready, &prepared, &["accepted", "preparing", "Prepare", "ready"]);
        let mut waiting = core(Wish::Ready, TaskState::New);
        play(&mut waiting, prepared);
        assert_eq!(play(&mut waiting, [Input::Wish(Wish::Running)]), ["starting", "Start"]);
        assert_eq!(play(&mut waiting, [Input::Wish(Wish::Ready)]), [""; 0], "a wish only grows");
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
            let mut running = core(Wish::Running, TaskState::New);
            play(&mut running, [found(Some(Phase::Running(STARTED)))]);
            let mut effects = Vec::new();
            running.handle(Moment::START, UTC, Input::Ended(Ok(ended(exit))), &mut effects);
            let Effect::Observe(seen) = &effects[0] else { panic!("{effects:?}") };
            assert_eq!((seen.state, seen.error.as_deref(), seen.exit_code), (state, error, code));
            assert_eq!((seen.at, seen.pid), (Timestamp::from_micros(6), Some(7)), "when it happened, not when seen");
        }
    }

    #[test]
    fn a_missing_program_rejects_and_a_failing_engine_fails_the_task() {
        let rejected = Input::Prepared(Err(EngineError::Rejected("No such image: x".into())));
        check(Wish::Running, &[found(None), rejected], &["accepted", "preparing", "Prepare", "rejected", "Done"]);
        check(
            Wish::Running,
            &[found(None), Input::Prepared(failed())],
            &["accepted", "preparing", "Prepare", "failed", "Done"],
        );
        check(
            Wish::Running,
            &[found(Some(Phase::Prepared)), Input::Started(failed())],
            &["ready", "starting", "Start", "failed", "Done"],
        );
    }

    #[test]
    fn a_task_that_waits_for_its_turn_is_refused_when_it_comes() {
        let rejected = || Input::Prepared(Err(EngineError::Rejected("No such image: x".into())));
        let waits = [found(None), rejected()];
        check(Wish::Ready, &waits, &["accepted", "preparing", "Prepare"]);
        let turn = [found(None), rejected(), Input::Wish(Wish::Running), rejected()];
        check(Wish::Ready, &turn, &["accepted", "preparing", "Prepare", "Prepare", "rejected", "Done"]);
        let stopped = [found(None), rejected(), Input::Wish(Wish::Shutdown)];
        check(Wish::Ready, &stopped, &["accepted", "preparing", "Prepare", "shutdown", "Done"]);
    }

    #[test]
    fn a_stop_waits_for_the_step_under_way_and_for_the_end() {
        check(
            Wish::Running,
            &[
                found(Some(Phase::Prepared)),
                Input::Wish(Wish::Shutdown),
                Input::Started(Ok(STARTED)),
                Input::Stopped(Ok(ended(Exit::Signal(15)))),
            ],
            &["ready", "starting", "Start", "running", "Wait", "Stop", "shutdown", "Done"],
        );
        check(
            Wish::Shutdown,
            &[found(Some(Phase::Running(STARTED))), Input::Stopped(failed()), Input::Elapsed(Wake(1))],
            &["running", "Wait", "Stop", "Wake", "Stop"],
        );
    }

    #[test]
    fn a_task_that_never_started_is_shut_down_without_starting() {
        check(Wish::Shutdown, &[found(None)], &["shutdown", "Done"]);
        check(Wish::Shutdown, &[found(Some(Phase::Prepared))], &["ready", "shutdown", "Done"]);
    }

    #[test]
    fn what_nobody_wants_any_more_is_stopped_and_removed() {
        check(
            Wish::Gone,
            &[
                found(Some(Phase::Running(STARTED))),
                Input::Ended(Ok(ended(Exit::Signal(15)))),
                Input::Stopped(Ok(ended(Exit::Signal(15)))),
                Input::Removed(failed()),
                Input::Elapsed(Wake(1)),
                Input::Removed(Ok(())),
            ],
            &["Wait", "Stop", "Remove", "Wake", "Remove", "Done"],
        );
        check(Wish::Gone, &[found(None)], &["Remove"]);
        let ended = Input::Stopped(Ok(ended(Exit::Signal(15))));
        check(Wish::Dropped, &[found(Some(Phase::Running(STARTED))), ended], &["Wait", "Stop", "Done"]);
        check(Wish::Dropped, &[found(Some(Phase::Prepared))], &["Remove"]);
    }

    #[test]
    fn a_task_that_is_found_running_is_adopted_and_not_started() {
        check(Wish::Running, &[found(Some(Phase::Running(STARTED)))], &["running", "Wait"]);
        check(Wish::Running, &[found(Some(Phase::Ended(ended(Exit::Code(1)))))], &["failed", "Done"]);
    }

    #[test]
    fn a_task_that_ran_and_is_not_found_is_not_started_again() {
        for known in [TaskState::Starting, TaskState::Running] {
            assert_eq!(play(&mut core(Wish::Running, known), [found(None)]), ["failed", "Done"]);
        }
        let prepared = || [found(Some(Phase::Prepared))];
        assert_eq!(play(&mut core(Wish::Running, TaskState::Running), prepared()), ["failed", "Done"]);
        assert_eq!(play(&mut core(Wish::Running, TaskState::Starting), prepared()), ["ready", "starting", "Start"]);
        assert_eq!(
            play(&mut core(Wish::Running, TaskState::Ready), [found(None)]),
            ["accepted", "preparing", "Prepare"]
        );
    }

    #[test]
    fn nothing_starts_before_a_manager_has_confirmed_the_disk() {
        let known = Observed::nothing(UTC);
        let mut waiting = Core::new(Wish::Running, &known, false, &mut Vec::new());
        assert_eq!(play(&mut waiting, [found(None)]), ["accepted"]);
        assert_eq!(play(&mut waiting, [Input::Confirmed]), ["preparing", "Prepare"]);
        let mut running = Core::new(Wish::Running, &known, false, &mut Vec::new());
        assert_eq!(play(&mut running, [found(Some(Phase::Running(STARTED)))]), ["running", "Wait"]);
    }

    #[test]
    fn an_engine_that_lost_track_is_asked_again() {
        check(
            Wish::Running,
            &[
                found(Some(Phase::Running(STARTED))),
                Input::Ended(failed()),
                Input::Elapsed(Wake(0)),
                Input::Elapsed(Wake(1)),
                found(Some(Phase::Running(STARTED))),
                Input::Ended(Err(EngineError::Unknown(TaskId::from_bits(1)))),
            ],
            &["running", "Wait", "Wake", "Find", "running", "Wait", "failed", "Done"],
        );
        check(Wish::Running, &[Input::Found(failed()), Input::Elapsed(Wake(1))], &["Wake", "Find"]);
    }
}
