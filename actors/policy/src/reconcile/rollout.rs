//! Rolling updates: how the tasks of a service follow a new spec. A bounded number of slots is updated at a time, and
//! the update is paused or rolled back when tasks fail.
//!
//! A slot is *dated* while its task follows a spec that asks for another task than the one in force, or for the same
//! task on other nodes; a task that ended by itself and is not restarted is the task of its slot in this sense. A slot is
//! *busy* from the moment its dated task is being replaced until the new one has run for the delay, also while the node
//! of either does not answer, drains or no longer fits (except in a global service, whose slot is the node). An update is
//! over when no slot is dated or busy and the last new task has run for the monitor time. A slot *belongs* to the update
//! if it is dated or has a task of the version that the update leads to.
//!
//! The replacement of a dated task is created before the dated task is told to end. Stop-first, the replacement is
//! created `Ready`, and `place` counts the room of the dated task as free for it; when it has a node the dated task is
//! stopped, and the replacement runs when that has ended. Start-first, the replacement is created `Running` and needs
//! room of its own. While it has no node the dated task goes on, and the status of the update says why. A numbered slot
//! that waits for a node counts as busy here, since the others would wait for the same; a slot of a global service does
//! not, so that a node without room does not hold up the others. That the replacements which waited do not all get their
//! nodes at the same time is seen to where tasks get nodes: a replacement needs a turn for its node (`turns`).
//!
//! A slot has failed if a task of this update ended by itself in it, before it ran or within the monitor time after it
//! began to run. The share of failed slots among those that belong to the update is compared with the ratio that the
//! service allows. Both times are in the task, and `history` forgets no task that shows a failure or that a slot was dated
//! while the update goes on, so every leader comes to the same conclusion, however long the delay is.

use super::Work;
use crate::{restart, turns};
use essaim_model::{
    Assigned, Change, Desired, FailureAction, RollbackCause, Slot, Task, UpdateConfig, UpdateOrder, UpdateState,
    UpdateStatus,
};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, Level, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Time for which an update that replaces no task is shown as in progress. docker's CLI looks five times a second and
/// prints no result for an update that was completed before its first look.
const SHOWN: Duration = Duration::from_secs(1);

/// Text in the status of an update between its message and the reason why it waits.
const WAITS: &str = "; what runs goes on until there is a place for what replaces it: ";

/// A slot that is to be updated to the new spec.
pub(super) struct Candidate<'a> {
    pub(super) slot: Slot,
    /// The slot's present task; none if its last task has ended and is not to be restarted.
    pub(super) old: Option<&'a Arc<Task>>,
    /// The task that was to replace the present one before, and ended by itself.
    pub(super) failed: Option<&'a Arc<Task>>,
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
    /// The tasks that replaced dated ones, as far as their slots still show it, and since when each slot is settled.
    replaced: Vec<(&'a Arc<Task>, Option<Timestamp>)>,
    /// Whether a slot is a node that the constraints in force exclude, as they exclude every other node.
    pub(super) excluded: bool,
    /// Reason of the first replacement that waits for a node.
    waits: Option<String>,
}

impl<'a> Rollout<'a> {
    /// Notes that a slot which was dated has this task now, and since when it is settled.
    pub(super) fn watch(&mut self, new: Option<&'a Arc<Task>>, settled_at: Option<Timestamp>) {
        self.replaced.extend(new.map(|new| (new, settled_at)));
    }
}

