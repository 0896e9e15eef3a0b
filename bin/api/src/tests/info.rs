//! `_ping`, `version` and `info` of a node with an engine.

use super::engine::{World, limits};
use crate::engine::Limits;
use axum::Router;
use axum::routing::get;
use std::time::Duration;
use tokio::net::UnixListener;

#[tokio::test]
async fn a_ping_announces_the_version_and_the_builder_of_an_older_engine() {
    let world = World::with_engine(Router::new()).await;
    let answer = world.ask("GET /_ping HTTP/1.1").await;
    assert!(answer.contains("api-version: 1.41\r\n"), "{answer}");
    assert!(answer.contains("builder-version: 1\r\n") && answer.contains("swarm: inactive\r\n"), "{answer}");
}

#[tokio::test]
async fn without_its_engine_a_node_announces_its_own_version_and_says_in_info_what_is_wrong() {
    let world = World::with_limits(limits()).await;
    let answer = world.ask("GET /_ping HTTP/1.1").await;
    assert!(answer.contains("api-version: 1.51\r\n") && answer.ends_with("OK"), "{answer}");
    let answer = world.ask("GET /v1.50/info HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""Name":"node1""#), "{answer}");
    assert!(
        answer.contains("WARNING: the Docker Engine at unix://") && answer.contains("cannot be reached"),
        "{answer}"
    );
    assert!(world.ask("GET /v1.50/version HTTP/1.1").await.contains(r#""Version":"0."#));
    // The engine is started later, and is found.
    let engine =
        Router::new().route("/v1.41/info", get(|| async { r#"{"Containers":7,"Name":"machine","Warnings":null}"# }));
    world.start_engine(engine).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let answer = world.ask("GET /v1.50/info HTTP/1.1").await;
    assert!(answer.contains(r#"{"Containers":7,"Name":"node1","Warnings":null,"Swarm":{"#), "{answer}");
}

#[tokio::test]
async fn an_engine_that_hangs_delays_neither_ping_nor_info_for_long() {
    let world = World::with_limits(Limits { describe: Duration::from_millis(50), ..limits() }).await;
    let _hanging = UnixListener::bind(world.engine_path()).expect("bound");
    assert!(world.ask("GET /_ping HTTP/1.1").await.contains("api-version: 1.51\r\n"));
    let answer = world.ask("GET /info HTTP/1.1").await;
    assert!(answer.contains("does not answer"), "{answer}");
}
