//! Ed25519 keys, each made from a seed of 32 bytes.

use super::{TrustError, pem};
use bincode::{Decode, Encode};
use essaim_wire::NodeId;
use rcgen::{KeyPair, PKCS_ED25519};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;

/// Prefix of the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

const PEM_LABEL: &str = "PRIVATE KEY";

/// An Ed25519 private key, which is its seed: the same seed gives the same signatures.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Key {
    seed: [u8; 32],
}

impl Key {
    /// The key with this seed, which must come from good randomness, or from the seed of a simulation.
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// Encodes the key as PEM.
    pub fn to_pem(&self) -> String {
        pem::write(PEM_LABEL, &self.pkcs8())
    }

    /// Decodes what [`Key::to_pem`] encoded.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let blocks = pem::read(PEM_LABEL, text)?;
        let [pkcs8] = blocks.as_slice() else {
            return Err(TrustError::BadKey(format!("{} private keys in the text instead of one", blocks.len())));
        };
        let seed = pkcs8
            .strip_prefix(&PKCS8_PREFIX)
            .and_then(|seed| seed.try_into().ok())
            .ok_or_else(|| TrustError::BadKey("the PKCS #8 text holds another kind of key".into()))?;
        Ok(Self { seed })
    }

    /// Public key: 32 bytes.
    pub fn public(&self) -> Vec<u8> {
        self.pair().public_key_raw().to_vec()
    }

    /// Signs a message. Ed25519 uses no randomness: the same key and message give the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair_of_ring().sign(message);
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    fn pair_of_ring(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("every 32 bytes are an Ed25519 seed")
    }

    pub(super) fn pair(&self) -> KeyPair {
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(self.pkcs8()), &PKCS_ED25519)
            .expect("every 32 bytes are an Ed25519 seed")
    }

    pub(crate) fn private_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8()).into()
    }

    fn pkcs8(&self) -> Vec<u8> {
        [PKCS8_PREFIX.as_slice(), &self.seed].concat()
    }
}

/// Whether the holder of a public key signed the message.
pub fn is_signed(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// Id of the node that enrols with this public key: the first half of the key's SHA-256. A node keeps its key as long
/// as it is in the cluster, over every renewal of its certificate and every rotation of the CA, so its signature proves
/// its identity to all who know its id.
pub fn node_id(public: &[u8]) -> NodeId {
    let hash = digest(&SHA256, public);
    let (half, _) = hash.as_ref().split_first_chunk::<16>().expect("SHA-256 has 32 bytes");
    NodeId::from_bits(u128::from_be_bytes(*half))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-key": Key);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_key_and_survives_its_text() {
        let key = Key::from_seed([7; 32]);
        assert_eq!(key.public(), Key::from_seed([7; 32]).public());
        assert_ne!(key.public(), Key::from_seed([8; 32]).public());
        assert_eq!(Key::from_pem(&key.to_pem()), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "Key(…)", "a key must not reach a log");
    }

    #[test]
    fn a_signature_is_of_one_key_and_one_message() {
        let key = Key::from_seed([7; 32]);
        let signature = key.sign(b"words");
        assert_eq!(signature, key.sign(b"words"));
        assert!(is_signed(&key.public(), b"words", &signature));
        assert!(!is_signed(&key.public(), b"other words", &signature));
        assert!(!is_signed(&Key::from_seed([8; 32]).public(), b"words", &signature));
        assert!(!is_signed(b"no key", b"words", b"no signature"));
    }

    #[test]
    fn the_id_of_a_key_never_changes() {
        assert_eq!(node_id(&[7; 32]).bits() >> 96, 0x4bb0_6f8e);
    }

    #[test]
    fn text_that_is_no_key_is_an_error() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "garbage"] {
            assert!(Key::from_pem(text).is_err(), "{text:?}");
        }
    }
}
