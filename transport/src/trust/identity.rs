//! Identity of this node: its key, the certificate chain that it shows, and the root CAs that it trusts.

use super::{Certificate, Key, PeerIdentity, TrustError};
use essaim_wire::{ClusterId, NodeId, Role};
use std::sync::Arc;

/// Key, certificate chain and trusted roots of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain: Vec<Certificate>,
    key: Key,
    roots: Vec<Certificate>,
    says: PeerIdentity,
}

impl Identity {
    /// An identity of these parts. `chain` begins with the node's own certificate, which must be for `key`;
    /// cross-signed CAs follow. `roots` are the CAs by which others are judged: one, or two during a rotation of the
    /// CA, the one in force first.
    pub fn new(chain: Vec<Certificate>, key: Key, roots: Vec<Certificate>) -> Result<Self, TrustError> {
        let Some(own) = chain.first() else {
            return Err(TrustError::Mismatch("a chain of no certificates".into()));
        };
        if roots.is_empty() {
            return Err(TrustError::Mismatch("no root CA is given".into()));
        }
        if own.public_key()? != key.public() {
            return Err(TrustError::Mismatch("it is about another key".into()));
        }
        let says = own.identity()?;
        Ok(Self { inner: Arc::new(Inner { chain, key, roots, says }) })
    }

    /// Id of the node.
    pub fn node(&self) -> NodeId {
        self.inner.says.node
    }

    /// Role that the certificate grants.
    pub fn role(&self) -> Role {
        self.inner.says.role
    }

    /// Cluster of the node.
    pub fn cluster(&self) -> ClusterId {
        self.inner.says.cluster
    }

    /// Content of the node's certificate.
    pub fn says(&self) -> &PeerIdentity {
        &self.inner.says
    }

    /// Certificates that the node shows: its own certificate first.
    pub fn chain(&self) -> &[Certificate] {
        &self.inner.chain
    }

    /// Private key of the node.
    pub fn key(&self) -> &Key {
        &self.inner.key
    }

    /// Root CAs that the node trusts.
    pub fn roots(&self) -> &[Certificate] {
        &self.inner.roots
    }

    /// Encodes the chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.inner.chain.iter().map(Certificate::to_pem).collect()
    }

    /// Encodes the trusted root CAs as PEM.
    pub fn roots_pem(&self) -> String {
        self.inner.roots.iter().map(Certificate::to_pem).collect()
    }

    /// Decodes what [`Identity::chain_pem`], [`Key::to_pem`] and [`Identity::roots_pem`] encoded.
    pub fn from_pem(chain: &str, key: &str, roots: &str) -> Result<Self, TrustError> {
        Self::new(Certificate::from_pem(chain)?, Key::from_pem(key)?, Certificate::from_pem(roots)?)
    }
}
