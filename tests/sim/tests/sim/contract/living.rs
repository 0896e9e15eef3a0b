//! A command against a cluster that lives: three simulated machines, on which the tasks of services start, run and fail.
//!
//! Virtual time stands still while the CLI waits, and passes when it asks again: a second for each look at the tasks,
//! so that an update is over after some looks.

use super::bridge::{Bridge, CliRequest, Pieces};
use super::recorded::Command;
use super::words::{self, Said};
use crate::api::engine;
use crate::api::stage::Client;
use crate::api::world;
use essaim::testkit::fault::Fault;
use essaim::testkit::{self, Cluster};
use essaim_model::EngineKind;
use essaim_worker::engine::LogStream;
use essaim_worker::sim::Behaviour;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of machines, as in the recordings.
const NODES: u16 = 3;

/// Virtual time that passes at each look at the tasks of a service.
const LOOK: Duration = Duration::from_secs(1);

/// Upper bound on the virtual time until a service of the story is as the recording found it.
const PREPARED_MAX: Duration = Duration::from_secs(120);

/// Virtual time after which a drained node is looked at: its tasks are being replaced.
const DRAINED: Duration = Duration::from_millis(200);

/// Lines that each task of a service writes before its logs are read.
const LINES: u32 = 20;

/// Characters of a whole id.
const ID_LEN: usize = 25;

