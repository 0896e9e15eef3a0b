//! What a member says of itself, in a form that others can pass on.
//!
//! Nobody is believed about somebody else. What a member is (its start and incarnation, its address and role, that it goes
//! away) it says over its own session, where the transport knows who speaks; for those without a session with it, it signs
//! the same words. A signature is made when something changes and verified when it would change something, so it costs
//! nothing in a cluster at rest.
//!
//! Keys are the transport's: the detector signs and verifies through a [`Notary`].

use crate::identity::Id;
use crate::table::Word;
use crate::{Goodbye, Incarnation};
use bincode::{Decode, Encode};
use essaim_wire::{NodeId, encode};

/// Signs for this node, and verifies what others signed. The same key and the same words make the same signature.
pub trait Notary: Send + Sync {
    /// This node's signature.
    fn sign(&self, words: &[u8]) -> Signature;

    /// Whether the node signed these words: the key is the node's own, and the signature is right.
    fn is_signed_by(&self, node: NodeId, words: &[u8], signature: &Signature) -> bool;
}

/// A signature with the key that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signature {
    /// The public key.
    pub key: [u8; 32],
    /// The signature.
    pub bytes: [u8; 64],
}

/// What comes before the words that are signed, so that no signature of a node's key means anything else.
const CONTEXT: &[u8] = b"essaim member 1\n";

/// A member about itself, signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Statement {
    pub(crate) id: Id,
    pub(crate) incarnation: Incarnation,
    /// That it goes away; otherwise it lives.
    pub(crate) goodbye: Option<Goodbye>,
    pub(crate) signature: Signature,
}

impl Statement {
    /// This node about itself.
    pub(crate) fn sign(notary: &dyn Notary, id: Id, incarnation: Incarnation, goodbye: Option<Goodbye>) -> Self {
        let signature = notary.sign(&words(id, incarnation, goodbye));
        Self { id, incarnation, goodbye, signature }
    }

    /// As it stands in a row of a table.
    pub(crate) fn word(&self) -> Word {
        Word { goodbye: self.goodbye, signature: self.signature.clone() }
    }

    pub(crate) fn is_true(&self, notary: &dyn Notary) -> bool {
        notary.is_signed_by(self.id.node, &words(self.id, self.incarnation, self.goodbye), &self.signature)
    }
}

fn words(id: Id, incarnation: Incarnation, goodbye: Option<Goodbye>) -> Vec<u8> {
    [CONTEXT, &encode(&(id, incarnation, goodbye))].concat()
}

/// A notary for tests: whoever knows the node's number signs for it, and nobody else is taken for it.
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
