//! Log lines of a service's tasks, from the nodes on which the tasks ran.
//!
//! Each task is asked at its own node over the `logs` lane, some dozens of them at the same time, and the lines come out
//! as they arrive. An answer that breaks off (the link failed, the daemon at the node was started again) goes on after
//! the last line that arrived, so no line is lost or comes twice. A node that does not answer is named at the end of the
//! stream, after the lines of all others; a reader that follows is told at once as well, and gets the missing lines when
//! the node answers again. Which tasks are read is decided in [`roll`].
//!
//! The state of the managers, and not the node, says whether a task has ended: only then its log is complete.
//!
//! A reader that falls behind slows down its own sources (flow control): this manager holds at most one frame per task
//! that is read, of some 64 KiB, and [`FRAMES_WAITING`] for the reader.

mod roll;

pub use roll::LogsOf;

use super::Control;
use essaim_model::{State, TaskId};
use essaim_protocol::{LogEnd, LogFrame, LogLine, LogPlace, LogRequest, LogStream};
use essaim_store::CursorError;
use essaim_transport::Lane;
use essaim_wire::{Moment, NodeId, Reachability, Timestamp};
use roll::{Effect, Input, Roll};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// Frames that may wait for the reader, from all sources together.
const FRAMES_WAITING: usize = 16;

/// Tasks that are read to their end at the same time for one reader: a service remembers thousands of tasks, and each
/// lane is a stream here and a file at its node.
const LANES_MAX: usize = 64;

/// Tasks that one reader follows at the same time. Each takes a lane for as long as it runs, so a further task waits
/// until one of them has ended.
const FOLLOWED_MAX: usize = 256;

/// Upper bound on the wait until a node begins its answer.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Time for which a node may fail to answer before it is named: enough for a new connection, or for its daemon to start
/// again. A node that the managers hold to be lost is named at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Delays between two requests for the log of one task: the shortest, and the one that they grow to while no line
/// arrives.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// Time after the end of the wanted lines at which a reader that follows is done: lines have the time of their node's
/// clock, and travel.
const UNTIL_GRACE: Duration = Duration::from_secs(1);

/// Selection of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsQuery {
    /// Include lines of standard output.
    pub stdout: bool,
    /// Include lines of standard error.
    pub stderr: bool,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only lines until this time.
    pub until: Option<Timestamp>,
    /// Only the last so many lines of each task. Of a task that a followed service creates later, all lines come.
    pub tail: Option<u64>,
    /// Continue with new lines, and with new tasks of the service.
    pub follow: bool,
    /// Include what the log driver keeps with each line.
    pub details: bool,
}

/// A log line with its task and node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// Task that wrote the line.
    pub task: TaskId,
    /// Node on which the task ran.
    pub node: NodeId,
    /// The line that the task wrote, or a notice of this manager about the task's log (on standard error).
    pub line: LogLine,
}

/// One part of a stream of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    /// Lines of one task, in the order in which it wrote them.
    Lines(Vec<TaskLine>),
    /// The last part of a stream that lacks lines: why, in Swarm's words.
    Incomplete(String),
}

/// The parts of a stream of logs as they arrive. Dropping it ends all reading.
pub type LogStreamOf = mpsc::Receiver<LogPart>;

impl Control {
    /// The log lines of a service or a task. `state` is the state in which the caller found it.
    pub fn logs(&self, state: Arc<State>, of: LogsOf, query: LogsQuery) -> LogStreamOf {
        let (lines, reader) = mpsc::channel(FRAMES_WAITING);
        let driver = Driver {
            control: self.clone(),
            of,
            query,
            lines,
            closing: watch::Sender::new(false),
            turns: Arc::new(Semaphore::new(LANES_MAX)),
            follows: Arc::new(Semaphore::new(FOLLOWED_MAX)),
        };
        tokio::spawn(driver.run(state));
        reader
    }
}

/// The task that serves one reader: it follows the state, and starts a [`Source`] for each task.
struct Driver {
    control: Control,
    of: LogsOf,
    query: LogsQuery,
    lines: mpsc::Sender<LogPart>,
    /// Whether the sources are to end with what was written so far.
    closing: watch::Sender<bool>,
    turns: Arc<Semaphore>,
    follows: Arc<Semaphore>,
}

