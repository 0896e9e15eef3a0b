//! Streams of the API: events as lines of JSON, logs as frames, the journal as lines of JSON.

use super::real::tell;
use super::stage::{Client, NOW, SELF, Stage, play, worker};
use essaim::testkit::Fault;
use essaim_api::StreamedReply;
use essaim_model::{Change, Observed, ServiceId, Task, TaskId, fixtures};
use essaim_wire::{NodeId, Reachability};
use essaim_worker::engine::LogStream;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const WEB: ServiceId = ServiceId::from_bits(50);
const TASK: TaskId = TaskId::from_bits(51);

async fn cluster() -> (Stage, Client) {
    let stage = Stage::manager().await;
    let client = stage.client();
    let asked = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "sleep"}}});
    let asked = serde_json::from_value(asked).expect("Docker's shape");
    let spec = essaim_docker::convert::spec::read(asked, String::new).expect("a good wish");
    let spec_version = stage.change(Change::CreateService { id: WEB, spec: Box::new(spec) }).await;
    let task = Task { observed: Observed::nothing(NOW), ..fixtures::task(TASK, WEB, spec_version, SELF) };
    stage.change(Change::CreateTask(Box::new(task))).await;
    (stage, client)
}

/// Time of the node's clock, in whole seconds since 1970.
fn now(stage: &Stage) -> u64 {
    stage.node().scope().utc().as_micros() / 1_000_000
}

