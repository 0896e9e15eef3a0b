//! Verification of certificate chains, with the same result in QUIC and in the simulation.
//!
//! The verifiers are rustls's own, with ring named explicitly, since another crypto provider is linked into the daemon
//! as well. A joiner's verifier pins the CA instead: one of the certificates shown must have the token's digest, and
//! that one becomes the only root.

use super::authority::SERVER_NAME;
use super::{CaDigest, Certificate, PeerIdentity, TrustError};
use essaim_wire::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Crypto provider of this crate: ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Server name in every node's certificate.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("a plain name is a server name")
}

pub(crate) fn root_store(roots: &[Certificate]) -> Result<Arc<RootCertStore>, TrustError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.to_rustls()).map_err(|why| TrustError::BadCertificate(format!("as a root CA: {why}")))?;
    }
    Ok(Arc::new(store))
}

/// Verifier for the certificates of nodes that dial this one.
pub(crate) fn of_diallers(roots: &[Certificate]) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    WebPkiClientVerifier::builder_with_provider(root_store(roots)?, provider())
        // A joiner has no certificate yet; the ALPN decides after the handshake.
        .allow_unauthenticated()
        .build()
        .map_err(|why| TrustError::BadCertificate(why.to_string()))
}

/// Verifier for the certificates of nodes that this one dials.
pub(crate) fn of_dialled(roots: &[Certificate]) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    WebPkiServerVerifier::builder_with_provider(root_store(roots)?, provider())
        .build()
        .map_err(|why| TrustError::BadCertificate(why.to_string()))
}

/// Verifies a whole chain against the roots, and returns the identity in its first certificate.
pub(crate) fn chain(roots: &[Certificate], chain: &[Certificate], now: Timestamp) -> Result<PeerIdentity, TrustError> {
    let Some((own, rest)) = chain.split_first() else {
        return Err(TrustError::BadCertificate("none was shown".into()));
    };
    let rest: Vec<CertificateDer<'_>> = rest.iter().map(Certificate::to_rustls).collect();
    of_dialled(roots)?
        .verify_server_cert(&own.to_rustls(), &rest, &server_name(), &[], unix_time(now))
        .map_err(|why| TrustError::BadCertificate(why.to_string()))?;
    own.identity()
}

/// Verifies a chain whose root CA must have this digest; the CA is one of the certificates of the chain.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn pinned(ca: CaDigest, chain: &[Certificate], now: Timestamp) -> Result<PeerIdentity, PinError> {
    let root = chain.iter().skip(1).find(|shown| shown.digest() == ca).ok_or(PinError::OtherCa)?;
    self::chain(std::slice::from_ref(root), chain, now).map_err(PinError::Chain)
}

/// Reasons why a joiner does not trust the node that it dialled.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PinError {
    /// No certificate in the chain has the digest of the token.
    OtherCa,
    /// The CA is right, but did not sign the rest of the chain.
    Chain(TrustError),
}

pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(at.as_micros()))
}

/// Error of the pinning verifier when the CA is another one; searched for when a handshake has failed.
#[derive(Debug)]
pub(crate) struct OtherCa;

impl fmt::Display for OtherCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OTHER_CA)
    }
}

impl std::error::Error for OtherCa {}

/// Text by which [`OtherCa`] is recognised after it has passed through QUIC.
pub(crate) const OTHER_CA: &str = "the CA is not the one of the join token";

/// Verifier that trusts the CA with one digest, if the other side shows it and was signed by it.
#[derive(Debug)]
pub(crate) struct PinnedCa {
    ca: CaDigest,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedCa {
    pub(crate) fn new(ca: CaDigest) -> Self {
        Self { ca, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .map(Certificate::from)
            .find(|shown| shown.digest() == self.ca)
            .ok_or_else(|| Error::Other(OtherError(Arc::new(OtherCa))))?;
        let verifier = of_dialled(&[root]).map_err(|why| Error::General(why.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
