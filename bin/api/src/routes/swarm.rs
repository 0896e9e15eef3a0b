//! `/swarm`: found, join, change and leave a cluster.

use crate::ask::{self, Json, Query, flag};
use crate::cluster::{LocalState, Rotate};
use crate::face::Face;
use crate::reply::{Answer, done, json};
use axum::extract::State;
use essaim_docker::convert::swarm;
use essaim_docker::error::texts;
use essaim_docker::swarm::{InitRequest, JoinRequest, Swarm, SwarmSpec};
use essaim_model::{Refusal, RefusalKind};
use essaim_wire::{Reachability, Role};
use serde::Deserialize;

pub(super) async fn inspect(State(face): State<Face>) -> Answer {
    let state = face.read().await?;
    let Some(cluster) = state.cluster() else { return Err(texts::no_swarm().into()) };
    Ok(json(&Swarm { cluster: swarm::show(cluster), join_tokens: face.cluster.join_tokens(&state) }))
}

pub(super) async fn init(State(face): State<Face>, Json(asked): Json<InitRequest>) -> Answer {
    if face.cluster.standing().state != LocalState::Inactive && !asked.force_new_cluster {
        return Err(texts::already_in_swarm().into());
    }
    let node = face.cluster.init(swarm::read_init(asked)?).await?;
    Ok(json(&node.to_string()))
}

pub(super) async fn join(State(face): State<Face>, Json(asked): Json<JoinRequest>) -> Answer {
    if face.cluster.standing().state != LocalState::Inactive {
        return Err(texts::already_in_swarm().into());
    }
    face.cluster.join(swarm::read_join(asked)?).await?;
    Ok(done())
}

#[derive(Deserialize)]
pub(super) struct LeaveQuery {
    #[serde(default)]
    force: String,
}

/// A manager leaves by force only, since the others may lose their quorum by it; the words say what would happen.
pub(super) async fn leave(State(face): State<Face>, Query(query): Query<LeaveQuery>) -> Answer {
    let standing = face.cluster.standing();
    if standing.state == LocalState::Inactive {
        return Err(texts::not_in_swarm().into());
    }
    let force = flag(&query.force);
    if !force && standing.role == Some(Role::Manager) {
        let state = face.cluster.last_known().unwrap_or_default();
        let managers = state.managers().count().max(1);
        let reachable = state.managers().filter(|node| node.reachability == Reachability::Reachable).count();
        let refusal = match managers {
            1 => texts::last_manager_leaves(),
            _ => texts::manager_leaves(reachable.clamp(1, managers), managers),
        };
        return Err(refusal.into());
    }
    face.cluster.leave(force).await?;
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
    let state = face.read().await?;
    let Some(cluster) = state.cluster() else { return Err(texts::no_swarm().into()) };
    let spec = swarm::read_spec(asked, &cluster.spec, cluster.authority.rotations)?;
    let rotate = Rotate { worker: flag(&query.rotate_worker_token), manager: flag(&query.rotate_manager_token) };
    face.cluster.update_cluster(version, spec, rotate).await?;
    Ok(done())
}

pub(super) async fn unlock_key(State(face): State<Face>) -> Answer {
    face.expect_manager()?;
    Err(autolock().into())
}

pub(super) async fn unlock(State(face): State<Face>) -> Answer {
    match face.cluster.standing().state {
        LocalState::Inactive => Err(texts::not_in_swarm().into()),
        _ => Err(Refusal::new(RefusalKind::AlreadyExists, "swarm is not locked").into()),
    }
}

fn autolock() -> Refusal {
    texts::unsupported("--autolock")
}
