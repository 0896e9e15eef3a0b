//! The route `/events`: one JSON object per line, for as long as the client listens, or until the time that the client
//! named.

use crate::ask::{Query, flag};
use crate::face::Face;
use crate::follow::Follower;
use crate::reply::{Answer, Refused, encode, typed};
use axum::body::Body;
use axum::extract::State;
use bytes::{Bytes, BytesMut};
use essaim_docker::convert::event;
use essaim_docker::event::EventMessage;
use essaim_docker::{Filters, Time};
use essaim_model::{Event, Refusal};
use essaim_wire::Timestamp;
use futures::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    filters: String,
}

pub(super) async fn stream(State(face): State<Face>, Query(asked): Query<Asked>) -> Answer {
    let filters = Filters::parse(&asked.filters)?;
    event::check_filters(&filters)?;
    let (since, until) = (time("since", &asked.since)?, time("until", &asked.until)?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        let text = format!("`since` time ({}) cannot be after `until` time ({})", asked.since, asked.until);
        return Err(Refusal::invalid(text).into());
    }
    let now = face.now();
    // Outside of a cluster there are no events: the stream stays open and empty.
    let follower = face.control().ok().map(|control| Follower::new(control, since.is_some()));
    let ends = until.map(|until| Instant::now() + until.saturating_since(now).max(LAST_LOOK));
    let told = EventStream { face, follower, filters, since, until, ends, latest: Timestamp::default() };
    let lines = stream::unfold(told, |mut told| async move {
        let lines = told.next().await?;
        Some((Ok::<Bytes, Infallible>(lines), told))
    });
    Ok(typed(Body::from_stream(lines), "application/json"))
}

/// Time for which past events are read when the client's end time has passed already: the kept events are available at
/// once.
const LAST_LOOK: Duration = Duration::from_millis(50);

fn time(what: &str, text: &str) -> Result<Option<Timestamp>, Refused> {
    if !flag(text) {
        return Ok(None);
    }
    match Time::from_query(text) {
        Some(time) => Ok(Some(time.timestamp().unwrap_or_default())),
        None => Err(Refusal::invalid(format!("invalid value for \"{what}\": {text:?}")).into()),
    }
}

/// The stream of events to one client.
struct EventStream {
    face: Face,
    follower: Option<Follower>,
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    ends: Option<Instant>,
    /// Latest time of all events so far.
    latest: Timestamp,
}

impl EventStream {
    /// The next lines; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let ends = self.ends;
            let deadline = async {
                match ends {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let follower = self.follower.as_mut();
            let next = async {
                match follower {
                    Some(follower) => follower.next().await,
                    None => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                biased;
                happened = next => happened?,
                () = deadline => return None,
            };
            let mut lines = BytesMut::new();
            for message in happened.events.iter().filter_map(|it| self.told(it, happened.replayed)) {
                lines.extend_from_slice(&encode(&message));
            }
            if !lines.is_empty() {
                return Some(lines.freeze());
            }
        }
    }

    /// The message for an event; `None` when the client did not ask for it. A removed object does not tell the time of
    /// its removal: a removal that is seen live is dated now, and a replayed one is dated like the event before it.
    fn told(&mut self, event: &Event, replayed: bool) -> Option<EventMessage> {
        let unsaid = if replayed { self.latest } else { self.face.now() };
        let at = happened_at(event).unwrap_or(unsaid);
        self.latest = self.latest.max(at);
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at > until) {
            return None;
        }
        event::show(event, at).filter(|message| event::matches(&self.filters, message))
    }
}

/// The time of an event as the changed object tells it; `None` for a removed object.
fn happened_at(event: &Event) -> Option<Timestamp> {
    match event {
        Event::Cluster { new, .. } => Some(new.meta.updated_at),
        Event::Node { new, .. } => new.as_ref().map(|new| new.meta.updated_at),
        Event::Service { new, .. } => new.as_ref().map(|new| new.meta.updated_at),
        Event::Task { new, .. } => new.as_ref().map(|new| new.meta.updated_at),
        Event::Object { new, .. } => new.as_ref().map(|new| new.meta().updated_at),
    }
}
