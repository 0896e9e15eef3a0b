//! Routes of nouns that Docker has and Essaim does not have yet: containers, images, volumes, networks, secrets.
//!
//! Lists of them are empty and single objects are not found, in Docker's words, because clients ask for all kinds in
//! passing (`docker inspect`, completion, dashboards). A request that would create or change such an object is refused.

use crate::ask::Path;
use crate::face::Face;
use crate::reply::{Answer, Refused, json};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use essaim_docker::error::texts;
use essaim_model::{Refusal, RefusalKind};
use essaim_node::Standing;
use serde_json::{Value, json as literal};

pub(super) fn router() -> Router<Face> {
    Router::new()
        .route("/networks", get(no_objects))
        .route("/networks/create", post(create_network))
        .route("/networks/{id}", get(no_network).delete(no_network))
        .route("/secrets", get(no_managed_objects))
        .route("/secrets/create", post(create_secret))
        .route("/secrets/{id}", get(no_secret).delete(no_secret))
        .route("/volumes", get(no_volumes))
        .route("/volumes/create", post(create_volume))
        .route("/volumes/{id}", get(no_volume).delete(no_volume))
        .route("/containers/json", get(no_objects))
        .route("/containers/create", post(create_container))
        .route("/containers/{id}/json", get(no_container))
        .route("/images/json", get(no_objects))
        .route("/images/create", post(create_image))
        .route("/images/{*name}", get(no_image))
        .route("/plugins", get(no_objects))
        .route("/plugins/{*name}", get(no_plugin))
}

async fn no_objects() -> Answer {
    Ok(json(&[(); 0]))
}

/// An empty list of a noun that only managers can list; refused on other nodes.
async fn no_managed_objects(State(face): State<Face>) -> Answer {
    face.control()?;
    no_objects().await
}

async fn no_volumes() -> Answer {
    let none: Value = literal!({"Volumes": [], "Warnings": null});
    Ok(json(&none))
}

/// Refuses to create a network. Outside of a cluster Swarm answers this request with 403.
async fn create_network(State(face): State<Face>) -> Answer {
    if matches!(face.node.standing(), Standing::Inactive) {
        return Err(Refused::with_status(StatusCode::FORBIDDEN, texts::no_swarm()));
    }
    Err(texts::unsupported("docker network create").into())
}

async fn create_secret(State(face): State<Face>) -> Answer {
    face.control()?;
    Err(texts::unsupported("docker secret create").into())
}

async fn create_volume() -> Answer {
    Err(texts::unsupported("docker volume create").into())
}

async fn create_container() -> Answer {
    Err(texts::unsupported("docker run").into())
}

async fn create_image() -> Answer {
    Err(texts::unsupported("docker pull").into())
}

async fn no_network(Path(id): Path) -> Answer {
    Err(Refusal::not_found("network", id).into())
}

async fn no_secret(State(face): State<Face>, Path(id): Path) -> Answer {
    face.control()?;
    Err(Refusal::not_found("secret", id).into())
}

async fn no_volume(Path(id): Path) -> Answer {
    Err(Refusal::not_found("volume", id).into())
}

async fn no_container(Path(id): Path) -> Answer {
    Err(Refusal::new(RefusalKind::NotFound, format!("No such container: {id}")).into())
}

async fn no_image(Path(name): Path) -> Answer {
    let name = name.strip_suffix("/json").unwrap_or(&name);
    let tag = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) { "" } else { ":latest" };
    Err(Refusal::new(RefusalKind::NotFound, format!("No such image: {name}{tag}")).into())
}

async fn no_plugin(Path(name): Path) -> Answer {
    let name = name.strip_suffix("/json").unwrap_or(&name);
    Err(Refusal::new(RefusalKind::NotFound, format!("plugin \"{name}\" not found")).into())
}
