//! Certificates: their content and how it is decoded.

use super::{TrustError, pem};
use bincode::{Decode, Encode};
use essaim_wire::{ClusterId, Index, NodeId, Role, Timestamp};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use std::fmt;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

const PEM_LABEL: &str = "CERTIFICATE";

/// First byte of a serial number: it keeps the number positive and its length fixed.
const SERIAL_FIRST: u8 = 1;

/// A certificate in DER, the form in which it is sent and stored.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    der: Vec<u8>,
}

/// SHA-256 of a root CA: one half of every join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CaDigest(pub [u8; 32]);

/// Serial number: unique among all certificates of the CA, with the place in the log where the certificate was granted.
/// A replicated table that is older than that place cannot revoke a certificate that it has not heard of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Serial {
    /// Index of the commit after which the certificate was signed.
    pub granted: Index,
    /// Random number, drawn by the signer.
    pub nonce: u64,
}

/// Identity of the other end of a connection, from its verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Cluster of the peer.
    pub cluster: ClusterId,
    /// Id of the peer.
    pub node: NodeId,
    /// Role that the certificate grants.
    pub role: Role,
    /// Beginning of the certificate's validity.
    pub not_before: Timestamp,
    /// End of the certificate's validity.
    pub not_after: Timestamp,
    /// Serial number of the certificate.
    pub serial: Serial,
}

impl Certificate {
    /// Wraps a certificate in DER, without any check.
    pub(crate) const fn from_der(der: Vec<u8>) -> Self {
        Self { der }
    }

    /// Encodes the certificate as PEM.
    pub fn to_pem(&self) -> String {
        pem::write(PEM_LABEL, &self.der)
    }

    /// Decodes every certificate in a PEM text.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, TrustError> {
        Ok(pem::read(PEM_LABEL, text)?.into_iter().map(Self::from_der).collect())
    }

    /// SHA-256 of the certificate; a join token contains that of the root CA.
    pub fn digest(&self) -> CaDigest {
        let hash = digest(&SHA256, &self.der);
        CaDigest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Decodes the identity in a node's certificate. Verifies nothing.
    pub fn identity(&self) -> Result<PeerIdentity, TrustError> {
        let certificate = self.parse()?;
        let subject = certificate.subject();
        let field = |what: &str, text: Option<&str>| {
            text.map(str::to_owned).ok_or_else(|| TrustError::BadCertificate(format!("it names no {what}")))
        };
        let invalid = |why: String| TrustError::BadCertificate(why);
        let cluster = field("cluster", first(subject, X509Name::iter_organization))?;
        let role = field("role", first(subject, X509Name::iter_organizational_unit))?;
        let node = field("node", first(subject, X509Name::iter_common_name))?;
        Ok(PeerIdentity {
            cluster: cluster.parse().map_err(|why| invalid(format!("cluster: {why}")))?,
            node: node.parse().map_err(|why| invalid(format!("node: {why}")))?,
            role: role.parse().map_err(|why| invalid(format!("{why}")))?,
            not_before: from_unix(certificate.validity().not_before.timestamp()),
            not_after: from_unix(certificate.validity().not_after.timestamp()),
            serial: Serial::from_bytes(certificate.raw_serial())?,
        })
    }

    /// Raw public key in the certificate.
    pub fn public_key(&self) -> Result<Vec<u8>, TrustError> {
        Ok(self.parse()?.public_key().subject_public_key.data.to_vec())
    }

    /// End of the certificate's validity.
    pub fn not_after(&self) -> Result<Timestamp, TrustError> {
        Ok(from_unix(self.parse()?.validity().not_after.timestamp()))
    }

    pub(crate) fn to_rustls(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.der.clone())
    }

    fn parse(&self) -> Result<X509Certificate<'_>, TrustError> {
        match X509Certificate::from_der(&self.der) {
            Ok((_, certificate)) => Ok(certificate),
            Err(why) => Err(TrustError::BadCertificate(why.to_string())),
        }
    }
}

impl From<&CertificateDer<'_>> for Certificate {
    fn from(der: &CertificateDer<'_>) -> Self {
        Self { der: der.to_vec() }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity() {
            Ok(of) => write!(f, "Certificate({} {}, {:?})", of.role, of.node, of.serial),
            Err(_) => write!(f, "Certificate({} bytes)", self.der.len()),
        }
    }
}

impl Serial {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![SERIAL_FIRST];
        bytes.extend(self.granted.0.to_be_bytes());
        bytes.extend(self.nonce.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TrustError> {
        let parts = bytes.split_first().filter(|(first, _)| **first == SERIAL_FIRST).and_then(|(_, rest)| {
            let (granted, nonce) = rest.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*granted), u64::from_be_bytes(nonce.try_into().ok()?)))
        });
        let Some((granted, nonce)) = parts else {
            return Err(TrustError::BadCertificate("its serial number was not made by an authority of ours".into()));
        };
        Ok(Self { granted: Index(granted), nonce })
    }
}

fn first<'a, I>(name: &'a X509Name<'a>, of: impl FnOnce(&'a X509Name<'a>) -> I) -> Option<&'a str>
where
    I: Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
{
    of(name).next()?.as_str().ok()
}

fn from_unix(seconds: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-certificate": Certificate, CaDigest, Serial);
