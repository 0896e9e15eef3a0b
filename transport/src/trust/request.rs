//! Certificate signing requests: a public key, signed by its own private key. No other content of a request counts.

use super::{Key, TrustError};
use bincode::{Decode, Encode};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, PublicKey};
use rustls::pki_types::CertificateSigningRequestDer;
use std::fmt;

/// A certificate signing request in DER. Enrolment is keyed by [`SigningRequest::public_key`], so asking twice is
/// harmless.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SigningRequest {
    der: Vec<u8>,
}

impl SigningRequest {
    /// Creates a request for a certificate for `key`, signed by it as a proof of possession.
    pub fn create(key: &Key) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let made = params.serialize_request(&key.pair()).expect("an empty request can be signed");
        Self { der: made.der().to_vec() }
    }

    /// Raw public key of the request, once its signature is verified.
    pub fn public_key(&self) -> Result<Vec<u8>, TrustError> {
        let public = self.verified()?;
        Ok(rcgen::PublicKeyData::der_bytes(&public).to_vec())
    }

    /// SHA-256 of the public key, by which the cluster recognises a node that asks again.
    pub fn key_digest(&self) -> Result<[u8; 32], TrustError> {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.public_key()?);
        Ok(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    pub(super) fn verified(&self) -> Result<PublicKey, TrustError> {
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(self.der.as_slice()))
            .map(|request| request.public_key)
            .map_err(|why| TrustError::BadRequest(why.to_string()))
    }
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningRequest({} bytes)", self.der.len())
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-request": SigningRequest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_the_key_that_signed_it() {
        let key = Key::from_seed([5; 32]);
        assert_eq!(SigningRequest::create(&key).public_key(), Ok(key.public()));
    }

    #[test]
    fn a_request_with_one_bit_changed_is_refused() {
        let mut der = SigningRequest::create(&Key::from_seed([5; 32])).der;
        *der.last_mut().expect("not empty") ^= 1;
        assert!(matches!(SigningRequest { der }.public_key(), Err(TrustError::BadRequest(_))));
        assert!(SigningRequest { der: b"garbage".to_vec() }.public_key().is_err());
    }
}
