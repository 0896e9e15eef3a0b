//! Restart policy: whether a task that ended by itself is followed by another, and when that one may run.
//!
//! Restarts of a slot are counted in its tasks: each task passes the count to its successor, so that a new leader
//! continues the count, and no ended task has to be kept for it. A restart has failed when its task ended before it had
//! run for the policy's `window`; a task that ran that long resets the count. Without a window every restart of the
//! spec counts. (Docker's compose files have the same meaning: "how long to wait before deciding if a restart has
//! succeeded". Swarm counts the attempts *within* the window instead, so a program that fails at once is restarted for
//! ever when its delay is longer than that.)
//!
//! The successor is created at once and `Ready`, so that its worker prepares it while the delay runs; it is raised to
//! `Running` when the delay has passed and its predecessor is gone. The delay counts from the creation, by the clock of
//! the managers: a worker's clock may be wrong. With a longest delay (label `essaim.restart-delay-max`) the delay doubles
//! with each restart in a row that failed. The replacement of a task that was lost with its node never waits for
//! the delay.

use essaim_model::service::DISCONNECT_LEASE;
use essaim_model::{Desired, RestartCondition, RestartPolicy, ServiceSpec, Task, TaskState};
use essaim_wire::Timestamp;
use std::time::Duration;

/// Shortest time that a successor waits for its predecessor to end; Swarm's old-task timeout.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(60);

/// Time that a worker has for killing a task whose grace is over, with a margin for a machine under load.
const KILL_MARGIN: Duration = Duration::from_secs(2);

/// Time for which a task of a service with `essaim.on-disconnect=stop` may run on after its node stopped answering: the
/// lease, and the stop. Half as much again, because that is how fast the cluster's time can pass while it catches up
/// with a leader's clock. A renewal is granted by a linearizable read that begins after the worker asked, and the worker
/// counts from when it asked: so no lease begins after the commit that the node does not answer.
pub(crate) fn drifts_for(spec: &ServiceSpec) -> Duration {
    (DISCONNECT_LEASE + spec.task.container.stop_grace() + KILL_MARGIN).mul_f64(1.5)
}

/// Whether `task` ended without having been told to, and was not written off.
pub(crate) fn ended_by_itself(task: &Task) -> bool {
    task.written_off.is_none()
        && matches!(task.observed.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

/// Restarts that count when `last` is the newest task of its slot: none once it has run for the window.
pub(crate) fn counted(policy: &RestartPolicy, last: &Task, now: Timestamp) -> u32 {
    let window = policy.window.filter(|window| !window.is_zero());
    if window.is_some_and(|window| last.ran_for(now) >= window) { 0 } else { last.restarts }
}

/// Whether `last`, the newest task of its slot, which ended by itself, is followed by another.
pub(crate) fn is_due(policy: &RestartPolicy, last: &Task, now: Timestamp) -> bool {
    match policy.condition() {
        RestartCondition::None => return false,
        RestartCondition::OnFailure if last.observed.state == TaskState::Complete => return false,
        RestartCondition::OnFailure | RestartCondition::Any => (),
    }
    let Some(attempts_max) = policy.max_attempts.filter(|max| *max > 0) else { return true };
    u64::from(counted(policy, last, now)) < attempts_max
}

/// First delay that is doubled when the policy's own delay is shorter: twice nothing would be nothing.
const BACK_OFF_FROM: Duration = Duration::from_millis(100);

/// Delay of a restart after `failed` restarts in a row that failed.
pub(crate) fn delay(spec: &ServiceSpec, failed: u32) -> Duration {
    let delay = spec.restart().delay();
    let Some(longest) = spec.restart_delay_max().filter(|_| failed > 0) else { return delay };
    let doubled = delay.max(BACK_OFF_FROM).checked_mul(1_u32.checked_shl(failed.min(31)).unwrap_or(u32::MAX));
    doubled.unwrap_or(Duration::MAX).min(longest.max(delay))
}

/// Delay that `task`, a restart, waits for.
fn own_delay(spec: &ServiceSpec, task: &Task) -> Duration {
    delay(spec, task.restarts.saturating_sub(1))
}

/// Earliest creation of the successor of `last`, if `last` ended while it still waited for its delay because its worker
/// could not prepare it. Its successor would fail in the same way at once.
pub(crate) fn follow_at(spec: &ServiceSpec, last: &Task) -> Option<Timestamp> {
    (last.desired == Desired::Ready).then(|| last.meta.created_at + own_delay(spec, last))
}

/// Time from which a task that was created `Ready` may run, if its predecessor is `before`. `waiting_since` is when
/// this leader first saw it wait, if any older task of the slot still has to end.
pub(crate) fn raise_at(
    spec: &ServiceSpec,
    task: &Task,
    before: Option<&Task>,
    waiting_since: Option<Timestamp>,
) -> Timestamp {
    let delay = if before.is_some_and(ended_by_itself) { own_delay(spec, task) } else { Duration::ZERO };
    let delayed = task.meta.created_at + delay;
    let stop_grace = spec.task.container.stop_grace();
    waiting_since.map_or(delayed, |since| delayed.max(since + PREDECESSOR_WAIT.max(stop_grace)))
}
