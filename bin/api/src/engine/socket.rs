//! The place of a Docker Engine.

use std::fmt;
use std::path::{Path, PathBuf};

/// Unix socket of the machine's Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSocket(PathBuf);

impl EngineSocket {
    /// The engine that listens on the unix socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The engine at an address as `--docker-host` names it (`unix:///var/run/docker.sock`); `None` for an address of
    /// another kind.
    pub fn from_address(address: &str) -> Option<Self> {
        let path = address.strip_prefix("unix://").filter(|path| path.starts_with('/'))?;
        Some(Self::new(path))
    }

    /// Path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for EngineSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_unix_socket_with_an_absolute_path() {
        let socket = EngineSocket::from_address("unix:///run/docker.sock").expect("an address");
        assert_eq!(socket, EngineSocket::new("/run/docker.sock"));
        assert_eq!(socket.to_string(), "unix:///run/docker.sock");
        for text in ["tcp://10.0.0.1:2375", "unix://docker.sock", "/run/docker.sock", ""] {
            assert_eq!(EngineSocket::from_address(text), None, "{text}");
        }
    }
}