impl Work<'_> {
    /// Updates the next slots, and sets the status of the update.
    pub(super) fn roll(&mut self) {
        let status = self.service.update.clone();
        let state = status.as_ref().map(|status| status.state);
        if turns::is_paused(self.service) {
            return;
        }
        let is_paused = matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused));
        let backwards = state == Some(UpdateState::RollbackStarted);
        let config = self.update_config();
        let going = status.filter(|status| status.completed_at.is_none() && !is_paused);
        if let Some(status) = &going
            && let Some(failed) = self.failure(&config)
            && self.give_up(status, &config, backwards, &failed)
        {
            return;
        }
        let busy = self.rollout.busy + self.busy(&config);
        let busy = if planted(Bug::ParallelismExceeded) { 0 } else { busy };
        let room = match config.parallelism {
            0 => usize::MAX,
            parallelism => usize::try_from(parallelism).unwrap_or(usize::MAX).saturating_sub(busy),
        };
        let mut candidates = std::mem::take(&mut self.rollout.candidates);
        // Slots whose task does not run go first, because nothing is interrupted there.
        candidates.sort_by_key(|it| (it.old.is_some_and(|old| old.is_running()), it.slot));
        let all_done = candidates.iter().all(|it| it.failed.is_some())
            && busy == 0
            && self.rollout.waits.is_none()
            && !self.rollout.excluded;
        for candidate in candidates.into_iter().take(room) {
            self.replace(&candidate, &config);
        }
        match going {
            Some(status) if all_done => self.maybe_complete(&status, &config, backwards),
            Some(status) => self.tell_what_it_waits_for(&status),
            None => (),
        }
    }

    /// Configuration of the update, or of the rollback if one is under way.
    pub(super) fn update_config(&self) -> UpdateConfig {
        turns::config(self.service)
    }

    fn replace(&mut self, candidate: &Candidate<'_>, config: &UpdateConfig) {
        let Some(old) = candidate.old else { return self.want(candidate.slot, first_wish(candidate.stopping)) };
        let assigned = old.node().is_some();
        if !assigned {
            self.shut(old);
        }
        // If the replaced task was itself waiting for another one to end, its replacement waits for the same.
        let waits = config.order == UpdateOrder::StopFirst && (assigned || candidate.stopping);
        match candidate.failed {
            Some(failed) => {
                self.shut(failed);
                self.want_again(candidate.slot, first_wish(waits));
            }
            None => self.want(candidate.slot, first_wish(waits)),
        }
    }

    /// Writes into the status of the update what it waits for, and removes that text when it no longer waits.
    fn tell_what_it_waits_for(&mut self, status: &UpdateStatus) {
        let going = status.message.split(WAITS).next().unwrap_or_default();
        let nowhere = || self.rollout.excluded.then(|| "no node satisfies the constraints".to_owned());
        let message = match self.rollout.waits.clone().or_else(nowhere) {
            Some(why) => format!("{going}{WAITS}{why}"),
            None => going.to_owned(),
        };
        if message != status.message {
            self.set_status(UpdateStatus { message, ..status.clone() });
        }
    }

    /// Time since when a slot with these tasks no longer holds up the others, beyond the delay.
    pub(super) fn settled_at(&self, tasks: &[&Arc<Task>]) -> Option<Timestamp> {
        turns::settled_at(self.service, tasks.iter().map(|task| &***task))
    }

    /// Counts a slot that this plan fills again as busy, if it shows a dated task: until the first task of the update in
    /// it has settled, and the delay after that has passed. The next plan watches the new task.
    pub(super) fn count_unsettled(&mut self, tasks: &[&Arc<Task>]) {
        if !self.is_of_update(tasks) {
            return;
        }
        let delay = self.update_config().delay;
        match self.settled_at(tasks).map(|settled| settled + delay) {
            Some(over) if self.scene.now >= over => (),
            over => {
                self.rollout.busy += 1;
                over.into_iter().for_each(|over| self.plan.look_again(over));
            }
        }
    }

    /// Whether the slot shows a task that does not follow the spec in force.
    pub(super) fn is_of_update(&mut self, tasks: &[&Arc<Task>]) -> bool {
        tasks.iter().any(|task| !self.is_current(task))
    }

    /// Number of slots whose new task does not run yet, or has not run for the delay.
    fn busy(&mut self, config: &UpdateConfig) -> usize {
        let mut busy = 0;
        for (task, settled_at) in std::mem::take(&mut self.rollout.replaced) {
            let settled = settled_at.or(task.began_at).map(|settled| settled + config.delay);
            if let Assigned::Pending { reason } = &task.assigned {
                if reason != turns::NO_TURN {
                    self.rollout.waits.get_or_insert_with(|| reason.clone());
                }
                busy += usize::from(matches!(task.slot, Slot::Number(_)));
            } else if let Some(settled) = settled {
                if self.scene.now < settled {
                    busy += 1;
                    self.plan.look_again(settled);
                }
            } else {
                busy += 1;
            }
        }
        busy
    }

    /// The first failed task of this update, if a larger share of its slots failed than the service allows.
    fn failure(&mut self, config: &UpdateConfig) -> Option<Arc<Task>> {
        let version = self.service.spec_version;
        let (mut failed, mut first, mut belonging) = (0_u64, None::<&Arc<Task>>, 0_u64);
        for tasks in self.slots.values().cloned().collect::<Vec<_>>() {
            let Some(failure) = tasks.iter().copied().find(|task| has_failed(task, version, config.monitor())) else {
                let done = tasks.last().filter(|last| restart::ended_by_itself(last)).map(|last| last.id);
                let is_dated =
                    |task: &&Arc<Task>| (task.is_wanted() || Some(task.id) == done) && !self.is_current(task);
                let is_new = tasks.iter().any(|task| task.spec_version == version);
                belonging += u64::from(is_new || tasks.iter().any(is_dated));
                continue;
            };
            belonging += 1;
            failed += 1;
            let key = |task: &Task| (task.ended_at, task.id);
            first = Some(first.filter(|first| key(first) <= key(failure)).unwrap_or(failure));
        }
        let allowed = belonging * u64::from(config.max_failure_millionths);
        first.filter(|_| failed * 1_000_000 > allowed).map(Arc::clone)
    }

    /// Pauses the update or rolls it back, as the service says. Returns whether it did.
    fn give_up(&mut self, status: &UpdateStatus, config: &UpdateConfig, backwards: bool, failed: &Task) -> bool {
        let because = format!("due to failure or early termination of task {}", failed.id);
        match config.failure_action {
            FailureAction::Continue => false,
            FailureAction::Rollback if !backwards && self.service.previous.is_some() => {
                let (id, expect) = (self.service.id, self.service.meta.version);
                self.plan.changes.push(match &self.service.previous {
                    Some((to, _)) if self.scene.state.level() >= Level(2) => {
                        let cause = RollbackCause::Failed { spec_version: self.service.spec_version, task: failed.id };
                        Change::RollBackService { id, to: *to, cause }
                    }
                    _ => Change::UpdateService { id, expect, spec: None },
                });
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
        for tasks in self.slots.values().cloned().collect::<Vec<_>>() {
            // A slot whose first new task never ran is left to the restart policy, and keeps its dated task meanwhile.
            let is_given_up = tasks.iter().any(|task| has_failed(task, self.service.spec_version, Duration::ZERO));
            for task in tasks.iter().filter(|task| task.is_wanted()) {
                if !is_given_up && !self.is_current(task) {
                    // A dated task is left on a node that is lost or drains, so its slot is not updated yet.
                    return;
                }
                any_runs |= task.is_running();
            }
        }
        for tasks in self.slots.values() {
            last = last.max(self.settled_at(tasks).unwrap_or_default());
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

/// Whether the task follows this version of its spec and ended by itself before it ran, or within `monitor` after it began
/// to run.
pub(crate) fn has_failed(task: &Task, version: Index, monitor: Duration) -> bool {
    let early =
        task.began_at.is_none_or(|began| task.ended_at.is_some_and(|ended| ended.saturating_since(began) <= monitor));
    task.spec_version == version && restart::ended_by_itself(task) && early
}
