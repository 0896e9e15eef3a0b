//! Waiting until a node has no tasks left: `node update --availability drain --wait`.
//!
//! The daemon is asked twice a second. [`left`] looks at one answer and returns the remaining tasks and the reason of
//! each; it reads no clock and asks no daemon. The names of the remaining tasks are shown on stderr. When the given
//! time is over the command ends with exit code 3 and the reasons; the drain itself goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::read::{list, number, text};
use crate::client::{Client, filters};
use crate::exit::{Exit, Failure};
use crate::show::Progress;

/// Interval between two questions to the daemon.
const POLL: Duration = Duration::from_millis(500);

/// Tasks that a line of progress names; further ones are counted.
const NAMED_MAX: usize = 5;

/// A task that has not ended on the draining node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    /// Name of the task: `web.3`.
    name: String,
    /// Reason why the task is still on the node, in words for people.
    why: String,
}

/// Waits until no task is left on the node, or until `within` has passed.
pub(super) async fn until_empty(
    client: &Client,
    id: &str,
    name: &str,
    within: Option<Duration>,
) -> Result<(), Failure> {
    let over = async {
        match within {
            Some(within) => sleep(within).await,
            None => std::future::pending().await,
        }
    };
    let mut there: Vec<Left> = Vec::new();
    let ended = tokio::select! {
        done = watch(client, id, name, &mut there) => return done,
        () = over => Exit::Timeout,
        _ = tokio::signal::ctrl_c() => Exit::Interrupted,
    };
    Err(Failure::new(ended, unfinished(name, &there))
        .next(format!("it goes on without this command: `essaim node ps {name}` shows how far it is")))
}

async fn watch(client: &Client, id: &str, name: &str, there: &mut Vec<Left>) -> Result<(), Failure> {
    let mut progress = Progress::start(false);
    loop {
        let of_node = [("node".to_owned(), id.to_owned())];
        let tasks = client.get_json(&format!("/tasks?{}", filters(&of_node))).await?;
        let any = list(&tasks, "").iter().any(|task| !has_ended(task));
        let others = if any { client.get_json("/tasks").await? } else { Value::Null };
        let services = if any { client.get_json("/services").await? } else { Value::Null };
        *there = left(id, list(&tasks, ""), list(&others, ""), list(&services, ""));
        if there.is_empty() {
            progress.say(&format!("node {name} is empty"));
            return Ok(());
        }
        let names = there.iter().map(|left| left.name.clone()).collect::<Vec<_>>();
        progress.say(&format!("node {name}: {}", counted(&names)));
        sleep(POLL).await;
    }
}

/// The line of progress: `2 tasks left: web.1, web.2`.
fn counted(names: &[String]) -> String {
    let tasks = if names.len() == 1 { "task" } else { "tasks" };
    let more = names.len().saturating_sub(NAMED_MAX);
    let named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} {tasks} left: {named}{more}", names.len())
}

fn unfinished(name: &str, there: &[Left]) -> String {
    let mut text = format!("node {name} is not empty yet");
    for left in there {
        text.push_str(&format!("\n  {}: {}", left.name, left.why));
    }
    text
}

/// The tasks of a node that have not ended, by name, each with the reason.
fn left(id: &str, tasks: &[Value], all: &[Value], services: &[Value]) -> Vec<Left> {
    let names: BTreeMap<&str, &str> = services.iter().map(|it| (text(it, "/ID"), text(it, "/Spec/Name"))).collect();
    let mut found: Vec<Left> = tasks
        .iter()
        .filter(|task| !has_ended(task))
        .map(|task| {
            let service = text(task, "/ServiceID");
            let name = names.get(service).copied().unwrap_or(service);
            let name = match number(task, "/Slot").filter(|slot| *slot > 0) {
                Some(slot) => format!("{name}.{slot}"),
                None => format!("{name}.{id}"),
            };
            Left { name, why: why(task, all) }
        })
        .collect();
    found.sort_by(|a, b| crate::show::units::natural_order(&a.name, &b.name));
    found
}

/// The reason why a task is still on a draining node.
fn why(task: &Value, all: &[Value]) -> String {
    if matches!(text(task, "/DesiredState"), "shutdown" | "remove") {
        return "it was told to stop, and has not ended".to_owned();
    }
    let place = |task: &Value| (text(task, "/ServiceID").to_owned(), number(task, "/Slot"));
    let successor = all.iter().find(|other| {
        place(other) == place(task)
            && text(other, "/ID") != text(task, "/ID")
            && !has_ended(other)
            && matches!(text(other, "/DesiredState"), "ready" | "running")
    });
    match successor {
        None => format!("it is {}, and nothing was found yet to run in its place", text(task, "/Status/State")),
        Some(other) if text(other, "/NodeID").is_empty() => {
            let reason = text(other, "/Status/Err");
            let reason = if reason.is_empty() { text(other, "/Status/Message") } else { reason };
            format!("what is to run in its place waits: {reason}")
        }
        Some(other) => format!("what is to run in its place is {}", text(other, "/Status/State")),
    }
}

/// Whether the task's state in Docker's words means that nothing of it still runs.
fn has_ended(task: &Value) -> bool {
    let state = text(task, "/Status/State");
    matches!(state, "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(id: &str, slot: i64, node: &str, desired: &str, state: &str) -> Value {
        let status = json!({"State": state, "Message": "", "Err": ""});
        json!({"ID": id, "ServiceID": "s", "Slot": slot, "NodeID": node, "DesiredState": desired, "Status": status})
    }

    fn reasons(all: &[Value]) -> Vec<String> {
        let services = [json!({"ID": "s", "Spec": {"Name": "web"}})];
        let tasks: Vec<Value> = all.iter().filter(|task| text(task, "/NodeID") == "n").cloned().collect();
        left("n", &tasks, all, &services).iter().map(|left| format!("{}: {}", left.name, left.why)).collect()
    }

    #[test]
    fn a_task_that_has_ended_is_not_left() {
        for state in ["complete", "shutdown", "failed", "rejected", "orphaned"] {
            assert_eq!(reasons(&[task("a", 1, "n", "shutdown", state)]), [""; 0], "{state}");
        }
    }

    #[test]
    fn what_is_left_says_why() {
        let mut waiting = task("b", 1, "", "running", "pending");
        waiting["Status"]["Err"] = json!("no suitable node (1 node not available for new tasks)");
        let old = || task("a", 1, "n", "running", "running");
        assert_eq!(
            reasons(&[old(), waiting]),
            ["web.1: what is to run in its place waits: no suitable node (1 node not available for new tasks)"]
        );
        assert_eq!(
            reasons(&[old(), task("b", 1, "m", "running", "preparing")]),
            ["web.1: what is to run in its place is preparing"]
        );
        assert_eq!(
            reasons(&[task("a", 1, "n", "shutdown", "running")]),
            ["web.1: it was told to stop, and has not ended"]
        );
        let unknown = task("b", 2, "m", "running", "running");
        assert_eq!(reasons(&[old(), unknown]), ["web.1: it is running, and nothing was found yet to run in its place"]);
    }

    #[test]
    fn progress_names_a_few_and_counts_the_others() {
        let names: Vec<String> = (1..=7).map(|slot| format!("web.{slot}")).collect();
        assert_eq!(counted(&names[..1]), "1 task left: web.1");
        assert_eq!(counted(&names), "7 tasks left: web.1, web.2, web.3, web.4, web.5 and 2 more");
    }
}