impl Driver {
    async fn run(self, state: Arc<State>) {
        let mut cursor = self.control.events(state.applied().index);
        let mut roll = Roll::new(self.of, self.query.follow);
        let (mut sources, mut effects) = (JoinSet::new(), Vec::new());
        let mut follows_state = self.query.follow;
        roll.handle(Input::Look(&state), &mut effects);
        drop(state);
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Read { task, node, joined } => {
                        let source = self.source(task, node, joined);
                        sources.spawn(async move { (task, source.read().await) });
                    }
                    Effect::End { lacks } => {
                        if !lacks.is_empty() {
                            let text = format!(
                                "warning: incomplete log stream. some logs could not be retrieved for the following \
                                 reasons: {}",
                                lacks.join(", ")
                            );
                            // The reader may have gone.
                            let _ = self.lines.send(LogPart::Incomplete(text)).await;
                        }
                        return;
                    }
                }
            }
            tokio::select! {
                () = self.lines.closed() => return,
                Some(done) = sources.join_next() => match done {
                    Ok((task, lacks)) => roll.handle(Input::Read { task, lacks }, &mut effects),
                    // A source panicked, which is a bug: no number of its task is known, so all ends here.
                    Err(_) => return,
                },
                happened = cursor.next(), if follows_state => match happened {
                    Ok(happened) => {
                        let later = cursor.advance();
                        let state = &later.state;
                        match later.events {
                            Some(events) => {
                                roll.handle(Input::Happened(state, &happened.events), &mut effects);
                                roll.handle(Input::Happened(state, &events), &mut effects);
                            }
                            None => roll.handle(Input::Look(state), &mut effects),
                        }
                    }
                    Err(CursorError::Compacted(_)) => roll.handle(Input::Look(&cursor.advance().state), &mut effects),
                    Err(CursorError::Closed) => {
                        follows_state = false;
                        self.closing.send_replace(true);
                        roll.handle(Input::Close, &mut effects);
                    }
                },
                () = self.until(), if follows_state && self.query.until.is_some() => {
                    follows_state = false;
                    self.closing.send_replace(true);
                    roll.handle(Input::Close, &mut effects);
                }
            }
        }
    }

    /// Waits until every line that is wanted was written.
    async fn until(&self) {
        let left = self.query.until.unwrap_or_default().saturating_since(self.control.scope.utc());
        tokio::time::sleep(left + UNTIL_GRACE).await;
    }

    fn source(&self, task: TaskId, node: NodeId, joined: bool) -> Source {
        let LogsQuery { stdout, stderr, since, until, tail, follow, details } = self.query;
        let tail = tail.filter(|_| !joined);
        Source {
            control: self.control.clone(),
            node,
            follow,
            request: LogRequest { stdout, stderr, since, until, tail, details, ..LogRequest::all(task) },
            lines: self.lines.clone(),
            closing: self.closing.subscribe(),
            turns: Arc::clone(&self.turns),
            follows: Arc::clone(&self.follows),
        }
    }
}

/// Reads the log of one task to its end.
struct Source {
    control: Control,
    node: NodeId,
    /// Whether the reader follows.
    follow: bool,
    /// The next request; it goes on after the last line that was passed on.
    request: LogRequest,
    lines: mpsc::Sender<LogPart>,
    closing: watch::Receiver<bool>,
    turns: Arc<Semaphore>,
    follows: Arc<Semaphore>,
}

/// How one request ended.
enum Copied {
    /// The node sent all that was asked for.
    All,
    /// The node has no such task.
    Unknown,
    /// The answer broke off, or did not begin.
    Failed(String),
    /// The reader follows no longer.
    Closing,
}

/// What the managers know of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The task was not seen running yet.
    Coming,
    /// The task runs.
    Running,
    /// The task has ended, or is forgotten.
    Ended {
        /// Whether it ever ran.
        ran: bool,
    },
}

