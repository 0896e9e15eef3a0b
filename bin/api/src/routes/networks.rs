//! Routes under `/networks`: the networks of the cluster, and those of the machine, which its engine has.
//!
//! A list has both. A name or a whole id of the cluster's comes first, then what the engine finds, then the beginning of
//! an id of the cluster's. On a node that is no manager there are the machine's alone.
//!
//! Without a quorum the networks of the cluster are shown as this manager knows them: tools that work on the machine alone
//! (`docker compose`) ask for lists too.

use super::local::hand_on;
use crate::ask::{self, ListQuery, Path, Query};
use crate::engine::ClientVersion;
use crate::face::Face;
use crate::reply::{Answer, Refused, json};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use essaim_docker::convert::network;
use essaim_docker::error::texts;
use essaim_docker::network::{CreateNetwork, Created, NetworkResource, Pruned};
use essaim_docker::{Filters, Time, resolve};
use essaim_model::{Network, NetworkId, Noun, Object, Refusal, RefusalKind};
use essaim_node::Standing;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Upper bound on the wait for the engine's list. An engine under load takes seconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes that the engine's answer to a prune may have: the names of all networks of a machine.
const PRUNED_LEN_MAX: usize = 1 << 20;

pub(super) fn router() -> Router<Face> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(connect))
}

/// The cluster's state, or the last one that this manager knows when the managers have no quorum; `None` on a node that
/// is no manager.
async fn state(face: &Face) -> Option<Arc<essaim_model::State>> {
    let control = face.control().ok()?;
    Some(control.read().await.unwrap_or_else(|_| control.last_known()))
}

async fn list(State(face): State<Face>, Query(query): Query<ListQuery>, request: Request) -> Answer {
    let filters = query.filters()?;
    network::check_filters(&filters)?;
    let mut networks = Vec::new();
    if let Some(state) = state(&face).await {
        let of_cluster = state.all::<Network>().filter(|it| network::matches(&filters, it, &state));
        networks.extend(of_cluster.map(|it| value(&network::show(it))));
    }
    let path = request.uri().path_and_query().map_or("/networks", |path| path.as_str()).to_owned();
    let version = request.extensions().get::<ClientVersion>().cloned();
    networks.extend(local(&face, &filters, &path, version.as_ref()).await?);
    Ok(json(&networks))
}

/// The networks of the machine. The engine narrows its list by the same filters, which are in `path`.
async fn local(
    face: &Face,
    filters: &Filters,
    path: &str,
    version: Option<&ClientVersion>,
) -> Result<Vec<Value>, Refused> {
    let Some(engine) = face.engine.as_ref().filter(|_| network::asks_for_local(filters)) else { return Ok(Vec::new()) };
    match engine.ask(version, path, DEADLINE).await? {
        Value::Array(networks) => Ok(networks),
        _ => Err(Refusal::new(RefusalKind::Internal, "the Docker Engine's list of networks is no list").into()),
    }
}

fn value(network: &NetworkResource) -> Value {
    serde_json::to_value(network).expect("our types are JSON")
}

/// What a text in a request means.
enum Meant {
    /// This network of the cluster.
    OfCluster(Arc<Object<Network>>),
    /// A network of the machine, or none; with the refusal of the cluster.
    Local(Refusal),
}

/// The network of the cluster that a text means: by its name or whole id, or by the beginning of its id if the machine has no
/// network that the text means.
async fn meant(face: &Face, text: &str) -> Meant {
    let missing = || Refusal::not_found(Network::WORD, text);
    let Some(state) = state(face).await else { return Meant::Local(missing()) };
    let network = match resolve::object::<Network>(&state, text) {
        Ok(network) => Arc::clone(network),
        Err(refusal) => return Meant::Local(refusal),
    };
    let whole = network.spec.name() == text || network.id.to_string() == text;
    if whole || !is_of_the_machine(face, text).await {
        return Meant::OfCluster(network);
    }
    Meant::Local(missing())
}

/// Whether the machine has a network that a text means.
async fn is_of_the_machine(face: &Face, text: &str) -> bool {
    let Some(engine) = &face.engine else { return false };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_plain && engine.ask(None, &format!("/networks/{text}"), DEADLINE).await.is_ok()
}

#[derive(Deserialize)]
struct InspectQuery {
    #[serde(default)]
    scope: String,
}

/// Nothing is on a network of the cluster yet, so `verbose` adds nothing to it.
async fn inspect(
    State(face): State<Face>,
    Path(text): Path,
    Query(query): Query<InspectQuery>,
    request: Request,
) -> Answer {
    if query.scope == "local" {
        return hand_on(&face, request).await;
    }
    match meant(&face, &text).await {
        Meant::OfCluster(found) => Ok(json(&network::show(&found))),
        Meant::Local(refusal) if query.scope == "swarm" => Err(refusal.into()),
        Meant::Local(refusal) => or_refused(hand_on(&face, request).await?, refusal),
    }
}

