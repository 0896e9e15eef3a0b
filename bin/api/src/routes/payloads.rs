//! The routes of secrets and configs that Docker does not have: `rotate`.

use crate::ask::{Json, Path};
use crate::face::Face;
use crate::reply::{Answer, json};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use essaim_docker::object::Plain;
use essaim_docker::own::{Rotated, Rotation};
use essaim_docker::resolve;
use essaim_model::PayloadNoun;

/// The routes of the noun `N` under `/essaim/v1/PLURAL`.
pub(super) fn router<N: Plain + PayloadNoun>(plural: &str) -> Router<Face> {
    Router::new().route(&format!("/essaim/v1/{plural}/{{id}}/rotate"), post(rotate::<N>))
}

/// Gives a secret or config new data, and says which services move to them.
async fn rotate<N: Plain + PayloadNoun>(
    State(face): State<Face>,
    Path(text): Path,
    Json(asked): Json<Rotation>,
) -> Answer {
    let control = face.control()?;
    let state = control.read().await?;
    let id = resolve::object::<N>(&state, &text)?.id;
    let rotated = control.rotate_payload::<N>(id, asked.data).await?;
    Ok(json(&Rotated {
        id: rotated.id.to_string(),
        unchanged: rotated.is_unchanged,
        services: rotated.services,
        jobs: rotated.jobs,
        behind: rotated.behind,
    }))
}
