//! Ids of services, tasks, secrets, configs and networks. The ids of nodes and clusters are defined in `wire`, because transport needs
//! them too.

use bincode::{Decode, Encode};
use std::fmt;

essaim_wire::id! {
    /// Id of a service, from its creation until it is removed.
    ServiceId
}

essaim_wire::id! {
    /// Id of a task: one attempt to fill a slot of a service.
    TaskId
}

essaim_wire::id! {
    /// Id of a secret, from its creation until it is removed.
    SecretId
}

essaim_wire::id! {
    /// Id of a config, from its creation until it is removed.
    ConfigId
}

essaim_wire::id! {
    /// Id of a network, from its creation until it is removed.
    NetworkId
}

/// Which payload: that of a secret or of a config. An id has one payload for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum PayloadId {
    /// The data of this secret.
    Secret(SecretId),
    /// The data of this config.
    Config(ConfigId),
}

impl PayloadId {
    /// Docker's word for the noun of the payload.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Secret(_) => "secret",
            Self::Config(_) => "config",
        }
    }
}

impl fmt::Display for PayloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(id) => id.fmt(f),
            Self::Config(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("id": ServiceId, TaskId, ConfigId, SecretId, NetworkId, PayloadId);
