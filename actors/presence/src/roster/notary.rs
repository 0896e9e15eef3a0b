//! The notary signs this node's gossip with the key of its certificate, and verifies the gossip of others. A node's id
//! is derived from its key at enrolment, so a signature needs no certificate beside it.

use essaim_membership::{Notary, Signature};
use essaim_transport::trust::{is_signed, node_id};
use essaim_transport::{Identity, Key};
use essaim_wire::NodeId;

/// Signs and verifies gossip with this node's key.
pub(super) struct KeyNotary(Key);

impl KeyNotary {
    pub(super) fn new(identity: &Identity) -> Self {
        Self(identity.key().clone())
    }
}

impl Notary for KeyNotary {
    fn sign(&self, words: &[u8]) -> Signature {
        let key = self.0.public().try_into().expect("an Ed25519 key has 32 bytes");
        Signature { key, bytes: self.0.sign(words) }
    }

    fn is_signed_by(&self, node: NodeId, words: &[u8], signature: &Signature) -> bool {
        node_id(&signature.key) == node && is_signed(&signature.key, words, &signature.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_believed_by_its_own_key_and_by_no_other() {
        let (own, other) = (KeyNotary(Key::from_seed([1; 32])), KeyNotary(Key::from_seed([2; 32])));
        let node = node_id(&own.0.public());
        assert!(other.is_signed_by(node, b"I live", &own.sign(b"I live")));
        assert!(!other.is_signed_by(node, b"I left", &own.sign(b"I live")));
        assert!(!other.is_signed_by(node, b"I live", &other.sign(b"I live")));
    }
}
