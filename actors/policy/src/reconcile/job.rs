//! Reconciliation of jobs: services whose tasks run to completion, once in each iteration.
//!
//! A replicated job has as many slots as it must have completions, counted from 0 because docker's progress bar counts
//! them so; a global job has a slot for each eligible node. A slot
//! is *done* when a task of the present iteration has completed in it, and *spent* when its last task failed and is not
//! restarted by the restart policy. Neither gets another task before the next iteration. Every other slot gets a task,
//! and a failed task a successor in its own slot, which counts against the limit of attempts of that slot alone.
//!
//! Tasks of an earlier iteration are told to end when the next one begins. A slot is filled again at once, and its new
//! task waits for the end of the old one; the tasks of a replicated job that still end count against the number that may
//! run at a time.
//!
//! In Swarm a spent slot is filled again whenever a task of another slot ends, so whether a job that may not be
//! restarted runs again depends on how many slots it has. Here the limit of attempts holds.
//!
//! A job with a schedule (label `essaim.schedule`) does not run when it is created or updated, except by a forced update:
//! its schedule begins each run as a new iteration, at the first time that the schedule names after the last run began.
//! Times that passed while no manager led, or while the run before them was not complete, are one run.

use super::Work;
use crate::restart;
use crate::scene::Condition;
use essaim_model::{Change, Slot, Task, TaskState};
use essaim_wire::planted::{Bug, planted};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a slot of a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The slot is done.
    Nothing,
    /// A task of the present iteration has not ended, or is to be followed by another one, or the slot is spent.
    Care,
    /// No task of the present iteration has run in the slot to its own end.
    Task,
}

/// A slot of a job, as the present iteration sees it.
struct Place<'a> {
    slot: Slot,
    /// The tasks of the present iteration, oldest first.
    own: Vec<&'a Arc<Task>>,
    need: Need,
    /// Whether the slot has a task of the present iteration that has not ended, or is about to get one.
    active: bool,
    /// Whether a task that was told to end has not ended.
    stopping: bool,
}

impl<'a> Work<'a> {
    /// Reconciles a job, after its schedule.
    pub(super) fn job(&mut self) {
        let status = self.service.job.clone();
        if status.as_ref().is_some_and(|status| status.idle) {
            // Tasks of the iteration before end. So do tasks that have no node yet: they came along to this iteration when
            // the spec changed, and would run when they get one.
            for task in self.slots.values().flatten().copied().filter(|task| !task.has_ended()).collect::<Vec<_>>() {
                self.end(task);
            }
            return self.follow_schedule(true);
        }
        match self.service.spec.mode.of_replicated_job() {
            Some((concurrent_max, completions)) => self.replicated_job(concurrent_max, completions),
            None => self.global_job(),
        }
        let own = |task: &Arc<Task>| task.job_iteration == self.service.iteration();
        let goes_on = self.slots.values().flatten().any(|task| own(task) && !task.has_ended());
        let is_over = !goes_on && self.plan.wanted.is_empty();
        self.follow_schedule(is_over);
    }

    /// Begins the next run if it is due and may begin, and otherwise looks again when it will be.
    fn follow_schedule(&mut self, is_over: bool) {
        let (Some(cron), Some(status)) = (self.service.spec.schedule(), &self.service.job) else { return };
        let Some(due) = cron.next(status.last_execution) else { return };
        if self.scene.now < due {
            return self.plan.look_again(due);
        }
        if !is_over && !self.service.spec.schedule_replaces() {
            // The end of the present run calls for the next look.
            return;
        }
        let (id, after) = (self.service.id, status.iteration);
        // What the present run still wanted is not wanted any more.
        self.plan.wanted.clear();
        self.plan.changes.push(Change::RunJob { id, after });
    }

