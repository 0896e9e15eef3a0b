//! Health checks: how an engine finds out whether a task that runs also works.

use crate::Refusal;
use bincode::{Decode, Encode};
use essaim_wire::record;
use std::time::Duration;

/// Shortest time that a health check may ask for, as in Docker.
pub(crate) const HEALTH_TIME_MIN: Duration = Duration::from_millis(1);

/// The health check of a task. Times that are left out are those of the image, or Docker's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthCheck {
    /// Command that is run to check the task.
    pub test: HealthTest,
    times: [Option<Duration>; 4],
    retries: Option<u32>,
}
record!(HealthCheck { 1: test, times, retries });

/// The command of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub enum HealthTest {
    /// The command that the image brings.
    #[default]
    Inherit,
    /// No health check, whatever the image brings.
    None,
    /// A program with its arguments (`CMD`).
    Exec(Vec<String>),
    /// A command line for the container's shell, and its arguments (`CMD-SHELL`).
    Shell(Vec<String>),
}

/// Times of a health check, in their order in [`HealthCheck::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthTimes {
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Time that one check may take.
    pub timeout: Option<Duration>,
    /// Time after the task's start during which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks during the start period.
    pub start_interval: Option<Duration>,
}

impl HealthCheck {
    /// Accepts a health check. Times must be at least a millisecond and retries not negative; 0 means not set.
    pub fn parse(test: &[String], times: HealthTimes, retries: i64) -> Result<Self, Refusal> {
        let test = match test.split_first() {
            None => HealthTest::Inherit,
            Some((kind, rest)) => match (kind.as_str(), rest) {
                ("NONE", []) => HealthTest::None,
                ("CMD", [_, ..]) => HealthTest::Exec(rest.to_vec()),
                ("CMD-SHELL", [_, ..]) => HealthTest::Shell(rest.to_vec()),
                ("NONE" | "CMD" | "CMD-SHELL", _) => {
                    return Err(Refusal::invalid(format!("ContainerSpec: health check {test:?} names no command")));
                }
                (other, _) => {
                    let text = format!("Unknown healthcheck type '{other}' (expected 'CMD', 'CMD-SHELL' or 'NONE')");
                    return Err(Refusal::invalid(text));
                }
            },
        };
        let HealthTimes { interval, timeout, start_period, start_interval } = times;
        let named = [
            ("Interval", interval),
            ("Timeout", timeout),
            ("StartPeriod", start_period),
            ("StartInterval", start_interval),
        ];
        for (name, time) in named {
            if time.is_some_and(|time| time < HEALTH_TIME_MIN) {
                let text = format!("ContainerSpec: {name} in HealthConfig cannot be less than {HEALTH_TIME_MIN:?}");
                return Err(Refusal::invalid(text));
            }
        }
        let retries = match u32::try_from(retries) {
            Ok(0) => None,
            Ok(retries) => Some(retries),
            Err(_) if retries < 0 => {
                return Err(Refusal::invalid("ContainerSpec: Retries in HealthConfig cannot be negative"));
            }
            Err(_) => return Err(Refusal::invalid("ContainerSpec: Retries in HealthConfig is too large")),
        };
        Ok(Self { test, times: named.map(|(_, time)| time), retries })
    }

    /// Whether the spec names a command to check with. A check that the image brings is not known here.
    pub(crate) const fn is_active(&self) -> bool {
        matches!(self.test, HealthTest::Exec(_) | HealthTest::Shell(_))
    }

    /// Times of the health check.
    pub const fn times(&self) -> HealthTimes {
        let [interval, timeout, start_period, start_interval] = self.times;
        HealthTimes { interval, timeout, start_period, start_interval }
    }

    /// Failures in a row after which the task is unhealthy.
    pub const fn retries(&self) -> Option<u32> {
        self.retries
    }
}

impl HealthTest {
    /// The command in Docker's words: the kind, then the command itself.
    pub fn words(&self) -> Vec<String> {
        let (kind, rest): (&str, &[String]) = match self {
            Self::Inherit => return Vec::new(),
            Self::None => ("NONE", &[]),
            Self::Exec(command) => ("CMD", command),
            Self::Shell(command) => ("CMD-SHELL", command),
        };
        std::iter::once(kind.to_owned()).chain(rest.iter().cloned()).collect()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("service-health": HealthTest, HealthCheck);

#[cfg(test)]
mod tests {
    use super::*;

    fn words(test: &[&str]) -> Vec<String> {
        test.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_reads_back_from_its_words() {
        for (test, active) in
            [(&[][..], false), (&["NONE"], false), (&["CMD", "curl", "-f"], true), (&["CMD-SHELL", "true"], true)]
        {
            let check = HealthCheck::parse(&words(test), HealthTimes::default(), 0).expect("a check");
            assert_eq!((check.test.words(), check.is_active()), (words(test), active));
        }
    }

    #[test]
    fn what_is_no_health_check_is_refused_in_swarms_words() {
        let short = HealthTimes { timeout: Some(Duration::from_micros(1)), ..HealthTimes::default() };
        for (test, times, retries, text) in [
            (&["CMD", "a"][..], short, 0, "ContainerSpec: Timeout in HealthConfig cannot be less than 1ms"),
            (&[], HealthTimes::default(), -1, "ContainerSpec: Retries in HealthConfig cannot be negative"),
            (
                &["true"],
                HealthTimes::default(),
                0,
                "Unknown healthcheck type 'true' (expected 'CMD', 'CMD-SHELL' or 'NONE')",
            ),
            (&["CMD"], HealthTimes::default(), 0, "ContainerSpec: health check [\"CMD\"] names no command"),
        ] {
            assert_eq!(HealthCheck::parse(&words(test), times, retries).expect_err("refused").text, text);
        }
    }
}