fn lines(body: &[u8]) -> Vec<Value> {
    body.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn events_tell_what_changed_from_what_to_what() {
    play(async || {
        let (stage, client) = cluster().await;
        let node = NodeId::from_bits(9);
        stage.change(Change::AcceptNode(Box::new(worker(node, "node9")))).await;
        let found = stage.state();
        let mut spec = found.node(node).expect("accepted").spec.clone();
        spec.availability = essaim_model::Availability::Drain;
        stage.change(Change::SetNode { id: node, expect: found.node(node).expect("there").meta.version, spec }).await;
        let service = found.service(WEB).expect("there");
        let mut scaled = service.spec.clone();
        scaled.mode = essaim_model::Mode::Replicated { replicas: 4 };
        stage
            .change(Change::UpdateService { id: WEB, expect: service.meta.version, spec: Some(Box::new(scaled)) })
            .await;
        stage.change(Change::RemoveService { id: WEB }).await;

        let until = now(&stage) + 1;
        let told = client.get(&format!("/events?since=1&until={until}")).await;
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
        let founded = stage.state().node(SELF).expect("there").meta.created_at.as_micros();
        assert_eq!((&told[0]["scope"], &told[0]["time"]), (&json!("swarm"), &json!(founded / 1_000_000)));
        assert_eq!(told[0]["timeNano"], json!(founded * 1000));
    });
}

#[test]
fn events_are_narrowed_by_type_name_and_time() {
    play(async || {
        let (stage, client) = cluster().await;
        let later = now(&stage) + 1;
        let count = async |query: &str| {
            let reply = client.get(&format!("/events?{}", query.replace('"', "%22"))).await;
            if reply.status == 200 { Ok(lines(&reply.body).len()) } else { Err(reply.message()) }
        };
        let until = format!("until={later}");
        assert_eq!(count(&format!(r#"since=1&{until}&filters={{"type":{{"service":true}}}}"#)).await, Ok(1));
        assert_eq!(count(&format!(r#"since=1&{until}&filters={{"service":["web"]}}"#)).await, Ok(1));
        assert_eq!(count(&format!(r#"since=1&{until}&filters={{"node":["web"]}}"#)).await, Ok(0));
        assert_eq!(count(&format!("since={later}&{until}")).await, Ok(0), "all of it happened before");
        assert_eq!(count(r#"filters={"colour":["red"]}"#).await, Err("invalid filter 'colour'".into()));
        assert_eq!(count(&format!("since=10h&{until}")).await, Ok(2), "a span before now");
        // Tasks are told to those who ask for them.
        let tasks = format!(r#"since=1&{until}&filters={{"type":["task"],"service":["web"]}}"#);
        assert_eq!(count(&tasks).await, Ok(1));
        assert_eq!(count(&tasks.replace("web", "other")).await, Ok(0));
        assert!(count("since=5&until=4").await.is_err());
        assert!(count("since=yesterday").await.is_err());
    });
}

#[test]
fn events_of_tasks_tell_the_step_its_cause_and_the_wish() {
    play(async || {
        let (stage, client) = cluster().await;
        let mut observed = Observed::nothing(NOW);
        observed.state = essaim_model::TaskState::Failed;
        observed.error = Some("task: non-zero exit (3)".into());
        stage.change(Change::Observe { node: SELF, reports: vec![(TASK, observed)] }).await;
        let until = now(&stage) + 1;
        let query = format!(r#"/events?since=1&until={until}&filters={{"task":["web.1"]}}"#).replace('"', "%22");
        let told = lines(&client.get(&query).await.body);
        let attributes = |at: usize| &told[at]["Actor"]["Attributes"];
        assert_eq!((told.len(), &told[0]["Action"], &told[1]["Action"]), (2, &json!("create"), &json!("update")));
        assert_eq!((&attributes(0)["to"], &attributes(0)["service.name"]), (&json!("assigned"), &json!("web")));
        assert_eq!((&attributes(1)["from"], &attributes(1)["to"]), (&json!("assigned"), &json!("failed")));
        assert_eq!(attributes(1)["cause"], json!("task: non-zero exit (3)"));
        assert_eq!(attributes(1)["node.name"], json!("node1"));
    });
}

/// Events of nodes as words: the name, and each changed attribute.
async fn of_nodes(answer: &mut StreamedReply) -> Vec<String> {
    let mut words = Vec::new();
    while let Ok(Some(piece)) = timeout(Duration::from_secs(5), answer.next()).await {
        for event in lines(&piece).iter().filter(|event| event["Type"] == "node") {
            let attributes = event["Actor"]["Attributes"].as_object().expect("attributes");
            let changed = attributes.iter().filter(|(key, _)| key.ends_with(".new"));
            let changed = changed.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")));
            let name = attributes["name"].as_str().unwrap_or("").to_owned();
            words.push([name].into_iter().chain(changed).collect::<Vec<_>>().join(" "));
        }
    }
    words
}

#[test]
fn events_tell_who_leads_and_which_managers_are_reachable() {
    tell(34, 3, 3, async |cluster| {
        let leader = cluster.run().world.leader().ok_or("somebody leads")?;
        let others: Vec<u16> = (1..=3).filter(|number| *number != leader).collect();
        let asked = others[0];
        let client = Client::on(&format!("n{asked}"), &cluster.node(asked)?);
        let mut answer = client.begin("GET", "/events").await;
        cluster.strike(Fault::HandOver).await?;
        cluster.pass(Duration::from_secs(5)).await?;
        let next = cluster.run().world.leader().ok_or("somebody leads")?;
        let told = of_nodes(&mut answer).await;
        for expected in [format!("n{leader} leader.new=false"), format!("n{next} leader.new=true")] {
            assert!(told.contains(&expected), "{expected}: {told:?}");
        }
        // The third manager fails, and returns.
        let lost = others[1];
        cluster.strike(Fault::Crash(lost)).await?;
        cluster.pass(Duration::from_secs(20)).await?;
        let told = of_nodes(&mut answer).await;
        let expected = format!("n{lost} reachability.new=unreachable state.new=");
        assert!(told.iter().any(|it| it.starts_with(&expected)), "{expected}: {told:?}");
        cluster.mend().await?;
        cluster.pass(Duration::from_secs(10)).await?;
        let told = of_nodes(&mut answer).await;
        let expected = format!("n{lost} reachability.new=reachable state.new=ready");
        assert!(told.contains(&expected), "{expected}: {told:?}");
        Ok(())
    });
}

#[test]
fn a_reader_that_the_ring_has_passed_is_told_that_events_are_lost_and_hears_the_next_ones() {
    play(async || {
        let (stage, client) = cluster().await;
        let nodes: Vec<_> = (100..800).map(NodeId::from_bits).collect();
        let accept = |id: &NodeId| Change::AcceptNode(Box::new(worker(*id, "node9")));
        stage.still().change(nodes.iter().map(accept).collect()).await.expect("possible");
        let generation = stage.state().node(nodes[0]).expect("accepted").generation;
        let mut answer = client.begin("GET", "/events").await;
        // 70,000 events, more than the ring keeps, while the reader does not read.
        for round in 0..100 {
            let say = |id: &NodeId| Change::SetReachability {
                id: *id,
                generation,
                reachability: Reachability::Unknown,
                message: round.to_string(),
            };
            stage.still().change(nodes.iter().map(say).collect()).await.expect("possible");
        }
        let first = lines(&answer.next().await.expect("a line"));
        assert_eq!((&first[0]["Type"], &first[0]["Action"]), (&json!("daemon"), &json!("lost")), "{first:?}");
        let second = lines(&answer.next().await.expect("a line"));
        assert_eq!((&second[0]["Type"], &second[0]["Action"]), (&json!("node"), &json!("update")), "{second:?}");
    });
}

/// Stream number (1 stdout, 2 stderr, 3 the daemon's own errors) and text of each frame of Docker's multiplexed log format.
pub(super) fn frames(mut body: &[u8]) -> Vec<(u8, String)> {
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

#[test]
fn logs_are_frames_with_times_and_details_where_asked_for() {
    tell(31, 2, 1, async |cluster| {
        // The only service of a new cluster has tasks on both machines; a task on the second machine writes.
        let state = cluster.control()?.read().await.map_err(|why| why.to_string())?;
        let service = state.services().next().ok_or("there is a first service")?;
        let machine = cluster.run().world.machine(2);
        let task = *machine.running().first().ok_or("it runs some")?;
        machine.write(task, LogStream::Stdout, "one");
        machine.write(task, LogStream::Stderr, "two");
        let client = Client::on("n1", &cluster.node(1)?);
        let name = &service.spec.name;
        let plain = client.get(&format!("/services/{name}/logs?stdout=1&stderr=1")).await;
        assert_eq!(plain.header("content-type"), "application/vnd.docker.multiplexed-stream");
        let written: Vec<_> = frames(&plain.body).into_iter().filter(|(_, line)| line != "started\n").collect();
        assert_eq!(written, [(1, "one\n".to_owned()), (2, "two\n".to_owned())]);
        let full = format!("/v1.50/tasks/{task}/logs?stderr=1&stdout=1&details=1&timestamps=1&tail=1");
        let full = frames(&client.get(&full).await.body);
        let [(2, line)] = full.as_slice() else { return Err(format!("one line: {full:?}")) };
        let (time, line) = line.split_once(' ').ok_or("a time comes first")?;
        assert!(time.starts_with("2023-11-14T") && time.ends_with('Z') && time.len() == 30, "{time}");
        let node = state.task(task).and_then(|task| task.node()).ok_or("it was given to a node")?;
        let ids = format!("node.id={node},com.docker.swarm.service.id={},com.docker.swarm.task.id={task}", service.id);
        assert_eq!(line, format!("com.docker.swarm.{ids} two\n"));
        let late = client.get(&format!("/services/{name}/logs?stdout=1&since=1795201044")).await;
        assert!(frames(&late.body).is_empty());
        Ok(())
    });
}

#[test]
fn logs_want_a_stream_and_something_to_read() {
    play(async || {
        let (_, client) = cluster().await;
        let none = client.get("/services/web/logs").await;
        assert_eq!(
            (none.status, none.message().as_str()),
            (400, "Bad parameters: you must choose at least one stream")
        );
        assert_eq!(client.get("/services/nope/logs?stdout=1").await.message(), "service nope not found");
        assert_eq!(client.get("/tasks/nope/logs?stdout=1").await.message(), "task nope not found");
    });
}

#[test]
fn the_journal_comes_line_by_line() {
    tell(32, 2, 1, async |cluster| {
        let client = Client::on("n1", &cluster.node(1)?);
        let told = lines(&client.get("/essaim/v1/journal?node=n2").await.body);
        assert_eq!(told[0]["name"], "n2");
        assert!(told.iter().any(|record| record["path"] == "/n2/worker/uplink"), "{told:?}");
        assert_eq!(client.get("/essaim/v1/journal?node=n7").await.message(), "node n7 not found");
        let trees = client.get("/essaim/v1/tree").await.json();
        let named = |name: &str| {
            let tree = trees["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == name);
            tree.and_then(|node| node["actors"].as_array()).cloned().unwrap_or_default()
        };
        assert!(named("n1").iter().any(|actor| actor["path"] == "/n1/manager"), "{trees}");
        assert!(named("n2").iter().any(|actor| actor["path"] == "/n2/worker"), "{trees}");
        // The first link of a node is older than what the cluster knows of the node, its host name included.
        let link = "/n1/manager/node.n2";
        assert!(named("n1").iter().any(|actor| actor["path"] == link), "{trees}");
        assert_eq!(client.send("POST", &format!("/essaim/v1/debug/kill-actor?path={link}"), None).await.status, 200);
        let members = client.get("/essaim/v1/members").await.json();
        assert_eq!((&members["isolated"], members["members"].as_array().map(Vec::len)), (&json!(false), Some(2)));
        Ok(())
    });
}

#[test]
fn a_promotion_begins_an_epoch_in_the_view_of_others_and_of_the_member_itself() {
    tell(33, 3, 2, async |cluster| {
        for asked in [1, 2] {
            let client = Client::on(&format!("n{asked}"), &cluster.node(asked)?);
            let members = client.get("/essaim/v1/members").await.json();
            let members = members["members"].as_array().cloned().unwrap_or_default();
            let of =
                |name: &str| members.iter().find(|member| member["name"] == name).map(|it| it["incarnation"].clone());
            assert_eq!((of("n2"), of("n3")), (Some(json!("1.0")), Some(json!("0.0"))), "asked n{asked}: {members:?}");
        }
        Ok(())
    });
}
