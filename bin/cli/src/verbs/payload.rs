//! What the commands on configs and on secrets have in common: bytes from a file, a list, and removal by name.

use std::io::Read;

use essaim_docker::network::Driver;
use essaim_docker::own::{Rotated, Rotation};
use serde::Serialize;
use serde_json::Value;

use super::read::{pairs, text};
use super::{Shown, each};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{natural_order, now};
use crate::show::{Inspected, List, inspect_each};

/// Bytes that are read of a file at most: the daemon refuses data longer than 1,000 KiB, and explains why.
const READ_LEN_MAX: u64 = 1 << 20;

/// The data of a config or secret: those of a file, or of stdin for `-`.
pub(super) fn content(file: &str) -> Result<Vec<u8>, Failure> {
    read(file).map_err(|why| Failure::error(format!("error reading content from {file:?}: {why}")))
}

fn read(file: &str) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    match file {
        "-" => std::io::stdin().lock().take(READ_LEN_MAX).read_to_end(&mut data)?,
        path => std::fs::File::open(path)?.take(READ_LEN_MAX).read_to_end(&mut data)?,
    };
    Ok(data)
}

/// The templating of a new secret or config whose data are a template of this driver.
pub(super) fn templating(driver: Option<String>) -> Option<Driver> {
    driver.map(|name| Driver { name, ..Driver::default() })
}

/// Creates an object under `/PLURAL`, and prints its id.
pub(super) async fn create(client: &Client, plural: &str, spec: &impl Serialize) -> Result<(), Failure> {
    let body = serde_json::to_value(spec).map_err(|why| Failure::error(why.to_string()))?;
    let created = client.post(&format!("/{plural}/create"), Some(&body)).await?.json().await?;
    println!("{}", text(&created, "/ID"));
    Ok(())
}

/// Arguments of `secret rotate` and `config rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// Name or id
    name: String,
    /// File with the new data, or - for STDIN
    file: String,
}

/// Gives an object under `/PLURAL` new data, prints the id of the new version, and tells which services move to it.
pub(super) async fn rotate(client: &Client, plural: &str, arguments: &Rotate) -> Result<(), Failure> {
    let body = serde_json::to_value(Rotation { data: content(&arguments.file)? });
    let body = body.map_err(|why| Failure::error(why.to_string()))?;
    let path = format!("/essaim/v1/{plural}/{}/rotate", encoded(&arguments.name));
    let rotated: Rotated = serde_json::from_value(client.post(&path, Some(&body)).await?.json().await?)
        .map_err(|why| Failure::error(format!("the daemon's answer cannot be read: {why}")))?;
    println!("{}", rotated.id);
    for line in told(&arguments.name, &rotated) {
        eprintln!("{line}");
    }
    Ok(())
}

/// The lines that tell what a rotation does.
fn told(name: &str, rotated: &Rotated) -> Vec<String> {
    let mut lines = Vec::new();
    if rotated.unchanged {
        lines.push(format!("{name} has these data already: nothing changes, and no task is started anew"));
    }
    for service in &rotated.services {
        lines.push(format!("{service} moves to the new version by its update policy"));
    }
    for job in &rotated.jobs {
        lines.push(format!("{job} is a job, and keeps the former version until its next iteration"));
    }
    for service in &rotated.behind {
        lines.push(format!("{service} was rolled back, and stays with a former version"));
    }
    lines
}

/// Prints the objects under `/PLURAL` in the order of their names.
pub(super) async fn ls(
    client: &Client,
    plural: &str,
    shown: &Shown,
    table: fn(&[Value], jiff::Timestamp) -> List,
) -> Result<(), Failure> {
    let mut objects = match client.get_json(&format!("/{plural}?{}", filters(&shown.filter))).await? {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    };
    objects.sort_by(|a, b| natural_order(text(a, "/Spec/Name"), text(b, "/Spec/Name")));
    if shown.quiet && shown.format.is_none() {
        for object in &objects {
            println!("{}", text(object, "/ID"));
        }
        return Ok(());
    }
    print!("{}", table(&objects, now()).render(shown.format.as_deref())?);
    Ok(())
}

/// Prints these objects under `/PLURAL`.
pub(super) async fn inspect(
    client: &Client,
    plural: &str,
    names: &[String],
    shown: &Inspected,
    in_words: fn(&Value) -> String,
) -> Result<(), Failure> {
    let fetch = async |name: &str| client.get_json(&format!("/{plural}/{}", encoded(name))).await;
    inspect_each(names, shown, fetch, in_words).await
}

/// Removes these objects under `/PLURAL`, and prints their names.
pub(super) async fn rm(client: &Client, plural: &str, names: &[String]) -> Result<(), Failure> {
    each(names, async |name: &str| {
        client.delete(&format!("/{plural}/{}", encoded(name))).await?;
        println!("{name}");
        Ok(())
    })
    .await
}

/// The labels at this place of an object as the column of a list.
pub(super) fn labels(object: &Value, at: &str) -> String {
    let labels: Vec<_> = pairs(object, at).iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

/// The lines of `inspect --pretty` about labels, as docker prints them; none without labels.
pub(super) fn labels_in_lines(object: &Value) -> Vec<String> {
    let labels = pairs(object, "/Spec/Labels");
    let line = |(key, value): &(String, String)| {
        if value.is_empty() { format!(" - {key}") } else { format!(" - {key}={value}") }
    };
    let head = (!labels.is_empty()).then(|| "Labels:".to_owned());
    head.into_iter().chain(labels.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_to_the_same_data_says_that_nothing_changes() {
        let unchanged =
            serde_json::json!({"ID": "a", "Unchanged": true, "Services": [], "Jobs": [], "Behind": ["web"]});
        let unchanged = serde_json::from_value(unchanged).expect("an answer");
        let lines = [
            "key has these data already: nothing changes, and no task is started anew",
            "web was rolled back, and stays with a former version",
        ];
        assert_eq!(told("key", &unchanged), lines);
        let moved = serde_json::json!({"ID": "b", "Services": ["web"], "Jobs": ["dump"]});
        let moved = serde_json::from_value(moved).expect("an answer");
        let lines = [
            "web moves to the new version by its update policy",
            "dump is a job, and keeps the former version until its next iteration",
        ];
        assert_eq!(told("key", &moved), lines);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let why = content("/nonexistent/file").expect_err("it does not exist").to_string();
        assert!(why.contains("error reading content from \"/nonexistent/file\": No such file"), "{why}");
    }
}
