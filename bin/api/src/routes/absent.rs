//! Answers about one machine on a node without a Docker Engine.
//!
//! Lists are empty and single objects are not found, in Docker's words, because clients ask for all kinds in passing
//! (`docker inspect`, completion, dashboards). Everything else is refused in words that say what is missing.

use crate::reply::{Answer, json};
use axum::http::Method;
use essaim_model::{Refusal, RefusalKind};
use serde_json::{Value, json as literal};

/// Commands by which people know a request: its method, its path, and the command.
const COMMANDS: [(&str, &str, &str); 12] = [
    ("POST", "/auth", "docker login"),
    ("POST", "/build", "docker build"),
    ("POST", "/commit", "docker commit"),
    ("POST", "/containers/create", "docker run"),
    ("POST", "/containers/prune", "docker container prune"),
    ("POST", "/images/create", "docker pull"),
    ("POST", "/images/load", "docker load"),
    ("POST", "/images/prune", "docker image prune"),
    ("POST", "/networks/create", "docker network create"),
    ("POST", "/networks/prune", "docker network prune"),
    ("POST", "/volumes/create", "docker volume create"),
    ("POST", "/volumes/prune", "docker volume prune"),
];

/// Answers a request about one machine without an engine.
pub(super) fn answer(method: &Method, path: &str) -> Answer {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let Some((noun, rest)) = path.trim_start_matches('/').split_once('/') else {
        return match path.trim_start_matches('/') {
            "networks" | "plugins" if reads => Ok(json(&[(); 0])),
            "volumes" if reads => Ok(json(&literal!({"Volumes": [], "Warnings": null}))),
            _ => Err(needs_engine(method, path).into()),
        };
    };
    let finds = reads || *method == Method::DELETE;
    let name = rest.strip_suffix("/json").unwrap_or(rest);
    let refusal = match noun {
        "containers" | "images" if reads && rest == "json" => return Ok(json(&[(); 0])),
        "system" if reads && rest == "df" => return Ok(json(&nothing_stored())),
        "distribution" => {
            let text =
                format!("manifest unknown: no registry is asked for {name:?}: this node has no Docker Engine to ask");
            Refusal::new(RefusalKind::NotFound, text)
        }
        "networks" if finds => Refusal::not_found("network", name),
        "volumes" if finds => Refusal::not_found("volume", name),
        "containers" => match name.split('/').next() {
            Some(id) if !["create", "prune"].contains(&id) => {
                Refusal::new(RefusalKind::NotFound, format!("No such container: {id}"))
            }
            _ => needs_engine(method, path),
        },
        "images" if finds => {
            let tag = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) { "" } else { ":latest" };
            Refusal::new(RefusalKind::NotFound, format!("No such image: {name}{tag}"))
        }
        "plugins" if finds => Refusal::new(RefusalKind::NotFound, format!("plugin \"{name}\" not found")),
        "exec" => {
            let id = name.split('/').next().unwrap_or(name);
            Refusal::new(RefusalKind::NotFound, format!("No such exec instance: {id}"))
        }
        _ => needs_engine(method, path),
    };
    Err(refusal.into())
}

/// The answer to `docker system df` where nothing is stored.
fn nothing_stored() -> Value {
    literal!({"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []})
}

/// Refusal of a request that only a Docker Engine can answer.
fn needs_engine(method: &Method, path: &str) -> Refusal {
    let is_it = |known: &&(&str, &str, &str)| known.0 == method.as_str() && known.1 == path;
    let what = COMMANDS.iter().find(is_it).map_or_else(|| format!("{method} {path}"), |known| known.2.to_owned());
    let text = format!(
        "{what} needs a Docker Engine, and this node uses none: install one, and start the daemon again (--docker-host \
         names its socket if it is not the usual one)"
    );
    Refusal::new(RefusalKind::Unsupported, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    fn status(method: Method, path: &str) -> StatusCode {
        answer(&method, path).into_response().status()
    }

    #[test]
    fn lists_are_empty_objects_are_not_found_and_the_rest_names_what_is_missing() {
        for path in ["/networks", "/plugins", "/volumes", "/containers/json", "/images/json", "/system/df"] {
            assert_eq!(status(Method::GET, path), StatusCode::OK, "{path}");
        }
        for path in [
            "/networks/x",
            "/volumes/x",
            "/containers/x/json",
            "/containers/x/archive",
            "/images/a/b/json",
            "/plugins/x/json",
            "/exec/x/json",
            "/distribution/x/json",
        ] {
            assert_eq!(status(Method::GET, path), StatusCode::NOT_FOUND, "{path}");
        }
        for path in ["/containers/create", "/build", "/session", "/images/create", "/volumes/create", "/auth", "/grpc"]
        {
            assert_eq!(status(Method::POST, path), StatusCode::NOT_IMPLEMENTED, "{path}");
        }
        let refused = needs_engine(&Method::POST, "/containers/create");
        assert!(refused.text.starts_with("docker run needs a Docker Engine, and this node uses none: install one"));
        assert!(needs_engine(&Method::POST, "/session").text.starts_with("POST /session needs a Docker Engine"));
    }
}
