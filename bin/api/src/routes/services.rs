//! Routes under `/services`.

use crate::ask::{self, Json, ListQuery, Path, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, Refused, done, encode, encoded, json};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use essaim_docker::convert::{service, spec};
use essaim_docker::error::texts::unsupported;
use essaim_docker::resolve;
use essaim_docker::service::{CreateResponse, ServiceSpec, UpdateResponse};
use essaim_model::Refusal;
use serde::Deserialize;

pub(super) async fn list(State(face): State<Face>, Query(query): Query<ListQuery>) -> Answer {
    let filters = query.filters()?;
    face.control()?;
    service::check_filters(&filters)?;
    let state = face.read().await?;
    let context = face.context(&state);
    let body = face.lists.get(&state, context.leader, &query.key("services"), || {
        let services = state.services().filter(|it| service::matches(&filters, it));
        let shown: Vec<_> = services.map(|it| service::show(it, &context, query.status())).collect();
        Ok::<_, Refusal>(encode(&shown))
    })?;
    Ok(encoded(body))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InspectQuery {
    #[serde(default)]
    insert_defaults: String,
}

pub(super) async fn inspect(State(face): State<Face>, Path(text): Path, Query(query): Query<InspectQuery>) -> Answer {
    let state = face.read().await?;
    let mut shown = service::show(resolve::service(&state, &text)?, &face.context(&state), false);
    if flag(&query.insert_defaults) {
        service::with_defaults(&mut shown);
    }
    Ok(json(&shown))
}

pub(super) async fn create(State(face): State<Face>, headers: HeaderMap, Json(asked): Json<ServiceSpec>) -> Answer {
    let control = face.control()?;
    refuse_registry_credentials(&headers)?;
    let wish = spec::read(asked, || spec::name_from(face.node.scope().env.seed.draw_id()))?;
    let warnings = service::warnings(&wish);
    let id = control.create_service(wish).await?;
    Ok((StatusCode::CREATED, json(&CreateResponse { id: id.to_string(), warnings })).into_response())
}

#[derive(Deserialize)]
pub(super) struct UpdateQuery {
    #[serde(default)]
    version: String,
    #[serde(default)]
    rollback: String,
}

/// Updates a service, or rolls it back. With `rollback=previous` the body is the spec that the client read and is
/// ignored, as in Swarm.
pub(super) async fn update(
    State(face): State<Face>,
    Path(text): Path,
    Query(query): Query<UpdateQuery>,
    headers: HeaderMap,
    Json(asked): Json<ServiceSpec>,
) -> Answer {
    let version = ask::version("service", &query.version)?;
    let control = face.control()?;
    refuse_registry_credentials(&headers)?;
    let state = control.read().await?;
    let found = resolve::service(&state, &text)?;
    let warnings = match query.rollback.as_str() {
        "" => {
            let wish = spec::read(asked, || found.spec.name.to_string())?;
            let warnings = service::warnings(&wish).filter(|_| found.spec.endpoint != wish.endpoint);
            control.update_service(found.id, version, wish).await?;
            warnings
        }
        "previous" => {
            control.rollback_service(found.id, version).await?;
            None
        }
        other => return Err(Refusal::invalid(format!("unrecognized rollback option {other}")).into()),
    };
    Ok(json(&UpdateResponse { warnings }))
}

pub(super) async fn remove(State(face): State<Face>, Path(text): Path) -> Answer {
    let control = face.control()?;
    let state = control.read().await?;
    control.remove_service(resolve::service(&state, &text)?.id).await?;
    Ok(done())
}

/// Refuses registry credentials: Essaim asks no registry yet, so they would be ignored.
fn refuse_registry_credentials(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.get("X-Registry-Auth").is_some_and(|value| !value.is_empty()) {
        return Err(unsupported("--with-registry-auth").into());
    }
    Ok(())
}
