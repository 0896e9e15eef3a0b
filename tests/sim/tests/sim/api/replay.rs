//! Replay of recorded requests: sends what the stock docker CLI sent, recording by recording, to a cluster as the
//! recording shows it.
//!
//! The status, the text of a refusal (without Swarm's prefix `rpc error: code = … desc = `, which is left out on
//! purpose) and the JSON of the answer are compared. Each recording that is not covered is listed with the reason.
//!
//! The recordings are condensed: repeated polls are thinned out, and ids begin with a 0, since Swarm's ids may exceed
//! 128 bits.

use super::engine;
use super::shape::differences;
use super::stage::{Client, FIRST, Stage};
use super::world::{self, Session};
use crate::stories::within;
use essaim::testkit::run::in_virtual_time;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Wall time after which the replay counts as hung. All recordings take some ten seconds without optimization on a busy
/// machine.
const WALL_MAX: Duration = Duration::from_secs(300);

/// Recordings that are not replayed, by the beginning of their name, and why.
const NOT_COVERED: &[(&str, &str)] = &[
    ("001", "names Essaim as the platform"),
    ("002", "names Essaim as the platform"),
    ("020", "its refusal names the digest of the recorded root"),
    ("061", "the root cannot be rotated yet: refused in words"),
    ("062", "autolock is refused in words"),
    ("063", "autolock is refused in words"),
    ("064", "autolock is refused in words"),
    ("065", "the root was rotated before, which we refuse in words"),
    ("142", "its cluster lives: see `contract`"),
    ("146", "its cluster lives: see `contract`"),
    ("155", "publishes a port: we warn that there is no mesh yet"),
    ("184", "its cluster lives: see `contract`"),
    ("186", "its cluster lives: see `contract`"),
    ("187", "its cluster lives: see `contract`"),
    ("218", "a task of a lost node is never shown as running, on purpose"),
    ("219", "a task of a lost node does not count as running, on purpose"),
    ("230", "asks for autolock and address pools: refused in words"),
    ("231", "a locked swarm: autolock comes later"),
    ("232", "a locked swarm: autolock comes later"),
    ("233", "a locked swarm: autolock comes later"),
    ("234", "a locked swarm: autolock comes later"),
    ("237", "the cluster that it joins has two managers, so we warn"),
    ("239", "its cluster lives: see `contract`"),
    ("240", "its cluster lives: see `contract`"),
    ("164", "the secret is in use by a service: services with secrets come later"),
    ("241", "without a quorum: see `contract`"),
    ("242", "without a quorum: see `contract`"),
    ("243", "without a quorum: see `contract`"),
    ("244", "a locked swarm: autolock comes later"),
];

/// All recordings.
pub(crate) fn recordings() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../fixtures/transcripts.json")).expect("a list of recordings")
}

fn not_covered(name: &str) -> bool {
    NOT_COVERED.iter().any(|(start, _)| name.starts_with(start))
}

#[test]
fn every_covered_recording_is_answered_as_it_was() {
    within(WALL_MAX, replay_all);
}

