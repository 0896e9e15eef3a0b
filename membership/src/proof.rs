//! Signed statements of a member about itself, which other members can pass on.
//!
//! No member is believed about another. What a member is (its start and incarnation, its address and role, that it goes
//! away) it says over its own session, whose peer the transport has verified. For members without a session with it, it
//! signs the same statement. A signature is made when something changes and verified when it would change something, so
//! it costs nothing in a cluster at rest.
//!
//! The keys belong to the transport: the detector signs and verifies through a [`Notary`].

use crate::identity::Id;
use crate::{Goodbye, Incarnation};
use bincode::{Decode, Encode};
use essaim_wire::{NodeId, encode};

/// Signs for this node, and verifies the signatures of others. The same key and the same words give the same signature.
pub trait Notary: Send + Sync {
    /// Signs with this node's key.
    fn sign(&self, words: &[u8]) -> Signature;

    /// Whether the node signed these words: the key is the node's own, and the signature is valid.
    fn is_signed_by(&self, node: NodeId, words: &[u8], signature: &Signature) -> bool;
}

/// A signature, and the public key that verifies it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signature {
    /// Public key of the signer.
    pub key: [u8; 32],
    /// Bytes of the signature.
    pub bytes: [u8; 64],
}

/// Prefix of the signed words, so that a signature of a node's key for another purpose is no statement.
const CONTEXT: &[u8] = b"essaim member 1\n";

/// Signed statement of a member about itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Statement {
    pub(crate) id: Id,
    pub(crate) incarnation: Incarnation,
    /// The member's goodbye; `None` if it lives.
    pub(crate) goodbye: Option<Goodbye>,
    pub(crate) signature: Signature,
}

impl Statement {
    /// Signs a statement of this node about itself.
    pub(crate) fn sign(notary: &dyn Notary, id: Id, incarnation: Incarnation, goodbye: Option<Goodbye>) -> Self {
        let signature = notary.sign(&words(id, incarnation, goodbye));
        Self { id, incarnation, goodbye, signature }
    }

    pub(crate) fn is_true(&self, notary: &dyn Notary) -> bool {
        notary.is_signed_by(self.id.node, &words(self.id, self.incarnation, self.goodbye), &self.signature)
    }
}

fn words(id: Id, incarnation: Incarnation, goodbye: Option<Goodbye>) -> Vec<u8> {
    [CONTEXT, &encode(&(id, incarnation, goodbye))].concat()
}

/// A notary for tests: the node's number is its key.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestNotary(pub(crate) NodeId);

#[cfg(test)]
impl Notary for TestNotary {
    fn sign(&self, words: &[u8]) -> Signature {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.0.bits().to_be_bytes());
        let sum = essaim_wire::Sum::of(&[&key, words].concat());
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&sum.to_be_bytes());
        Signature { key, bytes }
    }

    fn is_signed_by(&self, node: NodeId, words: &[u8], signature: &Signature) -> bool {
        Self(node).sign(words) == *signature
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("proof": Signature, Statement);
