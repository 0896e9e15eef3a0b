//! The routes, one file for each noun.
//!
//! Every route works under `/` and under `/v1.NN/`: the prefix is removed before the route is looked up, since clients
//! in the field send any version, or none. Paths about one machine are handed on to its Docker Engine ([`local`]). An
//! unknown path is answered with 404 in JSON.

mod absent;
mod configs;
mod events;
mod exec;
mod local;
mod logs;
mod networks;
mod nodes;
mod objects;
mod own;
mod payloads;
mod secrets;
mod services;
mod swarm;
mod system;
mod tasks;

use crate::engine::ClientVersion;
use crate::face::Face;
use crate::reply::{Refused, json};
use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use essaim_docker::ErrorBody;
use essaim_docker::ping::{API_VERSION, MIN_API_VERSION};
use essaim_model::Refusal;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

/// The router with every route of the face.
pub fn router(face: Face) -> Router {
    let engine = face.engine.clone();
    let inner = TowerToHyperService::new(unversioned(face));
    Router::new().fallback(move |request: Request| {
        let (inner, engine) = (inner.clone(), engine.clone());
        async move {
            let mut response = match strip_version(request) {
                Ok(request) => inner.call(request).await.unwrap_or_else(|never| match never {}),
                Err(refused) => refused.into_response(),
            };
            let headers = response.headers_mut();
            let version = engine.map_or(HeaderValue::from_static(API_VERSION), |engine| engine.announced());
            headers.insert("Api-Version", version);
            headers
                .insert("Server", HeaderValue::from_static(concat!("Essaim/", env!("CARGO_PKG_VERSION"), " (linux)")));
            response
        }
    })
}

fn unversioned(face: Face) -> Router {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).delete(nodes::remove))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).delete(services::remove))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/logs", get(logs::of_service))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::inspect))
        .route("/tasks/{id}/logs", get(logs::of_task))
        .route("/events", get(events::stream))
        .route("/essaim/v1/tree", get(own::tree))
        .route("/essaim/v1/journal", get(own::journal))
        .route("/essaim/v1/members", get(own::members))
        .route("/essaim/v1/doctor", get(own::doctor))
        .route("/essaim/v1/exec", post(exec::execute))
        .route("/essaim/v1/services/{id}/specs", get(services::specs))
        .route("/essaim/v1/services/{id}/why", get(own::why))
        .route("/essaim/v1/debug/kill-actor", post(own::kill_actor))
        .merge(configs::router())
        .merge(networks::router())
        .merge(secrets::router())
        .method_not_allowed_fallback(|| async { message(StatusCode::METHOD_NOT_ALLOWED, "method not allowed") })
        .fallback(local::answer)
        .with_state(face)
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, json(&ErrorBody { message: text.into() })).into_response()
}

/// Removes `/v1.NN` from the path, and refuses a version that is not supported.
fn strip_version(mut request: Request) -> Result<Request, Refused> {
    let path_and_query = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let Some((version, rest)) = split_version(path_and_query) else { return Ok(request) };
    let number = |text: &str| {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        (major.parse::<u32>().unwrap_or(u32::MAX), minor.parse::<u32>().unwrap_or(u32::MAX))
    };
    let refused = |text: String| Err(Refused::from(Refusal::invalid(text)));
    if number(version) < number(MIN_API_VERSION) {
        return refused(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
             your client to a newer version"
        ));
    }
    if number(version) > number(API_VERSION) {
        return refused(format!("client version {version} is too new. Maximum supported API version is {API_VERSION}"));
    }
    let client = ClientVersion(version.to_owned());
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = rest.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(client);
    }
    Ok(request)
}

/// Splits `/v1.50/nodes?…` into `1.50` and `/nodes?…`.
fn split_version(path: &str) -> Option<(&str, &str)> {
    let versioned = path.strip_prefix("/v")?;
    let slash = versioned.find('/')?;
    let (version, rest) = versioned.split_at(slash);
    let (major, minor) = version.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(major) && digits(minor)).then_some((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_a_name_that_begins_like_one() {
        assert_eq!(split_version("/v1.50/nodes?a=b"), Some(("1.50", "/nodes?a=b")));
        for path in ["/version", "/v1/nodes", "/vx.1/y", "/volumes/v1.2", "/v1.50"] {
            assert_eq!(split_version(path), None, "{path}");
        }
    }
}
