//! Requests that are in no recording: refusals of our own, filtered lists, unknown paths and versions.

use super::stage::{Client, NOW, SELF, Stage, play, worker};
use essaim_model::{Change, Observed, ServiceId, Slot, Task, TaskId, TaskState, fixtures};
use essaim_node::Standing;
use essaim_wire::{Generation, NodeId, Reachability, Role};
use serde_json::{Value, json};
use std::time::Duration;

const OTHER: NodeId = NodeId::from_bits(2);

fn wish(name: &str) -> Value {
    json!({
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "sleep:latest", "Args": ["1000"], "Init": false, "DNSConfig": {}}},
        "Mode": {"Replicated": {"Replicas": 2}},
        "EndpointSpec": {"Mode": "vip"}
    })
}

/// A manager that knows a worker and has a service `web` with a running task on each of the two nodes; a client of the
/// manager, and the service's id.
async fn cluster() -> (Stage, Client, ServiceId) {
    let stage = Stage::manager().await;
    stage.change(Change::AcceptNode(Box::new(worker(OTHER, "node2")))).await;
    let client = stage.client();
    let created = client.post("/services/create", &wish("web")).await;
    assert_eq!(created.status, 201, "{}", created.message());
    let id: ServiceId = created.json()["ID"].as_str().expect("an id").parse().expect("ours");
    let spec_version = stage.state().service(id).expect("created").spec_version;
    for (number, node) in [(1, SELF), (2, OTHER)] {
        let running = Observed {
            state: TaskState::Running,
            message: "started".into(),
            pid: Some(42),
            address: Some("127.64.0.7".parse().expect("an address")),
            ..Observed::nothing(NOW)
        };
        let task = fixtures::task(TaskId::from_bits(1000 + number), id, spec_version, node);
        let task = Task { slot: Slot::Number(number as u32), observed: running, ..task };
        stage.change(Change::CreateTask(Box::new(task))).await;
    }
    (stage, client, id)
}

#[test]
fn a_ping_says_what_this_node_is() {
    play(async || {
        let pings = async |client: &Client, said: &str| {
            for method in ["HEAD", "GET"] {
                let reply = client.send(method, "/_ping", None).await;
                assert_eq!((reply.status, reply.header("Swarm")), (200, said));
                assert_eq!(reply.header("Api-Version"), "1.51");
                assert_eq!((reply.header("Ostype"), reply.header("Docker-Experimental")), ("linux", "false"));
                assert_eq!(reply.header("Builder-Version"), "2");
                assert_eq!(&reply.body[..], if method == "GET" { b"OK".as_slice() } else { b"" });
            }
        };
        pings(&Stage::alone().await.client(), "inactive").await;
        let stage = Stage::manager().await;
        let client = stage.client();
        pings(&client, "active/manager").await;
        stage.pass_for(SELF, Role::Worker);
        pings(&client, "active/worker").await;
        stage.still().stand(Standing::Broken("its log is damaged".into()));
        pings(&client, "error").await;
        stage.still().stand(Standing::Pending { node: SELF, role: Role::Manager });
        pings(&client, "pending").await;
    });
}

#[test]
fn a_manager_that_was_just_started_is_no_node_without_a_cluster() {
    play(async || {
        let (stage, client, _) = cluster().await;
        stage.still().stand(Standing::Pending { node: SELF, role: Role::Manager });
        let swarm = client.get("/info").await.json()["Swarm"].clone();
        assert_eq!((&swarm["LocalNodeState"], &swarm["NodeID"]), (&json!("pending"), &json!(SELF.to_string())));
        assert_eq!((&swarm["ControlAvailable"], &swarm["Error"]), (&json!(false), &json!("")));
        let prepared =
            "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.";
        for (method, path, body) in [
            ("GET", "/nodes", None),
            ("GET", "/swarm", None),
            ("POST", "/services/create", Some(wish("late"))),
            ("DELETE", "/services/web", None),
        ] {
            let reply = client.send(method, path, body.as_ref()).await;
            assert_eq!((reply.status, reply.message().as_str()), (503, prepared), "{method} {path}");
        }
        for (path, body) in [
            ("/swarm/init", json!({"ListenAddr": "127.0.0.1:0"})),
            ("/swarm/join", json!({"RemoteAddrs": ["127.0.0.1:1"], "JoinToken": "x"})),
        ] {
            let reply = client.post(path, &body).await;
            assert_eq!(reply.status, 503, "{path}");
            assert!(reply.message().starts_with("This node is already part of a swarm."), "{}", reply.message());
        }
    });
}

