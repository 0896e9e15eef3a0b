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
use crate::engine::{ClientVersion, Lines, LocalEngine};
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
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
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
    let engine = face.engine.clone().filter(|_| event::wants_engine(&wanted.filters)).map(|engine| EngineEvents {
        engine,
        version: request.extensions().get().cloned(),
        filters: asked.filters,
        since: nanos(now) + 1,
    });
    let engine_past = match (since, &engine) {
        (Some(since), Some(engine)) => engine.past(since, until.map_or(now, |until| until.min(now))).await,
        _ => VecDeque::new(),
    };
    let goes_on = until.is_none_or(|until| until > now);
    let (past_told, past_over) = oneshot::channel::<()>();
    let cluster = ClusterEvents::new(face, wanted, engine_past, past_told, goes_on).lines();
    let lines: BoxStream<'static, Bytes> = if goes_on {
        let ends = async move {
            match until.map(|until| until.saturating_since(now)) {
                Some(wait) => sleep(wait).await,
                None => future::pending().await,
            }
        };
        // The sender is dropped when the past events have been sent.
        let engine =
            stream::once(past_over).flat_map(move |_| stream::iter(engine.clone()).flat_map(EngineEvents::live));
        stream::select(cluster.boxed(), engine.boxed()).take_until(Box::pin(ends)).boxed()
    } else {
        cluster.boxed()
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

/// The cluster's events for one client, and before them the past events of both sources.
struct ClusterEvents {
    face: Face,
    wanted: Arc<Wanted>,
    /// The position in the store's events; `None` on a node that is no manager.
    follower: Option<Follower>,
    /// The past events that are still to be sent; `None` when all were.
    past: Option<Past>,
    /// Whether the client also wants events of the future.
    goes_on: bool,
    /// The leader when it was last looked at.
    leader: Option<NodeId>,
    /// Latest time of all events so far.
    latest: Timestamp,
}

/// The past events of both sources, in the order of their times. Those of the cluster are taken from the store's ring one
/// index after the other, as the client reads.
struct Past {
    engine: VecDeque<Told>,
    cluster: VecDeque<Told>,
    /// Whether the client's place in the ring is known: the oldest kept event has been taken. That the ring reaches back
    /// no further than that event is no loss of this client's.
    begun: bool,
    /// Dropped when the past is over.
    _told: oneshot::Sender<()>,
}

impl ClusterEvents {
    fn new(face: Face, wanted: Arc<Wanted>, engine: VecDeque<Told>, told: oneshot::Sender<()>, goes_on: bool) -> Self {
        let follower = face.control().ok().map(|control| Follower::new(control, wanted.since.is_some()));
        let leader = face.leader();
        // A client that wants no past events begins at a place of its own, and loses what the ring drops after it.
        let begun = wanted.since.is_none();
        let past = Some(Past { engine, cluster: VecDeque::new(), begun, _told: told });
        Self { face, wanted, follower, past, goes_on, leader, latest: Timestamp::default() }
    }

    /// All lines: the past, and then what happens.
    fn lines(self) -> impl futures::Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut this| async move {
            if let Some(told) = this.next_past() {
                return Some((told.line, this));
            }
            this.past = None;
            if !this.goes_on {
                return None;
            }
            let lines = this.next().await;
            Some((lines, this))
        })
    }

    /// The next past event of the two sources.
    fn next_past(&mut self) -> Option<Told> {
        let mut past = self.past.take()?;
        while past.cluster.is_empty()
            && let Some(next) = self.follower.as_mut().and_then(Follower::try_next)
        {
            match next {
                Next::Happened(happened) => {
                    let messages = happened.events.iter().filter_map(|it| self.message(it, happened.replayed));
                    past.cluster.extend(messages.map(|message| Told::of(&message)));
                    past.begun = true;
                }
                Next::Lost if past.begun => past.cluster.extend(self.lost().as_ref().map(Told::of)),
                Next::Lost => (),
            }
        }
        let of_engine = match (past.engine.front(), past.cluster.front()) {
            (Some(engine), Some(cluster)) => engine.at <= cluster.at,
            (engine, _) => engine.is_some(),
        };
        let next = if of_engine { past.engine.pop_front() } else { past.cluster.pop_front() };
        self.past = Some(past);
        next
    }

    /// The message that events are lost to this client, if it asked for any.
    fn lost(&self) -> Option<EventMessage> {
        let node = self.face.node.standing().membership().map(|part| part.node.to_string()).unwrap_or_default();
        let lost = || event::lost(&node, self.face.node.hostname(), self.face.now());
        event::wants_cluster(&self.wanted.filters).then(lost)
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
                    Ok(Some(Next::Lost)) => {
                        self.lost().iter().for_each(|lost| lines.extend_from_slice(&encode(lost)));
                    }
                    // This node is no manager any more, or its manager starts again.
                    Ok(None) => self.follower = None,
                    Err(_) => (),
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
#[derive(Clone)]
struct EngineEvents {
    engine: LocalEngine,
    version: Option<ClientVersion>,
    filters: String,
    /// Time of the first event that is still wanted, in nanoseconds since 1970.
    since: i64,
}

impl EngineEvents {
    /// The past events that the engine keeps; none when it does not answer.
    async fn past(&self, since: Timestamp, until: Timestamp) -> VecDeque<Told> {
        let mut past = VecDeque::new();
        let read = async {
            let asked = self.engine.events(self.version.as_ref(), nanos(since), Some(nanos(until)), &self.filters);
            let mut lines = asked.await.ok()?;
            while past.len() < ENGINE_PAST_MAX {
                past.extend(told(lines.next().await?));
            }
            Some(())
        };
        let _ = timeout(PAST_DEADLINE, read).await;
        past.make_contiguous().sort_by_key(|told: &Told| told.at);
        past
    }

    /// The events that happen from now on. An engine that is down, or is started again, is asked until it answers.
    fn live(self) -> impl futures::Stream<Item = Bytes> + Send {
        stream::unfold((self, None::<Lines>), |(mut this, mut open)| async move {
            loop {
                let Some(lines) = &mut open else {
                    let asked = this.engine.events(this.version.as_ref(), this.since, None, &this.filters);
                    match asked.await {
                        Ok(lines) => open = Some(lines),
                        Err(_) => sleep(LOOK_EVERY).await,
                    }
                    continue;
                };
                match lines.next().await.map(told) {
                    Some(Some(told)) => {
                        this.since = this.since.max(told.at + 1);
                        return Some((told.line, (this, open)));
                    }
                    Some(None) => (),
                    None => {
                        open = None;
                        sleep(LOOK_EVERY).await;
                    }
                }
            }
        })
    }
}

/// A line of the engine's with its time; `None` when it is no event.
fn told(line: Bytes) -> Option<Told> {
    #[derive(Deserialize)]
    struct When {
        #[serde(rename = "timeNano")]
        at: i64,
    }
    let When { at } = serde_json::from_slice(&line).ok()?;
    let mut line = BytesMut::from(&line[..]);
    line.extend_from_slice(b"\n");
    Some(Told { at, line: line.freeze() })
}
