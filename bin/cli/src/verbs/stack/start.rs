//! The order of the start: a service is made when those that it depends on have started, are healthy or have completed.
//!
//! Swarm makes all services at once. Here a service with `depends_on` waits for the condition of each dependency, which is
//! judged by the tasks of the other service: a task runs only when its health check has succeeded, so a running task is
//! started and healthy alike.

use std::time::Duration;

use essaim_compose::application::{Application, Condition, Service};
use serde_json::Value;
use tokio::time::sleep;

use super::remove::ENDED;
use crate::client::{Client, filters};
use crate::exit::{Exit, Failure};
use crate::verbs::read::{list, text};

/// Interval between two questions to the daemon.
const POLL: Duration = Duration::from_millis(200);

/// Whether the condition of a dependency holds.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Yes,
    NotYet,
    /// It cannot hold any more, for this reason.
    Never(String),
}

/// Waits until all dependencies of a service hold.
pub(super) async fn wait(
    client: &Client,
    application: &Application,
    name: &str,
    service: &Service,
) -> Result<(), Failure> {
    for (other, dependency) in &service.depends_on {
        let scoped = application.scoped(other);
        let mut told = false;
        loop {
            let tasks =
                client.get_json(&format!("/tasks?{}", filters(&[("service".to_owned(), scoped.clone())]))).await?;
            match holds(list(&tasks, ""), dependency.condition) {
                Held::Yes => break,
                Held::Never(why) => {
                    return Err(Failure::error(format!("service {scoped} {why}, and {name} depends on it")).next(
                        format!(
                            "look at why: `essaim service ps --no-trunc {scoped}` and `essaim service logs {scoped}`"
                        ),
                    ));
                }
                Held::NotYet => {
                    if !told {
                        eprintln!(
                            "Waiting for service {scoped} ({}), which {name} depends on",
                            dependency.condition.word()
                        );
                        told = true;
                    }
                    tokio::select! {
                        () = sleep(POLL) => (),
                        _ = tokio::signal::ctrl_c() => return Err(Failure::new(
                            Exit::Interrupted,
                            format!("the services before {name} are deployed; {name} and those after it are not"),
                        ).next("run the same command again to go on")),
                    }
                }
            }
        }
    }
    Ok(())
}

/// Waits until a service whose tasks are not started again has one that runs or has completed. Such a service does not
/// converge once its program has ended, since it has no running task any more.
pub(super) async fn wait_once(client: &Client, name: &str) -> Result<(), Failure> {
    loop {
        let tasks = client.get_json(&format!("/tasks?{}", filters(&[("service".to_owned(), name.to_owned())]))).await?;
        let tasks = list(&tasks, "");
        match (holds(tasks, Condition::Started), holds(tasks, Condition::Completed)) {
            (Held::Yes, _) | (_, Held::Yes) => return Ok(()),
            (_, Held::Never(why)) => {
                return Err(Failure::error(format!("service {name} {why}"))
                    .next(format!("look at why: `essaim service logs {name}`")));
            }
            _ => (),
        }
        tokio::select! {
            () = sleep(POLL) => (),
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "Operation continuing in background."));
            }
        }
    }
}

/// Judges the tasks of a service.
fn holds(tasks: &[Value], condition: Condition) -> Held {
    let any = |state: &str| tasks.iter().any(|task| text(task, "/Status/State") == state);
    match condition {
        Condition::Started | Condition::Healthy if any("running") || any("complete") => Held::Yes,
        Condition::Completed => {
            let failed = |task: &&Value| ["failed", "rejected"].contains(&text(task, "/Status/State"));
            let all_ended = tasks.iter().all(|task| ENDED.contains(&text(task, "/Status/State")));
            match tasks.iter().find(failed) {
                _ if !all_ended => Held::NotYet,
                _ if any("complete") => Held::Yes,
                // A failed task that nobody starts again: its service wants no task any more.
                Some(failed) => Held::Never(format!("has failed ({})", text(failed, "/Status/Err"))),
                None => Held::NotYet,
            }
        }
        Condition::Started | Condition::Healthy => Held::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_holds_when_its_tasks_say_so() {
        let tasks = |states: &[&str]| -> Vec<Value> {
            states.iter().map(|state| json!({"Status": {"State": state, "Err": "exit 1"}})).collect()
        };
        let held = |states: &[&str], condition| holds(&tasks(states), condition);
        assert_eq!(held(&["starting"], Condition::Healthy), Held::NotYet);
        assert_eq!(held(&["running"], Condition::Healthy), Held::Yes);
        assert_eq!(held(&["failed", "running"], Condition::Started), Held::Yes);
        assert_eq!(held(&["running"], Condition::Completed), Held::NotYet);
        assert_eq!(held(&["complete"], Condition::Completed), Held::Yes);
        assert_eq!(held(&["complete", "running"], Condition::Completed), Held::NotYet);
        assert_eq!(held(&["failed", "complete"], Condition::Completed), Held::Yes);
        assert_eq!(held(&["failed", "starting"], Condition::Completed), Held::NotYet);
        assert_eq!(held(&["failed"], Condition::Completed), Held::Never("has failed (exit 1)".to_owned()));
        assert_eq!(held(&[], Condition::Started), Held::NotYet);
    }
}
