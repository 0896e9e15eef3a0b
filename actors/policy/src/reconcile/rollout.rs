//! Rolling updates: how the tasks of a service follow a new spec. A bounded number of slots is updated at a time, and
//! the update is paused or rolled back when tasks fail.
//!
//! A slot is *dated* while its task follows a spec that asks for another task than the one in force, or for the same
//! task on other nodes. A slot is *busy* from the moment its dated task is being replaced until the new one has run for
//! the delay. An update is over when no slot is dated or busy and the last new task has run for the monitor time.
//!
//! The replacement of a dated task is created before the dated task is told to end. Stop-first, the replacement is
//! created `Ready`, and `place` counts the room of the dated task as free for it; when it has a node the dated task is
//! stopped, and the replacement runs when that has ended. Start-first, the replacement is created `Running` and needs
//! room of its own. While it has no node the dated task goes on, and the status of the update says why. A numbered slot
//! that waits for a node counts as busy, since the others would wait for the same; a slot of a global service does not.
//!
//! A failure is a task of this update that ended by itself before it ran, or within the monitor time after it began to
//! run. The time at which it began is kept in [`Watch`](super::Watch), which a new leader begins anew.

use super::Work;
use crate::restart;
use essaim_model::{
    Assigned, Change, Desired, FailureAction, Slot, Task, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus,
};
use essaim_wire::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Time for which an update that replaces no task is shown as in progress. docker's CLI looks five times a second and
/// prints no result for an update that was completed before its first look.
const SHOWN: Duration = Duration::from_secs(1);

/// A slot that is to be updated to the new spec.
pub(super) struct Candidate<'a> {
    pub(super) slot: Slot,
    /// The slot's present task; none if its last task has ended and is not to be restarted.
    pub(super) old: Option<&'a Arc<Task>>,
    /// Whether an older task of the slot was told to end, and has not ended.
    pub(super) stopping: bool,
}

/// Desired state at the creation of a slot's new task. While an older task that was told to end has not ended, the new
/// task waits for it, also if it replaces a task that was waiting for the same and lost its node meanwhile.
pub(super) const fn first_wish(stopping: bool) -> Desired {
    if stopping { Desired::Ready } else { Desired::Running }
}

/// What the slots show of an update in progress.
#[derive(Default)]
pub(super) struct Rollout<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    /// Slots whose successor is only wanted by this plan, and which therefore count as busy.
    pub(super) busy: usize,
    /// The tasks that replaced dated ones, as far as their slots still show it.
    replaced: Vec<&'a Arc<Task>>,
    /// Whether a slot is a node that the constraints in force exclude, as they exclude every other node.
    pub(super) excluded: bool,
    /// Reason of the first replacement that waits for a node.
    waits: Option<String>,
}

impl<'a> Rollout<'a> {
    /// Notes that a slot which was dated has this task now.
    pub(super) fn watch(&mut self, new: Option<&'a Arc<Task>>) {
        self.replaced.extend(new);
    }
}

