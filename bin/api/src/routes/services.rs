//! Routes under `/services`.

use crate::ask::{self, Json, ListQuery, Path, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, done, encode, encoded, json};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use essaim_docker::convert::{service, spec};
use essaim_docker::resolve;
use essaim_docker::service::{CreateResponse, ServiceSpec, UpdateResponse};
use essaim_model::service::RegistryAuth;
use essaim_model::{Refusal, RefusalKind, Service};
use essaim_wire::Index;
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
    let mut wish = spec::read(asked, || spec::name_from(face.node.scope().env.seed.draw_id()))?;
    wish.task.container.registry_auth = registry_auth(&headers)?;
    let mut warnings = Vec::new();
    if wish.publishes_datagrams() {
        warnings = face.read().await?.check_daemon_ports(&wish, None)?;
    }
    let id = control.create_service(wish).await?;
    Ok((StatusCode::CREATED, json(&CreateResponse { id: id.to_string(), warnings: told(warnings) })).into_response())
}

#[derive(Deserialize)]
pub(super) struct UpdateQuery {
    #[serde(default)]
    version: String,
    #[serde(default)]
    rollback: String,
    #[serde(default)]
    registry_auth_from: String,
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
    let given = registry_auth(&headers)?;
    let state = control.read().await?;
    let found = resolve::service(&state, &text)?;
    let mut warnings = Vec::new();
    match query.rollback.as_str() {
        "" => {
            let mut wish = spec::read(asked, || found.spec.name.to_string())?;
            wish.task.container.registry_auth = match given {
                Some(given) => Some(given),
                None => kept_registry_auth(found, &query.registry_auth_from)?,
            };
            warnings = state.check_daemon_ports(&wish, Some(&found.spec))?;
            control.update_service(found.id, version, wish).await?;
        }
        "previous" => control.rollback_service(found.id, version).await?,
        // Beyond Swarm: the version of a former spec, as `specs` lists them.
        other => match other.parse() {
            Ok(to) => control.rollback_service_to(found.id, version, Index(to)).await?,
            Err(_) => return Err(Refusal::invalid(format!("unrecognized rollback option {other}")).into()),
        },
    }
    Ok(json(&UpdateResponse { warnings: told(warnings) }))
}

/// Warnings as Docker's answers have them: none at all, or a list.
fn told(warnings: Vec<String>) -> Option<Vec<String>> {
    Some(warnings).filter(|warnings| !warnings.is_empty())
}

/// Lists the specs that a service can go back to, newest first; the first one is in force.
pub(super) async fn specs(State(face): State<Face>, Path(text): Path) -> Answer {
    let state = face.read().await?;
    Ok(json(&service::kept_specs(resolve::service(&state, &text)?, &state)))
}

pub(super) async fn remove(State(face): State<Face>, Path(text): Path) -> Answer {
    let control = face.control()?;
    let state = control.read().await?;
    control.remove_service(resolve::service(&state, &text)?.id).await?;
    Ok(done())
}

/// The credentials for the image's registry that came with a request.
fn registry_auth(headers: &HeaderMap) -> Result<Option<RegistryAuth>, Refusal> {
    let header = headers.get("X-Registry-Auth").filter(|value| !value.is_empty());
    header.map(|value| RegistryAuth::parse(value.to_str().unwrap_or_default())).transpose()
}

/// The credentials that a service keeps when an update brings none: those of its spec, or of its former one.
fn kept_registry_auth(service: &Service, from: &str) -> Result<Option<RegistryAuth>, Refusal> {
    let of = |spec: &essaim_model::ServiceSpec| spec.task.container.registry_auth.clone();
    match (from, &service.previous) {
        ("" | "spec", _) => Ok(of(&service.spec)),
        ("previous-spec", Some((_, previous))) => Ok(of(previous)),
        ("previous-spec", None) => {
            Err(Refusal::new(RefusalKind::Precondition, "service does not have a previous spec"))
        }
        (_, _) => Err(Refusal::invalid("unsupported registryAuthFrom value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use essaim_model::service::Image;
    use essaim_model::{ContainerSpec, Meta, Mode, Name, ServiceId, TaskSpec};
    use essaim_wire::{Index, Timestamp};

    fn auth(text: &str) -> Option<RegistryAuth> {
        Some(RegistryAuth::parse(text).expect("credentials"))
    }

    fn spec(registry_auth: Option<RegistryAuth>) -> essaim_model::ServiceSpec {
        let image = Image::parse("web:1").expect("an image");
        essaim_model::ServiceSpec {
            name: Name::parse("web").expect("a name"),
            labels: Default::default(),
            task: TaskSpec::new(ContainerSpec { registry_auth, ..ContainerSpec::new(image) }),
            mode: Mode::Replicated { replicas: 1 },
            update: None,
            rollback: None,
            endpoint: None,
        }
    }

    #[test]
    fn credentials_come_with_a_header_and_stay_when_an_update_brings_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(registry_auth(&headers), Ok(None));
        headers.insert("X-Registry-Auth", HeaderValue::from_static("c2VjcmV0"));
        assert_eq!(registry_auth(&headers), Ok(auth("c2VjcmV0")));
        headers.insert("X-Registry-Auth", HeaderValue::from_static("two words"));
        assert!(registry_auth(&headers).is_err());

        let mut service = Service {
            id: ServiceId::from_bits(1),
            meta: Meta::new(Index(1), Timestamp::default()),
            spec: spec(auth("bm93")),
            spec_version: Index(1),
            previous: None,
            former: Vec::new(),
            update: None,
            job: None,
            ports: Vec::new(),
        };
        let kept = |service: &Service, from| kept_registry_auth(service, from).map_err(|why| why.text);
        assert_eq!(kept(&service, ""), Ok(auth("bm93")));
        assert_eq!(kept(&service, "spec"), Ok(auth("bm93")));
        assert_eq!(kept(&service, "previous-spec"), Err("service does not have a previous spec".into()));
        service.previous = Some((Index(0), spec(auth("dGhlbg"))));
        assert_eq!(kept(&service, "previous-spec"), Ok(auth("dGhlbg")));
        assert_eq!(kept(&service, "elsewhere"), Err("unsupported registryAuthFrom value".into()));
    }
}
