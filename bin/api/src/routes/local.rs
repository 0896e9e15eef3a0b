//! Paths that concern one machine: containers, images, volumes, local networks, builds, plugins, registries. They are
//! handed on to the machine's Docker Engine as they are.
//!
//! What is handed on is a table of first segments and not "all that is left", because an engine must never be told of
//! services, nodes or secrets by way of this socket (`docker swarm init` would make it a Swarm node of its own). Volumes
//! of the cluster, which Essaim does not have yet, are refused here, before the engine refuses them with the advice to
//! start Swarm. Networks have routes of their own ([`networks`](super::networks)), which hand on what is the machine's.
//!
//! Without an engine, [`absent`] answers.

use super::absent;
use crate::ask::body;
use crate::face::Face;
use crate::reply::{Answer, Refused, json};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use essaim_docker::ErrorBody;
use essaim_docker::error::texts;
use essaim_model::Refusal;
use serde_json::Value;

/// First segments of the paths that concern one machine.
const NOUNS: [&str; 13] = [
    "auth",
    "build",
    "commit",
    "containers",
    "distribution",
    "exec",
    "grpc",
    "images",
    "networks",
    "plugins",
    "session",
    "system",
    "volumes",
];

/// Answers every path that has no route of its own.
pub(super) async fn answer(State(face): State<Face>, request: Request) -> Answer {
    let path = request.uri().path().to_owned();
    if !is_local(&path) {
        let body = ErrorBody { message: "page not found".into() };
        return Ok((StatusCode::NOT_FOUND, json(&body)).into_response());
    }
    let request = match (request.method(), path.as_str()) {
        (&Method::POST, "/volumes/create") => only_local_volume(request).await?,
        (&Method::PUT, _) if path.starts_with("/volumes/") => {
            return Err(texts::missing("volumes of the cluster (docker volume update)", "").into());
        }
        _ => request,
    };
    hand_on(&face, request).await
}

/// The answer of the machine's engine, or the one in its place on a node without an engine.
pub(super) async fn hand_on(face: &Face, request: Request) -> Answer {
    match &face.engine {
        Some(engine) => engine.hand_on(request).await,
        None => absent::answer(request.method(), request.uri().path()),
    }
}

/// Whether a path concerns one machine. A path that an engine would tidy up into another one (`/images/../swarm`) does
/// not.
fn is_local(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    let tidy = path.starts_with('/') && segments.clone().all(|segment| !is_dots(segment));
    tidy && segments.next().is_some_and(|noun| NOUNS.contains(&noun))
}

/// Whether a segment is `.` or `..`, written plainly or with percent signs.
fn is_dots(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    plain == "." || plain == ".."
}

/// What there is in place of volumes of the cluster.
const VOLUMES: &str =
    "without --type, the volume is one of this node, to which essaim.sticky binds the tasks that use it";

/// Refuses a volume of the cluster.
async fn only_local_volume(request: Request) -> Result<Request, Refused> {
    let (parts, bytes) = body(request).await?;
    let asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if asked.get("ClusterVolumeSpec").is_some_and(|spec| !spec.is_null()) {
        let refusal: Refusal = texts::missing("volumes of the cluster (docker volume create --type)", VOLUMES);
        return Err(refusal.into());
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_one_machine_reach_the_engine() {
        for path in ["/containers/json", "/images/a/b:c/json", "/build", "/session", "/distribution/x/json", "/auth"] {
            assert!(is_local(path), "{path}");
        }
        for path in [
            "/swarm/init",
            "/%73warm/init",
            "/images/../swarm/init",
            "/images/%2e%2E/swarm/init",
            "/images/./x",
            "/services/x/unknown",
            "/containersx",
            "/",
            "",
            "/_ping/x",
        ] {
            assert!(!is_local(path), "{path}");
        }
    }
}
