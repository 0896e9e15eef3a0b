//! Waiting until a service has converged: `overall progress`, `verify`, `converged`.
//!
//! The daemon is asked five times a second, as docker does it. [`judge`] looks at one answer and tells how far the
//! service is; it knows no time and no daemon. Around it: tasks must stay up for the service's monitoring period,
//! `--timeout` ends the wait with code 3, a service that fits no node with code 4, a paused or reverted update with
//! code 5. Ctrl-C ends the wait and not the change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::fetch;
use crate::client::{Client, filters};
use crate::exit::{Exit, Failure};
use crate::show::Progress;
use crate::show::units::parse_duration;
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

/// How far a service has converged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Convergence {
    running: u64,
    /// Number of tasks wanted; `None` while a global service has no tasks yet.
    wanted: Option<u64>,
    update: Update,
    /// Reason why no node can take any of the missing tasks; `None` while at least one may still be placed.
    unplaceable: Option<String>,
}

/// State of the service's update.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Update {
    None,
    RollingBack(String),
    RolledBack(String),
    Paused(String),
    RollbackPaused(String),
}

/// Waits for the result of a `create`, `update` or `scale`.
pub(super) async fn for_service(client: &Client, id: &str, name: &str, waiting: &Waiting) -> Result<(), Failure> {
    until_converged(client, id, name, waiting, false).await
}

/// Waits for a rollback, which succeeds when the service is rolled back.
pub(super) async fn for_rollback(client: &Client, id: &str, name: &str, waiting: &Waiting) -> Result<(), Failure> {
    until_converged(client, id, name, waiting, true).await
}

async fn until_converged(
    client: &Client,
    id: &str,
    name: &str,
    waiting: &Waiting,
    asked_back: bool,
) -> Result<(), Failure> {
    if waiting.detach {
        return Ok(());
    }
    let timeout = waiting.timeout.map(|nanos| Duration::from_nanos(nanos.unsigned_abs()));
    let over = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        done = watch(client, id, name, waiting.quiet, asked_back) => done,
        () = over => Err(Failure::new(Exit::Timeout, format!("service {name} has not converged in the time given"))
            .next(format!("it goes on without this command: `essaim service ps {name}` shows how far it is"))),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Exit::Interrupted,
            format!("Operation continuing in background.\nUse `essaim service ps {name}` to check progress."),
        )),
    }
}

