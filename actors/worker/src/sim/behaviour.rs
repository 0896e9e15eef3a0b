//! What the tasks of an image do on a simulated machine.

use essaim_model::Health;
use std::time::Duration;

/// Behaviour of the tasks of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// The task runs until stopped, and ends at once when asked.
    Forever,
    /// The task ends by itself.
    Exits {
        /// Time from the start to the end.
        after: Duration,
        /// Exit code of the task.
        code: i32,
    },
    /// The first task of the image on this machine ends by itself; later ones run until stopped.
    ExitsOnce {
        /// Time from the start to the end.
        after: Duration,
        /// Exit code of the task.
        code: i32,
    },
    /// The kernel kills the task this long after its start, because it has no memory left.
    OutOfMemory(Duration),
    /// The task ignores the stop signal and runs until killed: a stop takes the whole grace.
    IgnoresStop,
    /// The program does not exist, so the task is rejected.
    Missing,
    /// The machine does not have the image and the registry does not give it, so the task is rejected.
    RegistryFails {
        /// Time until the registry answers or is given up.
        after: Duration,
        /// Words of the registry.
        words: String,
    },
    /// The engine answers that it cannot start the task.
    FailsToStart,
    /// The task runs until stopped, after a preparation of this length that reports progress each second.
    Pulls(Duration),
    /// The task runs until stopped, after a pull that reports progress each second and stalls half-way.
    PullStalls {
        /// Length of the pull without the stall.
        takes: Duration,
        /// Length of the stall, in which nothing is reported.
        stalls: Duration,
    },
    /// The engine never answers when it is to start the task, and does not start it.
    StartUnanswered,
    /// The engine starts the task, and for this long answers no question about it.
    SilentFor(Duration),
    /// The task runs until stopped, and the engine needs this long to start it.
    StartTakes(Duration),
    /// The task runs until stopped, with a health check.
    Checked {
        /// Time from the start until the health check passes.
        healthy_after: Duration,
        /// Time from the start until the health check fails for good; none means never.
        unhealthy_after: Option<Duration>,
    },
    /// The task runs until stopped, with a health check that has these results, each this long after the start.
    Health(Vec<(Duration, Health)>),
}

impl Behaviour {
    /// How the task's preparation goes: parts of this length that report progress each second, with stalls between
    /// them.
    pub(super) fn pull(&self) -> Vec<Pull> {
        match self {
            Self::Pulls(takes) => vec![Pull::Progress(*takes)],
            Self::PullStalls { takes, stalls } => {
                vec![Pull::Progress(*takes / 2), Pull::Silence(*stalls), Pull::Progress(*takes / 2)]
            }
            Self::RegistryFails { after, .. } => vec![Pull::Silence(*after)],
            _ => Vec::new(),
        }
    }

    /// Why the task is rejected when it is prepared.
    pub(super) fn rejection(&self, image: &str) -> Option<String> {
        match self {
            Self::Missing => Some(format!("No such image: {image}")),
            Self::RegistryFails { words, .. } => Some(format!("No such image: {image} ({words})")),
            _ => None,
        }
    }

    /// Results of the task's health check with their times after the start; none without a health check.
    pub(super) fn health(&self) -> Option<Vec<(Duration, Health)>> {
        match self {
            Self::Checked { healthy_after, unhealthy_after } => {
                let fails = unhealthy_after.map(|after| (after, Health::Unhealthy));
                Some([(*healthy_after, Health::Healthy)].into_iter().chain(fails).collect())
            }
            Self::Health(course) => Some(course.clone()),
            _ => None,
        }
    }
}

/// A part of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    /// Progress is reported each second of this time.
    Progress(Duration),
    /// Nothing is reported for this time.
    Silence(Duration),
}
