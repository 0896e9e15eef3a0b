//! The stock docker CLI against a daemon, as a person uses it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Exit code and output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

/// Runs a line of shell with `docker` and `essaim` talking to the daemon that listens on this socket. `variables` are
/// added to its environment.
pub fn shell(socket: &Path, line: &str, variables: &[(&str, &str)]) -> Said {
    let host = format!("unix://{}", socket.display());
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .env("DOCKER_HOST", &host)
        // A configuration of the person who runs the tests must not matter.
        .env("DOCKER_CONFIG", socket.with_extension("config"))
        .env_remove("ESSAIM_HOST")
        .env_remove("DOCKER_CONTEXT")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let output = command.output().expect("sh can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
}
