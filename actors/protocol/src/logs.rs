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
    /// Time from which lines are wanted; `None` for all.
    pub since: Option<Timestamp>,
    /// Time until which lines are wanted, itself included; `None` for all.
    pub until: Option<Timestamp>,
    /// Number of lines wanted from the end of what has been written so far; `None` for all.
    pub tail: Option<u64>,
    /// Whether to continue with new lines until the task has ended.
    pub follow: bool,
    /// Whether the details that the log driver keeps with each line are wanted.
    pub details: bool,
    /// Place in the log after which to go on, when an earlier answer broke off; `tail` is then ignored.
    pub after: Option<LogPlace>,
}
record!(LogRequest { 1: task, stdout, stderr, since, until, tail, follow, details, after });

impl LogRequest {
    /// A request for all lines that the task has written so far.
    pub const fn all(task: TaskId) -> Self {
        Self {
            task,
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            tail: None,
            follow: false,
            details: false,
            after: None,
        }
    }
}

/// A place in a task's log: after so many lines of this time. The times of a log never go back, so every kind of log has
/// such places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPlace {
    /// Time of the lines.
    pub at: Timestamp,
    /// Number of lines of this time that come before the place.
    pub lines: u32,
}
record!(LogPlace { 1: at, lines });

impl LogPlace {
    /// The place before `line`.
    pub const fn before(line: &LogLine) -> Self {
        Self { at: line.at, lines: line.nth }
    }

    /// The place after `line`.
    pub const fn after(line: &LogLine) -> Self {
        Self { at: line.at, lines: line.nth.saturating_add(1) }
    }
}

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
    /// Number of lines of the same time that the log has before this one.
    pub nth: u32,
    /// Stream that the line was written to.
    pub stream: LogStream,
    /// The line with its line end, as written. A line of more than 16 KiB comes in parts.
    pub bytes: Vec<u8>,
    /// What the log driver keeps with the line (labels and environment variables that its options name), by name.
    pub details: Vec<(String, String)>,
}
record!(LogLine { 1: at, nth, stream, bytes, details });

impl LogLine {
    /// A line without details, the first of its time.
    pub const fn new(at: Timestamp, stream: LogStream, bytes: Vec<u8>) -> Self {
        Self { at, nth: 0, stream, bytes, details: Vec::new() }
    }
}

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
    /// The node cannot read the task's log now; in words for people.
    Unavailable(String),
    /// No engine of the node knows the task: it was not prepared yet, or it was removed.
    Unknown,
}

#[cfg(test)]
essaim_wire::golden_bytes!("logs": LogStream, LogFrame, LogEnd, LogRequest, LogLine, LogPlace);