impl Work<'_> {
    /// Updates the next slots, and sets the status of the update.
    pub(super) fn roll(&mut self) {
        let status = self.service.update.clone();
        let state = status.as_ref().map(|status| status.state);
        if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
            return;
        }
        let backwards = state == Some(UpdateState::RollbackStarted);
        let config = self.update_config();
        let going = status.filter(|status| status.completed_at.is_none());
        if let Some(status) = &going
            && let Some(failed) = self.failure(&config)
            && self.give_up(status, &config, backwards, &failed)
        {
            return;
        }
        let busy = self.rollout.busy + self.busy(&config);
        let room = match config.parallelism {
            0 => usize::MAX,
            parallelism => usize::try_from(parallelism).unwrap_or(usize::MAX).saturating_sub(busy),
        };
        let mut candidates = std::mem::take(&mut self.rollout.candidates);
        // Slots whose task does not run go first, because nothing is interrupted there.
        candidates.sort_by_key(|it| (it.old.is_some_and(|old| old.is_running()), it.slot));
        let all_done = candidates.is_empty() && busy == 0 && self.rollout.waits.is_none() && !self.rollout.excluded;
        for candidate in candidates.into_iter().take(room) {
            self.replace(&candidate, &config);
        }
        match going {
            Some(status) if all_done => self.maybe_complete(&status, &config, backwards),
            Some(status) => self.tell_what_it_waits_for(&status, backwards),
            None => (),
        }
    }

    /// Configuration of the update, or of the rollback if one is under way.
    pub(super) fn update_config(&self) -> UpdateConfig {
        let spec = &self.service.spec;
        let state = self.service.update.as_ref().map(|status| status.state);
        let backwards = matches!(state, Some(UpdateState::RollbackStarted | UpdateState::RollbackPaused));
        if backwards { &spec.rollback } else { &spec.update }.clone().unwrap_or_default()
    }

    fn replace(&mut self, candidate: &Candidate<'_>, config: &UpdateConfig) {
        let Some(old) = candidate.old else { return self.want(candidate.slot, first_wish(candidate.stopping)) };
        let assigned = old.node().is_some();
        if !assigned {
            self.shut(old);
        }
        // If the replaced task was itself waiting for another one to end, its replacement waits for the same.
        let waits = config.order == UpdateOrder::StopFirst && (assigned || candidate.stopping);
        self.want(candidate.slot, first_wish(waits));
    }

    /// Writes into the status of the update what it waits for, and removes that text when it no longer waits.
    fn tell_what_it_waits_for(&mut self, status: &UpdateStatus, backwards: bool) {
        let going = if backwards { "rollback in progress" } else { "update in progress" };
        let nowhere = || self.rollout.excluded.then(|| "no node satisfies the constraints".to_owned());
        let message = match self.rollout.waits.clone().or_else(nowhere) {
            Some(why) => format!("{going}; what runs goes on until there is a place for what replaces it: {why}"),
            None if status.message.starts_with(&format!("{going}; ")) => going.to_owned(),
            None => return,
        };
        if message != status.message {
            self.set_status(UpdateStatus { message, ..status.clone() });
        }
    }

    /// Number of slots whose new task does not run yet, or has not run for the delay.
    fn busy(&mut self, config: &UpdateConfig) -> usize {
        let mut busy = 0;
        for task in std::mem::take(&mut self.rollout.replaced) {
            let settled = task.meta.updated_at + config.delay;
            if let Assigned::Pending { reason } = &task.assigned {
                self.rollout.waits.get_or_insert_with(|| reason.clone());
                busy += usize::from(matches!(task.slot, Slot::Number(_)));
            } else if !task.is_running() {
                busy += 1;
            } else if self.scene.now < settled {
                busy += 1;
                self.plan.look_again(settled);
            }
        }
        busy
    }

    /// The first failed task of this update, if more failed than the service allows.
    fn failure(&mut self, config: &UpdateConfig) -> Option<Arc<Task>> {
        let version = self.service.spec_version;
        let all: Vec<&Arc<Task>> = self.slots.values().flatten().copied().collect();
        let failed: Vec<&Arc<Task>> = all
            .iter()
            .filter(|task| task.spec_version == version)
            .filter(|task| restart::ended_by_itself(task))
            .filter(|task| {
                let began = self.watch.running.get(&task.id);
                began.is_none_or(|began| task.meta.updated_at.saturating_since(*began) <= config.monitor())
            })
            .copied()
            .collect();
        let slots = self.slots.len().max(1) as u64;
        let too_many = failed.len() as u64 * 1_000_000 > slots * u64::from(config.max_failure_millionths);
        failed.first().filter(|_| too_many).map(|task| Arc::clone(task))
    }

    /// Pauses the update or rolls it back, as the service says. Returns whether it did.
    fn give_up(&mut self, status: &UpdateStatus, config: &UpdateConfig, backwards: bool, failed: &Task) -> bool {
        let because = format!("due to failure or early termination of task {}", failed.id);
        match config.failure_action {
            FailureAction::Continue => false,
            FailureAction::Rollback if !backwards && self.service.previous.is_some() => {
                let (id, expect) = (self.service.id, self.service.meta.version);
                self.plan.changes.push(Change::UpdateService { id, expect, spec: None });
                // The other wanted tasks follow the spec that is taken back.
                self.plan.wanted.clear();
                true
            }
            FailureAction::Pause | FailureAction::Rollback => {
                let (state, what) = match backwards {
                    true => (UpdateState::RollbackPaused, "rollback"),
                    false => (UpdateState::Paused, "update"),
                };
                self.set_status(UpdateStatus { state, message: format!("{what} paused {because}"), ..status.clone() });
                true
            }
        }
    }

    fn maybe_complete(&mut self, status: &UpdateStatus, config: &UpdateConfig, backwards: bool) {
        let (mut last, mut any_runs) = (Timestamp::default(), false);
        for task in self.slots.values().flatten().copied().filter(|task| task.is_wanted()).collect::<Vec<_>>() {
            if !self.is_current(task) {
                // A dated task is left on a node that is lost or drains, so its slot is not updated yet.
                return;
            }
            any_runs |= task.is_running();
            if task.spec_version == self.service.spec_version && task.is_running() {
                last = last.max(task.meta.updated_at);
            }
        }
        let over = if last >= status.started_at {
            last + config.monitor()
        } else if any_runs {
            status.started_at + SHOWN
        } else {
            Timestamp::default()
        };
        if self.scene.now < over {
            return self.plan.look_again(over);
        }
        let (state, message) = match backwards {
            true => (UpdateState::RollbackCompleted, "rollback completed"),
            false => (UpdateState::Completed, "update completed"),
        };
        self.set_status(UpdateStatus {
            state,
            started_at: status.started_at,
            completed_at: Some(self.scene.now),
            message: message.into(),
        });
    }

    fn set_status(&mut self, status: UpdateStatus) {
        let (id, spec_version) = (self.service.id, self.service.spec_version);
        self.plan.changes.push(Change::SetUpdateStatus { id, spec_version, status });
    }
}
