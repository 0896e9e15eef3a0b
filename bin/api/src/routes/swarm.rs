//! Routes under `/swarm`: found, join, change and leave a cluster.

use crate::ask::{self, Json, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, done, json};
use axum::extract::State;
use essaim_docker::convert::swarm;
use essaim_docker::error::texts;
use essaim_docker::swarm::{InitRequest, JoinRequest, JoinTokens, Swarm, SwarmSpec};
use essaim_manager::control::Rotate;
use essaim_model::{Cluster, Refusal, RefusalKind};
use essaim_node::Standing;
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{Reachability, Role};
use serde::Deserialize;

pub(super) async fn inspect(State(face): State<Face>) -> Answer {
    let state = face.read().await?;
    let Some(cluster) = state.cluster() else { return Err(texts::no_swarm().into()) };
    Ok(json(&Swarm { cluster: swarm::show(cluster), join_tokens: join_tokens(cluster) }))
}

fn join_tokens(cluster: &Cluster) -> JoinTokens {
    let roots = Certificate::from_pem(&cluster.authority.certificate).unwrap_or_default();
    let Some(root) = roots.first() else { return JoinTokens::default() };
    let token = |role| JoinToken::new(root, TokenSecret::from_bytes(*cluster.join.of(role))).to_string();
    JoinTokens { worker: token(Role::Worker), manager: token(Role::Manager) }
}

fn is_inactive(face: &Face) -> bool {
    matches!(face.node.standing(), Standing::Inactive)
}

pub(super) async fn init(State(face): State<Face>, Json(asked): Json<InitRequest>) -> Answer {
    if !is_inactive(&face) && !asked.force_new_cluster {
        return Err(texts::already_in_swarm().into());
    }
    let asked = swarm::read_init(asked)?;
    let request = essaim_node::InitRequest {
        listen: asked.listen.unwrap_or_default(),
        advertise: asked.advertise.unwrap_or_default(),
        availability: asked.availability,
        spec: asked.spec,
        pools: asked.pools,
        force_new_cluster: asked.force_new_cluster,
    };
    let node = face.node.init(request).await?;
    Ok(json(&node.to_string()))
}

pub(super) async fn join(State(face): State<Face>, Json(asked): Json<JoinRequest>) -> Answer {
    if !is_inactive(&face) {
        return Err(texts::already_in_swarm().into());
    }
    let asked = swarm::read_join(asked)?;
    let request = essaim_node::JoinRequest {
        listen: asked.listen.unwrap_or_default(),
        advertise: asked.advertise.unwrap_or_default(),
        token: asked.token,
        remotes: asked.remotes,
        availability: asked.availability,
    };
    face.node.join(request).await?;
    Ok(done())
}

#[derive(Deserialize)]
pub(super) struct LeaveQuery {
    #[serde(default)]
    force: String,
}

/// Leaves the cluster. A manager leaves only by force, since the others may lose their quorum; the refusal says what
/// would happen.
pub(super) async fn leave(State(face): State<Face>, Query(query): Query<LeaveQuery>) -> Answer {
    let standing = face.node.standing();
    if matches!(standing, Standing::Inactive) {
        return Err(texts::not_in_swarm().into());
    }
    let force = flag(&query.force);
    if !force && standing.membership().is_some_and(|part| part.role == Role::Manager) {
        let state = face.control().map(|control| control.last_known()).unwrap_or_default();
        let managers = state.managers().count().max(1);
        let reachable = state.managers().filter(|node| node.reachability == Reachability::Reachable).count();
        let refusal = match managers {
            1 => texts::last_manager_leaves(),
            _ => texts::manager_leaves(reachable.clamp(1, managers), managers),
        };
        return Err(refusal.into());
    }
    face.node.leave(force).await?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateQuery {
    #[serde(default)]
    version: String,
    #[serde(default)]
    rotate_worker_token: String,
    #[serde(default)]
    rotate_manager_token: String,
    #[serde(default)]
    rotate_manager_unlock_key: String,
}

pub(super) async fn update(
    State(face): State<Face>,
    Query(query): Query<UpdateQuery>,
    Json(asked): Json<SwarmSpec>,
) -> Answer {
    let version = ask::version("swarm", &query.version)?;
    if flag(&query.rotate_manager_unlock_key) {
        return Err(autolock().into());
    }
    let control = face.control()?;
    let state = control.read().await?;
    let Some(cluster) = state.cluster() else { return Err(texts::no_swarm().into()) };
    let spec = swarm::read_spec(asked, &cluster.spec, cluster.authority.rotations)?;
    let rotate = Rotate { worker: flag(&query.rotate_worker_token), manager: flag(&query.rotate_manager_token) };
    control.update_cluster(version, spec, rotate).await?;
    Ok(done())
}

pub(super) async fn unlock_key(State(face): State<Face>) -> Answer {
    face.control()?;
    Err(autolock().into())
}

pub(super) async fn unlock(State(face): State<Face>) -> Answer {
    match face.node.standing() {
        Standing::Inactive => Err(texts::not_in_swarm().into()),
        _ => Err(Refusal::new(RefusalKind::AlreadyExists, "swarm is not locked").into()),
    }
}

fn autolock() -> Refusal {
    texts::missing("docker swarm unlock-key", "no manager is ever locked, so there is no key")
}
