//! `stack rm`: removes what carries the label of a stack: services, secrets, configs, networks, in docker's order.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::list::named;
use super::{check_name, of_stack};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::Missing;
use crate::verbs::read::{list, text};

/// Interval between two questions while `-d=false` waits for the end of the tasks.
const POLL: Duration = Duration::from_millis(200);

/// Attempts to remove a network whose tasks are still ending: with [`POLL`], ten seconds and a half, the grace of a task
/// and a margin.
const NETWORK_ATTEMPTS: usize = 52;

/// Arguments of `stack rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Do not wait for stack removal
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, hide_default_value = true, hide_possible_values = true, default_missing_value = "true")]
    detach: bool,
    /// Names of the stacks
    #[arg(required = true)]
    stacks: Vec<String>,
}

/// The nouns of a stack in the order of their removal, each with the pointer to its objects' names and ids.
const NOUNS: [(&str, &str, &str, &str); 4] = [
    ("service", "services", "/Spec/Name", "/ID"),
    ("secret", "secrets", "/Spec/Name", "/ID"),
    ("config", "configs", "/Spec/Name", "/ID"),
    ("network", "networks", "/Name", "/Id"),
];

/// Runs `stack rm`.
pub(super) async fn run(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let mut missing = Missing::default();
    for stack in &arguments.stacks {
        check_name(stack)?;
        if let Err(failure) = remove(client, stack, arguments.detach).await {
            missing.push(failure);
        }
    }
    missing.report()
}

async fn remove(client: &Client, stack: &str, detach: bool) -> Result<(), Failure> {
    let mut found = Vec::new();
    for (noun, plural, name, id) in NOUNS {
        let objects = client.get_json(&format!("/{plural}?{}", filters(&[of_stack(stack)]))).await?;
        // A list of a node without networks may ignore the filter: only what carries the label is removed.
        found
            .extend(named(&Value::Array(labelled(&objects, stack)), name, id).into_iter().map(|it| (noun, plural, it)));
    }
    if found.is_empty() {
        eprintln!("Nothing found in stack: {stack}");
        return Ok(());
    }
    let mut failed = Missing::default();
    for (noun, plural, (name, id)) in &found {
        eprintln!("Removing {noun} {name}");
        let path = format!("/{plural}/{}", encoded(id));
        if let Err(failure) = delete(client, &path, *noun == "network").await {
            failed.push(failure.about(format!("Failed to remove {noun} {name}")));
        }
    }
    if !detach {
        while !list(&client.get_json(&format!("/tasks?{}", filters(&[of_stack(stack)]))).await?, "")
            .iter()
            .all(|task| ENDED.contains(&text(task, "/Status/State")))
        {
            sleep(POLL).await;
        }
    }
    failed.report()
}

/// States of a task that has ended.
pub(super) const ENDED: &[&str] = &["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];

/// Removes an object. A network is tried again while tasks on it end.
async fn delete(client: &Client, path: &str, again: bool) -> Result<(), Failure> {
    let mut attempts = 0;
    loop {
        match client.delete(path).await {
            Err(failure) if again && attempts < NETWORK_ATTEMPTS && failure.to_string().contains("in use") => {
                attempts += 1;
                sleep(POLL).await;
            }
            done => return done,
        }
    }
}

/// The objects that carry the label of a stack.
fn labelled(objects: &Value, stack: &str) -> Vec<Value> {
    let label = |object: &&Value| {
        let labels = object.pointer("/Spec/Labels").or_else(|| object.get("Labels"));
        labels.is_some_and(|labels| labels[super::NAMESPACE] == stack)
    };
    list(objects, "").iter().filter(label).cloned().collect()
}
