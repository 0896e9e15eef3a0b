//! Requests of an operator that give a node a part in a cluster, and the kinds of farewell.

use essaim_model::{AddressPools, Availability, ClusterSpec};

/// Request to begin a cluster.
#[derive(Debug, Clone, Default)]
pub struct InitRequest {
    /// Value of `--listen-addr`; empty when the flag was not given.
    pub listen: String,
    /// Value of `--advertise-addr`; empty when the flag was not given.
    pub advertise: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// The cluster's settings.
    pub spec: ClusterSpec,
    /// Where the subnets of networks come from.
    pub pools: AddressPools,
    /// Begin again as the only manager, with the state that this manager knows: the other managers are gone for good.
    pub force_new_cluster: bool,
}

/// Request to join a cluster that exists.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// Value of `--listen-addr`; empty when the flag was not given.
    pub listen: String,
    /// Value of `--advertise-addr`; empty when the flag was not given.
    pub advertise: String,
    /// Join token, which decides the node's role.
    pub token: String,
    /// Nodes to ask, `HOST:PORT` each; any node of the cluster will do.
    pub remotes: Vec<String>,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

/// How a daemon ends, as the other nodes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The daemon will be back soon and its tasks keep running, so nothing is replaced meanwhile.
    Restarting,
    /// The daemon and its tasks stop, so its tasks are replaced at once.
    Stopping,
}
