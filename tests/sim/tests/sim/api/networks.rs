//! Networks over the API, those of the cluster beside those of the machine, as clients see them.

use super::engine;
use super::stage::{Client, Stage, play};
use essaim_model::Network;
use serde_json::{Value, json};

/// A manager beside an engine that has one network of its own, and a client of it.
async fn beside_an_engine() -> (Stage, Client) {
    let stage = Stage::manager().await;
    let own = |name: &str| json!({"Name": name, "Id": format!("e98{name}"), "Scope": "local", "Driver": "bridge"});
    let answers = [
        ("GET", "/networks?filters=", json!([own("bridge")])),
        ("GET", r#"/networks?filters={"driver":["bridge"]}"#, json!([own("bridge")])),
        ("GET", "/networks/bridge", own("bridge")),
        ("GET", "/networks/e98", own("bridge")),
        ("POST", "/networks/create", json!({"Id": "e98made", "Warning": ""})),
        ("POST", "/networks/prune", json!({"NetworksDeleted": ["lonely"]})),
        ("POST", "/networks/bridge/connect", json!({})),
    ];
    let exchanges: Vec<Value> = answers
        .into_iter()
        .map(|(method, path, response)| json!({"method": method, "path": path, "status": 200, "response": response}))
        .collect();
    let client = Client::beside("node1", stage.node(), engine::with(&exchanges));
    (stage, client)
}

async fn create(client: &Client, body: Value) -> String {
    let created = client.post("/v1.50/networks/create", &body).await;
    assert_eq!(created.status, 201, "{}", created.message());
    let id = created.json()["Id"].as_str().expect("an id").to_owned();
    assert_eq!(created.json(), json!({"Id": id, "Warning": ""}));
    id
}

fn overlay(name: &str) -> Value {
    json!({"Name": name, "Driver": "overlay"})
}

async fn names(client: &Client, filters: &str) -> Result<String, String> {
    let reply = client.get(&format!("/networks?filters={filters}")).await;
    let list = reply.json().as_array().cloned().ok_or_else(|| reply.message())?;
    let mut names: Vec<_> = list.iter().map(|it| it["Name"].as_str().unwrap_or("").to_owned()).collect();
    names.sort();
    Ok(names.join(" "))
}

#[test]
fn a_network_is_shown_with_what_it_was_given_and_found_by_name_id_and_the_beginning_of_one() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let asked = json!({
            "Name": "front", "Driver": "overlay", "Attachable": true, "Labels": {"a": "b"}, "Options": {"encrypted": ""},
            "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.88.0.0/24", "Gateway": "10.88.0.9"}]},
        });
        let id = create(&client, asked).await;
        for text in ["front", &id, &id[..20]] {
            let shown = client.get(&format!("/networks/{text}?verbose=true&scope=swarm")).await.json();
            assert_eq!((&shown["Id"], &shown["Name"], &shown["Scope"]), (&json!(id), &json!("front"), &json!("swarm")));
            assert_eq!(shown["IPAM"]["Config"], json!([{"Subnet": "10.88.0.0/24", "Gateway": "10.88.0.9"}]));
            let options = json!({"com.docker.network.driver.overlay.vxlanid_list": "4096", "encrypted": ""});
            assert_eq!((&shown["Options"], &shown["Labels"]), (&options, &json!({"a": "b"})));
            assert_eq!((&shown["Attachable"], &shown["Containers"]), (&json!(true), &Value::Null));
        }
        let missing = client.get("/networks/nope").await;
        assert_eq!((missing.status, missing.message().as_str()), (404, "network nope not found"));
        let again = client.post("/networks/create", &overlay("front")).await;
        assert_eq!((again.status, again.message().as_str()), (409, "network with name front already exists"));
        create(&client, overlay("back")).await;
        let back = client.get("/networks/back").await.json();
        assert_eq!(back["IPAM"]["Config"], json!([{"Subnet": "10.0.0.0/20", "Gateway": "10.0.0.1"}]));
        let body = json!({"Name": "x", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.0.0.0/16"}]}});
        let overlaps = client.post("/networks/create", &body).await;
        assert_eq!(overlaps.status, 400);
        assert!(overlaps.message().starts_with("subnet 10.0.0.0/16 overlaps with 10.0.0.0/20 of network back ("));
    });
}

