//! `/_ping`: the first request of every client. The answer is in its headers.

/// Version of the Docker Engine API that the daemon speaks, as in the recordings.
pub const API_VERSION: &str = "1.51";

/// Oldest version of the API that a client may ask for.
pub const MIN_API_VERSION: &str = "1.24";

/// Values of the header `Swarm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwarmHeader {
    /// The node is in no cluster.
    Inactive,
    /// The node is joining a cluster.
    Pending,
    /// The node is a manager.
    Manager,
    /// The node is a worker.
    Worker,
    /// The node waits for its unlock key.
    Locked,
    /// The node failed to take up its part in the cluster.
    Error,
}

impl SwarmHeader {
    /// The header's value as text.
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

/// Headers of every answer to a ping, whatever the state of the node.
pub const HEADERS: [(&str, &str); 5] = [
    ("Builder-Version", "2"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Pragma", "no-cache"),
];
