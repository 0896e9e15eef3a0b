//! Who this node is: its key, the certificate chain that it shows, and the root CAs that it trusts.

use super::{Certificate, Key, PeerIdentity, TrustError};
use essaim_wire::{ClusterId, NodeId, Role};
use std::sync::Arc;

/// Who a node is. Cheap to clone.
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
    /// `chain` begins with the node's own certificate, which must be about `key`; cross-signed CAs follow. `roots`
    /// are the CAs that others are judged by: one, or two while the CA is being rotated, the one in force first.
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

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.says.node
    }

    /// What the certificate lets it do.
    pub fn role(&self) -> Role {
        self.inner.says.role
    }

    /// Its cluster.
    pub fn cluster(&self) -> ClusterId {
        self.inner.says.cluster
    }

    /// All that the certificate says.
    pub fn says(&self) -> &PeerIdentity {
        &self.inner.says
    }

    /// What it shows: its own certificate first.
    pub fn chain(&self) -> &[Certificate] {
        &self.inner.chain
    }

    /// Its private key.
    pub fn key(&self) -> &Key {
        &self.inner.key
    }

    /// Whom it trusts.
    pub fn roots(&self) -> &[Certificate] {
        &self.inner.roots
    }

    /// The chain as text for a file.
    pub fn chain_pem(&self) -> String {
        self.inner.chain.iter().map(Certificate::to_pem).collect()
    }

    /// The trusted CAs as text for a file.
    pub fn roots_pem(&self) -> String {
        self.inner.roots.iter().map(Certificate::to_pem).collect()
    }

    /// Reads what [`Identity::chain_pem`], [`Key::to_pem`] and [`Identity::roots_pem`] wrote.
    pub fn from_pem(chain: &str, key: &str, roots: &str) -> Result<Self, TrustError> {
        Self::new(Certificate::from_pem(chain)?, Key::from_pem(key)?, Certificate::from_pem(roots)?)
    }
}
