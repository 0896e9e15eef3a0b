//! `service update`, `scale` and `rollback`: fetch the spec, edit it, and send it back with its version.
//!
//! Fields of the spec that this program does not know are sent back untouched. When another client changed the service
//! in between, the daemon refuses (`update out of sequence`), and the command reports that instead of trying again,
//! because the edit may no longer mean what its author saw.

use serde_json::{Value, json};

use super::create::{environment, preference_of};
use super::settings::Settings;
use super::wait::{self, Waiting};
use super::{super::label, fetch, publish};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::Missing;
use crate::verbs::read::{array, number, object, text};

/// Arguments of `service update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Service image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Service command args
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    args: Option<String>,
    /// Force update even if no changes require it
    #[arg(long)]
    force: bool,
    /// Add or update a placement constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREF")]
    placement_pref_add: Vec<String>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREF")]
    placement_pref_rm: Vec<String>,
    /// Add or update an environment variable
    #[arg(long, value_name = "KEY=VALUE")]
    env_add: Vec<String>,
    /// Remove an environment variable
    #[arg(long, value_name = "KEY")]
    env_rm: Vec<String>,
    /// Add or update a service label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label_add: Vec<(String, String)>,
    /// Remove a label by its key
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or update a container label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    container_label_add: Vec<(String, String)>,
    /// Remove a container label by its key
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add or update a published port
    #[arg(long, value_name = "PORT", value_parser = publish::parse)]
    publish_add: Vec<Value>,
    /// Remove a published port by its target port
    #[arg(long, value_name = "PORT", value_parser = publish::parse)]
    publish_rm: Vec<Value>,
    /// Roll back to previous specification
    #[arg(long)]
    rollback: bool,
    /// Do not query the registry to resolve image digest and supported platforms (Essaim never does)
    #[arg(long)]
    no_resolve_image: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    waiting: Waiting,
    /// Name or id of the service
    service: String,
}

/// Arguments of `service rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    waiting: Waiting,
    /// Name or id of the service
    service: String,
}

/// Arguments of `service scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    #[command(flatten)]
    waiting: Waiting,
    /// SERVICE=REPLICAS
    #[arg(required = true, value_name = "SERVICE=REPLICAS")]
    services: Vec<String>,
}

/// Runs `service update`.
pub(super) async fn update(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let mut service = fetch(client, &arguments.service).await?;
    let query = if arguments.rollback { "&rollback=previous" } else { "" };
    edit(&arguments, &mut service["Spec"])?;
    send(client, &service, query).await?;
    println!("{}", arguments.service);
    wait::for_service(client, text(&service, "/ID"), &arguments.service, &arguments.waiting).await
}

/// Runs `service rollback`.
pub(super) async fn rollback(client: &Client, arguments: Rollback) -> Result<(), Failure> {
    let service = fetch(client, &arguments.service).await?;
    send(client, &service, "&rollback=previous").await?;
    println!("{}", arguments.service);
    wait::for_rollback(client, text(&service, "/ID"), &arguments.service, &arguments.waiting).await
}

/// Runs `service scale`.
pub(super) async fn scale(client: &Client, arguments: Scale) -> Result<(), Failure> {
    let mut wished = Vec::new();
    for wish in &arguments.services {
        let (name, count) = wish.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Failure::error(format!("invalid scale specifier '{wish}'")).next("write it as SERVICE=REPLICAS, like web=5")
        })?;
        let count: u64 = count.parse().map_err(|_| {
            Failure::error(format!("invalid replicas value {count}")).next("write a whole number, like web=5")
        })?;
        wished.push((name, count));
    }
    let (mut scaled, mut missing) = (Vec::new(), Missing::default());
    for (name, count) in wished {
        match scale_one(client, name, count).await {
            Ok(id) => scaled.push((id, name)),
            Err(failure) => missing.push(failure),
        }
    }
    for (id, name) in scaled {
        wait::for_service(client, &id, name, &arguments.waiting).await?;
    }
    missing.report()
}

async fn scale_one(client: &Client, name: &str, count: u64) -> Result<String, Failure> {
    let mut service = fetch(client, name).await?;
    let mode = &mut service["Spec"]["Mode"];
    if mode["Replicated"].is_object() {
        mode["Replicated"]["Replicas"] = count.into();
    } else if mode["ReplicatedJob"].is_object() {
        mode["ReplicatedJob"]["TotalCompletions"] = count.into();
    } else {
        return Err(Failure::error(format!("{name}: scale can only be used with replicated or replicated-job mode")));
    }
    send(client, &service, "").await?;
    println!("{name} scaled to {count}");
    Ok(text(&service, "/ID").to_owned())
}

async fn send(client: &Client, service: &Value, query: &str) -> Result<(), Failure> {
    let version = number(service, "/Version/Index").unwrap_or(0);
    let path = format!("/services/{}/update?version={version}{query}", text(service, "/ID"));
    let answer = client.post(&path, Some(&service["Spec"])).await?.json().await?;
    for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    Ok(())
}

