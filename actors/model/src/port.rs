//! Ports, as services name them and as workers report them.

use bincode::{Decode, Encode};
use essaim_wire::record;

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

#[cfg(test)]
essaim_wire::golden_bytes!("port": PortProtocol, HostPort);
