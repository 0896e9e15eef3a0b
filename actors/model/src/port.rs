//! Ports, as services name them and as workers report them.

use bincode::{Decode, Encode};
use essaim_wire::record;
use std::fmt;

/// Ports that a machine may report as not listened on. A machine with more of them shows the first ones by number; each
/// that becomes free makes room for another one.
pub const UNPUBLISHED_MAX: usize = 64;

/// Bytes at most of the reason why a port is not published: the program that holds it, and a few addresses.
pub const UNPUBLISHED_WHY_MAX: usize = 256;

/// A port of the cluster: a number, for one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct PortKey {
    /// Transport protocol of the port.
    pub protocol: PortProtocol,
    /// Number of the port.
    pub number: u16,
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl PortProtocol {
    /// The word for the protocol, as Docker writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port in host mode that was published under a number of its node's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Transport protocol of the port.
    pub protocol: PortProtocol,
    /// Port inside the task.
    pub target: u16,
    /// Port of the node.
    pub published: u16,
}
record!(HostPort { 1: protocol, target, published });

/// A published port that a node cannot listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpublishedPort {
    /// The port.
    pub port: PortKey,
    /// The reason, in words for people, with the program that holds the port and the addresses.
    pub why: String,
}
record!(UnpublishedPort { 1: port, why });

#[cfg(test)]
essaim_wire::golden_bytes!("port": PortKey, PortProtocol, HostPort, UnpublishedPort);