#[test]
fn networks_of_the_cluster_and_of_the_machine_are_one_list() {
    play(async || {
        let (_stage, client) = beside_an_engine().await;
        let id = create(&client, json!({"Name": "front", "Driver": "overlay", "Labels": {"a": "b"}})).await;
        assert_eq!(names(&client, "").await, Ok("bridge front".into()));
        assert_eq!(names(&client, r#"{"scope":["swarm"]}"#).await, Ok("front".into()));
        assert_eq!(names(&client, r#"{"driver":["bridge"]}"#).await, Ok("bridge".into()));
        for filter in
            [r#"{"name":["ron"]}"#, r#"{"label":["a=b"]}"#, r#"{"driver":["overlay"]}"#, r#"{"type":["custom"]}"#]
        {
            let both = format!("{},\"scope\":[\"swarm\"]}}", &filter[..filter.len() - 1]);
            assert_eq!(names(&client, &both).await, Ok("front".into()), "{filter}");
        }
        assert_eq!(names(&client, &format!(r#"{{"id":["{id}"],"scope":["swarm"]}}"#)).await, Ok("front".into()));
        assert_eq!(names(&client, r#"{"colour":["red"]}"#).await, Err("invalid filter 'colour'".into()));
        for text in ["bridge", "e98"] {
            assert_eq!(client.get(&format!("/networks/{text}")).await.json()["Name"], "bridge", "{text}");
        }
        let swarm = client.get("/networks/bridge?scope=swarm").await;
        assert_eq!((swarm.status, swarm.message().as_str()), (404, "network bridge not found"));
    });
}

#[test]
fn a_local_network_is_the_engines_and_has_no_name_of_the_clusters() {
    play(async || {
        let (stage, client) = beside_an_engine().await;
        let made = client.post("/networks/create", &json!({"Name": "own", "Driver": "bridge"})).await;
        assert_eq!(made.json()["Id"], "e98made");
        assert_eq!(stage.state().all::<Network>().len(), 0);
        create(&client, overlay("front")).await;
        let taken = client.post("/networks/create", &json!({"Name": "front", "Driver": "bridge"})).await;
        assert_eq!((taken.status, taken.message().as_str()), (409, "network with name front already exists"));
        assert_eq!(client.post("/networks/bridge/connect", &json!({"Container": "c"})).await.status, 200);
        let connected = client.post("/networks/front/connect", &json!({"Container": "c"})).await;
        let words = "Essaim does not have docker network connect for networks of the cluster such as front yet";
        assert_eq!((connected.status, connected.message().as_str()), (501, words));
        let disconnected = client.post("/networks/front/disconnect", &json!({"Container": "c"})).await;
        assert!(
            disconnected.message().starts_with("Essaim does not have docker network disconnect"),
            "{}",
            disconnected.message()
        );
    });
}

#[test]
fn a_network_is_removed_once_and_a_prune_leaves_that_of_published_ports() {
    play(async || {
        let (_stage, client) = beside_an_engine().await;
        for name in ["front", "kept", "old"] {
            create(&client, json!({"Name": name, "Driver": "overlay", "Labels": {"of": name}})).await;
        }
        create(&client, json!({"Name": "ingress", "Driver": "overlay", "Ingress": true})).await;
        let second =
            client.post("/networks/create", &json!({"Name": "mine", "Driver": "overlay", "Ingress": true})).await;
        assert_eq!((second.status, second.message().as_str()), (409, "ingress network (ingress) is already present"));
        assert_eq!(client.send("DELETE", "/networks/front", None).await.status, 204);
        let gone = client.send("DELETE", "/networks/front", None).await;
        assert_eq!((gone.status, gone.message().as_str()), (404, "network front not found"));
        let wrong = client.send("POST", r#"/networks/prune?filters={"name":["x"]}"#, None).await;
        assert_eq!((wrong.status, wrong.message().as_str()), (400, "invalid filter 'name'"));
        let pruned = client.send("POST", r#"/networks/prune?filters={"label!":["of=kept"]}"#, None).await;
        assert_eq!(pruned.status, 404, "the engine of the test knows no such request");
        let pruned = client.send("POST", "/networks/prune", None).await.json();
        let deleted: Vec<&str> =
            pruned["NetworksDeleted"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(deleted, ["lonely", "kept", "old"]);
        assert_eq!(names(&client, r#"{"scope":["swarm"]}"#).await, Ok("ingress".into()));
    });
}

#[test]
fn a_node_outside_of_a_cluster_says_how_to_begin_one_and_a_worker_sends_to_a_manager() {
    play(async || {
        let stage = Stage::alone().await;
        let refused = stage.client().post("/networks/create", &overlay("front")).await;
        assert_eq!(refused.status, 403);
        assert!(refused.message().starts_with("This node is not a swarm manager. Use \"docker swarm init\""));
        assert_eq!(names(&stage.client(), "").await, Ok(String::new()));
        let worker = Stage::worker().await;
        let refused = worker.client().post("/networks/create", &overlay("front")).await;
        assert_eq!(refused.status, 503);
        assert!(refused.message().contains("Worker nodes can't be used to view or modify cluster state"));
    });
}

#[test]
fn a_new_cluster_has_the_network_of_published_ports_out_of_its_own_pool() {
    play(async || {
        let stage = Stage::alone().await;
        let client = stage.client();
        let init = json!({
            "ListenAddr": "10.0.0.2:2377", "AdvertiseAddr": "10.0.0.2:2377", "DefaultAddrPool": ["10.20.0.0/16"],
            "SubnetSize": 26,
        });
        let begun = client.post("/swarm/init", &init).await;
        assert_eq!(begun.status, 200, "{}", begun.message());
        let ingress = client.get("/networks/ingress").await.json();
        assert_eq!((&ingress["Ingress"], &ingress["Name"]), (&json!(true), &json!("ingress")));
        assert_eq!(ingress["IPAM"]["Config"], json!([{"Subnet": "10.20.0.0/26", "Gateway": "10.20.0.1"}]));
        assert_eq!(ingress["Options"], json!({"com.docker.network.driver.overlay.vxlanid_list": "4096"}));
        let swarm = client.get("/swarm").await.json();
        assert_eq!((&swarm["DefaultAddrPool"], &swarm["SubnetSize"]), (&json!(["10.20.0.0/16"]), &json!(26)));
    });
}
