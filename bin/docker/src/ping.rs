//! `/_ping`: the handshake of every client. All it says is in its headers.

/// The version of the API that is spoken here, as in the recordings.
pub const API_VERSION: &str = "1.51";

/// The oldest version that a client may ask for.
pub const MIN_API_VERSION: &str = "1.24";

/// What the header `Swarm` says of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwarmHeader {
    /// No part of a cluster.
    Inactive,
    /// On its way in.
    Pending,
    /// A manager.
    Manager,
    /// A worker.
    Worker,
    /// Its key is wrapped and was not given yet.
    Locked,
    /// It could not start its part.
    Error,
}

impl SwarmHeader {
    /// The header's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Manager => "active/manager",
            Self::Worker => "active/worker",
            Self::Locked => "locked",
            Self::Error => "error",
        }
    }
}

/// The headers that every ping carries, whatever the state of the node.
pub const HEADERS: [(&str, &str); 5] = [
    ("Builder-Version", "2"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Pragma", "no-cache"),
];
