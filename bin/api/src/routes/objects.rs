//! Routes of plain nouns, the same for each noun: list, create, inspect, update, remove.

use crate::ask::{self, Json, ListQuery, Path, Query};
use crate::face::Face;
use crate::reply::{Answer, done, encode, encoded, json};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use essaim_docker::object::{self, Created, Plain};
use essaim_docker::resolve;
use essaim_model::Refusal;
use serde::Deserialize;

/// The routes of the noun `N` under `/PLURAL`.
pub(super) fn router<N: Plain>(plural: &str) -> Router<Face> {
    Router::new()
        .route(&format!("/{plural}"), get(list::<N>))
        .route(&format!("/{plural}/create"), post(create::<N>))
        .route(&format!("/{plural}/{{id}}"), get(inspect::<N>).delete(remove::<N>))
        .route(&format!("/{plural}/{{id}}/update"), post(update::<N>))
}

async fn list<N: Plain>(State(face): State<Face>, Query(query): Query<ListQuery>) -> Answer {
    let filters = query.filters()?;
    let control = face.control()?;
    object::check_filters(&filters)?;
    let state = control.read().await?;
    let context = face.context(&state);
    let body = face.lists.get(&state, context.leader, &query.key(N::WORD), || {
        let objects = state.all::<N>().filter(|it| object::matches(&filters, it));
        Ok::<_, Refusal>(encode(&objects.map(|it| object::show(it)).collect::<Vec<_>>()))
    })?;
    Ok(encoded(body))
}

async fn inspect<N: Plain>(State(face): State<Face>, Path(text): Path) -> Answer {
    let state = face.read().await?;
    Ok(json(&object::show(resolve::object::<N>(&state, &text)?)))
}

async fn create<N: Plain>(State(face): State<Face>, Json(asked): Json<N::Spec>) -> Answer {
    let control = face.control()?;
    let id = control.create_object(N::read(asked)?).await?;
    Ok((StatusCode::CREATED, json(&Created { id: id.to_string() })).into_response())
}

#[derive(Deserialize)]
struct UpdateQuery {
    #[serde(default)]
    version: String,
}

async fn update<N: Plain>(
    State(face): State<Face>,
    Path(text): Path,
    Query(query): Query<UpdateQuery>,
    Json(asked): Json<N::Spec>,
) -> Answer {
    let version = ask::version(N::WORD, &query.version)?;
    let control = face.control()?;
    let state = control.read().await?;
    let id = resolve::object::<N>(&state, &text)?.id;
    control.update_object(id, version, N::read(asked)?).await?;
    Ok(done())
}

async fn remove<N: Plain>(State(face): State<Face>, Path(text): Path) -> Answer {
    let control = face.control()?;
    let state = control.read().await?;
    control.remove_object::<N>(resolve::object::<N>(&state, &text)?.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
