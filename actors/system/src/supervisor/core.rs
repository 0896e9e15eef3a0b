//! The core of a supervisor: decides what happens when a child ends.
//!
//! It has Erlang's restart strategies, restart types and restart intensity, and two things that Erlang's own supervisor
//! lacks. A restart waits for a back-off delay, which grows with each failure in a row, has jitter, and is reset when
//! the child ran for a stable time. A kill or a lost peer counts as a failure. The children of a group are restarted
//! one at a time and in order: each after the one before it has started.
//!
//! The core knows nothing of clocks, tasks or actors: inputs tell what happened, effects tell the actor what to do.

use essaim_wire::Moment;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::time::Duration;

/// Which children are restarted when one of them fails. Erlang's restart strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Only the child that failed is restarted.
    #[default]
    OneForOne,
    /// All children are restarted, because none of them works without the others.
    OneForAll,
    /// The child that failed and those started after it are restarted, because they depend on it.
    RestForOne,
}

/// Whether a child that ended is started again. Erlang's restart types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// The child is always started again.
    #[default]
    Permanent,
    /// The child is started again when it failed, not when it ended in order.
    Transient,
    /// The child is never started again.
    Temporary,
}

/// Whether the end of a child was a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The child stopped in order.
    Normal,
    /// The child ended by an error, a panic or a kill, or because its peer on the network is gone.
    Failed,
}

/// Restart intensity: how often children may be restarted before the supervisor itself fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within `within` before the supervisor fails.
    pub restarts: u32,
    /// Length of the sliding window in which restarts are counted.
    pub within: Duration,
}

impl Intensity {
    /// No limit on restarts: for children whose failures say nothing about their supervisor, such as tasks.
    pub const UNLIMITED: Self = Self { restarts: u32::MAX, within: Duration::ZERO };
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 5, within: Duration::from_secs(10) }
    }
}

/// Back-off before a restart: `min`, doubled with each failure in a row up to `max`, minus up to a fifth as jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Delay before the first restart.
    pub min: Duration,
    /// Upper bound of the delay.
    pub max: Duration,
    /// A child that ran for this long has its delay reset to `min`.
    pub stable: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(100), max: Duration::from_secs(30), stable: Duration::from_secs(30) }
    }
}

/// The settings of a supervisor (Erlang's supervisor flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supervision {
    /// Which children are restarted when one of them fails.
    pub strategy: Strategy,
    /// How often children may be restarted before the supervisor fails.
    pub intensity: Intensity,
    /// How long a restart waits.
    pub backoff: Backoff,
}

impl Supervision {
    /// These settings with another restart strategy.
    #[must_use]
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// These settings with another restart intensity.
    #[must_use]
    pub const fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// These settings with another back-off.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// Number of a back-off delay. A wake-up that carries the number of an older delay is stale and starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake(u64);

/// What the core is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A child was added; it is to be started after those before it. When its former namesake is still stopping, it is
    /// started after that one has ended.
    Added { name: String, restart: Restart },
    /// The child's `pre_start` returned; the child runs.
    Started { name: String },
    /// The child failed to start.
    NotStarted { name: String },
    /// A running child ended.
    Exited { name: String, exit: Exit },
    /// The child was removed: stop it and forget it.
    Removed { name: String },
    /// The back-off delay with this number has passed.
    Elapsed(Wake),
}

/// What the core asks its actor to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Start the child and answer with [`Input::Started`] or [`Input::NotStarted`].
    Start { name: String },
    /// Record that the child will be started again after this delay.
    Delay { name: String, after: Duration },
    /// Stop the child because another one of its group failed, and wait until it has ended. Its exit is not reported to
    /// the core.
    Stop { name: String },
    /// Stop the child because it was removed. Its exit is reported to the core.
    Release { name: String },
    /// Answer with [`Input::Elapsed`] at this moment.
    WakeAt(Moment, Wake),
    /// Drop the child: it ended and will not be started again.
    Forget { name: String },
    /// Stop all children and fail: the restart intensity was exceeded after this many restarts.
    Escalate { name: String, restarts: u32 },
}

/// State of a supervisor: its children in the order in which they were started, and the restarts of the current window.
#[derive(Debug)]
pub(super) struct Core {
    plan: Supervision,
    children: Vec<Child>,
    /// Moments at which restarts were decided; those outside the intensity's window are dropped.
    restarts: VecDeque<Moment>,
    wake: u64,
    jitter: ChaCha8Rng,
}

#[derive(Debug)]
struct Child {
    name: String,
    restart: Restart,
    phase: Phase,
    /// Failures in a row, without a stable time between them; the exponent of the back-off.
    streak: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The child is being started: for the first time, or because the delay with this number has passed.
    Starting(Option<Wake>),
    Running {
        since: Moment,
    },
    /// The child is to be started when the delay with this number has passed, after those before it.
    Waiting(Wake),
    /// The child was removed and has not ended yet. With `successor`, another child of the same name was added meanwhile.
    Leaving {
        successor: Option<Restart>,
    },
}

impl Core {
    /// A supervisor without children. `seed` seeds the jitter of the back-off.
    pub(super) fn new(plan: Supervision, seed: u64) -> Self {
        Self { plan, children: Vec::new(), restarts: VecDeque::new(), wake: 0, jitter: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The names of all children, in the order in which they were started.
    pub(super) fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.children.iter().map(|child| child.name.as_str())
    }

    /// Whether a child of this name was added and not removed.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.find(name).is_some_and(|at| !matches!(self.children[at].phase, Phase::Leaving { successor: None }))
    }

    /// Whether the child of this name was removed and has not ended yet.
    pub(super) fn is_leaving(&self, name: &str) -> bool {
        self.find(name).is_some_and(|at| matches!(self.children[at].phase, Phase::Leaving { .. }))
    }

