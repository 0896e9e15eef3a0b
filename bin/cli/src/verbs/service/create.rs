//! `service create`: makes a spec of the flags, sends it to the daemon, and waits until the service runs.

use serde_json::{Value, json};

use super::settings::Settings;
use super::wait::{self, Waiting};
use super::{super::label, publish};
use crate::client::Client;
use crate::exit::Failure;
use crate::verbs::read::{array, object};

/// Arguments of `service create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Service name
    #[arg(long, default_value = "")]
    name: String,
    /// Service mode ("replicated", "global", "replicated-job", "global-job")
    #[arg(long, default_value = "replicated", value_parser = ["replicated", "global", "replicated-job", "global-job"])]
    mode: String,
    /// Placement constraints
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Vec<String>,
    /// Add a placement preference (spread=LABEL)
    #[arg(long, value_name = "PREF")]
    placement_pref: Vec<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Service labels
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Container labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    container_label: Vec<(String, String)>,
    /// Publish a port as a node port
    #[arg(short, long, value_name = "PORT", value_parser = publish::parse)]
    publish: Vec<Value>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Do not query the registry to resolve image digest and supported platforms (Essaim never does)
    #[arg(long)]
    no_resolve_image: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    waiting: Waiting,
    /// What to run, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE [ARG...]")]
    image: Vec<String>,
}

/// Runs `service create`.
pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let spec = spec(&arguments)?;
    let created = client.post("/services/create", Some(&spec)).await?.json().await?;
    for warning in created["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    let id = created["ID"].as_str().unwrap_or("").to_owned();
    println!("{id}");
    wait::for_service(client, &id, &id, &arguments.waiting).await
}

fn spec(arguments: &Arguments) -> Result<Value, Failure> {
    let mut parts = arguments.image.iter();
    let image = parts.next().map_or("", String::as_str);
    let mut container = json!({"Image": image});
    let args: Vec<_> = parts.collect();
    if !args.is_empty() {
        container["Args"] = json!(args);
    }
    if let Some(entrypoint) = &arguments.entrypoint {
        container["Command"] = json!(entrypoint.split_whitespace().collect::<Vec<_>>());
    }
    container["Init"] = false.into();
    container["DNSConfig"] = json!({});
    let mut spec = json!({
        "Name": arguments.name,
        "Labels": {},
        "TaskTemplate": {"ContainerSpec": container, "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0},
        "Mode": mode(&arguments.mode),
        "EndpointSpec": {"Mode": "vip"},
    });
    if arguments.settings.replicas.is_some() && !arguments.mode.starts_with("replicated") {
        return Err(Failure::error("replicas can only be used with replicated or replicated-job mode"));
    }
    arguments.settings.apply(&mut spec);
    if arguments.mode == "replicated-job"
        && let Some(replicas) = arguments.settings.replicas
    {
        spec["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": replicas, "TotalCompletions": replicas}});
    }
    for (key, value) in &arguments.label {
        object(&mut spec, &["Labels"]).insert(key.clone(), json!(value));
    }
    for (key, value) in &arguments.container_label {
        object(&mut spec, &["TaskTemplate", "ContainerSpec", "Labels"]).insert(key.clone(), json!(value));
    }
    for variable in &arguments.env {
        if let Some(variable) = environment(variable) {
            array(&mut spec, &["TaskTemplate", "ContainerSpec"], "Env").push(variable.into());
        }
    }
    for constraint in &arguments.constraint {
        array(&mut spec, &["TaskTemplate", "Placement"], "Constraints").push(constraint.as_str().into());
    }
    for preference in &arguments.placement_pref {
        let preference = preference_of(preference)?;
        array(&mut spec, &["TaskTemplate", "Placement"], "Preferences").push(preference);
    }
    for port in &arguments.publish {
        array(&mut spec, &["EndpointSpec"], "Ports").push(port.clone());
    }
    Ok(spec)
}

fn mode(mode: &str) -> Value {
    match mode {
        "global" => json!({"Global": {}}),
        "replicated-job" => json!({"ReplicatedJob": {}}),
        "global-job" => json!({"GlobalJob": {}}),
        _ => json!({"Replicated": {}}),
    }
}

/// The environment entry of `--env`: `KEY=VALUE` as it is; `KEY` alone takes its value from this process, and is left
/// out when it has none.
pub(super) fn environment(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

/// The API's object for a placement preference such as `spread=node.labels.zone`.
pub(super) fn preference_of(text: &str) -> Result<Value, Failure> {
    match text.split_once('=') {
        Some(("spread", descriptor)) => Ok(json!({"Spread": {"SpreadDescriptor": descriptor}})),
        _ => Err(Failure::usage(format!("{text:?} is no placement preference: write spread=node.labels.NAME"))),
    }
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

    fn spec_of(line: &str) -> Value {
        let words = std::iter::once("create").chain(line.split(' '));
        spec(&Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments).unwrap()
    }

    /// The body of transcript 093-service-create-ping, without what the registry said of the image.
    #[test]
    fn the_request_is_the_one_docker_sends() {
        let expected = json!({
            "Name": "helloworld", "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "alpine", "Args": ["ping", "127.0.0.1"], "Init": false, "DNSConfig": {}},
                "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": 1}}, "EndpointSpec": {"Mode": "vip"},
        });
        assert_eq!(spec_of("--replicas 1 --name helloworld alpine ping 127.0.0.1"), expected);
    }

    #[test]
    fn what_follows_the_image_belongs_to_the_task() {
        let spec = spec_of("--name w -d essaim whoami --port 80 -d --name x");
        assert_eq!(
            spec["TaskTemplate"]["ContainerSpec"]["Args"],
            json!(["whoami", "--port", "80", "-d", "--name", "x"])
        );
        assert_eq!(spec["Name"], "w");
        let spec = spec_of("sleep -x");
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Args"], json!(["-x"]));
    }

    #[test]
    fn lists_add_up() {
        let spec = spec_of(
            "--constraint node.role==worker --constraint node.labels.a!=b -e A=1 -e B=2 -l x=y -p 8080:80 --mode global sleep",
        );
        assert_eq!(spec["TaskTemplate"]["Placement"]["Constraints"], json!(["node.role==worker", "node.labels.a!=b"]));
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Env"], json!(["A=1", "B=2"]));
        assert_eq!(spec["EndpointSpec"]["Ports"][0]["PublishedPort"], 8080);
        assert_eq!((&spec["Mode"], &spec["Labels"]), (&json!({"Global": {}}), &json!({"x": "y"})));
    }
}
