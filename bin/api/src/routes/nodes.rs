//! Routes under `/nodes`.

use crate::ask::{self, Json, ListQuery, Path, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, done, encode, encoded, json};
use axum::extract::State;
use essaim_docker::convert::node;
use essaim_docker::node::NodeSpec;
use essaim_docker::resolve;
use serde::Deserialize;

pub(super) async fn list(State(face): State<Face>, Query(query): Query<ListQuery>) -> Answer {
    let filters = query.filters()?;
    face.control()?;
    node::check_filters(&filters)?;
    let state = face.read().await?;
    let context = face.context(&state);
    let body = face.lists.get(&state, context.leader, &query.key("nodes"), || {
        let nodes = state.nodes().filter(|it| node::matches(&filters, it));
        Ok::<_, essaim_model::Refusal>(encode(&nodes.map(|it| node::show(it, &context)).collect::<Vec<_>>()))
    })?;
    Ok(encoded(body))
}

pub(super) async fn inspect(State(face): State<Face>, Path(text): Path) -> Answer {
    let state = face.read().await?;
    Ok(json(&node::show(resolve::node(&state, &text)?, &face.context(&state))))
}

#[derive(Deserialize)]
pub(super) struct UpdateQuery {
    #[serde(default)]
    version: String,
}

pub(super) async fn update(
    State(face): State<Face>,
    Path(text): Path,
    Query(query): Query<UpdateQuery>,
    Json(asked): Json<NodeSpec>,
) -> Answer {
    let version = ask::version("node", &query.version)?;
    let spec = node::read_spec(asked)?;
    let control = face.control()?;
    let state = control.read().await?;
    control.update_node(resolve::node(&state, &text)?.id, version, spec).await?;
    Ok(done())
}

#[derive(Deserialize)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    force: String,
}

pub(super) async fn remove(State(face): State<Face>, Path(text): Path, Query(query): Query<RemoveQuery>) -> Answer {
    let control = face.control()?;
    let state = control.read().await?;
    control.remove_node(resolve::node(&state, &text)?.id, flag(&query.force)).await?;
    Ok(done())
}
