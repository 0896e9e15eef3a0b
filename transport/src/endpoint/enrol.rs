//! How a stranger becomes a node.
use crate::network::Network;
use crate::network::{DialError, Utc};
use crate::trust::{EnrolReply, JoinToken, Refused, SigningRequest};
use std::net::SocketAddr;

/// Not enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// The first half of the token, the digest of the CA, is not that of the cluster which answers at the address.
    #[error(
        "the join token is not valid: its first half, the CA digest, is not that of the cluster at {addr}; \
         copy the token from \"swarm join-token\" on a manager of the cluster that you want to join"
    )]
    OtherCa {
        /// Who answered.
        addr: SocketAddr,
    },
    /// Nobody answered, or not as a node does.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The cluster refused, and says why.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The other side did not keep to the protocol, or went away in the middle. Asking again with the same key is safe.
    #[error("{addr} did not answer as a node does: {why}")]
    Broken {
        /// Who.
        addr: SocketAddr,
        /// What happened.
        why: String,
    },
    /// No socket to dial from.
    #[error("cannot bind a socket to join with: {0}")]
    Bind(String),
}

/// Asks the node at `addr` for a certificate; any node will do. `listen` says where to dial from: the address counts, the port does not.
pub async fn enrol(
    _network: &dyn Network,
    _listen: SocketAddr,
    _utc: Utc,
    _addr: SocketAddr,
    _token: &JoinToken,
    _request: &SigningRequest,
) -> Result<EnrolReply, EnrolError> {
    unimplemented!()
}
