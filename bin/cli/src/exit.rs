//! How a command ends: its exit code, and the words of a failure. `docs/cli.md` has the same table for users.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed; the text says why |
//! | 2 | the command line itself is wrong |
//! | 3 | the time given with `--timeout` or `--wait=DURATION` is over; what was begun goes on |
//! | 4 | no node can take the tasks; the service exists and starts when one can |
//! | 5 | the update paused or was rolled back |
//! | 6 | the managers have no quorum; nothing was changed |
//! | 130 | Ctrl-C |
//!
//! `exec` ends with the exit code of its program.
//!
//! A failure names its cause and, where there is one, the next step. It goes to stderr, so that what a script reads
//! on stdout is data or nothing.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The request was refused, or failed.
    Error = 1,
    /// The command line is wrong. (clap's own errors end with the same code.)
    Usage = 2,
    /// The time given with `--timeout` or `--wait=DURATION` is over.
    Timeout = 3,
    /// No node can take the tasks.
    Unplaceable = 4,
    /// The update was paused or rolled back.
    Paused = 5,
    /// The managers have no quorum.
    NoQuorum = 6,
    /// The user pressed Ctrl-C.
    Interrupted = 130,
}

/// Failure of a command: its exit code, its cause, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
    next: Option<String>,
    /// Exit code of a program that ran for the command, in place of that of `exit`.
    code: Option<u8>,
}

impl Failure {
    /// A failure with this exit code and this cause.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), next: None, code: None }
    }

    /// A failure with exit code 1.
    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self::new(Exit::Error, text)
    }

    /// A failure with exit code 2: the command line contradicts itself in a way that clap cannot detect.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// A failure with exit code 1 and no text, because each cause was already printed.
    pub(crate) fn reported() -> Self {
        Self::error("")
    }

    /// The end of a program that ran for the command, with the program's exit code.
    pub(crate) fn exited(code: u8, text: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::error(text) }
    }

    /// Puts what was tried before the cause.
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    /// Adds the next step that the user can take.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Exit code of this failure.
    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the failure to stderr and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.text.is_empty() {
            eprintln!("{self}");
        }
        ExitCode::from(self.code.unwrap_or(self.exit as u8))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.next {
            Some(next) => write!(f, "\nnext: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_its_cause_and_the_next_step() {
        let failure = Failure::error("the door is shut").next("knock");
        assert_eq!(failure.to_string(), "the door is shut\nnext: knock");
        assert_eq!(Failure::error("the door is shut").to_string(), "the door is shut");
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        let codes = [
            Exit::Error,
            Exit::Usage,
            Exit::Timeout,
            Exit::Unplaceable,
            Exit::Paused,
            Exit::NoQuorum,
            Exit::Interrupted,
        ];
        assert_eq!(codes.map(|exit| exit as u8), [1, 2, 3, 4, 5, 6, 130]);
    }
}