    /// Reconciles a replicated job.
    fn replicated_job(&mut self, concurrent_max: u64, completions: u64) {
        let end = u32::try_from(completions).unwrap_or(u32::MAX);
        let surplus: Vec<Slot> = self.slots.keys().copied().filter(|slot| *slot >= Slot::Number(end)).collect();
        surplus.into_iter().for_each(|slot| self.remove(slot));
        let places = self.places();
        let mut active = places.iter().filter(|place| place.active).count() as u64;
        let idle = |slot: &Slot| !places.iter().any(|place| place.slot == *slot && place.active);
        let mut ending: BTreeSet<Slot> = self.ending.iter().copied().filter(idle).collect();
        ending.extend(places.iter().filter(|place| place.stopping && !place.active).map(|place| place.slot));
        let begun: BTreeSet<Slot> = places.iter().map(|place| place.slot).collect();
        let (open, cared): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| place.need == Need::Task);
        for place in cared {
            self.care(&place);
        }
        // A slot in which a task still ends comes first: a new task there waits for that end, and so adds none to those
        // that run at a time.
        let (mut waiting, mut free): (Vec<_>, Vec<_>) = open.into_iter().partition(|place| place.stopping);
        free.extend(
            (0..end).map(Slot::Number).filter(|slot| !begun.contains(slot)).take(free_max(concurrent_max)).map(
                |slot| Place {
                    slot,
                    own: Vec::new(),
                    need: Need::Task,
                    active: false,
                    stopping: ending.contains(&slot),
                },
            ),
        );
        free.sort_by_key(|place| place.slot);
        waiting.append(&mut free);
        for place in waiting {
            let elsewhere = ending.len() - usize::from(ending.contains(&place.slot));
            if active + elsewhere as u64 >= concurrent_max {
                continue;
            }
            ending.remove(&place.slot);
            active += 1;
            self.care(&place);
        }
    }

    /// Reconciles a global job.
    fn global_job(&mut self) {
        self.remove_departed();
        for place in self.places() {
            self.care(&place);
        }
        self.begin_on_nodes();
    }

    /// The slots that have tasks. Tasks of earlier iterations are told to end.
    fn places(&mut self) -> Vec<Place<'a>> {
        let slots = self.slots.clone();
        slots.into_iter().map(|(slot, tasks)| self.place_of(slot, &tasks)).collect()
    }

    fn place_of(&mut self, slot: Slot, tasks: &[&'a Arc<Task>]) -> Place<'a> {
        let iteration = self.service.iteration();
        let (own, earlier): (Vec<_>, Vec<_>) = tasks.iter().copied().partition(|task| task.job_iteration == iteration);
        let done = own.iter().any(|task| has_completed(task)) && !planted(Bug::CompletedJobRunsAgain);
        let mut stopping = self.ending.contains(&slot);
        // A task that stood in for another one is surplus when that one has completed.
        let surplus = own.iter().copied().filter(|_| done);
        for task in earlier.into_iter().chain(surplus).filter(|task| !task.has_ended()) {
            stopping |= self.end(task);
        }
        let live = own.iter().any(|task| !task.has_ended());
        let ended_by_itself = own.last().filter(|last| restart::ended_by_itself(last));
        let policy = self.service.spec.restart();
        let due = ended_by_itself.is_some_and(|last| restart::is_due(&policy, last, self.scene.now));
        let need = match () {
            () if done => Need::Nothing,
            () if live || ended_by_itself.is_some() => Need::Care,
            () => Need::Task,
        };
        Place { slot, own, need, active: !done && (live || due), stopping }
    }

    fn care(&mut self, place: &Place<'a>) {
        if place.need != Need::Nothing {
            self.slot(place.slot, &place.own, place.stopping);
        }
    }

    /// Tells a task that is not needed to end. Returns whether its end will be reported.
    fn end(&mut self, task: &'a Arc<Task>) -> bool {
        match self.condition(task) {
            Condition::Gone(_) => {
                self.let_go(task);
                false
            }
            _ => {
                self.shut(task);
                self.drifts_until(task).is_some()
                    || task.node().is_some_and(|node| self.service.spec.mode.is_per_node() || self.scene.answers(node))
            }
        }
    }
}

fn has_completed(task: &Task) -> bool {
    task.observed.state == TaskState::Complete
}

/// Slots without tasks that one plan looks at: no more than may run at a time are begun.
fn free_max(concurrent_max: u64) -> usize {
    usize::try_from(concurrent_max).unwrap_or(usize::MAX)
}