    /// Handles one input and appends the effects to carry out, in order.
    pub(super) fn handle(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Added { name, restart } => self.on_added(name, restart, effects),
            Input::Started { name } => self.on_started(now, &name, effects),
            Input::NotStarted { name } => self.on_ended(now, &name, Exit::Failed, effects),
            Input::Exited { name, exit } => self.on_ended(now, &name, exit, effects),
            Input::Removed { name } => self.on_removed(&name, effects),
            Input::Elapsed(wake) => self.start_next(wake, effects),
        }
    }

    fn on_added(&mut self, name: String, restart: Restart, effects: &mut Vec<Effect>) {
        if let Some(at) = self.find(&name) {
            if let Phase::Leaving { successor } = &mut self.children[at].phase {
                *successor = Some(restart);
            }
            return;
        }
        effects.push(Effect::Start { name: name.clone() });
        self.children.push(Child { name, restart, phase: Phase::Starting(None), streak: 0 });
    }

    fn on_started(&mut self, now: Moment, name: &str, effects: &mut Vec<Effect>) {
        let Some(at) = self.find(name) else { return };
        let Phase::Starting(wake) = self.children[at].phase else { return };
        self.children[at].phase = Phase::Running { since: now };
        // A delay belongs to a whole group: the next child that waits for the same delay is started.
        if let Some(wake) = wake {
            self.start_next(wake, effects);
        }
    }

    fn on_removed(&mut self, name: &str, effects: &mut Vec<Effect>) {
        let Some(at) = self.find(name) else { return };
        match &mut self.children[at].phase {
            Phase::Running { .. } | Phase::Starting(_) => {
                self.children[at].phase = Phase::Leaving { successor: None };
                effects.push(Effect::Release { name: name.to_owned() });
            }
            Phase::Waiting(_) => {
                self.children.remove(at);
                effects.push(Effect::Forget { name: name.to_owned() });
            }
            Phase::Leaving { successor } => *successor = None,
        }
    }

    fn on_ended(&mut self, now: Moment, name: &str, exit: Exit, effects: &mut Vec<Effect>) {
        let Some(at) = self.find(name) else { return };
        let since = match self.children[at].phase {
            Phase::Running { since } => Some(since),
            Phase::Starting(_) => None,
            // The exit was handled already, when the child was stopped with its group.
            Phase::Waiting(_) => return,
            Phase::Leaving { successor } => {
                self.children.remove(at);
                effects.push(Effect::Forget { name: name.to_owned() });
                if let Some(restart) = successor {
                    self.on_added(name.to_owned(), restart, effects);
                }
                return;
            }
        };
        let again = match self.children[at].restart {
            Restart::Permanent => true,
            Restart::Transient => exit == Exit::Failed,
            Restart::Temporary => false,
        };
        if !again {
            self.children.remove(at);
            effects.push(Effect::Forget { name: name.to_owned() });
            return;
        }
        if self.is_too_much(now) {
            effects.push(Effect::Escalate { name: name.to_owned(), restarts: self.plan.intensity.restarts });
            return;
        }
        self.restart(now, at, since, effects);
    }

    /// Stops the group of the child at `at` and arms the back-off delay after which the group is started again.
    fn restart(&mut self, now: Moment, at: usize, since: Option<Moment>, effects: &mut Vec<Effect>) {
        let stable = since.is_some_and(|since| now.saturating_since(since) >= self.plan.backoff.stable);
        let streak = if stable { 1 } else { self.children[at].streak.saturating_add(1) };
        self.children[at].streak = streak;
        let after = self.delay(streak);
        self.wake += 1;
        let wake = Wake(self.wake);
        let group = match self.plan.strategy {
            Strategy::OneForOne => at..at + 1,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => at..self.children.len(),
        };
        let failed = self.children[at].name.clone();
        for other in group.rev() {
            let child = &mut self.children[other];
            match child.phase {
                Phase::Leaving { .. } => continue,
                Phase::Running { .. } if other != at => effects.push(Effect::Stop { name: child.name.clone() }),
                Phase::Running { .. } | Phase::Starting(_) | Phase::Waiting(_) => (),
            }
            child.phase = Phase::Waiting(wake);
            if child.restart == Restart::Temporary {
                let name = self.children.remove(other).name;
                effects.push(Effect::Forget { name });
            }
        }
        effects.push(Effect::Delay { name: failed, after });
        effects.push(Effect::WakeAt(now + after, wake));
    }

    /// Starts the first child that waits for the delay `wake`, if there is one.
    fn start_next(&mut self, wake: Wake, effects: &mut Vec<Effect>) {
        if let Some(child) = self.children.iter_mut().find(|child| child.phase == Phase::Waiting(wake)) {
            child.phase = Phase::Starting(Some(wake));
            effects.push(Effect::Start { name: child.name.clone() });
        }
    }

    fn is_too_much(&mut self, now: Moment) -> bool {
        let Intensity { restarts, within } = self.plan.intensity;
        while self.restarts.front().is_some_and(|&then| now.saturating_since(then) >= within) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= restarts as usize {
            return true;
        }
        self.restarts.push_back(now);
        false
    }

    fn delay(&mut self, streak: u32) -> Duration {
        let Backoff { min, max, .. } = self.plan.backoff;
        let doubled = min.saturating_mul(1u32.checked_shl(streak.saturating_sub(1)).unwrap_or(u32::MAX));
        let full = doubled.min(max);
        // So that siblings do not restart at the same moment.
        let percent = self.jitter.random_range(0..=20u32);
        full - full * percent / 100
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.children.iter().position(|child| child.name == name)
    }
}
