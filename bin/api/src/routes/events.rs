//! The route `/events`: one JSON object per line, for as long as the client listens, or until the time that the client
//! named.
//!
//! A stream is made of two: the cluster's events, which every manager has, and those of the machine's Docker Engine. Past
//! events (`since`) of both are put into the order of their times; events that happen while the client listens are sent as
//! they arrive, as Docker does. The cluster's past is what the store's ring keeps ([`follow`](crate::follow)); the
//! engine's past is what the engine keeps (256 events).
//!
//! Events of tasks, which Docker does not have, are sent only to clients that ask for `type=task` or for `task=…`: there
//! are five and more for each task, and a stock client that expects Docker's types would be flooded with a type that it
//! does not know.
//!
//! Nothing is kept for a slow reader: both sources wait. A reader that the store's ring has passed is told so by an event
//! `daemon lost`.

use crate::ask::{Query, flag};
use crate::engine::{ClientVersion, Engine, Lines};
use crate::face::Face;
use crate::follow::{Follower, Next};
use crate::reply::{Answer, Refused, encode, typed};
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::{Bytes, BytesMut};
use essaim_docker::convert::event;
use essaim_docker::event::EventMessage;
use essaim_docker::{Filters, Time};
use essaim_model::{Event, Refusal};
use essaim_wire::{NodeId, Timestamp};
use futures::stream::BoxStream;
use futures::{StreamExt, future, stream};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Interval at which the leader is looked at, and at which a node that has no events looks whether it has become a
/// manager.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time that the engine has for its past events. It has them in memory.
const PAST_DEADLINE: Duration = Duration::from_secs(2);

/// Past events that are taken from the engine: more than it keeps.
const ENGINE_PAST_MAX: usize = 4096;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    filters: String,
}

pub(super) async fn stream(State(face): State<Face>, Query(asked): Query<Asked>, request: Request) -> Answer {
    let filters = Filters::parse(&asked.filters)?;
    event::check_filters(&filters)?;
    let now = face.now();
    let (since, until) = (time("since", &asked.since, now)?, time("until", &asked.until, now)?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        let text = format!("`since` time ({}) cannot be after `until` time ({})", asked.since, asked.until);
        return Err(Refusal::invalid(text).into());
    }
    let wanted = Arc::new(Wanted { filters, since, until });
    let mut cluster = ClusterEvents::new(face.clone(), Arc::clone(&wanted));
    let engine = face.engine.filter(|_| event::wants_engine(&wanted.filters)).map(|engine| EngineEvents {
        engine,
        version: request.extensions().get().cloned(),
        filters: asked.filters,
        since: nanos(now) + 1,
        lines: None,
    });
    let mut past = Vec::new();
    if let Some(since) = since {
        let until = until.map_or(now, |until| until.min(now));
        past = cluster.past();
        if let Some(engine) = &engine {
            past.extend(engine.past(since, until).await);
        }
        // Stable, so that events of one time keep the order of their source.
        past.sort_by_key(|told| told.at);
    }
    let past = stream::iter(past.into_iter().map(|told| told.line));
    let lines: BoxStream<'static, Bytes> = match until.map(|until| until.saturating_since(now)) {
        Some(Duration::ZERO) => past.boxed(),
        until => {
            let ends = async move {
                match until {
                    Some(wait) => sleep(wait).await,
                    None => future::pending().await,
                }
            };
            let engine = stream::iter(engine).flat_map(EngineEvents::live);
            past.chain(stream::select(cluster.live(), engine).take_until(Box::pin(ends))).boxed()
        }
    };
    Ok(typed(Body::from_stream(lines.map(Ok::<Bytes, Infallible>)), "application/json"))
}

fn time(what: &str, text: &str, now: Timestamp) -> Result<Option<Timestamp>, Refused> {
    if !flag(text) {
        return Ok(None);
    }
    match Time::from_query_at(text, now) {
        Some(time) => Ok(Some(time.timestamp().unwrap_or_default())),
        None => Err(Refusal::invalid(format!("invalid value for \"{what}\": {text:?}")).into()),
    }
}

fn nanos(at: Timestamp) -> i64 {
    Time::from(at).unix().1
}

/// What the client asked for.
struct Wanted {
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// One line of the stream, and its time in nanoseconds since 1970.
struct Told {
    at: i64,
    line: Bytes,
}

impl Told {
    fn of(message: &EventMessage) -> Self {
        Self { at: message.time_nano, line: encode(message) }
    }
}

/// The cluster's events for one client.
struct ClusterEvents {
    face: Face,
    wanted: Arc<Wanted>,
    /// The position in the store's events; `None` on a node that is no manager.
    follower: Option<Follower>,
    /// The leader when it was last looked at.
    leader: Option<NodeId>,
    /// Latest time of all events so far.
    latest: Timestamp,
}

impl ClusterEvents {
    fn new(face: Face, wanted: Arc<Wanted>) -> Self {
        let follower = face.control().ok().map(|control| Follower::new(control, wanted.since.is_some()));
        let leader = face.leader();
        Self { face, wanted, follower, leader, latest: Timestamp::default() }
    }

    /// The past events, from the oldest that is kept.
    fn past(&mut self) -> Vec<Told> {
        let mut past = Vec::new();
        while let Some(next) = self.follower.as_mut().and_then(Follower::try_next) {
            // That the ring does not reach back to the beginning is no loss of this client's.
            if let Next::Happened(happened) = next {
                let messages = happened.events.iter().filter_map(|it| self.message(it, happened.replayed));
                past.extend(messages.map(|message| Told::of(&message)));
            }
        }
        past
    }

