//! Routes under `/secrets`, a noun that Docker has and Essaim does not have yet: the list is empty, single objects are not
//! found, and a new one is refused.

use crate::ask::Path;
use crate::face::Face;
use crate::reply::{Answer, json};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use essaim_docker::error::texts;
use essaim_model::Refusal;

pub(super) fn router() -> Router<Face> {
    Router::new()
        .route("/secrets", get(list))
        .route("/secrets/create", post(create))
        .route("/secrets/{id}", get(find).delete(find))
}

/// An empty list; refused on nodes that are no managers.
async fn list(State(face): State<Face>) -> Answer {
    face.control()?;
    Ok(json(&[(); 0]))
}

async fn create(State(face): State<Face>) -> Answer {
    face.control()?;
    Err(texts::unsupported("docker secret create").into())
}

async fn find(State(face): State<Face>, Path(id): Path) -> Answer {
    face.control()?;
    Err(Refusal::not_found("secret", id).into())
}
