//! Encryption at rest: data is sealed when written and opened when read, and damage is told apart from a wrong key.
//!
//! A sealed record is a CRC-32 of what follows, a nonce, and the ciphertext of XChaCha20-Poly1305 with its tag. The
//! nonce is 16 bytes drawn when the sealer is created, and a counter, so that it never repeats, not even for an entry
//! that takes the place of a truncated one. The identity of a record (its table and index) is authenticated with it, so
//! records cannot be exchanged. The key is in a file of mode 0600 beside the log; autolock will wrap it.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that the checksum, the nonce and the tag add to a record.
pub(crate) const OVERHEAD: usize = CRC_LEN + NONCE_LEN + 16;
const CRC_LEN: usize = 4;
const NONCE_LEN: usize = 24;
const SALT_LEN: usize = 16;
const FILE_HEAD: &str = "essaim store key 1";

/// Why a record could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// The record's bytes differ from those that were written.
    #[error("its checksum does not match its bytes")]
    Checksum,
    /// The record's bytes are sound, but the key is another, or the record is not the one that belongs here.
    #[error("it does not open with the key of this manager")]
    Key,
}

/// Key of this manager's log and snapshots.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A new key from random bytes that the caller draws.
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The contents of the key file for this key.
    pub(crate) fn to_file(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{FILE_HEAD}\n{hex}\n")
    }

    /// Parses the contents of a key file.
    pub(crate) fn from_file(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let (head, hex) = (lines.next()?, lines.next()?);
        if head != FILE_HEAD || hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Seals and opens records.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    salt: [u8; SALT_LEN],
    sealed: AtomicU64,
}

impl Sealer {
    /// A sealer whose nonces begin with `salt`, which must be drawn anew for each.
    pub(crate) fn new(secret: &Secret, salt: [u8; SALT_LEN]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&Key::from(secret.0)), salt, sealed: AtomicU64::new(0) }
    }

    /// Seals `plain`, which can then be opened as `what` only.
    pub(crate) fn seal(&self, what: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.salt);
        nonce[SALT_LEN..].copy_from_slice(&self.sealed.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let cipher = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: what })
            .expect("a record is far below the cipher's limit of 256 GiB");
        let mut record = vec![0; CRC_LEN];
        record.extend_from_slice(&nonce);
        record.extend_from_slice(&cipher);
        let crc = crc32fast::hash(&record[CRC_LEN..]);
        record[..CRC_LEN].copy_from_slice(&crc.to_le_bytes());
        record
    }

    /// Opens what was sealed as `what`.
    pub(crate) fn open(&self, what: &[u8], record: &[u8]) -> Result<Vec<u8>, Damage> {
        if record.len() < OVERHEAD {
            return Err(Damage::Checksum);
        }
        let (crc, rest) = record.split_at(CRC_LEN);
        if crc32fast::hash(rest).to_le_bytes() != crc {
            return Err(Damage::Checksum);
        }
        let (nonce, cipher) = rest.split_at(NONCE_LEN);
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| Damage::Checksum)?;
        self.cipher.decrypt(&XNonce::from(nonce), Payload { msg: cipher, aad: what }).map_err(|_| Damage::Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&Secret::new([key; 32]), [3; SALT_LEN])
    }

    #[test]
    fn what_was_sealed_opens_as_itself_only() {
        let sealer = sealer(1);
        let record = sealer.seal(b"entry 1", b"a secret of the cluster");
        assert_eq!(sealer.open(b"entry 1", &record).as_deref(), Ok(b"a secret of the cluster".as_slice()));
        assert_eq!(sealer.open(b"entry 2", &record), Err(Damage::Key));
        assert!(!record.windows(6).any(|window| window == b"secret"), "nothing lies there in the open");
    }

    #[test]
    fn a_flipped_bit_and_a_wrong_key_are_told_apart() {
        let record = sealer(1).seal(b"x", b"plain");
        assert_eq!(sealer(2).open(b"x", &record), Err(Damage::Key));
        for place in 0..record.len() {
            let mut flipped = record.clone();
            flipped[place] ^= 0x10;
            assert_eq!(sealer(1).open(b"x", &flipped), Err(Damage::Checksum), "byte {place}");
            assert_eq!(sealer(1).open(b"x", &record[..place]), Err(Damage::Checksum), "cut at {place}");
        }
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let sealer = sealer(1);
        assert_ne!(sealer.seal(b"x", b"same"), sealer.seal(b"x", b"same"));
    }

    #[test]
    fn a_key_survives_its_file_and_other_files_are_none() {
        let secret = Secret::new(std::array::from_fn(|place| place as u8));
        let text = secret.to_file();
        assert_eq!(Secret::from_file(text.as_bytes()).map(|read| read.0), Some(secret.0));
        for bad in ["", "essaim store key 2\n00\n", &text[..text.len() - 9], &text.replace("00", "zz")] {
            assert!(Secret::from_file(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
