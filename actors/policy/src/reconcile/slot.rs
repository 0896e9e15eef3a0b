//! Reconciliation of one slot: which of its tasks may stay, which must go, and whether a new one is wanted.
//!
//! The tasks that have not ended are sorted by their condition. The first of these rules that applies decides:
//!
//! 1. *Sound* tasks: one of them keeps the slot. Other tasks in the slot are surplus: they replaced this one while its
//!    node was unreachable, or it replaced them; of several that follow the spec in force the oldest one that runs
//!    stays. While that one is not confirmed since its node returned ([`RETURN_CONFIRMED`]), the others that run go on,
//!    too. A task on a node that drains, or that no longer satisfies the constraints, goes when the sound one runs.
//! 2. *Held* tasks keep the slot empty: the brake, or the service's own setting to wait for `Down`.
//! 3. *Leaving* and *misfit* tasks go on until another one runs elsewhere. Where two may not run at a time, a leaving
//!    task is stopped at once, since an operator drains its node; a misfit when its replacement has a node.
//! 4. *Lost* tasks are replaced at once.
//! 5. No task at all: the slot is filled again, by the rules of `restart` if its last task ended by itself.
//!
//! A task that was to replace others and ended by itself before it could is followed by another by the same rules of
//! `restart`: after the delay, and as often as the policy allows ([`Attempt`]). Meanwhile the others go on. When the
//! policy allows no other attempt, the slot stays as it is, except that a draining or unfit node is left all the same.
//!
//! A task that follows an older spec is replaced by the update (`rollout`), and is stopped only when its replacement
//! has a node: a spec that can be placed nowhere takes nothing down. A slot of a global service is a node: where a
//! newer spec excludes the node, its task ends, unless the new constraints exclude every node of the cluster.
//!
//! At most two tasks of a slot are wanted at any time; `apply` refuses a third. So before another one is wanted, only
//! one of the leaving and lost tasks stays wanted.

use super::Work;
use super::rollout::{Candidate, first_wish};
use crate::restart;
use crate::scene::Condition;
use essaim_model::{Assigned, Availability, Desired, Slot, Task, UpdateOrder};
use essaim_wire::Timestamp;
use essaim_wire::planted::{Bug, planted};
use std::sync::Arc;
use std::time::Duration;

/// Time that a task on a draining node waits for another node to become eligible before it is stopped anyway.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// Time after the return of a node within which its worker has reported which of its tasks have ended meanwhile: it
/// links and reports within some tens of milliseconds. A machine that lost its power may be back before the node is down,
/// and its tasks are still recorded as running then; no running replacement gives way to one of them. A replacement that
/// runs for a second longer costs little.
const RETURN_CONFIRMED: Duration = Duration::from_secs(1);

/// The tasks of a slot that have not ended, by their condition.
#[derive(Default)]
struct Occupants<'a> {
    sound: Vec<&'a Arc<Task>>,
    leaving: Vec<&'a Arc<Task>>,
    misfit: Vec<&'a Arc<Task>>,
    lost: Vec<&'a Arc<Task>>,
    held: bool,
    /// Whether two tasks run until it is clear which of them stays.
    doubled: bool,
    /// Whether some task was told to end and its end will be reported.
    stopping: bool,
}

impl Occupants<'_> {
    const fn first_wish(&self) -> Desired {
        first_wish(self.stopping)
    }
}

/// What the newest task of a slot says of the next one that is to replace the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// No task has failed to replace the present ones.
    First,
    /// The last attempt failed, and the delay after it has passed.
    Again,
    /// The last attempt failed, and the next one is due at this time.
    Later(Timestamp),
    /// The restart policy allows no other attempt.
    Never,
}