async fn watch(client: &Client, id: &str, name: &str, quiet: bool, asked_back: bool) -> Result<(), Failure> {
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
        let convergence = judge(&service, list(&tasks, ""), list(&nodes, ""));
        let back = match &convergence.update {
            Update::RollingBack(message) | Update::RolledBack(message) => {
                progress.say(&format!("rollback: {message}"));
                true
            }
            Update::Paused(message) => return Err(paused(name, &format!("service update paused: {message}"))),
            Update::RollbackPaused(message) => {
                return Err(paused(name, &format!("service rollback paused: {message}")));
            }
            Update::None => false,
        };
        let still_up = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= monitor);
        let done =
            convergence.wanted == Some(convergence.running) && !matches!(convergence.update, Update::RollingBack(_));
        if done && still_up(converged_at) {
            progress.finish(&format!("verify: Service {name} converged"));
            return match convergence.update {
                Update::RolledBack(message) if !asked_back => {
                    Err(paused(name, &format!("service rolled back: {message}")))
                }
                _ => Ok(()),
            };
        }
        show(&mut progress, &convergence, back);
        if done {
            let since = *converged_at.get_or_insert_with(Instant::now);
            let left = monitor.saturating_sub(since.elapsed()).as_secs_f64().ceil();
            progress.say(&format!("verify: Waiting {left} seconds to verify that tasks are stable..."));
        } else {
            converged_at = None;
        }
        match &convergence.unplaceable {
            Some(reason) => {
                if hopeless_at.get_or_insert_with(Instant::now).elapsed() >= UNPLACEABLE_FOR {
                    progress.finish("");
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

fn show(progress: &mut Progress, convergence: &Convergence, back: bool) {
    let way = if back { "rolling back update: " } else { "" };
    match convergence.wanted {
        None => progress.step(0, 0, "overall progress: waiting for new tasks"),
        Some(wanted) => {
            let running = convergence.running;
            progress.step(running, wanted, &format!("overall progress: {way}{running} out of {wanted} tasks"));
        }
    }
}

fn paused(name: &str, text: &str) -> Failure {
    Failure::new(Exit::Paused, text)
        .next(format!("look at why: `essaim service ps --no-trunc {name}` and `essaim service logs {name}`"))
}

/// Tells how far the service has converged, from one look at it, its tasks and the nodes.
fn judge(service: &Value, tasks: &[Value], nodes: &[Value]) -> Convergence {
    let alive: BTreeSet<_> =
        nodes.iter().filter(|node| text(node, "/Status/State") != "down").map(|node| text(node, "/ID")).collect();
    // One task counts for each slot: the running one, if there are several.
    let mut places: BTreeMap<(i64, &str), (bool, &Value)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| text(task, "/DesiredState") == "running") {
        let slot = number(task, "/Slot").unwrap_or(0);
        let place = (slot, if slot == 0 { text(task, "/NodeID") } else { "" });
        let running = text(task, "/Status/State") == "running" && alive.contains(text(task, "/NodeID"));
        let entry = places.entry(place).or_insert((running, task));
        if running && !entry.0 {
            *entry = (running, task);
        }
    }
    let running = places.values().filter(|(running, _)| *running).count() as u64;
    let mode = &service["Spec"]["Mode"];
    let wanted = if mode["Global"].is_object() {
        (!places.is_empty()).then_some(places.len() as u64)
    } else {
        Some(number(mode, "/Replicated/Replicas").map_or(1, i64::unsigned_abs))
    };
    Convergence { running, wanted, update: update(service), unplaceable: unplaceable(&places) }
}

fn update(service: &Value) -> Update {
    let message = text(service, "/UpdateStatus/Message").to_owned();
    match text(service, "/UpdateStatus/State") {
        "paused" => Update::Paused(message),
        "rollback_started" => Update::RollingBack(message),
        "rollback_paused" => Update::RollbackPaused(message),
        "rollback_completed" => Update::RolledBack(message),
        _ => Update::None,
    }
}

/// The reason of a pending task, when every task that does not run is pending without a suitable node.
fn unplaceable(places: &BTreeMap<(i64, &str), (bool, &Value)>) -> Option<String> {
    let mut reason = None;
    for (_, task) in places.values().filter(|(running, _)| !running) {
        let error = text(task, "/Status/Err");
        if text(task, "/Status/State") != "pending" || !error.starts_with("no suitable node") {
            return None;
        }
        reason = Some(error.to_owned());
    }
    reason
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(replicas: u64) -> Value {
        json!({"Spec": {"Mode": {"Replicated": {"Replicas": replicas}}}})
    }

    fn task(slot: i64, node: &str, state: &str) -> Value {
        json!({"Slot": slot, "NodeID": node, "DesiredState": "running", "Status": {"State": state}})
    }

    fn nodes() -> Vec<Value> {
        vec![json!({"ID": "a", "Status": {"State": "ready"}}), json!({"ID": "b", "Status": {"State": "down"}})]
    }

    #[test]
    fn a_task_on_a_lost_node_does_not_run() {
        let convergence = judge(&service(2), &[task(1, "a", "running"), task(2, "b", "running")], &nodes());
        assert_eq!((convergence.running, convergence.wanted), (1, Some(2)));
    }

    #[test]
    fn a_slot_counts_once_and_its_running_task_counts() {
        let tasks =
            [task(1, "a", "running"), task(1, "a", "starting"), task(2, "a", "starting"), task(2, "a", "running")];
        assert_eq!(judge(&service(2), &tasks, &nodes()).running, 2);
    }

    #[test]
    fn a_global_service_wants_one_on_each_node_it_has_tasks_on() {
        let global = json!({"Spec": {"Mode": {"Global": {}}}});
        assert_eq!(judge(&global, &[], &nodes()).wanted, None);
        let convergence = judge(&global, &[task(0, "a", "running"), task(0, "b", "starting")], &nodes());
        assert_eq!((convergence.running, convergence.wanted), (1, Some(2)));
    }

    #[test]
    fn nothing_is_unplaceable_while_something_moves() {
        let mut pending = task(1, "", "pending");
        pending["Status"]["Err"] = json!("no suitable node (scheduling constraints not satisfied on 3 nodes)");
        let convergence = judge(&service(2), &[pending.clone(), task(2, "a", "running")], &nodes());
        assert!(convergence.unplaceable.unwrap().contains("constraints"));
        assert_eq!(judge(&service(2), &[pending, task(2, "a", "starting")], &nodes()).unplaceable, None);
    }

    #[test]
    fn an_update_tells_how_it_ended() {
        let with = |state: &str| update(&json!({"UpdateStatus": {"State": state, "Message": "m"}}));
        assert_eq!(with("updating"), Update::None);
        assert_eq!(with("paused"), Update::Paused("m".to_owned()));
        assert_eq!(with("rollback_completed"), Update::RolledBack("m".to_owned()));
    }
}
