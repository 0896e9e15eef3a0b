//! Decides the next step of a task. Knows nothing of engines, clocks or actors.
//!
//! One operation of the engine is under way at a time; a goal that comes meanwhile is remembered and decides what
//! follows. There are two exceptions: a stop does not wait for the end of the watch on a started task, and a
//! preparation that is no longer wanted is dropped, since it may take ten minutes.
//!
//! A task is running when it was started and, if it has a health check, has been healthy once. A running task that
//! turns unhealthy is stopped and has failed.
//!
//! An engine may hang, be restarted, or be gone for good. After an operation without an answer the task's phase is
//! asked for, with a growing back-off, and decides what follows; so a step that happened is not repeated. A task whose
//! engine does not answer for longer than its patience is reported as failed, so that its slot is filled elsewhere, and
//! is *given up*: from then on the core only cleans up, for as long as it takes, since the container may still run. A
//! stop and a removal are asked for until the engine has answered; while it hangs as a whole, a task that is to end is
//! given up like one that shall run.

#[cfg(test)]
mod tests;

use crate::engine::{Ended, EngineError, Exit, Observation, Phase, Started};
use essaim_model::service::DISCONNECT_LEASE;
use essaim_model::{ContainerId, Desired, Health, HostPort, Observed, TaskState};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Moment, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

/// Delay after the first failure of the engine before it is asked again; it doubles with each failure in a row.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Upper bound on the delay before the engine is asked again: an engine that is back is used within this time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(8);

/// Time for which a task that does not run yet waits for an engine that does not answer. A restart of dockerd takes two
/// to ten seconds, and the slot can be filled elsewhere.
const PATIENCE_TO_START: Duration = Duration::from_secs(15);

/// Time for which a running task waits for an engine that is there and does not answer what it is asked about the task.
/// Its processes go on, and an engine on a busy disk has been seen to answer after this long.
const PATIENCE_WHILE_RUNNING: Duration = Duration::from_secs(60);

/// Time for which a task waits for an engine that hangs as a whole, whether the task runs or is to end. The engine finds
/// out after five to ten seconds that it does, so a task is replaced 20 to 25 s after the hang. In Swarm, whose agent is a
/// part of dockerd, it takes 14 to 22 s. An engine on a busy disk still answers that it is there.
const PATIENCE_HUNG: Duration = Duration::from_secs(15);

/// Time for which a task waits for an engine at whose socket nobody listens, running or not. A restart or an upgrade of
/// dockerd leaves its socket alone for two to five seconds. When it is gone for longer, the container has ended with it
/// (dockerd ends its containers unless `live-restore` is set), or is without health checks and logs. In Swarm, whose agent
/// is a part of dockerd, a node without one is down after three heartbeats, 15 s.
const PATIENCE_ABSENT: Duration = Duration::from_secs(10);

/// [`PATIENCE_ABSENT`] of a task that was never started: nothing of it runs that could be found again. Managers order no
/// new task to a node without its engine, so this one was ordered while the engine died, and its slot is filled
/// elsewhere.
const PATIENCE_ABSENT_TO_START: Duration = Duration::from_secs(2);

/// Delay before an engine at whose socket nobody listens is asked again. It costs a refused connection and, for a running
/// task, a look at one file of the kernel: the engine may have taken the task along.
const RETRY_ABSENT: Duration = Duration::from_millis(100);

/// Operations without an answer between `Claim` and `Start` after which a task is given up although the engine answers
/// other questions: a program whose start makes the engine hang must not be tried for ever.
const UNANSWERED_MAX: u32 = 5;

/// Error of a task that its engine does not know any more, although it was started.
const FORGOTTEN: &str = "the engine does not know the task any more: what it kept of the task is gone";

