//! A command against a cluster at rest: the cluster that the recording shows, whose state changes only by requests.
//!
//! The shapes of the daemon's answers are compared, too, until the command has changed something.

use super::bridge::Bridge;
use super::recorded::Command;
use super::words::Said;
use crate::api::engine;
use crate::api::replay::here;
use crate::api::stage::Client;
use crate::api::world;
use essaim::testkit::run::in_virtual_time;
use std::collections::BTreeMap;

/// Runs the command; returns what it said, and what differs in the answers that it got.
pub(super) fn run(command: &Command) -> (Said, Vec<String>) {
    in_virtual_time(1, play(command))
}

async fn play(command: &Command) -> (Said, Vec<String>) {
    let stage = command.session.world(&command.recording).await;
    let exchanges = command.exchanges();
    let info = exchanges.iter().find(|it| it["path"] == "/info");
    let hostname = info.and_then(|info| info["response"]["Name"].as_str()).unwrap_or("node1");
    let client = Client::beside(hostname, stage.node(), engine::of(exchanges));
    let (mut found, mut changed) = (Vec::new(), false);
    let bridge = Bridge::run(command.argv.iter().map(String::as_str), &command.stdin);
    // The thread waits for the CLI without letting the runtime run: virtual time stands still.
    while let Some(request) = bridge.next() {
        if let Some((status, answer)) = command.of_registry(&request.path) {
            request.answer(status, &BTreeMap::new(), answer.to_string().as_bytes());
            continue;
        }
        let body = match request.path.as_str() {
            "/swarm/init" | "/swarm/join" => Some(here(request.body.clone(), &command.name, &stage).await),
            _ => Some(request.body.clone()).filter(|body| !body.is_null()),
        };
        let (method, path) = (request.method.clone(), request.path.clone());
        let reply = client.send(&method, &format!("/v1.50{path}"), body.as_ref()).await;
        found.extend(command.compare_status(&method, &path, reply.status));
        // A node that joined has an id that our manager drew.
        let drawn = stage.node().standing().membership().map(|part| part.node.to_string());
        let mut body = String::from_utf8_lossy(&reply.body).into_owned();
        if let (Some(drawn), Some(theirs)) = (drawn, world::own(exchanges)) {
            body = body.replace(&drawn, &theirs);
        }
        if method == "GET"
            && !changed
            && let Ok(ours) = serde_json::from_str(&body)
        {
            found.extend(command.compare_shape(&method, &path, &ours));
        }
        changed |= method == "POST" || method == "DELETE";
        request.answer(reply.status, &reply.headers, &reply.body);
    }
    (bridge.said(), found)
}
