//! Essaim's own routes: the tree of actors, the journal, the members, and a request that makes an actor fail.

use crate::ask::{Query, flag};
use crate::face::Face;
use crate::reply::{Answer, done, encode, json, typed};
use crate::view::{self, JournalQuery};
use axum::body::Body;
use axum::extract::State;
use bytes::{Bytes, BytesMut};
use essaim_docker::Time;
use essaim_model::Refusal;
use futures::StreamExt;
use serde::Deserialize;
use std::convert::Infallible;

pub(super) async fn tree(State(face): State<Face>) -> Answer {
    Ok(json(&view::trees(&face.node).await))
}

pub(super) async fn members(State(face): State<Face>) -> Answer {
    Ok(json(&view::members(&face.node)?))
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
