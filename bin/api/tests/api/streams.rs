//! Streams: events as lines, logs as frames, the journal as lines.

use crate::fake::{Client, Fake, NOW, SELF, worker};
use essaim_api::{LogLine, LogStream};
use essaim_model::{Assigned, Change, Desired, Observed, ServiceId, Slot, Task, TaskId};
use essaim_wire::NodeId;
use serde_json::{Value, json};
use std::sync::Arc;

const WEB: ServiceId = ServiceId::from_bits(50);
const TASK: TaskId = TaskId::from_bits(51);

async fn cluster() -> (Arc<Fake>, Client) {
    let fake = Fake::manager();
    let client = Client::of(&fake);
    let asked = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "sleep"}}});
    let asked = serde_json::from_value(asked).expect("Docker's shape");
    let spec = essaim_docker::convert::spec::read(asked, String::new).expect("a good wish");
    let spec_version = fake.change(Change::CreateService { id: WEB, spec: Box::new(spec) });
    fake.change(Change::CreateTask(Box::new(Task {
        id: TASK,
        meta: Default::default(),
        service: WEB,
        spec_version,
        slot: Slot::Number(1),
        assigned: Assigned::Node(SELF),
        desired: Desired::Running,
        observed: Observed::nothing(NOW),
        written_off: None,
        engine: essaim_model::EngineKind::Process,
        restarts: 0,
        began_at: None,
        ended_at: None,
    })));
    (fake, client)
}

fn lines(body: &[u8]) -> Vec<Value> {
    body.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .collect()
}

#[tokio::test]
async fn events_tell_what_changed_from_what_to_what() {
    let (fake, client) = cluster().await;
    let node = NodeId::from_bits(9);
    fake.change(Change::AcceptNode(Box::new(worker(node, "node9"))));
    let found = fake.state();
    let mut spec = found.node(node).expect("accepted").spec.clone();
    spec.availability = essaim_model::Availability::Drain;
    fake.change(Change::SetNode { id: node, expect: found.node(node).expect("there").meta.version, spec });
    let service = found.service(WEB).expect("there");
    let mut scaled = service.spec.clone();
    scaled.mode = essaim_model::Mode::Replicated { replicas: 4 };
    fake.change(Change::UpdateService { id: WEB, expect: service.meta.version, spec: Some(Box::new(scaled)) });
    fake.change(Change::RemoveService { id: WEB });

    let told = client.get("/events?since=1&until=1795201045").await;
    assert_eq!(told.header("content-type"), "application/json");
    let told = lines(&told.body);
    let short: Vec<_> = told
        .iter()
        .map(|it| format!("{} {} {}", it["Type"], it["Action"], it["Actor"]["Attributes"]).replace('"', ""))
        .collect();
    assert_eq!(
        short,
        [
            "node create {name:node1}",
            "service create {name:web}",
            "node create {name:node9}",
            "node update {availability.new:drain,availability.old:active,name:node9}",
            "service update {name:web,replicas.new:4,replicas.old:1}",
            "service remove {name:web}",
        ]
    );
    assert_eq!((&told[0]["scope"], &told[0]["time"]), (&json!("swarm"), &json!(1_795_201_044)));
    assert_eq!(told[0]["timeNano"], json!(1_795_201_044_000_000_000_i64));
}

#[tokio::test]
async fn events_are_narrowed_by_type_name_and_time() {
    let (_, client) = cluster().await;
    let count = async |query: &str| {
        let reply = client.get(&format!("/events?{}", query.replace('"', "%22"))).await;
        if reply.status == 200 { Ok(lines(&reply.body).len()) } else { Err(reply.message()) }
    };
    let until = "until=1795201045";
    assert_eq!(count(&format!(r#"since=1&{until}&filters={{"type":{{"service":true}}}}"#)).await, Ok(1));
    assert_eq!(count(&format!(r#"since=1&{until}&filters={{"service":["web"]}}"#)).await, Ok(1));
    assert_eq!(count(&format!(r#"since=1&{until}&filters={{"node":["web"]}}"#)).await, Ok(0));
    assert_eq!(count(&format!("since=1795201044.5&{until}")).await, Ok(0), "all of it happened before");
    assert_eq!(count(r#"filters={"colour":["red"]}"#).await, Err("invalid filter 'colour'".into()));
    assert!(count("since=5&until=4").await.is_err());
    assert!(count("since=yesterday").await.is_err());
}

/// The stream, the length and the text of each frame.
fn frames(mut body: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(8) {
        assert_eq!(head[1..4], [0, 0, 0]);
        let len = u32::from_be_bytes(head[4..].try_into().expect("four bytes")) as usize;
        let (text, rest) = rest.split_at(len);
        frames.push((head[0], String::from_utf8(text.to_vec()).expect("text")));
        body = rest;
    }
    assert!(body.is_empty());
    frames
}

#[tokio::test]
async fn logs_are_frames_with_times_and_details_where_asked_for() {
    let (fake, client) = cluster().await;
    let line = |stream, text: &str| LogLine { task: TASK, node: SELF, at: NOW, stream, bytes: text.into() };
    fake.wrote(vec![line(LogStream::Stdout, "one\n"), line(LogStream::Stderr, "two\n")]);
    let plain = client.get("/services/web/logs?stdout=1&stderr=1").await;
    assert_eq!(plain.header("content-type"), "application/vnd.docker.multiplexed-stream");
    assert_eq!(frames(&plain.body), [(1, "one\n".to_owned()), (2, "two\n".to_owned())]);
    let full = client.get(&format!("/v1.50/tasks/{TASK}/logs?stderr=1&stdout=1&details=1&timestamps=1&tail=1")).await;
    let expected = format!(
        "2026-11-20T18:57:24.000000000Z com.docker.swarm.node.id={SELF},com.docker.swarm.service.id={WEB},\
         com.docker.swarm.task.id={TASK} two\n"
    );
    assert_eq!(frames(&full.body), [(2, expected)]);
    assert!(frames(&client.get("/services/web/logs?stdout=1&since=1795201044").await.body).is_empty());
}

#[tokio::test]
async fn logs_want_a_stream_and_something_to_read() {
    let (_, client) = cluster().await;
    let none = client.get("/services/web/logs").await;
    assert_eq!((none.status, none.message().as_str()), (400, "Bad parameters: you must choose at least one stream"));
    assert_eq!(client.get("/services/nope/logs?stdout=1").await.message(), "service nope not found");
    assert_eq!(client.get("/tasks/nope/logs?stdout=1").await.message(), "task nope not found");
}

#[tokio::test]
async fn the_journal_comes_line_by_line() {
    let (_, client) = cluster().await;
    let reply = client.get("/essaim/v1/journal?node=node7").await;
    let told = lines(&reply.body);
    assert_eq!((&told[0]["name"], &told[0]["path"]), (&json!("node7"), &json!("/node1/api")));
    assert_eq!(client.get("/essaim/v1/tree").await.json(), json!({"nodes": []}));
    assert_eq!(client.get("/essaim/v1/members").await.json()["isolated"], false);
}
