//! Log lines of a service's tasks, from the nodes on which the tasks ran.
//!
//! Each task is asked at its own node over the `logs` lane, some dozens of them at the same time. The lines come out as
//! they arrive, and a node that does not answer is named in place of its lines. A reader that falls behind slows down
//! its own sources (flow control): this manager holds at most one frame per lane.

use super::Control;
use essaim_model::{Refusal, Task, TaskId};
use essaim_protocol::{LogEnd, LogFrame, LogLine, LogRequest, LogStream};
use essaim_transport::Lane;
use essaim_wire::{NodeId, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Frames that may wait for the reader, from all sources together.
const FRAMES_WAITING: usize = 16;

/// Tasks that are read to their end at the same time for one reader: a service remembers thousands of tasks, and each
/// lane is a stream here and a file at its node.
const LANES_MAX: usize = 64;

/// Tasks that one reader follows at most. Each takes a lane for as long as it runs, so these cannot take turns.
const FOLLOWED_MAX: usize = 256;

/// Upper bound on the wait until a node begins its answer.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Selection of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsQuery {
    /// Include lines of standard output.
    pub stdout: bool,
    /// Include lines of standard error.
    pub stderr: bool,
    /// Only lines after this time.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of each task.
    pub tail: Option<u64>,
    /// Continue with new lines.
    pub follow: bool,
}

/// A log line with its task and node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// Task that wrote the line.
    pub task: TaskId,
    /// Node on which the task ran.
    pub node: NodeId,
    /// The line that the task wrote, or the error in its place (on standard error).
    pub line: LogLine,
}

/// Log lines as they arrive; the stream ends when the lines of every task have ended.
pub type LogStreamOf = mpsc::Receiver<Vec<TaskLine>>;

impl Control {
    /// The log lines of these tasks. A task that was never assigned to a node has none. When `follow` names more tasks
    /// than can be followed, the further tasks are read to their present end, and a line says so.
    pub fn logs(&self, tasks: &[Arc<Task>], query: LogsQuery) -> Result<LogStreamOf, Refusal> {
        let (lines, reader) = mpsc::channel(FRAMES_WAITING);
        let turns = Arc::new(Semaphore::new(LANES_MAX));
        let mut followed = 0;
        for task in tasks {
            let Some(node) = task.node() else { continue };
            let goes_on = query.follow && !task.has_ended();
            let follow = goes_on && followed < FOLLOWED_MAX;
            followed += usize::from(follow);
            let request = LogRequest {
                task: task.id,
                stdout: query.stdout,
                stderr: query.stderr,
                since: query.since,
                tail: query.tail,
                follow,
            };
            let (this, lines, turns) = (self.clone(), lines.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                let id = request.task;
                let _turn = if follow { None } else { turns.acquire_owned().await.ok() };
                if lines.is_closed() {
                    return;
                }
                let text = match this.copy_lines(node, &request, &lines).await {
                    Err(why) => format!("error from node {node}: {why}\n"),
                    Ok(()) if goes_on && !follow => {
                        format!("not followed any further: {FOLLOWED_MAX} tasks are, and that is the most at a time\n")
                    }
                    Ok(()) => return,
                };
                let line = LogLine { at: this.scope.utc(), stream: LogStream::Stderr, bytes: text.into_bytes() };
                // The reader may have gone, and then needs no error line.
                let _ = lines.send(vec![TaskLine { task: id, node, line }]).await;
            });
        }
        Ok(reader)
    }

    async fn copy_lines(
        &self,
        node: NodeId,
        request: &LogRequest,
        lines: &mpsc::Sender<Vec<TaskLine>>,
    ) -> Result<(), String> {
        let open = self.endpoint.lane(node, Lane::Logs);
        let mut stream = tokio::time::timeout(OPEN_DEADLINE, open)
            .await
            .map_err(|_| "it did not answer in time".to_owned())?
            .map_err(|why| why.to_string())?;
        stream.send.send_value(request).await.map_err(|why| why.to_string())?;
        loop {
            let frame = tokio::select! {
                frame = stream.recv.expect_value::<LogFrame>() => frame.map_err(|why| why.to_string())?,
                () = lines.closed() => return Ok(()),
            };
            match frame {
                LogFrame::Lines(batch) => {
                    let batch = batch.into_iter().map(|line| TaskLine { task: request.task, node, line }).collect();
                    if lines.send(batch).await.is_err() {
                        return Ok(());
                    }
                }
                LogFrame::End(LogEnd::Complete) => return Ok(()),
                LogFrame::End(LogEnd::Unavailable(why)) => return Err(why),
            }
        }
    }
}
