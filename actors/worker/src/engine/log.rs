//! Options of a read of a task's log. The lines themselves are types of `protocol`, since they cross the network.

use essaim_protocol::{LogLine, LogRequest, LogStream};
use essaim_wire::Timestamp;

/// Selects the lines of a task's log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only this many of the last lines that exist at the start of the read; none means all.
    pub tail: Option<u64>,
    /// Whether to continue with lines that are written later.
    pub follow: bool,
    /// Whether to include standard output.
    pub stdout: bool,
    /// Whether to include standard error.
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
    /// Whether these options select the line.
    pub fn wants(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && match line.stream {
                LogStream::Stdout => self.stdout,
                LogStream::Stderr => self.stderr,
            }
    }
}
