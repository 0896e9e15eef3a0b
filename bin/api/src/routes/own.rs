//! Essaim's own routes: the tree of actors, the journal, the members, why a service runs where it runs,
//! what is wrong, and a request that makes an actor fail.

use crate::ask::{Path, Query, flag};
use crate::doctor;
use crate::face::Face;
use crate::reply::{Answer, done, encode, json, typed};
use crate::view::{self, JournalQuery};
use axum::body::Body;
use axum::extract::State;
use bytes::{Bytes, BytesMut};
use essaim_docker::own::{Why, WhyNode, WhySlot};
use essaim_docker::{Time, resolve};
use essaim_model::Refusal;
use futures::StreamExt;
use serde::Deserialize;
use std::convert::Infallible;

pub(super) async fn tree(State(face): State<Face>) -> Answer {
    Ok(json(&view::trees(&face.node).await))
}

/// What is wrong with this node; on a manager, with the whole cluster.
pub(super) async fn doctor(State(face): State<Face>) -> Answer {
    Ok(json(&doctor::diagnose(&face.node).await))
}

pub(super) async fn members(State(face): State<Face>) -> Answer {
    Ok(json(&view::members(&face.node)?))
}

/// Explains why a service runs where it runs, or does not run, from the state of any manager.
pub(super) async fn why(State(face): State<Face>, Path(text): Path) -> Answer {
    face.control()?;
    let state = face.read().await?;
    let service = resolve::service(&state, &text)?;
    let found = essaim_policy::why(&state, service, face.now());
    let slot = |it: essaim_policy::WhySlot| WhySlot {
        slot: it.slot.to_string(),
        task: it.task.map(|task| task.to_string()).unwrap_or_default(),
        reason: it.reason,
    };
    let node = |it: essaim_policy::WhyNode| WhyNode {
        node: it.node.to_string(),
        name: it.name,
        rank: it.rank,
        refusal: it.refusal.unwrap_or_default(),
        of_service: it.of_service,
        tasks: it.tasks,
        failures: it.failures,
        fault: it.fault.unwrap_or_default(),
        unpublished: it.unpublished.unwrap_or_default(),
    };
    Ok(json(&Why {
        service: service.id.to_string(),
        name: service.spec.name.to_string(),
        slots: found.slots.into_iter().map(slot).collect(),
        more: found.more as u64,
        nodes: found.nodes.into_iter().map(node).collect(),
    }))
}

#[derive(Deserialize)]
pub(super) struct JournalAsked {
    #[serde(default)]
    node: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    follow: String,
}

/// Streams journal records, one per line; with `follow` for as long as the client listens.
pub(super) async fn journal(State(face): State<Face>, Query(asked): Query<JournalAsked>) -> Answer {
    let since = match asked.since.as_str() {
        "" => None,
        text => match Time::from_query(text) {
            Some(time) => time.timestamp(),
            None => return Err(Refusal::invalid(format!("invalid value for \"since\": {text:?}")).into()),
        },
    };
    let node = (!asked.node.is_empty()).then_some(asked.node);
    let query = JournalQuery { node, since, follow: flag(&asked.follow) };
    let records = view::journal(face.node.clone(), query).await?;
    let lines = records.map(|batch| {
        let mut lines = BytesMut::new();
        for record in &batch {
            lines.extend_from_slice(&encode(record));
        }
        Ok::<Bytes, Infallible>(lines.freeze())
    });
    Ok(typed(Body::from_stream(lines), "application/x-ndjson"))
}

#[derive(Deserialize)]
pub(super) struct KillAsked {
    path: String,
}

pub(super) async fn kill_actor(State(face): State<Face>, Query(asked): Query<KillAsked>) -> Answer {
    view::kill_actor(&face.node, &asked.path).await?;
    Ok(done())
}
