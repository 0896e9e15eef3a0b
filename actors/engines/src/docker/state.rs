//! What a container's state means for its task. Pure.

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use essaim_model::{ContainerId, Health};
use essaim_wire::Timestamp;
use essaim_worker::engine::{Ended, Exit, Observation, Phase, Started};

/// A container as an inspection finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Id of the container.
    pub(super) id: String,
    /// Phase of its task.
    pub(super) phase: Phase,
    /// Time at which the container was started, whatever became of it; `None` when it never was.
    pub(super) started: Option<Timestamp>,
}

impl Seen {
    /// Reads an inspection; `None` when it has neither id nor state, which no engine omits.
    pub(super) fn read(found: ContainerInspectResponse) -> Option<Self> {
        let (id, state) = (found.id?, found.state?);
        Some(Self { phase: phase(&id, &state), started: state.started_at.as_deref().and_then(time), id })
    }

    /// What a watcher of the task is told of this state.
    pub(super) const fn observation(&self) -> Observation {
        match self.phase {
            Phase::Ended(ended) => Observation::Ended(ended),
            Phase::Running(Started { health: Some(Health::Healthy), .. }) => Observation::Healthy,
            Phase::Running(Started { health: Some(Health::Unhealthy), .. }) => Observation::Unhealthy,
            Phase::Prepared | Phase::Running(_) => Observation::Running,
        }
    }
}

fn phase(id: &str, state: &ContainerState) -> Phase {
    use ContainerStateStatusEnum as Status;
    match state.status.unwrap_or(Status::EMPTY) {
        Status::CREATED => Phase::Prepared,
        // A paused container has not ended. Nothing of ours has a restart policy, so `restarting` is somebody's doing.
        Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING => Phase::Running(Started {
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
            at: state.started_at.as_deref().and_then(time).unwrap_or_default(),
            address: None,
            container: id.parse().ok() as Option<ContainerId>,
            health: state.health.as_ref().and_then(|it| it.status).and_then(health),
        }),
        Status::EXITED | Status::DEAD | Status::REMOVING | Status::EMPTY => Phase::Ended(Ended {
            exit: exit(state),
            at: state.finished_at.as_deref().and_then(time).unwrap_or_default(),
        }),
    }
}

fn exit(state: &ContainerState) -> Exit {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    match code {
        Some(code) if state.oom_killed == Some(true) && code != 0 => Exit::OutOfMemory(code),
        code => exit_of(code),
    }
}

/// How a container ended. The engine has only the exit code, which is 128 + n after signal n.
pub(super) const fn exit_of(code: Option<i32>) -> Exit {
    match code {
        Some(code @ 129..=192) => Exit::Signal(code - 128),
        Some(code) => Exit::Code(code),
        None => Exit::Lost,
    }
}

/// Whether a container that runs as `now` has ended since it ran as `first`, and was started again. An engine that finds
/// its containers again after a restart keeps both the time and the process.
pub(super) fn runs_again(first: &Started, now: &Started) -> bool {
    first.at != now.at && first.pid.zip(now.pid).is_some_and(|(first, now)| first != now)
}

const fn health(status: HealthStatusEnum) -> Option<Health> {
    match status {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
    }
}

/// Parses a time of the engine; `None` for the year 1, with which it writes "never".
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(parsed.as_microsecond()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::Health as ApiHealth;

    fn state(status: ContainerStateStatusEnum, exit_code: i64) -> ContainerState {
        ContainerState {
            status: Some(status),
            pid: Some(0),
            exit_code: Some(exit_code),
            started_at: Some("2026-11-30T06:13:20.123456789Z".into()),
            finished_at: Some("0001-01-01T00:00:00Z".into()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn times_of_the_engine_are_read_to_the_microsecond() {
        assert_eq!(time("2026-11-30T06:13:20.123456789Z"), Some(Timestamp::from_micros(1_796_019_200_123_456)));
        assert_eq!(time("1970-01-01T01:00:01+01:00"), Some(Timestamp::from_micros(1_000_000)));
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert_eq!(time("soon"), None);
    }

    #[test]
    fn a_container_ends_with_a_code_a_signal_or_without_memory() {
        let ended = |code, oom_killed| {
            let state =
                ContainerState { oom_killed: Some(oom_killed), ..state(ContainerStateStatusEnum::EXITED, code) };
            match phase("", &state) {
                Phase::Ended(ended) => ended.exit,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ended(0, false), Exit::Code(0));
        assert_eq!(ended(7, false), Exit::Code(7));
        assert_eq!(ended(137, false), Exit::Signal(9));
        assert_eq!(ended(143, false).code(), Some(143));
        assert_eq!(ended(255, false), Exit::Code(255));
        assert_eq!(ended(137, true), Exit::OutOfMemory(137));
        assert_eq!(ended(0, true), Exit::Code(0), "a child was killed, and the program went on without it");
    }

    #[test]
    fn a_paused_container_still_runs_and_a_created_one_never_did() {
        assert_eq!(phase("", &state(ContainerStateStatusEnum::CREATED, 0)), Phase::Prepared);
        for status in [ContainerStateStatusEnum::RUNNING, ContainerStateStatusEnum::PAUSED] {
            assert!(matches!(phase("", &state(status, 0)), Phase::Running(Started { pid: None, health: None, .. })));
        }
    }

    #[test]
    fn a_container_that_runs_as_another_process_since_another_time_was_started_again() {
        let started = |pid, at| Started::new(pid, Timestamp::from_micros(at));
        let first = started(Some(7), 1);
        assert!(runs_again(&first, &started(Some(8), 2)));
        for same in [first, started(Some(7), 2), started(Some(8), 1), started(None, 2)] {
            assert!(!runs_again(&first, &same), "{same:?}");
        }
    }

    #[test]
    fn the_health_of_a_container_is_observed() {
        let seen = |status| {
            let health = Some(ApiHealth { status: Some(status), ..ApiHealth::default() });
            let state = ContainerState { health, ..state(ContainerStateStatusEnum::RUNNING, 0) };
            Seen { id: String::new(), phase: phase("", &state), started: None }.observation()
        };
        assert_eq!(seen(HealthStatusEnum::NONE), Observation::Running);
        assert_eq!(seen(HealthStatusEnum::STARTING), Observation::Running);
        assert_eq!(seen(HealthStatusEnum::HEALTHY), Observation::Healthy);
        assert_eq!(seen(HealthStatusEnum::UNHEALTHY), Observation::Unhealthy);
    }
}
