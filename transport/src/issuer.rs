//! The issuer of certificates: the trait by which the endpoint reaches the cluster's authority, without knowing how it
//! decides.

use crate::admission::Admission;
use crate::trust::{Certificate, SigningRequest, TokenSecret};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Level, NodeId, Role};
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// Answers requests for enrolment. On the leader the issuer is the authority itself, on another manager it forwards to
/// the leader, and on a worker it only names the managers.
pub trait Issuer: Send + Sync {
    /// Enrols the key of `request`. A repeated request with the same key gets the same node id.
    fn enrol(&self, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>>;

    /// Managers that a joiner can ask instead of this node. A joiner that reached a worker asks for these first, so
    /// that a worker never sees the secret of a token.
    fn managers(&self) -> Vec<(NodeId, SocketAddr)>;
}

/// Request of a joiner for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    /// Second half of the joiner's token.
    pub secret: TokenSecret,
    /// Certificate signing request with the joiner's public key.
    pub request: SigningRequest,
    /// The highest level of the replicated log that the joiner's program understands.
    pub level: Level,
    /// Address from which the joiner asked, for the record; set by the accepting side.
    pub from: SocketAddr,
}
record!(EnrolRequest { 1: secret, request, level, from });

/// Answer to a joiner that is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolReply {
    /// Id of the new node.
    pub node: NodeId,
    /// Role that the token grants.
    pub role: Role,
    /// Certificate of the new node, followed by cross-signed CAs.
    pub chain: Vec<Certificate>,
    /// Root CAs that the new node must trust, the one in force first.
    pub roots: Vec<Certificate>,
    /// Managers that the new node contacts first.
    pub managers: Vec<(NodeId, SocketAddr)>,
    /// Admission table in force, so that the new node judges peers as all others do.
    pub admission: Admission,
}
record!(EnrolReply { 1: node, role, chain, roots, managers, admission });

/// Reasons why no certificate was issued. No state has changed, except where a variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refused {
    /// The second half of the token is the secret of neither role: it is wrong, or was rotated.
    #[error(
        "A valid join token is necessary to join this cluster: the second half of this one, the secret, is wrong or \
         was rotated; its first half is right"
    )]
    Secret,
    /// The certificate signing request is malformed, or cannot be granted.
    #[error("{0}")]
    Request(String),
    /// This node is no manager; the listed managers can answer.
    #[error("this node is no manager: ask {}", addresses(.managers))]
    Ask {
        /// Managers with their addresses.
        managers: Vec<(NodeId, SocketAddr)>,
    },
    /// The address has made too many requests.
    #[error("too many requests from this address: try again in {seconds} s")]
    TooMany {
        /// Seconds until the next request is allowed.
        seconds: u32,
    },
    /// No manager can sign now: there is no leader, or no quorum. Whether the node was accepted is unknown; asking
    /// again with the same key finds out.
    #[error("no manager can sign now: {0}")]
    Unavailable(String),
}

fn addresses(managers: &[(NodeId, SocketAddr)]) -> String {
    managers.iter().map(|(_, addr)| addr.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
essaim_wire::golden_bytes!("issuer": Refused, EnrolRequest, EnrolReply);
