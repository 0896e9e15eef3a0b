//! What an operator asks of a node that is to have a part in a cluster, or none any more.

use essaim_model::{Availability, ClusterSpec};

/// Begin a cluster.
#[derive(Debug, Clone, Default)]
pub struct InitRequest {
    /// Of `--listen-addr`; empty when not said.
    pub listen: String,
    /// Of `--advertise-addr`; empty when not said.
    pub advertise: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// The cluster's settings.
    pub spec: ClusterSpec,
    /// Go on with what this manager knows, alone: the others are gone for good.
    pub force_new_cluster: bool,
}

/// Have a part in a cluster that exists.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// Of `--listen-addr`; empty when not said.
    pub listen: String,
    /// Of `--advertise-addr`; empty when not said.
    pub advertise: String,
    /// The join token.
    pub token: String,
    /// Nodes to ask, `HOST:PORT` each; any node of the cluster will do.
    pub remotes: Vec<String>,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

/// How a daemon says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It will be back soon, and its tasks go on: nothing is replaced meanwhile.
    Restarting,
    /// It stops, and its tasks with it: they are replaced at once.
    Stopping,
}
