//! Options of a read of a task's log. The lines themselves are types of `protocol`, since they cross the network.

use essaim_protocol::{LogLine, LogRequest, LogStream};
use essaim_wire::Timestamp;

/// Selects the lines of a task's log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only lines until this time, itself included.
    pub until: Option<Timestamp>,
    /// Only this many of the last lines that exist at the start of the read; none means all.
    pub tail: Option<u64>,
    /// Whether to continue with lines that are written later.
    pub follow: bool,
    /// Whether to include standard output.
    pub stdout: bool,
    /// Whether to include standard error.
    pub stderr: bool,
    /// Whether to include what the log driver keeps with each line.
    pub details: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { since: None, until: None, tail: None, follow: false, stdout: true, stderr: true, details: false }
    }
}

impl From<&LogRequest> for LogOptions {
    fn from(asked: &LogRequest) -> Self {
        let LogRequest { task: _, stdout, stderr, since, until, tail, follow, details, after } = *asked;
        let since = since.max(after.map(|place| place.at));
        Self { since, until, tail: tail.filter(|_| after.is_none()), follow, stdout, stderr, details }
    }
}

impl LogOptions {
    /// Whether these options select the line.
    pub fn wants(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at <= until)
            && match line.stream {
                LogStream::Stdout => self.stdout,
                LogStream::Stderr => self.stderr,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64) -> LogLine {
        LogLine::new(Timestamp::from_micros(at), LogStream::Stdout, Vec::new())
    }

    #[test]
    fn a_read_has_two_ends() {
        let options = LogOptions {
            since: Some(Timestamp::from_micros(2)),
            until: Some(Timestamp::from_micros(3)),
            ..LogOptions::default()
        };
        let wanted: Vec<u64> = (1..=4).filter(|at| options.wants(&line(*at))).collect();
        assert_eq!(wanted, [2, 3]);
    }
}
