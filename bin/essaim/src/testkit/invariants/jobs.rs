//! Jobs: each slot completes once in an iteration, and no more run at a time than may.
//!
//! - A slot in which a task of the iteration has completed gets no other task of that iteration. A node that was lost
//!   after its task completed and before the completion was reported is no exception: the managers did not know.
//! - A replicated job has no slot beyond its completions.
//! - When the leader creates a task of a replicated job, no more slots are at work than may be at a time.
//! - A job with a schedule begins a run when its schedule says so and not before, and not while its last run goes on,
//!   unless the service says that the next run ends it.
//!
//! A global job has one slot for each node, so the first rule says that it runs once on each.

use super::updates::created;
use essaim_model::{Change, Event, Proposal, Service, Slot, State, Task, TaskState};
use essaim_wire::{Reachability, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// Age up to which a leader may decide on an outdated state; as for the course of a task.
const SETTLED: Duration = Duration::from_millis(500);

/// Returns what is wrong with the tasks and runs of jobs that begin in the step from one state to the next.
pub fn judge(before: &State, after: &State, events: &[Event], proposal: &Proposal) -> Vec<String> {
    let index = after.applied().index.0;
    let runs = proposal.changes.iter().filter_map(|change| match change {
        Change::RunJob { id, .. } => before.service(*id).filter(|old| has_begun(old, after)),
        _ => None,
    });
    let wrong = runs.filter_map(|old| begun_wrongly(before, old, proposal.at));
    let wrong = wrong.chain(created(events).filter_map(|new| created_wrongly(before, after, new, proposal.at)));
    wrong.map(|why| format!("at index {index}: {why}")).collect()
}

/// Whether a job has another iteration after the step.
fn has_begun(old: &Service, after: &State) -> bool {
    after.service(old.id).is_some_and(|new| new.iteration() != old.iteration())
}

/// What is wrong with a run that the schedule of a job begins.
fn begun_wrongly(before: &State, service: &Service, now: Timestamp) -> Option<String> {
    let name = &service.spec.name;
    let status = service.job.as_ref()?;
    let last = status.last_execution;
    if service.spec.schedule().and_then(|cron| cron.next(last)).is_none_or(|due| now < due) {
        return Some(format!("job {name} runs, and its schedule does not say so"));
    }
    let mut tasks = before.tasks_of(service.id).filter(|task| task.job_iteration == service.iteration());
    let goes_on = tasks.find(|task| task.is_wanted() && task.meta.updated_at + SETTLED <= now)?;
    // A job that waits for its schedule has no run; its tasks are those of the spec before, and are about to end.
    let may_begin = status.idle || service.spec.schedule_replaces();
    (!may_begin).then(|| format!("job {name} runs again, and {} of its last run goes on", goes_on.id))
}

fn created_wrongly(before: &State, after: &State, new: &Task, now: Timestamp) -> Option<String> {
    let service = before.service(new.service)?;
    service.job.as_ref()?;
    let is_settled = |at: Timestamp| at + SETTLED <= now;
    let (slot, name) = (new.slot, &service.spec.name);
    let is_own = |task: &&std::sync::Arc<Task>| task.job_iteration == new.job_iteration && task.id != new.id;
    let has_completed = |task: &&std::sync::Arc<Task>| task.observed.state == TaskState::Complete;
    let mut own = before.tasks_in(new.service, new.slot).filter(is_own);
    if let Some(done) = own.find(|task| has_completed(task) && is_settled(task.meta.updated_at)) {
        return Some(format!("slot {slot} of job {name} was completed by {}, and gets another task", done.id));
    }
    let (concurrent_max, completions) = service.spec.mode.of_replicated_job()?;
    if matches!(slot, Slot::Number(number) if u64::from(number) >= completions) {
        return Some(format!("job {name} gets slot {slot}, and shall have {completions} completions"));
    }
    // Tasks on nodes that do not answer run or do not; nobody knows.
    let is_at_work = |task: &&std::sync::Arc<Task>| {
        let node = task.node().and_then(|node| after.node(node));
        task.job_iteration == new.job_iteration
            && task.is_wanted()
            && !task.has_ended()
            && task.written_off.is_none()
            && node.is_none_or(|node| node.reachability == Reachability::Reachable && is_settled(node.meta.updated_at))
    };
    let at_work: BTreeSet<Slot> = after.tasks_of(new.service).filter(is_at_work).map(|task| task.slot).collect();
    let is_too_many = at_work.len() as u64 > concurrent_max && is_settled(service.meta.updated_at);
    is_too_many.then(|| format!("{} slots of job {name} are at work, and {concurrent_max} may be", at_work.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{self, HOUR, SERVICE, apply, world};
    use essaim_model::fixtures::service;
    use essaim_model::service::labels::{SCHEDULE_LABEL, SCHEDULE_OVERLAP_LABEL};
    use essaim_model::{Mode, ServiceSpec};

    fn task(number: u64, slot: u32, state: TaskState) -> Task {
        Task { slot: Slot::Number(slot), job_iteration: Some(0), ..fixture::task(number, state) }
    }

    /// Complaints about one more task in this slot of a job of two completions, one at a time, that has these tasks.
    fn check(tasks: &[Task], slot: u32, words: &str) {
        let mut spec = service("job", 0);
        spec.mode = Mode::ReplicatedJob { concurrent_max: Some(1), completions: Some(2) };
        spec.update = None;
        let before = world(spec, tasks);
        let mut after = before.clone();
        let new = task(9, slot, TaskState::New);
        let (events, proposal) = apply(&mut after, HOUR, vec![Change::CreateTask(Box::new(new))]);
        let wrong = judge(&before, &after, &events, &proposal);
        assert_eq!(wrong.len(), usize::from(!words.is_empty()), "{wrong:?}");
        assert!(wrong.iter().all(|why| why.contains(words)), "{wrong:?}");
    }

    #[test]
    fn a_slot_that_is_completed_twice_a_slot_too_many_and_one_too_many_at_a_time_are_seen() {
        let done = task(1, 0, TaskState::Complete);
        check(std::slice::from_ref(&done), 1, "");
        check(&[done], 0, "was completed by");
        check(&[task(1, 0, TaskState::Failed)], 0, "");
        check(&[], 2, "shall have 2 completions");
        check(&[task(1, 0, TaskState::Running)], 1, "2 slots of job job are at work, and 1 may be");
    }

    #[test]
    fn a_run_before_its_time_and_one_beside_the_last_run_are_seen() {
        let mut spec = service("job", 0);
        spec.mode = Mode::ReplicatedJob { concurrent_max: Some(1), completions: Some(2) };
        spec.labels.insert(SCHEDULE_LABEL.into(), "0 * * * *".into());
        let check = |spec: &ServiceSpec, tasks: &[Task], at, words: &str| {
            let mut before = world(spec.clone(), &[]);
            // The first run, so that the job is not idle any more.
            apply(&mut before, Timestamp::from_micros(8), vec![Change::RunJob { id: SERVICE, after: 0 }]);
            for task in tasks {
                let spec_version = before.service(SERVICE).expect("it is there").spec_version;
                let task = Task { spec_version, job_iteration: Some(1), ..task.clone() };
                apply(&mut before, Timestamp::from_micros(9), vec![Change::CreateTask(Box::new(task))]);
            }
            let mut after = before.clone();
            let (events, proposal) = apply(&mut after, at, vec![Change::RunJob { id: SERVICE, after: 1 }]);
            let wrong = judge(&before, &after, &events, &proposal);
            assert_eq!(wrong.len(), usize::from(!words.is_empty()), "{wrong:?}");
            assert!(wrong.iter().all(|why| why.contains(words)), "{wrong:?}");
        };
        check(&spec, &[], HOUR, "");
        check(&spec, &[], Timestamp::from_micros(3_599_000_000), "its schedule does not say so");
        check(&spec, &[task(1, 0, TaskState::Complete)], HOUR, "");
        check(&spec, &[task(1, 0, TaskState::Running)], HOUR, "of its last run goes on");
        spec.labels.insert(SCHEDULE_OVERLAP_LABEL.into(), "replace".into());
        check(&spec, &[task(1, 0, TaskState::Running)], HOUR, "");
    }
}
