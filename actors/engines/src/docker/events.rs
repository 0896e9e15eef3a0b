//! The engine's events: one stream for all tasks, which says for which task it is time to look again.
//!
//! An event is only a hint (level-triggered): whoever watches a task inspects its container, so an event that is lost,
//! late or doubled does no harm. The stream is opened again with a growing delay when it breaks. Every watcher looks
//! when it broke, and once more when it stands again, because what happened in between is not sent.
//!
//! The stream also finds out whether the engine answers at all: an engine that hangs sends no events and keeps the
//! connection open, so it is pinged.

use super::client::{Client, within};
use super::names::TASK_LABEL;
use crate::process::Utc;
use bollard::query_parameters::EventsOptionsBuilder;
use essaim_model::TaskId;
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// First and longest delay before a broken stream is opened again.
const DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Time after which a new stream counts as standing. The engine does not say when it begins to listen, so watchers look
/// this much later; events of the last [`REPLAY_S`] seconds are sent again all the same.
const SETTLED: Duration = Duration::from_millis(200);

/// Seconds of past events that a new stream asks for. The engine keeps the last 256 events.
const REPLAY_S: u64 = 2;

/// Time between two pings, and the patience for each.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Actions after which the state of a container may differ. `exec_start`, `top` and the like change nothing.
const ACTIONS: [&str; 8] = ["die", "oom", "destroy", "health_status", "start", "pause", "unpause", "kill"];

/// Handle on the stream; clones share it. The stream ends with the last handle.
#[derive(Clone)]
pub(super) struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    utc: Utc,
    watched: Mutex<Watched>,
    answers: watch::Sender<bool>,
}

#[derive(Default)]
struct Watched {
    tasks: BTreeMap<TaskId, watch::Sender<u64>>,
    reader: Option<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(reader) = self.watched.lock().reader.take() {
            reader.abort();
        }
    }
}

impl Events {
    pub(super) fn new(client: Arc<Client>, utc: Utc) -> Self {
        let (watched, answers) = (Mutex::default(), watch::Sender::new(true));
        Self { shared: Arc::new(Shared { client, utc, watched, answers }) }
    }

    /// Changes whenever it is time to look at the task again. The stream is opened with the first watcher.
    pub(super) fn of(&self, task: TaskId) -> watch::Receiver<u64> {
        let mut watched = self.shared.watched.lock();
        watched.tasks.retain(|_, hint| hint.receiver_count() > 0);
        self.open(&mut watched);
        watched.tasks.entry(task).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Waits until the stream has broken, and stands no more. The stream is opened with the first watcher.
    pub(super) async fn broken(&self) {
        self.open(&mut self.shared.watched.lock());
        let mut answers = self.shared.answers.subscribe();
        // The sender lives as long as this handle.
        let _ = answers.wait_for(|answers| !answers).await;
    }

    fn open(&self, watched: &mut Watched) {
        if watched.reader.is_none() {
            watched.reader = Some(tokio::spawn(read(Arc::downgrade(&self.shared))).abort_handle());
        }
    }
}

impl Shared {
    fn hint(&self, task: TaskId) {
        if let Some(hint) = self.watched.lock().tasks.get(&task) {
            hint.send_modify(|count| *count += 1);
        }
    }

    fn hint_all(&self) {
        for hint in self.watched.lock().tasks.values() {
            hint.send_modify(|count| *count += 1);
        }
    }
}

/// Reads the stream, opening it again whenever it breaks, until nothing needs it any more.
async fn read(shared: Weak<Shared>) {
    let mut delay = DELAYS.0;
    loop {
        let Some((client, now)) = shared.upgrade().map(|it| (Arc::clone(&it.client), (it.utc)())) else { return };
        client.agree_again().await;
        let docker = client.docker();
        let since = now.as_micros() / 1_000_000;
        let filters =
            HashMap::from([("type", vec!["container"]), ("label", vec![TASK_LABEL]), ("event", ACTIONS.to_vec())]);
        let options = EventsOptionsBuilder::new().since(&since.saturating_sub(REPLAY_S).to_string()).filters(&filters);
        let mut events = pin!(docker.events(Some(options.build())));
        let mut settled = pin!(tokio::time::sleep(SETTLED));
        let mut is_settled = false;
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING.0, PING.0);
        loop {
            tokio::select! {
                next = events.next() => {
                    let Some(Ok(event)) = next else { break };
                    let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                    let task = attributes.get(TASK_LABEL).and_then(|id| id.parse().ok());
                    let Some(shared) = shared.upgrade() else { return };
                    if let Some(task) = task {
                        shared.hint(task);
                    }
                }
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    let Some(shared) = shared.upgrade() else { return };
                    shared.answers.send_if_modified(|answers| !std::mem::replace(answers, true));
                    shared.hint_all();
                    delay = DELAYS.0;
                }
                _ = ping.tick() => {
                    if within(PING.1, docker.ping()).await.is_err() {
                        break;
                    }
                }
            }
        }
        {
            let Some(shared) = shared.upgrade() else { return };
            shared.answers.send_if_modified(|answers| std::mem::replace(answers, false));
            shared.hint_all();
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(DELAYS.1);
    }
}