/// What the worker wants of a task, in rising order; a goal never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goal {
    /// The task shall be prepared and ready to start.
    Ready,
    /// The task shall run.
    Running,
    /// The task shall end; its logs stay.
    Shutdown,
    /// The task shall end and is no longer reported, because it has ended for the managers; its logs stay.
    Dropped,
    /// The task shall end and be forgotten with its logs, because the managers have no record of it any more.
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
    /// This node has had no manager for the length of the task's lease: the task is to end.
    LeaseLapsed,
    /// A manager has confirmed the orders on disk, and knows that the task has come to this state. Nothing is prepared or
    /// started by unconfirmed orders.
    Confirmed(TaskState),
    /// Answer to `Claim`: the claimed address, or none when the engine needs none.
    Claimed(Result<Option<IpAddr>, EngineError>),
    /// Progress message of the preparation.
    Progress(String),
    /// Answer to `Prepare`.
    Prepared(Result<(), EngineError>),
    /// Numbers of the ports in host mode of the task, which its engine has told before it says that the task runs.
    Published(Vec<HostPort>),
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

impl Input {
    /// Whether the engine did not answer.
    pub(crate) const fn is_silence(&self) -> bool {
        match self {
            Self::Found(Err(why))
            | Self::Claimed(Err(why))
            | Self::Prepared(Err(why))
            | Self::Started(Err(why))
            | Self::Observed(Err(why))
            | Self::Stopped(Err(why))
            | Self::Removed(Err(why)) => why.is_silence(),
            _ => false,
        }
    }
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
    /// Whether the task was running, as far as this core or the managers know.
    ran: bool,
    address: Option<IpAddr>,
    pid: Option<u32>,
    container: Option<ContainerId>,
    health: Option<Health>,
    ports: Vec<HostPort>,
    /// Whether the task is to end because its lease has lapsed.
    lapsed: bool,
    wakes: u64,
    /// Failures of the engine in a row.
    failures: u32,
    /// Time of the first of these failures.
    fails_since: Option<Moment>,
    /// Time since which nobody listens at the engine's socket.
    absent_since: Option<Moment>,
    /// Time since which the engine hangs as a whole.
    hung_since: Option<Moment>,
    /// Claims, preparations and starts without an answer, in all.
    unanswered: u32,
    /// Whether the task was reported as accepted.
    accepted: bool,
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
            ports: known.ports.clone(),
            lapsed: false,
            wakes: 0,
            failures: 0,
            fails_since: None,
            absent_since: None,
            hung_since: None,
            unanswered: 0,
            accepted: false,
        }
    }

    /// The address that was claimed for the task.
    pub(crate) const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The ports in host mode of the task, with their numbers.
    pub(crate) fn ports(&self) -> &[HostPort] {
        &self.ports
    }

    /// Whether the task is to end because its lease has lapsed: its replacement counts on its end.
    pub(crate) const fn is_pressed(&self) -> bool {
        self.lapsed
    }

    /// Handles one input at this time, given by both clocks.
    pub(crate) fn handle(&mut self, now: Moment, utc: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match (self.phase, input) {
            (_, Input::Goal(goal)) => {
                self.goal = self.goal.max(goal);
                self.advance(utc, effects);
            }
            (_, Input::LeaseLapsed) => {
                // A task that was to end anyway does not end because of the lease.
                self.lapsed |= self.goal < Goal::Shutdown;
                self.goal = self.goal.max(Goal::Shutdown);
                self.advance(utc, effects);
            }
            (_, Input::Confirmed(known)) => {
                self.confirmed = true;
                self.has_run |= known >= TaskState::Starting;
                self.ran |= known >= TaskState::Running;
                match self.phase {
                    // The engine said so before it was known that the task was started.
                    Life::New if self.has_run => self.on_forgotten(utc, effects),
                    Life::Ready if self.ran => self.on_forgotten(utc, effects),
                    _ => self.advance(utc, effects),
                }
            }
            (Life::Finding, Input::Found(Ok(found))) => {
                self.on_answer();
                self.on_found(utc, found, effects);
            }
            (Life::Finding, Input::Found(Err(why))) => self.on_failure(now, utc, Again::Find, &why, effects),
            (Life::Claiming, Input::Claimed(Ok(address))) => {
                self.on_answer();
                self.address = address;
                self.phase = Life::Preparing;
                effects.push(Effect::Prepare);
                self.advance(utc, effects);
            }
            (Life::Claiming, Input::Claimed(Err(why))) => self.on_prepared(now, utc, Err(why), effects),
            (Life::Preparing, Input::Progress(words)) => self.observe(TaskState::Preparing, utc, &words, effects),
            (Life::Preparing, Input::Prepared(done)) => self.on_prepared(now, utc, done, effects),
            (_, Input::Published(ports)) => self.ports = ports,
            (Life::Starting, Input::Started(done)) => self.on_started(now, utc, done, effects),
            (Life::Proving | Life::Running | Life::Stopping, Input::Observed(Ok(Observation::Ended(ended)))) => {
                self.on_ended(now, utc, Ok(ended), effects);
            }
            // A stop is under way, and its answer decides.
            (Life::Stopping, Input::Observed(Err(why))) if !matches!(why, EngineError::Unknown(_)) => (),
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
                self.on_forgotten(utc, effects);
            }
            None => {
                self.phase = Life::New;
                if self.goal < Goal::Shutdown && !self.accepted {
                    self.accepted = true;
                    self.observe(TaskState::Accepted, utc, "accepted", effects);
                }
                self.advance(utc, effects);
            }
            Some(Phase::Prepared) => {
                self.phase = Life::Ready;
                if !self.has_run {
                    self.observe(TaskState::Ready, utc, "prepared", effects);
                }
                self.advance(utc, effects);
            }
            Some(Phase::Running(started)) => self.run(started, utc, effects),
            Some(Phase::Ended(ended)) => {
                self.on_end(ended, effects);
                self.advance(utc, effects);
            }
        }
    }

    fn on_prepared(&mut self, now: Moment, utc: Timestamp, done: Result<(), EngineError>, effects: &mut Vec<Effect>) {
        match done {
            Ok(()) => {
                self.on_answer();
                self.phase = Life::Ready;
                self.observe(TaskState::Ready, utc, "prepared", effects);
            }
            Err(_) if self.goal == Goal::Ready => self.phase = Life::Held,
            Err(why) if why.is_silence() => return self.on_no_answer(now, utc, &why, effects),
            Err(why) => {
                let state = match why {
                    EngineError::Rejected(_) => TaskState::Rejected,
                    _ => TaskState::Failed,
                };
                self.end(state, utc, "preparing", Some(why.to_string()), None, effects);
            }
        }
        self.advance(utc, effects);
    }

    fn on_started(
        &mut self,
        now: Moment,
        utc: Timestamp,
        done: Result<Started, EngineError>,
        effects: &mut Vec<Effect>,
    ) {
        match done {
            Ok(started) => {
                self.on_answer();
                self.run(started, utc, effects);
            }
            // The task may run all the same, so it is not reported as failed before the engine has said that it does not.
            Err(why) if why.is_silence() => self.on_no_answer(now, utc, &why, effects),
            Err(EngineError::Unknown(_)) => self.on_forgotten(utc, effects),
            Err(why) => {
                self.end(TaskState::Failed, utc, "starting", Some(why.to_string()), None, effects);
                self.advance(utc, effects);
            }
        }
    }

    /// Handles that the engine does not know a task that was started: somebody removed its container, or its disk lost
    /// it. The task is not started again; a new one takes its place.
    fn on_forgotten(&mut self, utc: Timestamp, effects: &mut Vec<Effect>) {
        if planted(Bug::StartedAgain) && self.goal == Goal::Running {
            self.phase = Life::New;
            return self.advance(utc, effects);
        }
        self.end(TaskState::Failed, utc, "started", Some(FORGOTTEN.into()), None, effects);
        self.advance(utc, effects);
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
                self.ran = true;
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
                self.ran = true;
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
            Err(EngineError::Unknown(_)) => self.on_forgotten(utc, effects),
            Err(why @ EngineError::Hangs(_)) if self.phase == Life::Stopping => {
                self.on_failure(now, utc, Again::Stop, &why, effects);
            }
            Err(_) if self.phase == Life::Stopping => self.pause(now, Again::Stop, effects),
            Err(why) => self.on_failure(now, utc, Again::Find, &why, effects),
        }
    }

    /// Handles that a claim, a preparation or a start brought no answer.
    fn on_no_answer(&mut self, now: Moment, utc: Timestamp, why: &EngineError, effects: &mut Vec<Effect>) {
        // An engine that is gone says nothing about the task.
        self.unanswered += u32::from(!matches!(why, EngineError::Absent(_)));
        if self.unanswered >= UNANSWERED_MAX && !planted(Bug::RetryWithoutEnd) {
            return self.give_up(now, utc, why, effects);
        }
        self.on_failure(now, utc, Again::Find, why, effects);
    }

    /// Handles a failure of the engine: tries again after a pause, or gives the task up when its patience is over.
    fn on_failure(&mut self, now: Moment, utc: Timestamp, again: Again, why: &EngineError, effects: &mut Vec<Effect>) {
        let since = *self.fails_since.get_or_insert(now);
        self.absent_since = matches!(why, EngineError::Absent(_)).then(|| self.absent_since.unwrap_or(now));
        self.hung_since = matches!(why, EngineError::Hangs(_)).then(|| self.hung_since.unwrap_or(now));
        let patience = if self.ran { PATIENCE_WHILE_RUNNING } else { PATIENCE_TO_START };
        // Only managers know for sure that a task was never started.
        let is_new = self.confirmed && !self.has_run;
        let patience_absent = if is_new { PATIENCE_ABSENT_TO_START } else { PATIENCE_ABSENT };
        let is_hung = self.hung_since.is_some_and(|since| now.saturating_since(since) >= PATIENCE_HUNG);
        let is_over = now.saturating_since(since) >= patience
            || self.absent_since.is_some_and(|since| now.saturating_since(since) >= patience_absent)
            || is_hung;
        // A slot must not wait for a task to end whose engine cannot be told.
        let may_be = self.goal < Goal::Shutdown || is_hung && self.goal == Goal::Shutdown;
        if is_over && may_be && !planted(Bug::RetryWithoutEnd) {
            self.give_up(now, utc, why, effects);
        } else {
            self.pause(now, again, effects);
        }
    }

    const fn on_answer(&mut self) {
        self.failures = 0;
        self.fails_since = None;
        self.absent_since = None;
        self.hung_since = None;
    }

    /// Reports the task as failed, and cleans up from then on: the engine may run it, and says so when it answers.
    fn give_up(&mut self, now: Moment, utc: Timestamp, why: &EngineError, effects: &mut Vec<Effect>) {
        let message = if self.has_run { "started" } else { "preparing" };
        let error = format!("{why}, and the task is given up");
        self.end(TaskState::Failed, utc, message, Some(error), None, effects);
        if planted(Bug::ContainerLeftBehind) {
            return self.advance(utc, effects);
        }
        self.goal = self.goal.max(Goal::Dropped);
        self.pause(now, Again::Find, effects);
    }

    /// Handles the end of the task: by order, by itself, or with an unknown exit status.
    fn on_end(&mut self, ended: Ended, effects: &mut Vec<Effect>) {
        let code = ended.exit.code();
        let (state, message, error) = match ended.exit {
            _ if self.goal >= Goal::Shutdown => (TaskState::Shutdown, "shutdown", self.why_shut()),
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
                let error = "nobody saw it end: the machine, the engine or the task's shim went down with it";
                (TaskState::Failed, "started", Some(error.into()))
            }
        };
        self.end(state, ended.at, message, error, code, effects);
    }

    /// Why the task was shut down, if no manager ordered it.
    fn why_shut(&self) -> Option<String> {
        self.lapsed.then(|| format!("its node had no manager for {} s", DISCONNECT_LEASE.as_secs()))
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
                self.end(TaskState::Shutdown, utc, "shutdown", self.why_shut(), None, effects);
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
        self.fails_since.get_or_insert(now);
        let delay = match self.absent_since {
            Some(_) if self.goal < Goal::Shutdown => RETRY_ABSENT,
            // This costs nothing: the engine knows that it hangs, and is not asked.
            None if self.hung_since.is_some() && self.goal < Goal::Dropped => RETRY_AFTER,
            _ => RETRY_AFTER.saturating_mul(1 << self.failures.min(8)).min(RETRY_AFTER_MAX),
        };
        self.failures = self.failures.saturating_add(1);
        effects.push(Effect::WakeAt(now + delay, wake));
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
        let ports = if state == TaskState::Running { self.ports.clone() } else { Vec::new() };
        Observed { state, pid, address, container, health, ports, message: message.into(), ..Observed::nothing(at) }
    }
}
