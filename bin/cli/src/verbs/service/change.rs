//! `service update`, `scale` and `rollback`: fetch the spec, edit it, and send it back with its version.
//!
//! Fields of the spec that this program does not know are sent back untouched. When another client changed the service
//! in between, the daemon refuses (`update out of sequence`), and the command reports that instead of trying again,
//! because the edit may no longer mean what its author saw.

use serde_json::Value;

use super::flags::UpdateFlags;
use super::wait::{self, Waiting};
use super::{fetch, image, names};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::Missing;
use crate::verbs::read::{number, text};

/// Arguments of `service update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: UpdateFlags,
    #[command(flatten)]
    waiting: Waiting,
    /// Name or id of the service
    service: String,
}

/// Arguments of `service rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Go back to the former spec of this version, and not to the previous one
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
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
pub(super) async fn update(client: &Client, mut arguments: Arguments) -> Result<(), Failure> {
    let rollback = arguments.flags.0.is_set("rollback");
    if rollback && arguments.flags.0.names().any(|name| name != "rollback") {
        return Err(Failure::usage("other flags may not be combined with --rollback"));
    }
    let mut service = fetch(client, &arguments.service).await?;
    names::resolve(client, &mut arguments.flags.0).await?;
    let flags = &arguments.flags.0;
    let spec = &mut service["Spec"];
    flags.update(spec)?;
    let auth = image::auth(flags, spec)?;
    image::tag(spec);
    let mut warning = None;
    if flags.has("image") && !flags.is_set("no-resolve-image") {
        warning = image::pin(client, spec, auth.as_deref()).await?;
    }
    let mut query = String::new();
    if auth.is_none() {
        query.push_str("&registryAuthFrom=spec");
    }
    if rollback {
        query.push_str("&rollback=previous");
    }
    send(client, &service, &query, auth.as_deref()).await?;
    if let Some(warning) = warning {
        eprintln!("{warning}");
    }
    println!("{}", arguments.service);
    if rollback {
        return wait::for_rollback(client, text(&service, "/ID"), &arguments.service, &arguments.waiting).await;
    }
    wait::for_service(client, text(&service, "/ID"), &arguments.service, &arguments.waiting).await
}

/// Runs `service rollback`.
pub(super) async fn rollback(client: &Client, arguments: Rollback) -> Result<(), Failure> {
    let service = fetch(client, &arguments.service).await?;
    let to = arguments.to.map_or_else(|| "previous".to_owned(), |version| version.to_string());
    send(client, &service, &format!("&rollback={to}"), None).await?;
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
    send(client, &service, "", None).await?;
    println!("{name} scaled to {count}");
    Ok(text(&service, "/ID").to_owned())
}

async fn send(client: &Client, service: &Value, query: &str, auth: Option<&str>) -> Result<(), Failure> {
    let version = number(service, "/Version/Index").unwrap_or(0);
    let path = format!("/services/{}/update?version={version}{query}", text(service, "/ID"));
    let answer = client.post_as(&path, Some(&service["Spec"]), auth).await?.json().await?;
    for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

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
        arguments.flags.0.update(&mut spec).unwrap();
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
