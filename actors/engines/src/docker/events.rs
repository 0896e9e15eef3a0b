//! The engine's events: one stream for all tasks, which says for which task it is time to look again.
//!
//! An event is only a hint (level-triggered): whoever watches a task inspects its container, so an event that is lost,
//! late or doubled does no harm. The stream is opened again with a growing delay when it breaks. Every watcher looks
//! when it broke, and once more when it stands again, because what happened in between is not sent.
//!
//! The stream also finds out whether the engine answers at all: an engine that hangs sends no events and keeps the
//! connection open, so it is pinged, also before the stream is opened again. A ping takes no lock and no disk, so an engine
//! that is only busy answers it. And it tells which containers somebody else has started (`docker start`, `docker
//! restart`): their tasks may have ended, and then nobody watches them.

use super::client::{CallError, Client, within};
use super::names::TASK_LABEL;
use crate::process::Utc;
use bollard::Docker;
use bollard::query_parameters::EventsOptionsBuilder;
use essaim_model::TaskId;
use essaim_wire::Timestamp;
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// First and longest delay before a broken stream is opened again.
const DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Time after which a new stream counts as standing. The engine does not say when it begins to listen, so watchers look
/// this much later; the events since the last one are sent again all the same. The engine keeps the last 256.
const SETTLED: Duration = Duration::from_millis(200);

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
    /// Time since which this handle is there. It knows the starts from then on that are its own.
    since: Timestamp,
    watched: Mutex<Watched>,
    voice: watch::Sender<Voice>,
    /// Wakes the reader of `revived`.
    has_revived: Notify,
}

#[derive(Default)]
struct Watched {
    tasks: BTreeMap<TaskId, watch::Sender<Hint>>,
    /// Tasks whose containers this daemon starts, and whose starts the engine has not told yet.
    expected: BTreeSet<TaskId>,
    /// Tasks whose containers somebody else has started, and that the worker does not know of yet: at most as many as
    /// there are containers of ours.
    revived: BTreeSet<TaskId>,
    reader: Option<AbortHandle>,
}

/// Whether the engine answers, as far as its stream of events shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// The stream stands, or was not opened yet.
    Answers,
    /// The stream has broken.
    Broken,
    /// The last ping was not answered in time.
    Hangs,
}

/// What a watcher of a task is told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hint {
    /// Changes whenever it is time to look at the task.
    count: u64,
    /// Exit code of the container's last end, if an event told it.
    pub(super) exit_code: Option<i32>,
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
        let (since, watched, voice) = (utc(), Mutex::default(), watch::Sender::new(Voice::Answers));
        Self { shared: Arc::new(Shared { client, utc, since, watched, voice, has_revived: Notify::new() }) }
    }

    /// Changes whenever it is time to look at the task again. The stream is opened with the first watcher.
    pub(super) fn of(&self, task: TaskId) -> watch::Receiver<Hint> {
        let mut watched = self.shared.watched.lock();
        watched.tasks.retain(|_, hint| hint.receiver_count() > 0);
        self.open(&mut watched);
        watched.tasks.entry(task).or_default().subscribe()
    }

    /// Notes that this daemon is about to start the container of a task.
    pub(super) fn expect(&self, task: TaskId) {
        self.shared.watched.lock().expected.insert(task);
    }

    /// Forgets a task whose container is gone.
    pub(super) fn forget(&self, task: TaskId) {
        let mut watched = self.shared.watched.lock();
        watched.expected.remove(&task);
        watched.revived.remove(&task);
    }

    /// Waits for a task whose container somebody else has started.
    pub(super) async fn revived(&self) -> TaskId {
        self.open(&mut self.shared.watched.lock());
        loop {
            let revived = self.shared.watched.lock().revived.pop_first();
            match revived {
                Some(task) => return task,
                None => self.shared.has_revived.notified().await,
            }
        }
    }

    /// Waits until the stream has broken, and stands no more. The stream is opened with the first watcher.
    pub(super) async fn broken(&self) {
        self.open(&mut self.shared.watched.lock());
        let mut voice = self.shared.voice.subscribe();
        // The sender lives as long as this handle.
        let _ = voice.wait_for(|voice| *voice != Voice::Answers).await;
    }

    /// Waits until the engine is known to hang: at once while it does.
    pub(super) async fn hangs(&self) {
        let mut voice = self.shared.voice.subscribe();
        let _ = voice.wait_for(|voice| *voice == Voice::Hangs).await;
    }

    fn open(&self, watched: &mut Watched) {
        if watched.reader.is_none() {
            watched.reader = Some(tokio::spawn(read(Arc::downgrade(&self.shared))).abort_handle());
        }
    }
}