#[test]
fn paths_work_with_any_known_version_and_without() {
    play(async || {
        let (_, client, _) = cluster().await;
        for prefix in ["", "/v1.24", "/v1.25", "/v1.45", "/v1.51"] {
            assert_eq!(client.get(&format!("{prefix}/nodes")).await.json().as_array().map(Vec::len), Some(2));
        }
        let old = client.get("/v1.12/nodes").await;
        assert_eq!(old.status, 400);
        assert!(old.message().starts_with("client version 1.12 is too old."));
        assert!(client.get("/v9.0/nodes").await.message().starts_with("client version 9.0 is too new."));
    });
}

#[test]
fn what_nobody_knows_answers_in_json() {
    play(async || {
        let (_, client, _) = cluster().await;
        for (method, path, status) in [
            ("GET", "/nonsense", 404),
            ("GET", "/", 404),
            ("POST", "/v1.50/build", 501),
            ("DELETE", "/info", 405),
            ("GET", "/nodes?filters=nonsense", 400),
            ("GET", "/nodes/%ff", 400),
            ("POST", "/essaim/v1/debug/kill-actor", 400),
        ] {
            let reply = client.send(method, path, None).await;
            assert_eq!(reply.status, status, "{method} {path}");
            assert!(!reply.message().is_empty(), "{method} {path}");
            assert_eq!(reply.header("content-type"), "application/json", "{method} {path}");
        }
    });
}

#[test]
fn bodies_are_bounded_and_must_be_json_without_surprises() {
    play(async || {
        let (_, client, _) = cluster().await;
        let huge = json!({"Name": "x".repeat(2 << 20)});
        assert_eq!(client.post("/services/create", &huge).await.status, 413);
        let unknown = client.post("/services/create", &json!({"Name": "x", "Colour": "red"})).await;
        assert_eq!(unknown.status, 400);
        assert!(unknown.message().contains("unknown field `Colour`"), "{}", unknown.message());
        assert_eq!(client.send("POST", "/services/create", None).await.status, 400);
        let array = client.post("/services/create", &json!([])).await;
        assert_eq!((array.status, array.message().as_str()), (400, "invalid JSON: expected an object, found an array"));
    });
}

#[test]
fn an_update_from_an_old_version_is_refused_in_the_words_that_clients_look_for() {
    play(async || {
        let (_, client, id) = cluster().await;
        let path = format!("/services/{id}/update?version=1");
        let reply = client.post(&path, &wish("web")).await;
        assert_eq!((reply.status, reply.message().as_str()), (500, "update out of sequence"));
        let missing = client.post(&format!("/services/{id}/update"), &wish("web")).await;
        assert_eq!(missing.status, 400);
        assert!(missing.message().starts_with("invalid service version ''"), "{}", missing.message());
    });
}

