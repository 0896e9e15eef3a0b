//! Join tokens: `SWMTKN-1-<digest of the CA>-<secret>`, both in base 36, as in Swarm.
//!
//! By the digest the joiner verifies the cluster, and by the secret the cluster learns for which role the joiner was
//! invited. There is one secret per role, and rotating it draws a new one. An error tells which half is wrong.

use super::{CaDigest, Certificate};
use bincode::{Decode, Encode};
use ring::hmac;
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "SWMTKN-1-";

/// Characters of the CA digest: 256 bits in base 36.
const DIGEST_LEN: usize = 50;

/// Characters of the secret: 128 bits in base 36.
const SECRET_LEN: usize = 25;

/// A join token, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Digest of the cluster's root CA.
    pub ca: CaDigest,
    /// Secret that proves that the joiner was invited.
    pub secret: TokenSecret,
}

/// The second half of a token. Compared in constant time, and never printed by `Debug`.
#[derive(Clone, Encode, Decode)]
pub struct TokenSecret([u8; 16]);

/// Reasons why a text is no join token, by the part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The text lacks the prefix of every token.
    #[error("invalid join token: it must begin with {PREFIX:?}; copy the whole line that \"swarm join-token\" prints")]
    Prefix,
    /// The prefix is not followed by exactly two parts.
    #[error("invalid join token: after {PREFIX:?} come the CA digest and the secret, with one \"-\" between them")]
    Parts,
    /// The first half, the CA digest, is damaged.
    #[error("invalid join token: the first half, the CA digest, must be {DIGEST_LEN} characters of 0-9 and a-z{0}")]
    Digest(String),
    /// The second half, the secret, is damaged.
    #[error("invalid join token: the second half, the secret, must be {SECRET_LEN} characters of 0-9 and a-z{0}")]
    Secret(String),
}

impl JoinToken {
    /// The token of the cluster with this root CA and secret.
    pub fn new(root: &Certificate, secret: TokenSecret) -> Self {
        Self { ca: root.digest(), secret }
    }
}

impl TokenSecret {
    /// A secret of 16 bytes, which must come from good randomness, or from the seed of a simulation.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Bytes of the secret, for the replicated cluster object.
    pub const fn to_bytes(&self) -> [u8; 16] {
        self.0
    }
}

/// Compares in constant time, so that the duration does not reveal where two secrets differ.
impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for TokenSecret {}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}", base36(&self.ca.0, DIGEST_LEN), base36(&self.secret.0, SECRET_LEN))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let halves = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken::Prefix)?;
        let (digest, secret) = halves.split_once('-').ok_or(InvalidToken::Parts)?;
        if secret.contains('-') {
            return Err(InvalidToken::Parts);
        }
        let ca = from_base36(digest, DIGEST_LEN).map_err(InvalidToken::Digest)?;
        let secret = from_base36(secret, SECRET_LEN).map_err(InvalidToken::Secret)?;
        Ok(Self { ca: CaDigest(ca), secret: TokenSecret(secret) })
    }
}

/// Compares the MACs of both in constant time, with ring. A leak would reveal MACs, not secrets.
fn same(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"essaim join token");
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}

/// Encodes bytes, most significant first, as a base-36 number padded to `len` digits.
fn base36(bytes: &[u8], len: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; len];
    for place in text.iter_mut().rev() {
        let mut rest: u32 = 0;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).expect("the remainder is below 36");
            rest = value % 36;
        }
        *place = DIGITS[rest as usize];
    }
    String::from_utf8(text).expect("base-36 digits are ASCII")
}

/// Decodes a base-36 number of exactly `len` digits. The error text completes a sentence.
fn from_base36<const N: usize>(text: &str, len: usize) -> Result<[u8; N], String> {
    if text.chars().count() != len {
        return Err(format!(", and has {}", text.chars().count()));
    }
    let mut number = [0u8; N];
    for digit in text.chars() {
        let Some(value) = digit.to_digit(36).filter(|_| !digit.is_ascii_uppercase()) else {
            return Err(format!(", and has {digit:?}"));
        };
        let mut carry = value;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return Err(", and is too large a number".into());
        }
    }
    Ok(number)
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-token": TokenSecret);

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { ca: CaDigest([0xab; 32]), secret: TokenSecret::from_bytes([0xcd; 16]) }
    }

    #[test]
    fn a_token_survives_its_text_and_has_the_length_of_swarms() {
        let text = token().to_string();
        assert_eq!(text.len(), "SWMTKN-1-".len() + 50 + 1 + 25);
        assert_eq!(text.parse(), Ok(token()));
        let largest = JoinToken { ca: CaDigest([0xff; 32]), secret: TokenSecret::from_bytes([0xff; 16]) };
        assert_eq!(largest.to_string().parse(), Ok(largest));
    }

    #[test]
    fn swarms_own_tokens_parse() {
        let text = "SWMTKN-1-3pu6hszjas19xyp7ghgosyx9k8atbfcr8p2is99znpy26u2lkl-1awxwuwd3z9j1z3puu7rcgdbx";
        assert_eq!(text.parse::<JoinToken>().expect("from Docker's documentation").to_string(), text);
    }

    #[test]
    fn an_error_says_which_half_is_wrong() {
        let good = token().to_string();
        let (digest, secret) = (&good[9..59], &good[60..]);
        let check = |text: &str, begins: &str| {
            let error = text.parse::<JoinToken>().expect_err(text).to_string();
            assert!(error.starts_with(begins), "{text}: {error}");
        };
        check("", "invalid join token: it must begin");
        check("garbage", "invalid join token: it must begin");
        check("SWMTKN-1-", "invalid join token: after");
        check(&format!("SWMTKN-1-{digest}"), "invalid join token: after");
        check(&format!("SWMTKN-1-{digest}-{secret}-x"), "invalid join token: after");
        check(&format!("SWMTKN-1-{}-{secret}", &digest[1..]), "invalid join token: the first half");
        check(&format!("SWMTKN-1-{}-{secret}", "z".repeat(50)), "invalid join token: the first half");
        check(&format!("SWMTKN-1-{digest}-{}", &secret[1..]), "invalid join token: the second half");
        check(&format!("SWMTKN-1-{digest}-{}", "Z".repeat(25)), "invalid join token: the second half");
    }

    #[test]
    fn a_secret_does_not_reach_a_log() {
        assert_eq!(format!("{:?}", token().secret), "TokenSecret(…)");
    }
}
