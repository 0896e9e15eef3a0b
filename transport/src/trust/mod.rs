//! Trust: keys, the cluster's root CA, the certificates of nodes, requests for them, and join tokens.
//!
//! A cluster is defined by its root CA. The CA signs one certificate per node: organisation = cluster id,
//! organisational unit = role, common name = node id. A new node makes a key that never leaves its machine, signs a
//! request with it, and sends the request together with the secret of a join token. The token's other half is the
//! digest of the CA, by which the new node verifies the cluster before it tells the secret.
//!
//! All keys are Ed25519 and made from seeds, so the same seeds give the same certificates, bit for bit, and a simulated
//! cluster is repeatable with its real trust in force. Nothing here reads a clock: `now` is a parameter.
//!
//! In suggested reading order: `key`, `certificate`, `authority`, `request`, `identity`, `token`, `renewal`,
//! `verify`.

mod authority;
mod certificate;
mod identity;
mod key;
mod pem;
mod renewal;
mod request;
mod token;
pub(crate) mod verify;

pub(crate) use authority::SERVER_NAME;
pub use authority::{Authority, Grant};
pub use certificate::{CaDigest, Certificate, PeerIdentity, Serial};
pub use identity::Identity;
pub use key::{Key, is_signed, node_id};
pub use renewal::renewal_due;
pub use request::SigningRequest;
pub use token::{InvalidToken, JoinToken, TokenSecret};

use std::time::Duration;

/// Validity of a root CA: 20 years, as in Swarm.
pub(crate) const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Default validity of a node's certificate: 90 days, as in Swarm. The cluster's spec can change it.
pub const NODE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Time by which a certificate's validity begins before its signing, so that clocks may differ by it.
pub(crate) const BACKDATE: Duration = Duration::from_secs(3600);

/// Errors of keys, certificates and requests. No state has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The bytes are no certificate, or not one of a node of an Essaim cluster.
    #[error("not a certificate of a node: {0}")]
    BadCertificate(String),
    /// The bytes are no certificate signing request, or its signature is wrong.
    #[error("not a certificate signing request: {0}")]
    BadRequest(String),
    /// The key is not a usable Ed25519 key.
    #[error("not an Ed25519 key: {0}")]
    BadKey(String),
    /// The text is not valid PEM.
    #[error("not PEM: {0}")]
    BadPem(String),
    /// The certificate is valid, but for another key, node, cluster or CA.
    #[error("the certificate does not fit: {0}")]
    Mismatch(String),
}