/// The engine's answer, unless it finds nothing: then the refusal of the cluster, which says more when a text means several
/// networks.
fn or_refused(answer: Response, refusal: Refusal) -> Answer {
    if answer.status() == StatusCode::NOT_FOUND { Err(refusal.into()) } else { Ok(answer) }
}

async fn create(State(face): State<Face>, request: Request) -> Answer {
    let (parts, bytes) = ask::body(request).await?;
    let asked = serde_json::from_slice::<CreateNetwork>(&bytes);
    let request = Request::from_parts(parts, Body::from(bytes.clone()));
    let of_cluster = match &asked {
        Ok(asked) => network::is_of_the_cluster(asked),
        // What this face cannot read may be for a newer engine, or is refused here in words.
        Err(_) => serde_json::from_slice::<Where>(&bytes).unwrap_or_default().is_the_cluster(),
    };
    if !of_cluster {
        if let (Ok(asked), Some(state)) = (&asked, state(&face).await)
            && state.object_named::<Network>(&asked.name).is_some()
        {
            return Err(Network::taken(&asked.name).into());
        }
        return hand_on(&face, request).await;
    }
    let asked = asked.map_err(|why| Refusal::invalid(format!("invalid JSON: {why}")))?;
    if matches!(face.node.standing(), Standing::Inactive) {
        return Err(Refused::with_status(StatusCode::FORBIDDEN, texts::no_swarm()));
    }
    let control = face.control()?;
    let spec = network::read(asked).map_err(|refusal| match refusal.kind {
        RefusalKind::Denied => Refused::with_status(StatusCode::FORBIDDEN, refusal),
        _ => refusal.into(),
    })?;
    let id = control.create_network(spec).await?;
    let body = Created { id: id.to_string(), warning: String::new() };
    Ok((StatusCode::CREATED, json(&body)).into_response())
}

/// The fields of a request for a network that tell where it is to be, when others cannot be read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Where {
    driver: String,
    scope: String,
    ingress: bool,
}

impl Where {
    fn is_the_cluster(&self) -> bool {
        let Self { driver, scope, ingress } = self;
        let (driver, scope) = (driver.clone(), scope.clone());
        network::is_of_the_cluster(&CreateNetwork { driver, scope, ingress: *ingress, ..CreateNetwork::default() })
    }
}

async fn remove(State(face): State<Face>, Path(text): Path, request: Request) -> Answer {
    match meant(&face, &text).await {
        Meant::OfCluster(found) => {
            face.control()?.remove_object::<Network>(found.id).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Meant::Local(refusal) => or_refused(hand_on(&face, request).await?, refusal),
    }
}

async fn prune(State(face): State<Face>, Query(query): Query<ListQuery>, request: Request) -> Answer {
    let filters = query.filters()?;
    network::check_prune_filters(&filters)?;
    let now = face.now();
    let until = match filters.get("until").next() {
        Some(text) => {
            let time = Time::from_query_at(text, now).and_then(Time::timestamp);
            Some(time.ok_or_else(|| Refusal::invalid(format!("invalid filter 'until={text}': it is no time")))?)
        }
        None => None,
    };
    let mut deleted = Vec::new();
    if face.engine.is_some() {
        let answer = hand_on(&face, request).await?;
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let strange = |why: String| Refusal::new(RefusalKind::Internal, format!("the Docker Engine's answer: {why}"));
        let body = axum::body::to_bytes(answer.into_body(), PRUNED_LEN_MAX).await;
        let body = body.map_err(|why| strange(why.to_string()))?;
        let pruned: Pruned = serde_json::from_slice(&body).map_err(|why| strange(why.to_string()))?;
        deleted.extend(pruned.networks_deleted.into_iter().flatten());
    }
    if let Ok(control) = face.control() {
        let state = control.read().await?;
        let unused = state.all::<Network>().filter(|it| network::is_pruned(&filters, until, it, &state));
        let unused: Vec<(NetworkId, String)> = unused.map(|it| (it.id, it.spec.name().to_owned())).collect();
        for (id, name) in unused {
            match control.remove_object::<Network>(id).await {
                Ok(()) => deleted.push(name),
                // Somebody else removed it, or began to use it.
                Err(refusal) if matches!(refusal.kind, RefusalKind::NotFound | RefusalKind::Precondition) => (),
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }
    let networks_deleted = (!deleted.is_empty()).then_some(deleted);
    Ok(json(&Pruned { networks_deleted }))
}

/// Connects a container to a network, or disconnects it.
async fn connect(State(face): State<Face>, Path(text): Path, request: Request) -> Answer {
    match meant(&face, &text).await {
        Meant::OfCluster(found) => {
            let verb = request.uri().path().rsplit('/').next().unwrap_or("connect");
            let name = found.spec.name();
            Err(texts::missing(&format!("docker network {verb} for networks of the cluster such as {name}"), "").into())
        }
        // What the engine does not find may be the container.
        Meant::Local(_) => hand_on(&face, request).await,
    }
}
