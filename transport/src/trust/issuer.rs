//! Who signs: the endpoint reaches the cluster's authority through one trait, and knows nothing of how it decides.

use super::{Certificate, SigningRequest, TokenSecret};
use crate::admission::Admission;
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Level, NodeId, Role};
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// Answers requests for enrolment. On the leader it is the authority itself, on another manager whoever forwards to
/// the leader, on a worker whoever knows the managers.
pub trait Issuer: Send + Sync {
    /// Enrols the key of `request`. Asked again for the same key, it answers the same node.
    fn enrol(&self, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>>;

    /// The managers to ask instead, when this node cannot answer. A joiner that reached a worker asks this first,
    /// so that a worker never sees the secret of a token.
    fn managers(&self) -> Vec<(NodeId, SocketAddr)>;
}

/// What a joiner asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The second half of its token.
    pub secret: TokenSecret,
    /// For which key.
    pub request: SigningRequest,
    /// The highest level of the replicated log that the joiner's program understands.
    pub level: Level,
    /// Where the joiner was seen, for the record; set by the side that accepts.
    pub from: SocketAddr,
}
record!(EnrolRequest { 1: secret, request, level, from });

/// What a joiner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolReply {
    /// The id it has from now on.
    pub node: NodeId,
    /// The role that the token invited it for.
    pub role: Role,
    /// Its certificate, and cross-signed CAs after it.
    pub chain: Vec<Certificate>,
    /// The CAs that it must trust, the one in force first.
    pub roots: Vec<Certificate>,
    /// Whom to contact first.
    pub managers: Vec<(NodeId, SocketAddr)>,
    /// The exceptions in force, so that the newcomer judges as all others do.
    pub admission: Admission,
}
record!(EnrolReply { 1: node, role, chain, roots, managers, admission });

/// No certificate. Nothing has changed, except where a variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refused {
    /// The second half of the token fits neither role: it is wrong, or was rotated.
    #[error(
        "A valid join token is necessary to join this cluster: the second half of this one, the secret, is wrong or \
         was rotated; its first half is right"
    )]
    Secret,
    /// The request is none.
    #[error("{0}")]
    Request(String),
    /// This node cannot answer; those can.
    #[error("this node is no manager: ask {}", addresses(.managers))]
    Ask {
        /// Managers.
        managers: Vec<(NodeId, SocketAddr)>,
    },
    /// The same address asked too often.
    #[error("too many requests from this address: try again in {seconds} s")]
    TooMany {
        /// When to come back.
        seconds: u32,
    },
    /// Nobody can sign now: there is no leader, or no quorum. Whether the node was accepted is unknown; asking again
    /// with the same key finds out.
    #[error("no manager can sign now: {0}")]
    Unavailable(String),
}

fn addresses(managers: &[(NodeId, SocketAddr)]) -> String {
    managers.iter().map(|(_, addr)| addr.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-issuer": Refused, EnrolRequest, EnrolReply);
