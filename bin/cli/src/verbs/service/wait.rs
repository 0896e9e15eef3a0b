//! Waiting until a service has converged or a job has completed: `overall progress`, `verify`, `job progress`.
//!
//! The daemon is asked five times a second, as docker does it. [`judge`] looks at one answer and tells how far the
//! service is; it knows no time and no daemon. Around it: tasks must stay up for the service's monitoring period
//! (a job that is complete stays complete), `--timeout` ends the wait with code 3, a service that fits no node with code
//! 4, a paused or reverted update with code 5. Ctrl-C ends the wait and not the change. Tasks that fail meanwhile are told
//! in the progress and in the end ([`failures`]).

mod failures;
mod judge;

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::failures::Failures;
use self::judge::{Convergence, Update, judge};
use super::fetch;
use crate::client::{Client, filters};
use crate::exit::{Exit, Failure};
use crate::show::units::parse_duration;
use crate::show::{Progress, Step};
use crate::verbs::read::{list, number, text};

/// Interval between two questions to the daemon.
const POLL: Duration = Duration::from_millis(200);

/// Time that tasks must stay up when the service sets no monitoring period.
const MONITOR_DEFAULT: Duration = Duration::from_secs(5);

/// Time without a suitable node after which the command gives up: until then a node may still join.
const UNPLACEABLE_FOR: Duration = Duration::from_secs(5);

/// Flags for waiting: whether, how long, and with how much output.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Exit immediately instead of waiting for the service to converge
    // A flag as docker's boolean flags: bare, or with a value after an equals sign.
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, hide_default_value = true, hide_possible_values = true, default_missing_value = "true")]
    detach: bool,
    /// Suppress progress output
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, hide_default_value = true, hide_possible_values = true, default_missing_value = "true")]
    quiet: bool,
    /// Stop waiting after this long, with exit code 3 (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<i64>,
}

impl Waiting {
    /// Waits, for as long as it takes.
    pub(super) fn attached(quiet: bool) -> Self {
        Self { detach: false, quiet, timeout: None }
    }
}

/// Waits for the result of a `create`.
pub(super) async fn for_new_service(client: &Client, id: &str, waiting: &Waiting) -> Result<(), Failure> {
    until_converged(client, id, id, waiting, false, Failures::of_new_service()).await
}

/// Waits for the result of an `update` or `scale`.
pub(super) async fn for_service(client: &Client, id: &str, name: &str, waiting: &Waiting) -> Result<(), Failure> {
    until_converged(client, id, name, waiting, false, Failures::default()).await
}

/// Waits for a rollback, which succeeds when the service is rolled back.
pub(super) async fn for_rollback(client: &Client, id: &str, name: &str, waiting: &Waiting) -> Result<(), Failure> {
    until_converged(client, id, name, waiting, true, Failures::default()).await
}

async fn until_converged(
    client: &Client,
    id: &str,
    name: &str,
    waiting: &Waiting,
    asked_back: bool,
    failures: Failures,
) -> Result<(), Failure> {
    if waiting.detach {
        return Ok(());
    }
    // Read when the wait ends from outside.
    let failures = Mutex::new(failures);
    let ending = || failures.lock().map_or_else(|_| String::new(), |failures| failures.ending());
    let timeout = waiting.timeout.map(|nanos| Duration::from_nanos(nanos.unsigned_abs()));
    let over = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        done = watch(client, id, name, waiting.quiet, asked_back, &failures) => done,
        () = over => Err(Failure::new(Exit::Timeout, format!("service {name} has not converged in the time given{}", ending()))
            .next(format!("it goes on without this command: `essaim service ps {name}` shows how far it is"))),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Exit::Interrupted,
            format!("Operation continuing in background.\nUse `essaim service ps {name}` to check progress.{}", ending()),
        )),
    }
}

async fn watch(
    client: &Client,
    id: &str,
    name: &str,
    quiet: bool,
    asked_back: bool,
    failures: &Mutex<Failures>,
) -> Result<(), Failure> {
    let mut progress = Progress::start(quiet);
    let mut converged_at: Option<Instant> = None;
    let mut hopeless_at: Option<Instant> = None;
    loop {
        let service = fetch(client, id).await?;
        let monitor = number(&service, "/Spec/UpdateConfig/Monitor")
            .filter(|nanos| *nanos > 0)
            .map_or(MONITOR_DEFAULT, |nanos| Duration::from_nanos(nanos.unsigned_abs()));
        let of_service = ("service".to_owned(), text(&service, "/ID").to_owned());
        let up_to_date = ("_up-to-date".to_owned(), "true".to_owned());
        let tasks = client.get_json(&format!("/tasks?{}", filters(&[of_service, up_to_date]))).await?;
        let nodes = client.get_json("/nodes").await?;
        let (tasks, nodes) = (list(&tasks, ""), list(&nodes, ""));
        let Convergence { done, job, steps, update, unplaceable } = judge(&service, tasks, nodes);
        let (failed, ending) = failures.lock().map_or_else(
            |_| Default::default(),
            |mut failures| {
                failures.look(tasks, nodes);
                (failures.step(), failures.ending())
            },
        );
        match &update {
            Update::RollingBack(message) | Update::RolledBack(message) => {
                progress.show([Step::whole("rollback", message)]);
            }
            Update::Paused(message) => {
                return Err(paused(name, &format!("service update paused: {message}{ending}")));
            }
            Update::RollbackPaused(message) => {
                return Err(paused(name, &format!("service rollback paused: {message}{ending}")));
            }
            Update::None => (),
        }
        progress.show(steps.into_iter().chain(failed));
        let done = done && !matches!(update, Update::RollingBack(_));
        if done && job {
            progress.show([Step::whole("", "job complete")]);
            return Ok(());
        }
        if done {
            let since = *converged_at.get_or_insert_with(Instant::now);
            let left = monitor.saturating_sub(since.elapsed());
            if left.is_zero() {
                progress.show([Step::whole("verify", format!("Service {name} converged"))]);
                return match update {
                    Update::RolledBack(message) if !asked_back => {
                        Err(paused(name, &format!("service rolled back: {message}{ending}")))
                    }
                    _ => Ok(()),
                };
            }
            let seconds = left.as_secs_f64().ceil();
            progress
                .show([Step::whole("verify", format!("Waiting {seconds} seconds to verify that tasks are stable..."))]);
        } else if converged_at.take().is_some() {
            progress.show([Step::whole("verify", "Detected task failure")]);
        }
        match &unplaceable {
            Some(reason) => {
                if hopeless_at.get_or_insert_with(Instant::now).elapsed() >= UNPLACEABLE_FOR {
                    return Err(Failure::new(Exit::Unplaceable, format!("no node can take the tasks of {name}: {reason}")).next(
                        format!("the service exists and starts when a node suits; `essaim service ps --no-trunc {name}` has the reasons"),
                    ));
                }
            }
            None => hopeless_at = None,
        }
        sleep(POLL).await;
    }
}

fn paused(name: &str, text: &str) -> Failure {
    Failure::new(Exit::Paused, text)
        .next(format!("look at why: `essaim service ps --no-trunc {name}` and `essaim service logs {name}`"))
}