    /// The events that happen from now on.
    fn live(self) -> impl futures::Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut this| async move {
            let lines = this.next().await;
            Some((lines, this))
        })
    }

    /// The next lines.
    async fn next(&mut self) -> Bytes {
        loop {
            let mut lines = BytesMut::new();
            match &mut self.follower {
                None => {
                    sleep(LOOK_EVERY).await;
                    self.follower = self.face.control().ok().map(|control| Follower::new(control, false));
                }
                Some(follower) => match timeout(LOOK_EVERY, follower.next()).await {
                    Ok(Some(Next::Happened(happened))) => {
                        for message in happened.events.iter().filter_map(|it| self.message(it, happened.replayed)) {
                            lines.extend_from_slice(&encode(&message));
                        }
                    }
                    Ok(Some(Next::Lost)) if event::wants_cluster(&self.wanted.filters) => {
                        let node = self.face.node.standing().membership().map(|part| part.node.to_string());
                        let name = self.face.node.hostname();
                        lines.extend_from_slice(&encode(&event::lost(
                            &node.unwrap_or_default(),
                            name,
                            self.face.now(),
                        )));
                    }
                    // This node is no manager any more, or its manager starts again.
                    Ok(None) => self.follower = None,
                    Ok(Some(Next::Lost)) | Err(_) => (),
                },
            }
            for message in self.leader_changed() {
                lines.extend_from_slice(&encode(&message));
            }
            if !lines.is_empty() {
                return lines.freeze();
            }
        }
    }

    /// The messages about another leader than the last. Who leads is no part of the replicated state, so there is no event
    /// for it.
    fn leader_changed(&mut self) -> Vec<EventMessage> {
        let Some(now) = self.face.leader().filter(|now| self.leader != Some(*now)) else { return Vec::new() };
        let Some(before) = self.leader.replace(now) else { return Vec::new() };
        let Ok(control) = self.face.control() else { return Vec::new() };
        let (state, at) = (control.last_known(), self.face.now());
        let changed = [(before, false), (now, true)];
        let nodes = changed.into_iter().filter_map(|(id, leads)| Some((state.node(id)?, leads)));
        let messages = nodes.map(|(node, leads)| event::show_leader(node, leads, at));
        messages.filter(|message| event::matches(&self.wanted.filters, message)).collect()
    }

    /// The message for an event; `None` when the client did not ask for it. A removed object does not tell the time of
    /// its removal: a removal that is seen live is dated now, and a replayed one is dated like the event before it.
    fn message(&mut self, event: &Event, replayed: bool) -> Option<EventMessage> {
        let unsaid = if replayed { self.latest } else { self.face.now() };
        let at = happened_at(event).unwrap_or(unsaid);
        self.latest = self.latest.max(at);
        let Wanted { filters, since, until } = &*self.wanted;
        if since.is_some_and(|since| at < since) || until.is_some_and(|until| at > until) {
            return None;
        }
        if matches!(event, Event::Task { .. }) && !event::wants_tasks(filters) {
            return None;
        }
        let state = self.face.control().ok()?.last_known();
        event::show(event, at, &state).filter(|message| event::matches(filters, message))
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

/// The engine's events for one client. The engine filters them itself.
struct EngineEvents {
    engine: Engine,
    version: Option<ClientVersion>,
    filters: String,
    /// Time of the first event that is still wanted, in nanoseconds since 1970.
    since: i64,
    lines: Option<Lines>,
}

impl EngineEvents {
    /// The past events that the engine keeps; none when it does not answer.
    async fn past(&self, since: Timestamp, until: Timestamp) -> Vec<Told> {
        let mut past = Vec::new();
        let read = async {
            let asked = self.engine.events(self.version.as_ref(), nanos(since), Some(nanos(until)), &self.filters);
            let mut lines = asked.await.ok()?;
            while past.len() < ENGINE_PAST_MAX {
                past.extend(told(lines.next().await?));
            }
            Some(())
        };
        let _ = timeout(PAST_DEADLINE, read).await;
        past
    }

    /// The events that happen from now on. An engine that is down, or is started again, is asked until it answers.
    fn live(self) -> impl futures::Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut this| async move {
            loop {
                let Some(lines) = &mut this.lines else {
                    let asked = this.engine.events(this.version.as_ref(), this.since, None, &this.filters);
                    match asked.await {
                        Ok(lines) => this.lines = Some(lines),
                        Err(_) => sleep(LOOK_EVERY).await,
                    }
                    continue;
                };
                match lines.next().await.map(told) {
                    Some(Some(told)) => {
                        this.since = this.since.max(told.at + 1);
                        return Some((told.line, this));
                    }
                    Some(None) => (),
                    None => {
                        this.lines = None;
                        sleep(LOOK_EVERY).await;
                    }
                }
            }
        })
    }
}

/// A line of the engine's with its time; `None` when it is no event.
fn told(line: Bytes) -> Option<Told> {
    let event: EventMessage = serde_json::from_slice(&line).ok()?;
    let mut line = BytesMut::from(&line[..]);
    line.extend_from_slice(b"\n");
    Some(Told { at: event.time_nano, line: line.freeze() })
}
