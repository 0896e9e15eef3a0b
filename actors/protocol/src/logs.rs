//! The messages of the lane that carries log lines: one request, then frames until the end.

use bincode::{Decode, Encode};
use essaim_model::TaskId;
use essaim_wire::Timestamp;
use essaim_wire::record;

/// A request for log lines of one task that the asked node runs or ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Task whose lines are wanted.
    pub task: TaskId,
    /// Whether lines of standard output are wanted.
    pub stdout: bool,
    /// Whether lines of standard error are wanted.
    pub stderr: bool,
    /// Time after which lines are wanted; `None` for all.
    pub since: Option<Timestamp>,
    /// Number of lines wanted from the end of what has been written so far; `None` for all.
    pub tail: Option<u64>,
    /// Whether to continue with new lines until the task has ended.
    pub follow: bool,
}
record!(LogRequest { 1: task, stdout, stderr, since, tail, follow });

/// The stream that a task wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One log line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Time of the line, by the clock of the node that the task runs on.
    pub at: Timestamp,
    /// Stream that the line was written to.
    pub stream: LogStream,
    /// The line with its line end, as written. A line of more than 16 KiB comes in parts.
    pub bytes: Vec<u8>,
}
record!(LogLine { 1: at, stream, bytes });

/// One frame of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogFrame {
    /// Lines, in the order in which they were written.
    Lines(Vec<LogLine>),
    /// The end of the answer; no frame follows.
    End(LogEnd),
}

/// Reason why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogEnd {
    /// All lines that were asked for have been sent.
    Complete,
    /// The node does not know the task, or cannot read its log; in words for people.
    Unavailable(String),
}

#[cfg(test)]
essaim_wire::golden_bytes!("logs": LogStream, LogFrame, LogEnd, LogRequest, LogLine);