impl Shared {
    /// Handles an event of the task's container, which is new or was told before.
    fn on_event(&self, task: TaskId, action: &str, exit_code: Option<i32>, is_new: bool) {
        let mut watched = self.watched.lock();
        if is_new && action == "start" && !watched.expected.remove(&task) {
            watched.revived.insert(task);
            self.has_revived.notify_one();
        }
        if let Some(hint) = watched.tasks.get(&task) {
            hint.send_modify(|hint| {
                hint.count += 1;
                hint.exit_code = exit_code.or(hint.exit_code);
            });
        }
    }

    /// Notes whether the engine answers, and has every watcher look when it does no more, or does again.
    fn note(&self, now: Voice) {
        self.voice.send_if_modified(|voice| std::mem::replace(voice, now) != now);
        self.hint_all();
    }

    fn hint_all(&self) {
        for hint in self.watched.lock().tasks.values() {
            hint.send_modify(|hint| hint.count += 1);
        }
    }
}

/// Asks the engine whether it is there.
async fn ping(docker: &Docker) -> Voice {
    match within(PING.1, docker.ping()).await {
        Ok(_) => Voice::Answers,
        Err(CallError::Late) => Voice::Hangs,
        Err(_) => Voice::Broken,
    }
}

fn nanoseconds(at: Timestamp) -> u64 {
    at.as_micros().saturating_mul(1000)
}

/// Reads the stream, opening it again whenever it breaks, until nothing needs it any more.
async fn read(shared: Weak<Shared>) {
    let mut delay = DELAYS.0;
    // Time of the newest event, in nanoseconds.
    let mut newest = 0;
    loop {
        let Some((client, now, since)) = shared.upgrade().map(|it| (Arc::clone(&it.client), (it.utc)(), it.since))
        else {
            return;
        };
        let mut voice = ping(&client.docker()).await;
        if voice == Voice::Answers {
            // An engine that hangs now is found out by the pings. The version stays as it was until the next stream.
            let _ = tokio::time::timeout(PING.1, client.agree_again()).await;
        }
        let docker = client.docker();
        // A clock that was set back must not make every event an old one.
        newest = nanoseconds(since).max(newest).min(nanoseconds(now));
        let told = newest;
        let since = told / 1_000_000_000;
        let filters =
            HashMap::from([("type", vec!["container"]), ("label", vec![TASK_LABEL]), ("event", ACTIONS.to_vec())]);
        let options = EventsOptionsBuilder::new().since(&since.to_string()).filters(&filters);
        let mut events = pin!(docker.events(Some(options.build())));
        let mut settled = pin!(tokio::time::sleep(SETTLED));
        let mut is_settled = false;
        let mut pings = tokio::time::interval(PING.0);
        while voice == Voice::Answers {
            tokio::select! {
                next = events.next() => {
                    let Some(Ok(event)) = next else {
                        voice = Voice::Broken;
                        continue;
                    };
                    let at = event.time_nano.and_then(|at| u64::try_from(at).ok()).unwrap_or_default();
                    newest = newest.max(at);
                    let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                    let task = attributes.get(TASK_LABEL).and_then(|id| id.parse().ok());
                    let Some(shared) = shared.upgrade() else { return };
                    if let Some(task) = task {
                        let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok());
                        shared.on_event(task, event.action.as_deref().unwrap_or_default(), exit_code, at > told);
                    }
                }
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    let Some(shared) = shared.upgrade() else { return };
                    shared.note(Voice::Answers);
                    delay = DELAYS.0;
                }
                _ = pings.tick() => voice = ping(&docker).await,
            }
        }
        {
            let Some(shared) = shared.upgrade() else { return };
            shared.note(voice);
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(DELAYS.1);
    }
}
