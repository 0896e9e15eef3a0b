//! `/events` of a node with an engine, outside of any cluster: the engine's past and present events.

use super::engine::{World, limits, read_until};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::routing::get;
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

type Asked = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

/// A line as an engine writes it.
fn line(name: &str, nanos: i64) -> Bytes {
    let seconds = nanos / 1_000_000_000;
    let actor = format!(r#"{{"ID":"{name}","Attributes":{{}}}}"#);
    let text = format!(
        r#"{{"Type":"container","Action":"start","Actor":{actor},"scope":"local","time":{seconds},"timeNano":{nanos}}}"#
    );
    (text + "\n").into()
}

/// An engine with two past events and one present event, whose stream then ends as when the engine is stopped; and the
/// queries that it was asked with.
fn engine() -> (Router, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let events = move |Query(query): Query<BTreeMap<String, String>>| async move {
        let lines = match query.contains_key("until") {
            true => vec![line("old", 1_000_000_001), line("older", 1_000_000_000)],
            false => vec![line(&format!("new{}", seen.lock().expect("unpoisoned").len()), 9_000_000_000_000_000_000)],
        };
        seen.lock().expect("unpoisoned").push(query);
        Body::from_stream(stream::iter(lines).map(Ok::<_, Infallible>))
    };
    (Router::new().route("/v1.41/events", get(events)), asked)
}

#[tokio::test]
async fn past_events_come_in_the_order_of_their_times_before_the_present_ones() {
    let (routes, asked) = engine();
    let world = World::with_engine(routes).await;
    let mut client =
        world.send("GET /v1.50/events?since=1&filters=%7B%22type%22%3A%5B%22container%22%5D%7D HTTP/1.1").await;
    let told = read_until(&mut client, "new1").await;
    let places = ["older\"", "old\"", "new1\""].map(|name| told.find(name).expect(name));
    assert!(places.is_sorted(), "{told}");
    // The engine is asked again after its stream ended, for what is newer than what it has sent.
    read_until(&mut client, "new2").await;
    let asked = asked.lock().expect("unpoisoned").clone();
    assert_eq!(asked[0]["since"], "1.000000000");
    assert_eq!(asked[0]["filters"], r#"{"type":["container"]}"#);
    assert_eq!(asked[2]["since"], "9000000000.000000001");
}

#[tokio::test]
async fn a_stream_whose_end_is_past_has_past_events_only_and_ends() {
    let (routes, asked) = engine();
    let world = World::with_engine(routes).await;
    let answer = world.ask("GET /v1.50/events?since=1&until=5 HTTP/1.1").await;
    assert!(answer.contains("older") && answer.ends_with("0\r\n\r\n") && !answer.contains("new"), "{answer}");
    assert_eq!(asked.lock().expect("unpoisoned")[0]["until"], "5.000000000");
    // What only the cluster has is not asked of the engine, which would refuse a filter that it does not know.
    for filters in ["%7B%22task%22%3A%5B%22web%22%5D%7D", "%7B%22type%22%3A%5B%22service%22%5D%7D"] {
        let answer = world.ask(&format!("GET /events?since=1&until=5&filters={filters} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("old"), "{answer}");
    }
    assert_eq!(asked.lock().expect("unpoisoned").len(), 1);
}

#[tokio::test]
async fn an_engine_that_is_started_later_joins_the_stream() {
    let world = World::with_limits(limits()).await;
    let mut client = world.send("GET /events HTTP/1.1").await;
    read_until(&mut client, "\r\n\r\n").await;
    let (routes, _) = engine();
    let routes = routes.route("/events", get(|| async { line("first", 9_000_000_000_000_000_000) }));
    world.start_engine(routes).await;
    read_until(&mut client, "first").await;
}