fn replay_all() {
    let (mut wrong, mut replayed) = (String::new(), 0);
    let mut session = Session::default();
    for recording in recordings() {
        let name = recording["name"].as_str().expect("a name");
        if !not_covered(name) {
            replayed += 1;
            // Each recording has a runtime of its own, so that no task of an earlier recording's nodes is left.
            for difference in in_virtual_time(1, replay(&recording, &session)) {
                let _ = writeln!(wrong, "{name}: {difference}");
            }
        }
        session.learn(&recording);
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(replayed >= 150, "only {replayed} recordings were replayed");
}

#[test]
fn every_reason_for_not_covering_a_recording_names_one() {
    let recordings = recordings();
    for (start, _) in NOT_COVERED {
        let known = recordings.iter().any(|it| it["name"].as_str().is_some_and(|name| name.starts_with(start)));
        assert!(known, "{start} is not in the fixtures");
    }
}

/// Sends a recording's requests in order; returns a line for each answer that differs from the recorded one.
async fn replay(recording: &Value, session: &Session) -> Vec<String> {
    let stage = session.world(recording).await;
    let info = recording["exchanges"].as_array().into_iter().flatten().find(|it| it["path"] == "/info");
    let hostname = info.and_then(|info| info["response"]["Name"].as_str()).unwrap_or("node1");
    let client =
        Client::beside(hostname, stage.node(), engine::of(recording["exchanges"].as_array().expect("exchanges")));
    let kind = world::engine_of(recording["exchanges"].as_array().map_or(&[], Vec::as_slice));
    let mut found = Vec::new();
    // The recorded id and ours of the object that was created last: a service, or the node that founded a cluster.
    let mut drawn: Option<(String, String)> = None;
    let name = recording["name"].as_str().unwrap_or("");
    let exchanges = recording["exchanges"].as_array().expect("exchanges");
    // The id of the asked node in the recording, from the moment on at which our node has an id of its own.
    let mut joined = if recording["swarm"] == "active/worker" { world::own(exchanges) } else { None };
    for exchange in exchanges {
        let method = exchange["method"].as_str().expect("a method");
        let recorded = exchange["path"].as_str().expect("a path");
        if recorded.starts_with("/networks") {
            continue;
        }
        let mut path = recorded.to_owned();
        if let Some((theirs, ours)) = &drawn {
            path = path.replace(theirs, ours);
        }
        if let Some(at) = path.find("version=") {
            let end = path[at..].find('&').map_or(path.len(), |and| at + and);
            path.replace_range(at..end, &format!("version={}", world::version(&stage, &path).0));
        }
        if path.contains("/logs?") && path.contains("follow=1") {
            // The recorded client went away at some time; ours reads to the end.
            path.push_str("&until=1");
        }
        let request = exchange["request"].clone();
        let request = match recorded {
            "/swarm/init" | "/swarm/join" if request.is_object() => here(request, name, &stage).await,
            _ => request,
        };
        let body = if path.starts_with("/services") && request.is_object() && exchange["status"].as_u64() < Some(300) {
            world::possible(&request, kind)
        } else {
            request.clone()
        };
        let reply = client.send(method, &format!("/v1.50{path}"), (!body.is_null()).then_some(&body)).await;
        let status = exchange["status"].as_u64().expect("a status");
        if u64::from(reply.status) != status {
            found.push(format!("{method} {path}: {status} became {} {:?}", reply.status, reply.message()));
            continue;
        }
        // A node that joined has an id that our manager drew; it replaces the recorded id in the expected answer.
        let ours = stage.node().standing().membership().map(|part| part.node.to_string());
        let response = &match (&joined, ours) {
            (Some(theirs), Some(ours)) => {
                serde_json::from_str(&exchange["response"].to_string().replace(theirs, &ours))
                    .expect("an id in place of another")
            }
            _ => exchange["response"].clone(),
        };
        if recorded == "/swarm/join" && status < 300 {
            joined = world::own(exchanges);
        }
        if status >= 400 {
            let words = response["message"].as_str().unwrap_or("");
            let words = words.split_once(" desc = ").map_or(words, |(_, words)| words);
            // Our refusal may continue after the recorded text, with a colon, what is wrong and what to do.
            let said = reply.message();
            if said != words && !said.starts_with(&format!("{words}: ")) {
                found.push(format!("{method} {path}: {words:?} became {:?}", reply.message()));
            }
            continue;
        }
        if method == "POST"
            && let (Some(theirs), Some(ours)) = (id_of(response), id_of(&reply.json()))
        {
            drawn = Some((theirs, ours));
            continue;
        }
        if drawn.is_some() || recorded.contains("/logs") {
            // These answers show an object that our node created, or logs: only their status is compared.
            continue;
        }
        if reply.body.is_empty() || response.is_null() {
            continue;
        }
        found.extend(differences(response, &reply.json()).into_iter().map(|it| format!("{method} {path}: {it}")));
        if method == "POST" {
            break;
        }
    }
    found
}

/// A request to found or to join a cluster in which the recorded addresses and token are replaced by those of the
/// simulated machines.
pub(crate) async fn here(mut request: Value, name: &str, stage: &Stage) -> Value {
    request["AdvertiseAddr"] = "".into();
    if request["JoinToken"].is_string() {
        request["RemoteAddrs"] = serde_json::json!([FIRST]);
    }
    let is_real = |token: &str| token.starts_with("SWMTKN-") && !name.contains("bad-token");
    if request["JoinToken"].as_str().is_some_and(is_real) {
        let other = Client::on("node1", &stage.other());
        let swarm = other.get("/swarm").await.json();
        let role = if name.contains("join-manager") { "Manager" } else { "Worker" };
        request["JoinToken"] = swarm["JoinTokens"][role].clone();
        if name.contains("old-token") {
            let path = format!("/swarm/update?version={}&rotateWorkerToken=true", swarm["Version"]["Index"]);
            assert_eq!(other.post(&path, &swarm["Spec"]).await.status, 200, "the token is rotated");
        }
    }
    request
}

/// The id in the answer to a creation: the field `ID`, or for `/swarm/init` the bare text.
fn id_of(response: &Value) -> Option<String> {
    response["ID"].as_str().or(response.as_str()).map(str::to_owned)
}
