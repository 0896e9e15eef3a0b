//! API tests that need a whole cluster: concurrent requests to several managers, and requests without a quorum.

use super::stage::Client;
use crate::stories::within;
use essaim::testkit::{self, Cluster, Fault};
use essaim_model::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const WALL_MAX: Duration = Duration::from_secs(300);

/// Plays a story on a cluster of this size; panics with the seed and the reason when it fails.
pub(super) fn tell(
    seed: u64,
    nodes: u16,
    managers: u16,
    story: impl AsyncFnOnce(&mut Cluster) -> Result<(), String> + Send + 'static,
) {
    within(WALL_MAX, move || testkit::cluster(seed).nodes(nodes).managers(managers).run(story))
        .unwrap_or_else(|failed| panic!("{failed}"));
}

fn publishing(name: &str, port: u16) -> Value {
    json!({
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "steady"}},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": port}]}
    })
}

async fn read(cluster: &Cluster) -> Result<Arc<State>, String> {
    cluster.control()?.read().await.map_err(|why| why.to_string())
}

/// Each manager checks the port against a state in which it is free, without knowing of the other managers' requests.
#[test]
fn of_creations_that_publish_the_same_port_at_the_same_time_on_different_managers_one_is_granted() {
    tell(41, 3, 3, async |cluster| {
        let clients = [1, 2, 3].map(|number| cluster.node(number).map(|node| Client::on("n", &node)));
        let [a, b, c] = clients;
        let (a, b, c) = (a?, b?, c?);
        for port in 8000..8010 {
            let (one, two, three) = (publishing("one", port), publishing("two", port), publishing("three", port));
            let answers = tokio::join!(
                a.post("/services/create", &one),
                b.post("/services/create", &two),
                c.post("/services/create", &three),
            );
            let answers = [answers.0, answers.1, answers.2];
            let granted = answers.iter().filter(|answer| answer.status == 201).count();
            assert_eq!(granted, 1, "{answers:?}");
            for refused in answers.iter().filter(|answer| answer.status != 201) {
                let start = format!("port '{port}' is already in use by service '");
                assert!(refused.status == 400 && refused.message().starts_with(&start), "{}", refused.message());
            }
            let state = read(cluster).await?;
            let names: Vec<_> = state.services().map(|service| service.spec.name.to_string()).collect();
            for name in names.iter().filter(|name| ["one", "two", "three"].contains(&name.as_str())) {
                assert_eq!(a.send("DELETE", &format!("/services/{name}"), None).await.status, 200);
            }
        }
        cluster.settled().await.map(drop)
    });
}

#[test]
fn without_a_quorum_the_words_of_the_store_come_through_and_info_answers() {
    tell(42, 3, 3, async |cluster| {
        let service = read(cluster).await?.services().next().ok_or("there is a first service")?.id;
        for number in [2, 3] {
            cluster.strike(Fault::Crash(number)).await?;
        }
        cluster.pass(Duration::from_secs(5)).await?;
        let client = Client::on("n1", &cluster.node(1)?);
        for path in ["/nodes", "/services", "/tasks", "/swarm", "/configs"] {
            let reply = client.get(path).await;
            assert_eq!(reply.status, 500, "{path}");
            let words = reply.message();
            assert!(words.contains("does not have a leader") && words.contains("n2"), "{path}: {words}");
        }
        let created = client.post("/services/create", &publishing("x", 80)).await;
        assert_eq!(created.status, 500, "{}", created.message());
        assert_eq!(client.send("DELETE", &format!("/services/{service}"), None).await.status, 500);
        let info = client.get("/info").await;
        assert_eq!(info.status, 200);
        assert_eq!(info.json()["Swarm"]["ControlAvailable"], true);
        cluster.settled().await.map(drop)
    });
}
