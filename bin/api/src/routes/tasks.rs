//! Routes under `/tasks`.

use crate::ask::{ListQuery, Path, Query};
use crate::face::Face;
use crate::reply::{Answer, encode, encoded, json};
use axum::extract::State;
use essaim_docker::convert::task;
use essaim_docker::resolve;

pub(super) async fn list(State(face): State<Face>, Query(query): Query<ListQuery>) -> Answer {
    let filters = query.filters()?;
    let state = face.read().await?;
    let context = face.context(&state);
    let body = face.lists.get(&state, context.leader, &query.key("tasks"), || {
        let tasks = task::list(&filters, &state)?;
        Ok::<_, essaim_model::Refusal>(encode(
            &tasks.into_iter().map(|it| task::show(it, &context)).collect::<Vec<_>>(),
        ))
    })?;
    Ok(encoded(body))
}

pub(super) async fn inspect(State(face): State<Face>, Path(text): Path) -> Answer {
    let state = face.read().await?;
    Ok(json(&task::show(resolve::task(&state, &text)?, &face.context(&state))))
}
