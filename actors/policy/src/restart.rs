//! Whether a task that ended by itself is followed by another, and when that one may run.
//!
//! Everything is read off the tasks of the slot that are still remembered: how often this spec was started anew in
//! it, and when. So a new leader counts on where the old one stopped. `history` keeps as many ended tasks as the
//! highest number of attempts needs.
//!
//! The successor is made at once and born `Ready`, so that its worker prepares it while the delay runs; it is raised
//! to `Running` when the delay has passed and its predecessor is gone. The delay counts from the moment it was made,
//! by the clock of the managers: a worker's clock may be wrong. The loss of a node never waits for the delay.

use essaim_model::{Desired, RestartCondition, RestartPolicy, Task, TaskState};
use essaim_wire::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How long a successor waits for its predecessor to end, at least; Swarm's old-task timeout.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(60);

/// Whether `task` came to an end without having been told to, or having been lost.
pub(crate) fn ended_by_itself(task: &Task) -> bool {
    task.written_off.is_none()
        && matches!(task.observed.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

/// Whether the last attempt of a slot, which ended by itself, is followed by another. `attempts` are all remembered
/// tasks of the slot, oldest first.
pub(crate) fn is_due(policy: &RestartPolicy, attempts: &[&Arc<Task>], last: &Task) -> bool {
    match policy.condition() {
        RestartCondition::None => return false,
        RestartCondition::OnFailure if last.observed.state == TaskState::Complete => return false,
        RestartCondition::OnFailure | RestartCondition::Any => (),
    }
    let Some(attempts_max) = policy.max_attempts.filter(|max| *max > 0) else { return true };
    // What counts against the limit are starts that followed an end of the same spec in the same slot.
    let since = match policy.window.filter(|window| !window.is_zero()) {
        None => Timestamp::default(),
        Some(window) => earlier(last.meta.updated_at, window),
    };
    let same = attempts.iter().filter(|task| task.spec_version == last.spec_version);
    let restarts = same
        .scan(false, |follows, task| {
            let restarted = std::mem::replace(follows, *follows || ended_by_itself(task));
            Some(restarted && task.meta.created_at >= since)
        })
        .filter(|restarted| *restarted)
        .count();
    (restarts as u64) < attempts_max
}

/// Before when the successor of `last` must not even be made: of a task that ended while it still waited out its
/// delay, because its worker could not prepare it. Its successor would fare no better, and at once.
pub(crate) fn follow_at(policy: &RestartPolicy, last: &Task) -> Option<Timestamp> {
    (last.desired == Desired::Ready).then(|| last.meta.created_at + policy.delay())
}

/// From when on a task that was born `Ready` may run, if its predecessor is `before`. `waiting_since` is when this leader
/// first saw it wait, if any older task of the slot still has to end.
pub(crate) fn raise_at(
    policy: &RestartPolicy,
    stop_grace: Duration,
    task: &Task,
    before: Option<&Task>,
    waiting_since: Option<Timestamp>,
) -> Timestamp {
    let delay = if before.is_some_and(ended_by_itself) { policy.delay() } else { Duration::ZERO };
    let delayed = task.meta.created_at + delay;
    waiting_since.map_or(delayed, |since| delayed.max(since + PREDECESSOR_WAIT.max(stop_grace)))
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(at.as_micros().saturating_sub(by))
}