/// What a cluster has to do while the command runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Activity {
    /// Run these services, which the command waits for.
    Runs(&'static [&'static str]),
    /// Run this service, whose tasks have written lines.
    Writes(&'static str),
    /// Run this service, whose tasks have written nothing.
    Silent(&'static str),
    /// Change while the command prints events.
    Changes(Changes),
    /// Run this service, and then have the second node drained.
    Drained(&'static str),
    /// Have three managers, of which these have failed; the second is asked.
    Failed(&'static [u16]),
}

/// What changes while the command prints events.
#[derive(Debug, Clone, Copy)]
pub(super) enum Changes {
    /// Roles and availability of nodes; a node leaves, and another joins.
    Nodes,
    /// Services.
    Services,
    /// A node fails and is removed.
    Failure,
}

/// Commands, by the beginning of their name, whose output depends on what happens meanwhile.
const ACTIVITIES: &[(&str, Activity)] = &[
    ("055-events", Activity::Changes(Changes::Nodes)),
    ("093", Activity::Runs(&[])),
    ("096", Activity::Runs(&[])),
    ("097", Activity::Runs(&[])),
    ("100", Activity::Runs(&[])),
    ("101", Activity::Runs(&[])),
    ("102", Activity::Runs(&[])),
    ("103", Activity::Runs(&[])),
    ("104", Activity::Runs(&[])),
    ("109", Activity::Runs(&[])),
    ("118", Activity::Runs(&[])),
    ("119", Activity::Runs(&[])),
    ("134", Activity::Runs(&["back"])),
    ("135", Activity::Runs(&["front", "helloworld"])),
    ("141", Activity::Runs(&["back"])),
    ("142", Activity::Runs(&["back"])),
    ("146", Activity::Runs(&["front"])),
    ("147-events", Activity::Changes(Changes::Services)),
    ("147-service", Activity::Runs(&["front"])),
    ("148", Activity::Runs(&["front"])),
    ("151", Activity::Runs(&["front"])),
    ("154", Activity::Runs(&["front"])),
    ("158", Activity::Writes("helloworld")),
    ("159", Activity::Writes("helloworld")),
    ("160", Activity::Writes("ping2")),
    ("161", Activity::Writes("ping3")),
    ("168", Activity::Silent("whoami")),
    ("183", Activity::Runs(&[])),
    ("184", Activity::Runs(&["ttydemo"])),
    ("185", Activity::Runs(&["ttydemo"])),
    ("186", Activity::Runs(&["ttydemo"])),
    ("187", Activity::Runs(&["ttydemo"])),
    ("191", Activity::Drained("whoami")),
    ("220-events", Activity::Changes(Changes::Failure)),
    ("239", Activity::Failed(&[1])),
    ("240", Activity::Failed(&[1])),
    ("241", Activity::Failed(&[1, 3])),
    ("242", Activity::Failed(&[1, 3])),
    ("243", Activity::Failed(&[1, 3])),
];

/// What the cluster has to do while this command runs; `None` when a cluster at rest will do.
pub(super) fn of(command: &Command) -> Option<Activity> {
    ACTIVITIES.iter().find(|(start, _)| command.name.starts_with(start)).map(|(_, activity)| *activity)
}

/// Runs the command; returns what it said, and what differs in the answers that it got.
pub(super) fn run(command: &Command, activity: Activity) -> (Said, Vec<String>) {
    let publishes = command.argv.iter().any(|word| word == "-p" || word == "--publish");
    // Docker engines publish no ports yet, and the process engine does.
    let kind = if publishes { EngineKind::Process } else { EngineKind::Docker };
    let names = |number: u16, parts: &mut essaim_node::Parts| parts.settings.hostname = format!("node{number}");
    let managers = if matches!(activity, Activity::Failed(_)) { NODES } else { 1 };
    let cluster = testkit::cluster(1).nodes(NODES).managers(managers).checks(false).engine(kind).parts(names);
    let told = cluster.run(async |cluster| play(command, activity, cluster).await);
    told.unwrap_or_else(|failed| (Said { code: -1, out: String::new(), error: String::new() }, vec![failed.why]))
}

async fn play(command: &Command, activity: Activity, cluster: &mut Cluster) -> Result<(Said, Vec<String>), String> {
    set_behaviour(command, cluster);
    if let Activity::Failed(failed) = activity {
        let client = Client::on("node1", &cluster.node(1)?);
        update(&client, "nodes", "node1", |spec| spec["Availability"] = "drain".into()).await?;
        for number in failed {
            cluster.strike(Fault::Crash(*number)).await?;
        }
        cluster.pass(LOOK * 30).await?;
    }
    if let Activity::Failed(_) = activity {
        let client = Client::beside("node2", &cluster.node(2)?, engine::of(command.exchanges()));
        return converse(command, activity, &command.argv, &client, cluster).await;
    }
    let client = Client::on("node1", &cluster.node(1)?);
    label_nodes(command, &client).await?;
    create_payloads(command, &client).await?;
    for service in client.get("/services").await.json().as_array().into_iter().flatten() {
        client.send("DELETE", &format!("/services/{}", text(&service["ID"])), None).await;
    }
    let services = match &activity {
        Activity::Runs(services) => services,
        Activity::Writes(service) | Activity::Silent(service) | Activity::Drained(service) => {
            std::slice::from_ref(service)
        }
        Activity::Changes(_) | Activity::Failed(_) => &[],
    };
    for name in services {
        prepare(command, name, activity, &client, cluster).await?;
    }
    if let Activity::Drained(_) = activity {
        update(&client, "nodes", "node2", |spec| spec["Availability"] = "drain".into()).await?;
        cluster.pass(DRAINED).await?;
    }
    // The id of a task is the recorded one.
    let task = client.get("/tasks").await.json()[0]["ID"].clone();
    let ours =
        |word: &String| if word.len() == ID_LEN && words::is_id(word) { text(&task).to_owned() } else { word.clone() };
    let argv: Vec<_> = command.argv.iter().map(ours).collect();
    converse(command, activity, &argv, &client, cluster).await
}

/// Runs the command and answers its requests.
async fn converse(
    command: &Command,
    activity: Activity,
    argv: &[String],
    client: &Client,
    cluster: &mut Cluster,
) -> Result<(Said, Vec<String>), String> {
    let (mut found, mut followed) = (Vec::new(), None);
    let bridge = Bridge::run(argv.iter().map(String::as_str), &command.stdin);
    while let Some(request) = if followed.is_none() { bridge.next() } else { bridge.next_or_interrupt() } {
        if let Some((status, answer)) = command.of_registry(&request.path) {
            request.answer(status, &BTreeMap::new(), answer.to_string().as_bytes());
            continue;
        }
        if request.path.starts_with("/events") || request.path.contains("follow=1") {
            followed = Some(follow(request, activity, client, cluster).await?);
            continue;
        }
        if matches!(activity, Activity::Runs(_)) && request.path.starts_with("/tasks?") {
            cluster.pass(LOOK).await?;
        }
        let body = Some(request.body.clone()).filter(|body| !body.is_null());
        let (method, path) = (request.method.clone(), request.path.clone());
        let reply = client.send(&method, &format!("/v1.50{path}"), body.as_ref()).await;
        found.extend(command.compare_status(&method, &path, reply.status));
        request.answer(reply.status, &reply.headers, &reply.body);
    }
    Ok((bridge.said(), found))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Gives the machines the recorded images.
fn set_behaviour(command: &Command, cluster: &mut Cluster) {
    let ms = Duration::from_millis;
    for number in 1..=NODES {
        let machine = cluster.run().world.machine(number);
        machine.set_delays(ms(200), ms(300));
        machine.set_greeting(false);
        machine.behave("buggy:v2", Behaviour::Exits { after: Duration::from_secs(3), code: 1 });
        if command.argv.iter().any(|word| word == "true") {
            machine.behave("alpine:latest", Behaviour::Exits { after: ms(100), code: 0 });
        }
    }
}

/// Creates the secrets and configs that the recording found.
async fn create_payloads(command: &Command, client: &Client) -> Result<(), String> {
    for (plural, mut spec) in command.session.payloads(&command.recording) {
        if spec["Data"].is_null() {
            spec["Data"] = world::HIDDEN.into();
        }
        let reply = client.post(&format!("/{plural}/create"), &spec).await;
        (reply.status == 201).then_some(()).ok_or_else(|| format!("{plural}: {}", reply.message()))?;
    }
    Ok(())
}

/// Gives the nodes the labels that the recorded nodes have.
async fn label_nodes(command: &Command, client: &Client) -> Result<(), String> {
    for number in 1..=NODES {
        let name = format!("node{number}");
        if let Some(labels) = command.session.labels(&name) {
            update(client, "nodes", &name, |spec| spec["Labels"] = labels).await?;
        }
    }
    Ok(())
}

/// Creates a service as the recording found it: with its tasks, and updated from its previous spec if it has one.
async fn prepare(
    command: &Command,
    name: &str,
    activity: Activity,
    client: &Client,
    cluster: &mut Cluster,
) -> Result<(), String> {
    let shown =
        command.session.service(name, &command.recording).ok_or_else(|| format!("no recording shows {name}"))?;
    let spec = world::possible(&shown["Spec"], EngineKind::Docker);
    let first = match &shown["PreviousSpec"] {
        Value::Null => spec.clone(),
        previous => world::possible(previous, EngineKind::Docker),
    };
    let reply = client.post("/services/create", &first).await;
    (reply.status == 201).then_some(()).ok_or_else(|| format!("{name}: {}", reply.message()))?;
    come_to_rest(name, client, cluster).await?;
    write(activity, cluster).await?;
    if first != spec {
        let service = client.get(&format!("/services/{name}")).await.json();
        let path = format!("/services/{name}/update?version={}", service["Version"]["Index"]);
        let reply = client.post(&path, &spec).await;
        (reply.status == 200).then_some(()).ok_or_else(|| format!("{name}: {}", reply.message()))?;
        come_to_rest(name, client, cluster).await?;
        write(activity, cluster).await?;
    }
    Ok(())
}

/// Waits until a service has its tasks and no update of it is under way.
async fn come_to_rest(name: &str, client: &Client, cluster: &mut Cluster) -> Result<(), String> {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < PREPARED_MAX {
        cluster.pass(LOOK).await?;
        let filter = format!("{{\"name\":[\"{name}\"]}}");
        let service = client.get(&format!("/services?status=true&filters={filter}")).await.json()[0].clone();
        let state = text(&service["UpdateStatus"]["State"]);
        let status = &service["ServiceStatus"];
        let whole = status["RunningTasks"] == status["DesiredTasks"];
        if state == "paused" || (whole && !state.ends_with("ing") && state != "rollback_started") {
            return Ok(());
        }
    }
    Err(format!("{name} does not come to rest"))
}

/// Every task writes what `ping` writes, if it writes.
async fn write(activity: Activity, cluster: &mut Cluster) -> Result<(), String> {
    if !matches!(activity, Activity::Writes(_)) {
        return Ok(());
    }
    for seq in 0..LINES {
        for number in 1..=NODES {
            let machine = cluster.run().world.machine(number);
            for task in machine.running() {
                machine.write(
                    task,
                    LogStream::Stdout,
                    &format!("64 bytes from 127.0.0.1: seq={seq} ttl=64 time=0.046 ms"),
                );
            }
        }
        cluster.pass(Duration::from_millis(100)).await?;
    }
    Ok(())
}

/// Sends the command what happens meanwhile. The answer is under way for as long as the returned value lives.
async fn follow(
    request: CliRequest,
    activity: Activity,
    client: &Client,
    cluster: &mut Cluster,
) -> Result<Pieces, String> {
    let mut answer = client.begin(&request.method, &format!("/v1.50{}", request.path)).await;
    let pieces = request.begin(answer.status, &answer.headers);
    if let Activity::Changes(changes) = activity {
        change(changes, client, cluster).await?;
    }
    while let Ok(Some(piece)) = tokio::time::timeout(LOOK, answer.next()).await {
        pieces.send(&piece);
    }
    Ok(pieces)
}

/// Changes what the events are about.
async fn change(changes: Changes, client: &Client, cluster: &mut Cluster) -> Result<(), String> {
    match changes {
        Changes::Nodes => {
            for (field, value) in
                [("Role", "manager"), ("Role", "worker"), ("Availability", "pause"), ("Availability", "active")]
            {
                update(client, "nodes", "node3", |spec| spec[field] = value.into()).await?;
                cluster.pass(LOOK * 5).await?;
            }
            update(client, "nodes", "node2", |spec| spec["Labels"] = json!({"a": "b"})).await?;
            cluster.strike(Fault::Leave(3)).await?;
            cluster.pass(LOOK * 10).await?;
            cluster.mend().await?;
        }
        Changes::Services => {
            let image = |tag: &str| Value::from(format!("whoami:{tag}"));
            let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": image("v1")}}});
            let reply = client.post("/services/create", &spec).await;
            (reply.status == 201).then_some(()).ok_or_else(|| reply.message())?;
            come_to_rest("web", client, cluster).await?;
            update(client, "services", "web", |spec| spec["Mode"]["Replicated"]["Replicas"] = 2.into()).await?;
            come_to_rest("web", client, cluster).await?;
            let set = |spec: &mut Value, tag| spec["TaskTemplate"]["ContainerSpec"]["Image"] = image(tag);
            update(client, "services", "web", |spec| set(spec, "v2")).await?;
            come_to_rest("web", client, cluster).await?;
            let service = client.get("/services/web").await.json();
            let path = format!("/services/web/update?version={}&rollback=previous", service["Version"]["Index"]);
            let reply = client.post(&path, &service["Spec"]).await;
            (reply.status == 200).then_some(()).ok_or_else(|| reply.message())?;
            come_to_rest("web", client, cluster).await?;
            update(client, "services", "web", |spec| spec["Labels"] = json!({"a": "b"})).await?;
            update(client, "nodes", "node2", |spec| spec["Labels"] = json!({"a": "b"})).await?;
        }
        Changes::Failure => {
            cluster.strike(Fault::Crash(3)).await?;
            cluster.pass(LOOK * 20).await?;
            update(client, "nodes", "node2", |spec| spec["Labels"] = json!({"a": "b"})).await?;
            let reply = client.send("DELETE", "/nodes/node3?force=1", None).await;
            (reply.status == 200).then_some(()).ok_or_else(|| reply.message())?;
        }
    }
    cluster.pass(LOOK * 5).await
}

/// Changes the spec of an object, by its name.
async fn update(client: &Client, noun: &str, name: &str, change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let found = client.get(&format!("/{noun}/{name}")).await.json();
    let mut spec = found["Spec"].clone();
    change(&mut spec);
    let path = format!("/{noun}/{}/update?version={}", text(&found["ID"]), found["Version"]["Index"]);
    let reply = client.post(&path, &spec).await;
    (reply.status == 200).then_some(()).ok_or_else(|| format!("{name}: {}", reply.message()))
}
