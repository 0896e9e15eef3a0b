//! The address of the daemon: `unix:///path` or `tcp://host:port`, as docker writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Socket of a daemon that runs as a system service.
pub(crate) const DEFAULT_SOCKET: &str = "/run/essaim/essaim.sock";

/// Address of a daemon's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Host and port of TCP: with TLS if the environment asks for it ([`super::Tls`]). The daemon offers no plain TCP; a
    /// proxy in front of its socket may.
    Tcp(String),
}

impl Address {
    /// Chooses the daemon's address: the command line's, else `ESSAIM_HOST`, else `DOCKER_HOST`, else the default
    /// socket.
    ///
    /// `ESSAIM_HOST` comes before `DOCKER_HOST`: a user who sets both wants docker to talk to another daemon.
    pub(crate) fn choose(
        given: Option<Self>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidAddress> {
        if let Some(address) = given {
            return Ok(address);
        }
        for name in ["ESSAIM_HOST", "DOCKER_HOST"] {
            if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
                return text.parse();
            }
        }
        Ok(Self::Unix(PathBuf::from(DEFAULT_SOCKET)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// The text is no address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no daemon's address: write unix:///path/to/socket or tcp://host:port")]
pub(crate) struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.is_empty() { Err(invalid()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        if let Some(authority) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) {
            let authority = authority.trim_end_matches('/');
            return if authority.contains(':') { Ok(Self::Tcp(authority.to_owned())) } else { Err(invalid()) };
        }
        // A bare path is accepted, because people type it first.
        if text.starts_with('/') || text.starts_with("./") {
            Ok(Self::Unix(PathBuf::from(text)))
        } else {
            Err(invalid())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_then_our_variable_then_dockers() {
        let both = |name: &str| Some(format!("unix:///{name}"));
        let given = Some(Address::Unix("/given".into()));
        assert_eq!(Address::choose(given, both).unwrap().to_string(), "unix:///given");
        assert_eq!(Address::choose(None, both).unwrap().to_string(), "unix:///ESSAIM_HOST");
        let docker = |name: &str| (name == "DOCKER_HOST").then(|| "tcp://127.0.0.1:1".to_owned());
        assert_eq!(Address::choose(None, docker).unwrap().to_string(), "tcp://127.0.0.1:1");
        assert_eq!(Address::choose(None, |_| None).unwrap().to_string(), format!("unix://{DEFAULT_SOCKET}"));
    }

    #[test]
    fn an_address_of_another_kind_is_refused_in_words() {
        for text in ["ssh://host", "unix://", "tcp://host", "essaim.sock"] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(refused.to_string().contains("unix:///path"), "{refused}");
        }
        assert_eq!("/tmp/x.sock".parse::<Address>().unwrap(), Address::Unix("/tmp/x.sock".into()));
    }
}