fn edit(arguments: &Arguments, spec: &mut Value) -> Result<(), Failure> {
    const CONTAINER: &[&str] = &["TaskTemplate", "ContainerSpec"];
    const PLACEMENT: &[&str] = &["TaskTemplate", "Placement"];
    if arguments.settings.replicas.is_some() && !spec["Mode"]["Replicated"].is_object() {
        return Err(Failure::error("replicas can only be used with replicated mode"));
    }
    arguments.settings.apply(spec);
    if let Some(image) = &arguments.image {
        object(spec, CONTAINER).insert("Image".to_owned(), json!(image));
    }
    if let Some(args) = &arguments.args {
        object(spec, CONTAINER).insert("Args".to_owned(), json!(args.split_whitespace().collect::<Vec<_>>()));
    }
    if arguments.force {
        let forced = number(spec, "/TaskTemplate/ForceUpdate").unwrap_or(0) + 1;
        object(spec, &["TaskTemplate"]).insert("ForceUpdate".to_owned(), json!(forced));
    }
    let added: Vec<Value> = arguments.constraint_add.iter().map(|one| json!(one)).collect();
    replace(
        spec,
        PLACEMENT,
        "Constraints",
        &added,
        |have, add| have == add,
        |have| arguments.constraint_rm.iter().any(|gone| have == gone),
    );
    let preferences =
        arguments.placement_pref_add.iter().map(|one| preference_of(one)).collect::<Result<Vec<_>, _>>()?;
    let gone = arguments.placement_pref_rm.iter().map(|one| preference_of(one)).collect::<Result<Vec<_>, _>>()?;
    replace(spec, PLACEMENT, "Preferences", &preferences, |have, add| have == add, |have| gone.contains(have));
    let variables: Vec<Value> = arguments.env_add.iter().filter_map(|one| environment(one)).map(Value::from).collect();
    replace(
        spec,
        CONTAINER,
        "Env",
        &variables,
        |have, add| key(have) == key(add),
        |have| arguments.env_rm.iter().any(|gone| key(have) == gone),
    );
    let target = |port: &Value| (port["TargetPort"].clone(), port["Protocol"].clone());
    replace(
        spec,
        &["EndpointSpec"],
        "Ports",
        &arguments.publish_add,
        |have, add| have == add,
        |have| arguments.publish_rm.iter().any(|gone| target(have) == target(gone)),
    );
    labels(object(spec, &[]), &arguments.label_add, &arguments.label_rm);
    labels(object(spec, CONTAINER), &arguments.container_label_add, &arguments.container_label_rm);
    Ok(())
}

/// Removes the entries that are `gone` or will be replaced from a list of the spec, and appends the added ones. A list
/// without edits stays as it is.
fn replace(
    spec: &mut Value,
    names: &[&str],
    last: &str,
    added: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
    gone: impl Fn(&Value) -> bool,
) {
    if added.is_empty() && object(spec, names).get(last).is_none_or(|list| !list.is_array()) {
        return;
    }
    let list = array(spec, names, last);
    list.retain(|have| !gone(have) && !added.iter().any(|add| same(have, add)));
    list.extend_from_slice(added);
}

fn labels(holder: &mut serde_json::Map<String, Value>, added: &[(String, String)], gone: &[String]) {
    if added.is_empty() && gone.is_empty() {
        return;
    }
    let labels = holder.entry("Labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !gone.contains(key));
        for (key, value) in added {
            labels.insert(key.clone(), json!(value));
        }
    }
}

fn key(variable: &Value) -> &str {
    let variable = variable.as_str().unwrap_or("");
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn edited(line: &str, spec: Value) -> Value {
        let words = std::iter::once("update").chain(line.split(' '));
        let arguments = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments;
        let mut spec = spec;
        edit(&arguments, &mut spec).unwrap();
        spec
    }

    fn front() -> Value {
        json!({
            "Name": "front", "Labels": {"l": "1"}, "Later": {"than": "this program"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "whoami:v1", "Env": ["A=1"]}, "Placement": {"Constraints": ["node.id!=x"]},
                "ForceUpdate": 2,
            },
            "Mode": {"Replicated": {"Replicas": 2}},
            "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000, "PublishMode": "ingress"}]},
        })
    }

    /// The command of transcript 155-service-update-many.
    #[test]
    fn many_edits_at_once() {
        let line = "-d --env-add B=2 --env-rm A --label-add x=y --publish-add 8001:80 --publish-rm 8000:80 \
                    --constraint-add node.role==worker --limit-memory 128M --replicas 3 front";
        let spec = edited(line, front());
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Env"], json!(["B=2"]));
        assert_eq!(spec["Labels"], json!({"l": "1", "x": "y"}));
        assert_eq!(spec["TaskTemplate"]["Placement"]["Constraints"], json!(["node.id!=x", "node.role==worker"]));
        assert_eq!(spec["EndpointSpec"]["Ports"][0]["PublishedPort"], 8001);
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 3);
        assert_eq!(spec["Later"], front()["Later"]);
    }

    #[test]
    fn nothing_named_is_nothing_changed() {
        assert_eq!(edited("front", front()), front());
        assert_eq!(edited("--constraint-rm node.id!=never front", front()), front());
    }

    #[test]
    fn a_variable_is_replaced_by_its_name() {
        assert_eq!(edited("--env-add A=2 front", front())["TaskTemplate"]["ContainerSpec"]["Env"], json!(["A=2"]));
        assert_eq!(edited("--force front", front())["TaskTemplate"]["ForceUpdate"], 3);
    }
}
