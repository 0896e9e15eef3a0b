//! The lane that carries log lines: one request, then frames until the end.

use bincode::{Decode, Encode};
use essaim_model::TaskId;
use essaim_wire::Timestamp;
use essaim_wire::record;

/// Which lines of which task of the node asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// The task.
    pub task: TaskId,
    /// Lines of its standard output.
    pub stdout: bool,
    /// Lines of its standard error.
    pub stderr: bool,
    /// Only lines after this.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of what there is.
    pub tail: Option<u64>,
    /// Go on with what comes, until the task has ended.
    pub follow: bool,
}
record!(LogRequest { 1: task, stdout, stderr, since, tail, follow });

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, by the clock of the node that the task runs on.
    pub at: Timestamp,
    /// Where it was written.
    pub stream: LogStream,
    /// The line with its end, as written; a line of more than 16 KiB comes in parts.
    pub bytes: Vec<u8>,
}
record!(LogLine { 1: at, stream, bytes });

/// A frame of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogFrame {
    /// Lines, in the order in which they were written.
    Lines(Vec<LogLine>),
    /// Nothing follows.
    End(LogEnd),
}

/// Why nothing follows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogEnd {
    /// There is no more.
    Complete,
    /// The node does not know the task, or cannot read its log; in words for people.
    Unavailable(String),
}

#[cfg(test)]
essaim_wire::golden_bytes!("logs": LogStream, LogFrame, LogEnd, LogRequest, LogLine);
