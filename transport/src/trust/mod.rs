//! Trust: keys, the cluster's root CA, the certificates of nodes, requests for them, and join tokens.
//!
//! A cluster is its root CA. The CA signs one certificate per node: organisation = cluster id, organisational
//! unit = role, common name = node id. Whoever wants one makes a key that never leaves its machine, signs a request
//! with it, and hands the request over with the secret of a join token. The token's other half is the digest of the
//! CA, so that the joiner knows whom it talks to before it says the secret.
//!
//! Everything is Ed25519 and made from seeds, so the same seeds give the same certificates, bit for bit, and a
//! simulated cluster is repeatable with its real trust in force. Nothing here reads a clock: `now` is handed in.
//!
//! In suggested reading order: `key`, `certificate`, `authority`, `request`, `identity`, `token`,
//! `issuer`, `renewal`, `verify`.

mod authority;
mod certificate;
mod identity;
mod issuer;
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
pub use issuer::{EnrolReply, EnrolRequest, Issuer, Refused};
pub use key::{Key, is_signed, node_id};
pub use renewal::renewal_due;
pub use request::SigningRequest;
pub use token::{InvalidToken, JoinToken, TokenSecret};

use std::time::Duration;

/// How long a root CA is good for: 20 years, as in Swarm.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// How long the certificate of a node is good for unless the cluster says otherwise: 90 days, as in Swarm.
pub const NODE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// The shortest expiry that a cluster may ask for: one hour, as in Swarm.
pub const NODE_LIFETIME_MIN: Duration = Duration::from_secs(3600);

/// Certificates start this much before they are made, so that clocks may differ by it.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// Key material, a certificate or a request is not what it should be. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The bytes are no certificate, or one that no cluster of this kind made.
    #[error("not a certificate of a node: {0}")]
    BadCertificate(String),
    /// The bytes are no request, or its signature is wrong.
    #[error("not a certificate signing request: {0}")]
    BadRequest(String),
    /// The key cannot be used.
    #[error("not an Ed25519 key: {0}")]
    BadKey(String),
    /// Text that should be PEM is not.
    #[error("not PEM: {0}")]
    BadPem(String),
    /// The certificate is good, but for another key, cluster or CA.
    #[error("the certificate does not fit: {0}")]
    Mismatch(String),
}