impl Source {
    /// Reads the log; returns why lines are missing, in words for people.
    async fn read(mut self) -> Option<String> {
        let mut failing: Option<Moment> = None;
        let (mut pause, mut told) = (AGAIN, false);
        loop {
            if self.lines.is_closed() {
                return None;
            }
            // Asked before reading: if the task has ended by now, the read below gets everything that it wrote.
            let standing = self.standing();
            let wants_more = self.follow && !matches!(standing, Standing::Ended { .. }) && !*self.closing.borrow();
            let place = if wants_more { self.place_to_follow().await } else { None };
            self.request.follow = place.is_some();
            let turn = if place.is_some() { None } else { Arc::clone(&self.turns).acquire_owned().await.ok() };
            let before = self.request.after;
            let copied = self.copy().await;
            drop((place, turn));
            if self.request.after != before {
                (failing, pause, told) = (None, AGAIN, false);
            }
            match copied {
                Copied::Closing => continue,
                Copied::All if !wants_more => return None,
                Copied::All if !self.request.follow => {
                    // A log without a line so far is followed from its beginning.
                    self.request.after.get_or_insert_default();
                    continue;
                }
                Copied::All => failing = None,
                Copied::Unknown => match standing {
                    Standing::Ended { ran: false } => return None,
                    Standing::Ended { ran: true } => {
                        self.notice("the node has no log of this task any more").await;
                        return None;
                    }
                    // A task that is prepared has no log yet, and has written nothing.
                    Standing::Coming if !wants_more => return None,
                    Standing::Running if !wants_more => return Some(format!("{} lost the task", self.name())),
                    Standing::Coming | Standing::Running => failing = None,
                },
                Copied::Failed(why) => {
                    let since = *failing.get_or_insert_with(|| self.control.scope.now());
                    let lasts = self.is_lost() || self.control.scope.now().saturating_since(since) >= PATIENCE;
                    if lasts && !told && self.follow {
                        told = true;
                        self.notice(&format!("{} is not available: {why}", self.name())).await;
                    }
                    if lasts && !wants_more {
                        return Some(format!("{} is not available ({why})", self.name()));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// A place among the tasks that are followed. `None`: the log is first read to its present end, because only its
    /// last lines are wanted or no place is free. The place in the log where following begins is then known, so that a
    /// request that breaks off before its first line loses nothing.
    async fn place_to_follow(&mut self) -> Option<OwnedSemaphorePermit> {
        let begun = self.request.after.is_some();
        if !begun && self.request.tail.is_some() {
            return None;
        }
        let free = Arc::clone(&self.follows).try_acquire_owned().ok();
        if free.is_some() {
            return free;
        }
        if !begun {
            let text =
                format!("{FOLLOWED_MAX} tasks are followed, the most at a time: this one waits for the end of one");
            self.notice(&text).await;
            return None;
        }
        let mut closing = self.closing.clone();
        tokio::select! {
            place = Arc::clone(&self.follows).acquire_owned() => place.ok(),
            () = self.lines.closed() => None,
            _ = closing.wait_for(|closing| *closing) => None,
        }
    }

    /// Sends the request, and passes the lines of the answer on.
    async fn copy(&mut self) -> Copied {
        match self.try_copy().await {
            Ok(copied) => copied,
            Err(why) => Copied::Failed(why),
        }
    }

    async fn try_copy(&mut self) -> Result<Copied, String> {
        let open = self.control.endpoint.lane(self.node, Lane::Logs);
        let mut stream = tokio::time::timeout(OPEN_DEADLINE, open)
            .await
            .map_err(|_| "it did not answer in time".to_owned())?
            .map_err(|why| why.to_string())?;
        // The last line gives the place at which following begins, even if no line is wanted.
        let only_place = self.follow && self.request.after.is_none() && self.request.tail == Some(0);
        let request = LogRequest { tail: self.request.tail.map(|tail| tail.max(only_place.into())), ..self.request };
        stream.send.send_value(&request).await.map_err(|why| why.to_string())?;
        let follows = request.follow;
        let mut closing = self.closing.clone();
        loop {
            let frame = tokio::select! {
                frame = stream.recv.expect_value::<LogFrame>() => frame.map_err(|why| why.to_string())?,
                () = self.lines.closed() => return Ok(Copied::Closing),
                _ = closing.wait_for(|closing| *closing), if follows => return Ok(Copied::Closing),
            };
            match frame {
                LogFrame::Lines(batch) if batch.is_empty() => (),
                LogFrame::Lines(batch) => {
                    let place = batch.last().map(LogPlace::after);
                    let (task, node) = (request.task, self.node);
                    if only_place {
                        self.request.after = place;
                        continue;
                    }
                    let batch = batch.into_iter().map(|line| TaskLine { task, node, line }).collect();
                    if self.lines.send(LogPart::Lines(batch)).await.is_err() {
                        return Ok(Copied::Closing);
                    }
                    self.request.after = place;
                }
                LogFrame::End(LogEnd::Complete) => return Ok(Copied::All),
                LogFrame::End(LogEnd::Unknown) => return Ok(Copied::Unknown),
                LogFrame::End(LogEnd::Unavailable(why)) => return Err(why),
            }
        }
    }

    fn standing(&self) -> Standing {
        match self.control.last_known().task(self.request.task) {
            None => Standing::Ended { ran: false },
            Some(task) if task.has_ended() => Standing::Ended { ran: task.began_at.is_some() },
            Some(task) if task.is_running() => Standing::Running,
            Some(_) => Standing::Coming,
        }
    }

    /// Whether the managers hold the node to be lost, so that waiting for it is of no use.
    fn is_lost(&self) -> bool {
        let lost = |of: Reachability| matches!(of, Reachability::Unreachable | Reachability::Down);
        self.control.last_known().node(self.node).is_none_or(|node| lost(node.reachability))
    }

    fn name(&self) -> String {
        let name = self.control.last_known().node(self.node).map(|node| node.name());
        format!("node {}", name.unwrap_or_else(|| self.node.to_string()))
    }

    /// Tells the reader something about the task's log, among its lines.
    async fn notice(&self, text: &str) {
        let line = LogLine::new(self.control.scope.utc(), LogStream::Stderr, format!("essaim: {text}\n").into_bytes());
        // The reader may have gone, and then needs no notice.
        let _ =
            self.lines.send(LogPart::Lines(vec![TaskLine { task: self.request.task, node: self.node, line }])).await;
    }
}
