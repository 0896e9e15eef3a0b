//! Retries: a task that was to replace another one and failed is followed by another after the restart delay, and not
//! sooner, change after change of the log. Without the delay a slot whose replacement cannot run anywhere gets dozens of
//! tasks a second, for as long as the task that is to be replaced goes on.

use super::updates::created;
use essaim_model::{Desired, Event, Proposal, State, Task, TaskState};
use essaim_wire::Timestamp;

/// Returns what is wrong with the tasks that are created in the step from one state to the next.
pub fn judge(before: &State, after: &State, events: &[Event], proposal: &Proposal) -> Vec<String> {
    // Only a leader's decisions are judged: they carry its term.
    if proposal.fence.is_none() {
        return Vec::new();
    }
    let index = after.applied().index.0;
    let wrong = created(events).filter_map(|new| hurry(before, after, new, proposal.at));
    wrong.map(|why| format!("at index {index}: {why}")).collect()
}

/// Why this task is created too soon.
fn hurry(before: &State, after: &State, new: &Task, at: Timestamp) -> Option<String> {
    let service = before.service(new.service).filter(|service| !service.spec.mode.is_job())?;
    let others = || before.tasks_in(new.service, new.slot).filter(|other| other.id != new.id);
    let last = others().max_by_key(|other| (other.meta.created_at, other.id))?;
    let failed = matches!(last.observed.state, TaskState::Failed | TaskState::Rejected) && last.written_off.is_none();
    let is_attempt = failed && last.began_at.is_none() && last.desired < Desired::Shutdown;
    // Once the other task is lost with its node, or is told to end, the slot is filled at once: with a task that is
    // prepared, and waits for the delay.
    let goes_on = |other: &Task| other.is_wanted() && after.task(other.id).is_some_and(|other| other.is_wanted());
    if !is_attempt || last.spec_version != new.spec_version || !others().any(|other| goes_on(other)) {
        return None;
    }
    let delay = service.spec.restart().delay();
    let ended = last.ended_at?;
    (at < ended + delay).then(|| {
        let (slot, name, seconds) = (new.slot, &service.spec.name, delay.as_secs_f64());
        format!("slot {slot} of {name} is tried again less than {seconds} s after {} failed in it", last.id)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, HOUR, SERVICE, apply, task};
    use super::*;
    use essaim_model::fixtures::service;
    use essaim_model::{Change, Observed};
    use essaim_wire::NodeId;
    use std::time::Duration;

    /// Complaints about a task that follows, this long after it, one that failed beside a running one, in a step with this
    /// change.
    fn follow(after: Duration, beside: Option<Change>) -> Vec<String> {
        let mut state = fixture::world(service("web", 1), &[task(11, TaskState::Running), task(12, TaskState::New)]);
        let rejected = Observed { state: TaskState::Rejected, ..Observed::nothing(HOUR) };
        let reports = vec![(task(12, TaskState::New).id, rejected)];
        apply(&mut state, HOUR, vec![Change::Observe { node: NodeId::from_bits(2), reports }]);
        let before = state.clone();
        let spec_version = state.service(SERVICE).expect("it is there").spec_version;
        let next = Task { spec_version, ..task(13, TaskState::New) };
        let changes = beside.into_iter().chain([Change::CreateTask(Box::new(next))]).collect();
        let (events, proposal) = apply(&mut state, HOUR + after, changes);
        judge(&before, &state, &events, &proposal)
    }

    #[test]
    fn an_attempt_before_the_delay_is_over_is_seen() {
        let wrong = follow(Duration::from_secs(4), None);
        assert!(wrong.len() == 1 && wrong[0].contains("is tried again less than 5 s after"), "{wrong:?}");
        assert_eq!(follow(Duration::from_secs(5), None), [""; 0]);
        let stops = Change::SetDesired { id: task(11, TaskState::Running).id, desired: Desired::Shutdown };
        assert_eq!(follow(Duration::from_secs(4), Some(stops)), [""; 0], "no other task goes on");
    }
}