impl<'a> Work<'a> {
    /// Reconciles one slot. `tasks` are all tasks that the state remembers, oldest first, and of a job those of its present
    /// iteration. `stopping` says whether another task of the slot was told to end and has not ended.
    pub(super) fn slot(&mut self, slot: Slot, tasks: &[&'a Arc<Task>], stopping: bool) {
        // What follows an ended task was decided when a newer one was created. A completed task of a job is a completion.
        let earlier = &tasks[..tasks.len().saturating_sub(1)];
        for task in earlier.iter().filter(|task| restart::ended_by_itself(task) && task.job_iteration.is_none()) {
            self.shut(task);
        }
        let mut here = self.occupants(tasks);
        here.stopping |= stopping;
        if !here.sound.is_empty() {
            self.keep_sound(slot, tasks, &mut here);
        } else if here.held {
            // The node of a held task may come back, or the brake will release it.
            self.watch_away(tasks);
        } else if !here.leaving.is_empty() || !here.misfit.is_empty() {
            self.move_away(slot, tasks, &here);
        } else if !here.lost.is_empty() {
            self.make_room(&here.lost);
            self.want_instead(slot, tasks, here.first_wish());
        } else {
            self.fill(slot, tasks, here.stopping);
        }
    }

    fn occupants(&mut self, tasks: &[&'a Arc<Task>]) -> Occupants<'a> {
        let mut here = Occupants::default();
        let global = self.service.spec.mode.is_per_node();
        for &task in tasks {
            if task.has_ended() {
                // Its node was removed, and may not know that yet.
                here.held |= self.drifts_until(task).is_some();
                continue;
            }
            // The end of a task on a node that does not answer is not waited for, except in a global service: there the
            // next task runs on the same node.
            let answers = global || task.node().is_some_and(|node| self.scene.answers(node));
            match self.condition(task) {
                Condition::Gone(_) => self.let_go(task),
                // A task that was told to end may not know that, and its worker may run it until the lease is over.
                _ if !task.is_wanted() => here.stopping |= answers || self.drifts_until(task).is_some(),
                // A pending task of a global service ends when its node accepts no new tasks, or when the constraints
                // exclude the node.
                Condition::Sound if task.node().is_none() && self.takes_nothing(task.slot) => self.shut(task),
                Condition::Sound if self.is_excluded(task.slot) && !self.is_update_impossible() => {
                    self.shut(task);
                    here.stopping |= answers;
                }
                Condition::Sound => here.sound.push(task),
                Condition::Held => here.held = true,
                // A slot of a global service can be filled on its own node only.
                Condition::Lost if global => here.held = true,
                Condition::Lost => here.lost.push(task),
                Condition::Leaving if global => {
                    self.shut(task);
                    here.stopping |= answers;
                }
                Condition::Misfit if global => {
                    self.reject(task);
                    here.stopping |= answers;
                }
                Condition::Leaving => here.leaving.push(task),
                Condition::Misfit => here.misfit.push(task),
            }
        }
        here
    }

    /// Whether the slot is a node that accepts no new tasks, or none of this service.
    fn takes_nothing(&self, slot: Slot) -> bool {
        let Slot::Node(node) = slot else { return false };
        let node = self.scene.state.node(node);
        node.is_none_or(|node| node.spec.availability != Availability::Active || !self.placement.allows(node))
    }

    fn keep_sound(&mut self, slot: Slot, tasks: &[&'a Arc<Task>], here: &mut Occupants<'a>) {
        let (mut current, mut dated) = (Vec::new(), Vec::new());
        for &task in &here.sound {
            if self.is_current(task) { &mut current } else { &mut dated }.push(task);
        }
        let new = match self.movers(&current) {
            // The slot moves to a node with fewer tasks: the new task runs first.
            Some((old, new)) if new.is_running() && self.is_confirmed(new) => {
                self.shut(old);
                here.stopping = true;
                Some(new)
            }
            Some((old, _)) => Some(old),
            None => self.keep_one(&current, here),
        };
        let old = self.keep_one(&dated, here);
        let stop_first = self.update_config().order == UpdateOrder::StopFirst;
        let kept = match (new, old) {
            // The old task may go when the new one runs, or, if the new one was created to wait for that end, when it
            // has a node.
            (Some(new), Some(old))
                if (new.is_running() && self.is_confirmed(new))
                    || (!new.is_running() && new.desired == Desired::Ready && new.node().is_some()) =>
            {
                self.shut(old);
                here.stopping |= old.node().is_some();
                new
            }
            // The new task was to run beside the old one and has no node; by the order in force it may take the old
            // one's room. Or it was to take the old one's room, and by the order in force it runs beside it, in room of its
            // own. Its desired state alone is not changed: the scheduler may be giving it the old one's room meanwhile.
            (Some(new), Some(old))
                if new.node().is_none()
                    && match new.desired {
                        Desired::Running => stop_first,
                        _ => !stop_first && old.desired == Desired::Running && !here.stopping,
                    } =>
            {
                self.shut(new);
                self.come_forward(slot, old, tasks, here);
                old
            }
            (Some(new), _) => new,
            (None, Some(old)) => {
                self.come_forward(slot, old, tasks, here);
                self.watch_away(tasks);
                old
            }
            (None, None) => return,
        };
        if self.is_of_update(tasks) {
            let settled_at = self.settled_at(tasks);
            self.rollout.watch(new.filter(|new| new.id == kept.id), settled_at);
        }
        if let (Some(_), Some(last)) = (new, tasks.last().filter(|last| last.has_ended())) {
            // What was to replace the kept task is not needed any more.
            self.shut(last);
        }
        self.dismiss_leaving(kept, here);
        self.dismiss_misfits(kept, here);
        // The running task in this slot will be told to end when the kept one has a node.
        let in_its_place = kept.node().is_none() && (old.is_some() && stop_first || !here.misfit.is_empty());
        match old {
            // The old task waits for the end of an even older one, and is itself to be replaced: it runs until its
            // replacement has a node.
            Some(old) if kept.node().is_none() && old.is_wanted() && old.desired == Desired::Ready => {
                self.maybe_raise(old, tasks, here.stopping);
            }
            _ if kept.desired == Desired::Ready && !in_its_place => self.maybe_raise(kept, tasks, here.stopping),
            _ => (),
        }
    }

    /// Makes a slot whose task follows an older spec a candidate of the update, unless the task is being replaced
    /// already.
    fn come_forward(&mut self, slot: Slot, old: &'a Arc<Task>, tasks: &[&'a Arc<Task>], here: &Occupants<'a>) {
        if self.is_excluded(slot) {
            self.rollout.excluded = true;
        } else if here.leaving.is_empty()
            && here.misfit.is_empty()
            && here.lost.is_empty()
            && !here.held
            && !here.doubled
        {
            // With any of these, two tasks of the slot are wanted already.
            let failed = match self.attempt(slot, tasks) {
                Attempt::First => None,
                Attempt::Again => tasks.last().copied(),
                Attempt::Later(at) => return self.plan.look_again(at),
                Attempt::Never => return,
            };
            self.rollout.candidates.push(Candidate { slot, old: Some(old), failed, stopping: here.stopping });
        }
    }

    /// Whether another task may be tried in the place of those of the slot that are left.
    fn attempt(&mut self, slot: Slot, tasks: &[&'a Arc<Task>]) -> Attempt {
        let failed = tasks.last().filter(|last| restart::ended_by_itself(last) && last.desired < Desired::Shutdown);
        let Some(&last) = failed.filter(|_| !planted(Bug::ReplacementRetriedAtOnce)) else { return Attempt::First };
        if !self.is_current(last) {
            return Attempt::First;
        }
        if !restart::is_due(&self.service.spec.restart(), last, self.scene.now) {
            return Attempt::Never;
        }
        let delay = restart::delay(&self.service.spec, self.restarts_in(slot));
        match last.ended_at.unwrap_or(last.meta.created_at) + delay {
            at if self.scene.now < at => Attempt::Later(at),
            _ => Attempt::Again,
        }
    }

    /// Wants a task in the place of those of the slot that are left, as soon as it may be tried. Returns whether it is or
    /// will be.
    fn want_instead(&mut self, slot: Slot, tasks: &[&'a Arc<Task>], desired: Desired) -> bool {
        match self.attempt(slot, tasks) {
            Attempt::First => {
                self.count_unsettled(tasks);
                self.want(slot, desired);
            }
            Attempt::Again => {
                self.count_unsettled(tasks);
                tasks.last().into_iter().for_each(|last| self.shut(last));
                self.want_again(slot, desired);
            }
            Attempt::Later(at) => self.plan.look_again(at),
            Attempt::Never => return false,
        }
        true
    }

    /// Has the update watch the new task of a slot whose node is lost, drains or no longer fits. The slot is being updated
    /// until that task, or the one that replaces it elsewhere, runs; otherwise each node that does not answer for a
    /// moment would let the update take down more slots than it may. The slot of a global service is the node itself,
    /// which may stay away, and does not hold up the others.
    fn watch_away(&mut self, tasks: &[&'a Arc<Task>]) {
        let Some(&new) = tasks.last() else { return };
        let is_new = matches!(new.slot, Slot::Number(_)) && new.is_wanted() && self.is_alike(new.spec_version);
        if is_new && self.is_of_update(tasks) {
            let settled_at = self.settled_at(tasks);
            self.rollout.watch(Some(new), settled_at);
        }
    }

    /// Keeps one of several tasks of one kind and stops the others: a running task before one that does not run, then
    /// the oldest.
    fn keep_one(&mut self, tasks: &[&'a Arc<Task>], here: &mut Occupants<'a>) -> Option<&'a Arc<Task>> {
        let stays = *tasks
            .iter()
            .min_by_key(|task| (!task.is_running(), task.desired != Desired::Running, task.meta.created_at, task.id))?;
        let newest = tasks.iter().max_by_key(|task| (task.is_running(), task.meta.created_at, task.id));
        let stays = newest.copied().filter(|_| planted(Bug::SurplusOldestFirst)).unwrap_or(stays);
        let confirmed = self.is_confirmed(stays);
        for task in tasks.iter().filter(|task| task.id != stays.id) {
            if !confirmed && task.is_running() {
                here.doubled = true;
                continue;
            }
            self.shut(task);
            here.stopping |= task.node().is_some();
        }
        Some(stays)
    }

    /// Whether what is recorded of the task is what its worker sees: its node did not return a moment ago while the task
    /// was recorded as running, and its engine answers. An engine that does not is given up after a while, and its tasks
    /// with it.
    fn is_confirmed(&mut self, task: &Task) -> bool {
        let Some(node) = task.node().and_then(|node| self.scene.state.node(node)) else { return true };
        let at = node.since + RETURN_CONFIRMED;
        if task.began_at.is_some_and(|began| began < node.since) && self.scene.now < at {
            self.plan.look_again(at);
            return false;
        }
        !task.is_silent_on(node)
    }

    /// Stops tasks on draining nodes once the kept task runs, or once it is clear that it finds no node. A task that
    /// waits for its turn does no work yet, so it stops at once.
    fn dismiss_leaving(&mut self, kept: &Task, here: &mut Occupants<'a>) {
        if here.leaving.is_empty() {
            return;
        }
        let patient_until = kept.meta.created_at + DRAIN_PATIENCE;
        let hopeless = kept.node().is_none() && self.scene.now >= patient_until;
        let runs = kept.is_running() && self.is_confirmed(kept);
        let may_go = runs || hopeless || self.service.spec.drains_stop_first();
        if let (true, Assigned::Pending { reason }) = (hopeless, &kept.assigned) {
            let (slot, seconds) = (kept.slot, DRAIN_PATIENCE.as_secs());
            self.plan
                .notes
                .push(format!("slot {slot} stops on its draining node, and runs nowhere: {reason} for {seconds} s"));
        }
        here.stopping |= self.dismiss(&mut here.leaving, may_go, Self::shut);
        if !here.leaving.is_empty() && kept.node().is_none() {
            self.plan.look_again(patient_until);
        }
    }

    /// Stops tasks on nodes that no longer satisfy the constraints, once the kept task runs, or has a node where two
    /// may not run at a time.
    fn dismiss_misfits(&mut self, kept: &Task, here: &mut Occupants<'a>) {
        let waits = !kept.is_running() && kept.desired == Desired::Ready && kept.node().is_some();
        let may_go = waits || (kept.is_running() && self.is_confirmed(kept));
        here.stopping |= self.dismiss(&mut here.misfit, may_go, Self::reject);
    }

    /// Stops and takes out the tasks that may go, by `stop`: all of them if `may_go`, otherwise those that wait for their
    /// turn and do no work yet. Returns whether any was stopped.
    fn dismiss(&mut self, tasks: &mut Vec<&'a Arc<Task>>, may_go: bool, stop: fn(&mut Self, &Task)) -> bool {
        let before = tasks.len();
        tasks.retain(|task| {
            let stays = !may_go && task.desired != Desired::Ready;
            if !stays {
                stop(self, task);
            }
            stays
        });
        tasks.len() < before
    }

    fn maybe_raise(&mut self, task: &Task, tasks: &[&'a Arc<Task>], stopping: bool) {
        let before = tasks.iter().take_while(|other| other.id != task.id).last();
        let at = restart::raise_at(
            &self.service.spec,
            task,
            before.map(|before| before.as_ref()),
            self.watch.waiting.get(&task.id).copied().filter(|_| stopping),
        );
        if self.scene.now >= at {
            let (id, desired) = (task.id, Desired::Running);
            self.plan.changes.push(essaim_model::Change::SetDesired { id, desired });
        } else {
            self.plan.look_again(at);
        }
    }

    /// Replaces the tasks of a slot whose nodes drain or no longer fit: the replacement runs first, unless two may not
    /// run at a time.
    fn move_away(&mut self, slot: Slot, tasks: &[&'a Arc<Task>], here: &Occupants<'a>) {
        if !here.leaving.is_empty()
            && let Some(most) = self.service.spec.drain_parallelism()
            && self.moving() >= most
        {
            // Another slot moves first; its task that runs calls for the next look.
            return;
        }
        let wanted = self.plan.wanted.len();
        let goes_on = if self.service.spec.drains_stop_first() || planted(Bug::DrainStopsFirst) {
            for task in here.leaving.iter().chain(&here.lost) {
                self.shut(task);
            }
            self.make_room(&here.misfit);
            self.want_instead(slot, tasks, Desired::Ready)
        } else {
            // Tasks that still run come first, because they serve until the replacement does.
            let all: Vec<_> = here.misfit.iter().chain(&here.leaving).chain(&here.lost).copied().collect();
            self.make_room(&all);
            self.want_instead(slot, tasks, here.first_wish())
        };
        if !here.leaving.is_empty() && self.plan.wanted.len() > wanted {
            self.moves += 1;
        }
        if !goes_on {
            here.leaving.iter().for_each(|task| self.shut(task));
            here.misfit.iter().for_each(|task| self.reject(task));
        }
    }

    /// Slots that are on their way from a draining node: the task elsewhere does not run yet. Those of this plan included.
    fn moving(&mut self) -> u64 {
        let (scene, slots) = (self.scene, &self.slots);
        let drains = |task: &Task| {
            let node = task.node().and_then(|node| scene.state.node(node));
            node.is_some_and(|node| node.spec.availability == Availability::Drain)
        };
        // A task that ended after it had been told to was moved; one that ended by itself was restarted.
        let left = |task: &Task| drains(task) && !restart::ended_by_itself(task);
        let is_moving = |tasks: &&Vec<&Arc<Task>>| {
            let comes = tasks.iter().rposition(|task| task.is_wanted() && !task.is_running() && !drains(task));
            comes.is_some_and(|at| at > 0 && left(tasks[at - 1]))
        };
        let under_way = *self.under_way.get_or_init(|| slots.values().filter(is_moving).count() as u64);
        under_way + self.moves
    }

    /// Stops all but the first of these tasks, so that one more may be wanted in the slot.
    fn make_room(&mut self, tasks: &[&'a Arc<Task>]) {
        for task in tasks.iter().skip(1) {
            self.shut(task);
        }
    }

    /// Fills a slot that has no task and whose tasks will not come back.
    fn fill(&mut self, slot: Slot, tasks: &[&'a Arc<Task>], stopping: bool) {
        let last = tasks.last().copied().filter(|task| restart::ended_by_itself(task));
        if let Slot::Node(node) = slot
            && !self.scene.state.node(node).is_some_and(|node| self.may_start_on(node))
        {
            // What follows the ended task, once the node takes tasks again, is decided by how it ended.
            last.into_iter().for_each(|last| self.shut(last));
            return;
        }
        let waits = first_wish(stopping);
        let Some(last) = last else {
            self.count_unsettled(tasks);
            return self.want(slot, waits);
        };
        let policy = self.service.spec.restart();
        if let Some(at) = restart::follow_at(&self.service.spec, last).filter(|at| self.scene.now < *at) {
            return self.plan.look_again(at);
        }
        let current = self.is_current(last);
        self.shut(last);
        if restart::is_due(&policy, last, self.scene.now) {
            let delay = restart::delay(&self.service.spec, self.restarts_in(slot));
            let desired = if delay.is_zero() { waits } else { Desired::Ready };
            self.count_unsettled(tasks);
            self.want_again(slot, desired);
        } else if !current {
            self.rollout.candidates.push(Candidate { slot, old: None, failed: None, stopping });
        }
    }
}