#[test]
fn a_service_is_updated_rolled_back_and_removed() {
    play(async || {
        let (stage, client, id) = cluster().await;
        let version = || stage.state().service(id).expect("there").meta.version.0;
        let mut other = wish("web");
        other["TaskTemplate"]["ContainerSpec"]["Args"] = json!(["2000"]);
        let updated = client.post(&format!("/services/web/update?version={}", version()), &other).await;
        assert_eq!((updated.status, updated.json()), (200, json!({"Warnings": null})));
        let shown = client.get("/services/web").await.json();
        assert_eq!(shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Args"], json!(["2000"]));
        assert_eq!(shown["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Args"], json!(["1000"]));
        assert_eq!(shown["UpdateStatus"]["State"], "updating");
        // The tasks still follow the former spec, so the CLI's progress bar, which filters by `_up-to-date`, does not
        // show them.
        let progress = format!("/tasks?filters={{\"_up-to-date\":{{\"true\":true}},\"service\":{{\"{id}\":true}}}}");
        assert_eq!(client.get(&progress.replace('"', "%22")).await.json(), json!([]));
        let back = client.post(&format!("/services/web/update?rollback=previous&version={}", version()), &other).await;
        assert_eq!(back.status, 200, "{}", back.message());
        let shown = client.get("/services/web").await.json();
        assert_eq!(shown["UpdateStatus"]["State"], "rollback_started");
        assert_eq!(shown["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Args"], json!(["2000"]));

        // Beyond Swarm: every former spec that is kept has a version to go back to.
        let kept = client.get("/essaim/v1/services/web/specs").await.json();
        let args = |place: usize| kept[place]["spec"]["TaskTemplate"]["ContainerSpec"]["Args"].clone();
        assert_eq!((args(0), args(1)), (json!(["1000"]), json!(["2000"])), "{kept}");
        assert_eq!((kept[0]["in_force"].clone(), kept[1]["in_force"].clone()), (json!(true), json!(false)));
        let to = kept[1]["version"].as_u64().expect("a version");
        let back = client.post(&format!("/services/web/update?rollback={to}&version={}", version()), &other).await;
        assert_eq!(back.status, 200, "{}", back.message());
        let shown = client.get("/services/web").await.json();
        assert_eq!(shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Args"], json!(["2000"]));
        let unknown = client.post(&format!("/services/web/update?rollback=1&version={}", version()), &other).await;
        assert!(unknown.message().contains("has no former spec of version 1: kept are "), "{}", unknown.message());
        assert_eq!(client.send("DELETE", "/services/web", None).await.status, 200);
        assert_eq!(client.get("/services/web").await.message(), "service web not found");
    });
}

#[test]
fn published_ports_are_shown_with_their_numbers_and_conflicts_are_refused() {
    play(async || {
        let (_, client, _) = cluster().await;
        let published = |name: &str, port: Value| {
            let mut wish = wish(name);
            wish["EndpointSpec"]["Ports"] = json!([port]);
            wish
        };
        let named = json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"});
        let created = client.post("/services/create", &published("shop", named.clone())).await.json();
        assert_eq!(created["Warnings"], Value::Null, "{created}");
        let shown = client.get("/services/shop").await.json();
        assert_eq!(shown["Endpoint"]["Ports"], json!([named]));
        let refused = client.post("/services/create", &published("mall", named)).await;
        let words = format!("port '8080' is already in use by service 'shop' ({}) as an ingress port", created["ID"]);
        assert_eq!((refused.status, refused.message()), (400, words.replace('"', "")));
        // A number that nobody named is chosen, and stands beside the spec as it was given.
        let open = json!({"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"});
        client.post("/services/create", &published("mall", open.clone())).await;
        let shown = client.get("/services/mall").await.json();
        assert_eq!(shown["Endpoint"]["Spec"]["Ports"], json!([open]));
        assert_eq!(shown["Endpoint"]["Ports"][0]["PublishedPort"], 30_000);
    });
}

#[test]
fn a_task_of_a_lost_node_is_never_shown_as_running() {
    play(async || {
        let (stage, client, id) = cluster().await;
        let states = async || {
            let tasks = client.get("/tasks?filters={%22service%22:[%22web%22]}").await.json();
            let words: Vec<_> =
                tasks.as_array().expect("a list").iter().map(|it| it["Status"]["State"].clone()).collect();
            words
        };
        assert_eq!(states().await, ["running", "running"]);
        for (reachability, tier) in [(Reachability::Unreachable, "unreachable"), (Reachability::Down, "down")] {
            let message = "no heartbeat for 1 s".to_owned();
            stage.change(Change::SetReachability { id: OTHER, generation: Generation(1), reachability, message }).await;
            assert_eq!(states().await, ["running", "orphaned"]);
            let task = client.get("/tasks/web.2.00000000000000000000000ru").await.json();
            let why = format!("node node2 is {tier}: no heartbeat for 1 s");
            assert_eq!(task["Status"]["Err"], why.as_str());
            let shown = client.get(&format!("/services?status=true&filters={{%22id%22:[%22{id}%22]}}")).await.json();
            assert_eq!(shown[0]["ServiceStatus"], json!({"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 0}));
            let node = client.get("/nodes/node2").await.json();
            assert_eq!(node["Status"]["State"], "down");
            assert_eq!(node["Status"]["Message"], "no heartbeat for 1 s");
        }
    });
}

#[test]
fn the_address_of_a_process_is_shown_as_clients_expect_addresses() {
    play(async || {
        let (_, client, _) = cluster().await;
        let task = client.get("/tasks/00000000000000000000000rt").await.json();
        assert_eq!(task["NetworksAttachments"][0]["Addresses"], json!(["127.64.0.7/8"]));
        assert_eq!(task["Status"]["ContainerStatus"]["PID"], 42);
    });
}

#[test]
fn objects_are_found_by_id_name_and_beginning_and_ambiguity_is_named() {
    play(async || {
        let (stage, client, id) = cluster().await;
        let third = NodeId::from_bits(3);
        stage.change(Change::AcceptNode(Box::new(worker(third, "node2")))).await;
        for text in [id.to_string(), "web".into(), id.to_string()[..20].into()] {
            assert_eq!(client.get(&format!("/services/{text}")).await.json()["ID"], id.to_string());
        }
        let ambiguous = client.get("/nodes/node2").await;
        assert_eq!(
            (ambiguous.status, ambiguous.message().as_str()),
            (400, "node node2 is ambiguous (2 matches found)")
        );
        let beginning = client.get("/nodes/0000").await;
        assert_eq!(beginning.message(), "node 0000 is ambiguous (3 matches found)");
        assert_eq!(client.get("/tasks/nope").await.message(), "task nope not found");
    });
}

#[test]
fn tasks_are_narrowed_by_everything_that_the_cli_sends() {
    play(async || {
        let (_, client, _) = cluster().await;
        let count = async |filters: &str| {
            let reply = client.get(&format!("/tasks?filters={}", filters.replace('"', "%22"))).await;
            reply.json().as_array().map(Vec::len).ok_or_else(|| reply.message())
        };
        assert_eq!(count(r#"{"service":{"web":true}}"#).await, Ok(2));
        assert_eq!(count(r#"{"node":{"node2":true}}"#).await, Ok(1));
        assert_eq!(count(r#"{"desired-state":{"running":true}}"#).await, Ok(2));
        assert_eq!(count(r#"{"desired-state":{"shutdown":true}}"#).await, Ok(0));
        assert_eq!(count(r#"{"name":["web.1"]}"#).await, Ok(1));
        assert_eq!(count(r#"{"_up-to-date":{"true":true},"service":{"web":true}}"#).await, Ok(2));
        assert_eq!(count(r#"{"label":["no.such=label"]}"#).await, Ok(0));
        assert_eq!(count(r#"{"service":{"nope":true}}"#).await, Err("service nope not found".into()));
        assert_eq!(count(r#"{"colour":{"red":true}}"#).await, Err("invalid filter 'colour'".into()));
        let unknown = "invalid desired-state filter: 'asleep'".into();
        assert_eq!(count(r#"{"desired-state":{"asleep":true}}"#).await, Err(unknown));
    });
}

#[test]
fn a_manager_leaves_by_force_only_and_is_told_what_would_happen() {
    play(async || {
        let (stage, client, _) = cluster().await;
        let alone = client.send("POST", "/swarm/leave", None).await;
        assert_eq!(alone.status, 503);
        assert!(alone.message().contains("Removing the last manager erases all current state of the swarm."));
        let state = stage.state();
        let other = state.node(OTHER).expect("there");
        stage.change(Change::SetRole { id: other.id, role: Role::Manager, manager: None }).await;
        let two = client.send("POST", "/swarm/leave", None).await;
        assert!(two.message().contains("Removing this node leaves 1 managers out of 2."), "{}", two.message());
        assert_eq!(client.send("POST", "/swarm/leave?force=1", None).await.status, 200);
        // The node's new standing reaches the API through a watch, in another tokio task.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let again = client.send("POST", "/swarm/leave?force=1", None).await;
        assert_eq!((again.status, again.message().as_str()), (503, "This node is not part of a swarm"));
    });
}

#[test]
fn the_address_that_the_cli_makes_up_is_not_taken_for_the_users() {
    play(async || {
        let stage = Stage::alone().await;
        let client = stage.client();
        let founded = client.post("/swarm/init", &json!({"ListenAddr": "0.0.0.0:2377"})).await;
        assert_eq!(founded.status, 200, "{}", founded.message());
        let info = client.get("/info").await.json();
        assert_eq!(info["Swarm"]["NodeID"], founded.json());
        assert_eq!(info["Swarm"]["NodeAddr"], "10.0.0.2", "what the daemon was started with");
    });
}

#[test]
fn a_token_is_rotated_and_autolock_refused() {
    play(async || {
        let (_, client, _) = cluster().await;
        let before = client.get("/swarm").await.json();
        let version = &before["Version"]["Index"];
        let path = format!("/swarm/update?version={version}&rotateWorkerToken=true&rotateManagerToken=false");
        assert_eq!(client.post(&path, &before["Spec"]).await.status, 200);
        let after = client.get("/swarm").await.json();
        assert_ne!(before["JoinTokens"]["Worker"], after["JoinTokens"]["Worker"]);
        assert_eq!(before["JoinTokens"]["Manager"], after["JoinTokens"]["Manager"]);
        let mut locked = after["Spec"].clone();
        locked["EncryptionConfig"]["AutoLockManagers"] = true.into();
        let version = &after["Version"]["Index"];
        let refused = client.post(&format!("/swarm/update?version={version}"), &locked).await;
        assert_eq!(refused.status, 501);
        assert!(refused.message().starts_with("--autolock is not supported"), "{}", refused.message());
        assert_eq!(client.get("/swarm/unlockkey").await.status, 501);
    });
}

#[test]
fn what_docker_has_and_essaim_has_not_is_empty_missing_or_refused() {
    play(async || {
        let (_, client, _) = cluster().await;
        for path in ["/networks", "/secrets", "/configs", "/containers/json", "/images/json"] {
            assert_eq!(client.get(path).await.json(), json!([]), "{path}");
        }
        assert_eq!(client.get("/secrets/front").await.message(), "secret front not found");
        assert_eq!(client.get("/networks/front").await.message(), "network front not found");
        assert_eq!(client.get("/images/nginx/json").await.message(), "No such image: nginx:latest");
        let refused = client.post("/networks/create", &json!({"Name": "x"})).await;
        assert_eq!(refused.status, 501);
    });
}

#[test]
fn an_actor_is_killed_by_its_path() {
    play(async || {
        let (_, client, _) = cluster().await;
        let kill =
            async |path: &str| client.send("POST", &format!("/essaim/v1/debug/kill-actor?path={path}"), None).await;
        assert_eq!(kill("/n1/worker/uplink").await.status, 200);
        assert_eq!(kill("/n1/nobody").await.status, 404);
    });
}
