//! What a task wrote: which lines are wanted. The lines themselves are `protocol`'s, since they travel.

use essaim_protocol::{LogLine, LogRequest, LogStream};
use essaim_wire::Timestamp;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only the last so many of those that are there already; none means all.
    pub tail: Option<u64>,
    /// Go on with what is written later.
    pub follow: bool,
    /// Want standard output.
    pub stdout: bool,
    /// Want standard error.
    pub stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { since: None, tail: None, follow: false, stdout: true, stderr: true }
    }
}

impl From<&LogRequest> for LogOptions {
    fn from(asked: &LogRequest) -> Self {
        let LogRequest { task: _, stdout, stderr, since, tail, follow } = *asked;
        Self { since, tail, follow, stdout, stderr }
    }
}

impl LogOptions {
    /// Whether a line is wanted.
    pub fn wants(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && match line.stream {
                LogStream::Stdout => self.stdout,
                LogStream::Stderr => self.stderr,
            }
    }
}
