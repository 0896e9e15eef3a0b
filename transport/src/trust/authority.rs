//! The root CA of a cluster: its creation, and how it signs certificates.

use super::{BACKDATE, Certificate, Key, ROOT_LIFETIME, Serial, SigningRequest, TrustError};
use bincode::{Decode, Encode};
use essaim_wire::{ClusterId, NodeId, Role, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use std::time::{Duration, SystemTime};

/// Host name in every certificate: TLS requires a name, and our certificates are about ids, not hosts.
pub(crate) const SERVER_NAME: &str = "essaim";

/// A root CA with its private key. It is stored in the replicated cluster object, so every manager can sign.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Authority {
    certificate: Certificate,
    key: Key,
}

/// Content of a certificate to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Cluster that the certificate is valid in.
    pub cluster: ClusterId,
    /// Node that gets the certificate.
    pub node: NodeId,
    /// Role that the certificate grants.
    pub role: Role,
    /// Serial number: the index of the commit that allowed the certificate, and a nonce.
    pub serial: Serial,
    /// Time of signing.
    pub now: Timestamp,
    /// Validity of the certificate, from the time of signing.
    pub lifetime: Duration,
}

impl Authority {
    /// Creates the root CA of a new cluster, or the next root CA of the same cluster in a rotation.
    pub fn create(cluster: ClusterId, key: Key, serial: Serial, now: Timestamp) -> Self {
        let params = root_params(cluster, serial, now);
        let made = params.self_signed(&key.pair()).expect("a name, two dates and a key make a certificate");
        Self { certificate: made.der().into(), key }
    }

    /// Restores an authority from its stored parts, and checks that the certificate is for the key.
    pub fn from_parts(certificate: Certificate, key: Key) -> Result<Self, TrustError> {
        if certificate.public_key()? != key.public() {
            return Err(TrustError::Mismatch("the root certificate is about another key".into()));
        }
        Ok(Self { certificate, key })
    }

    /// Root certificate, which every node holds.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Private key of the CA, which only managers hold.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Signs a certificate with the content of `grant` for the key of `request`. All other content of the request is
    /// ignored.
    pub fn sign(&self, request: &SigningRequest, grant: &Grant) -> Result<Certificate, TrustError> {
        let public = request.verified()?;
        let mut params = params(grant.serial, grant.now, grant.lifetime);
        params.distinguished_name = name(&[
            (DnType::OrganizationName, grant.cluster.to_string()),
            (DnType::OrganizationalUnitName, grant.role.to_string()),
            (DnType::CommonName, grant.node.to_string()),
        ]);
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName(SERVER_NAME.try_into().expect("a plain name is a DNS name"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&public, &self.issuer()?).map_err(|why| TrustError::BadRequest(why.to_string()))?;
        Ok(made.der().into())
    }

    /// Cross-signs the next root CA, so that nodes that know only this one trust certificates of the next one. The
    /// result is added to the chain that a node shows, after its own certificate. Nodes verify such chains already; no
    /// manager rotates the CA yet.
    #[cfg(test)]
    pub(crate) fn cross_sign(
        &self,
        next: &Self,
        cluster: ClusterId,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Certificate, TrustError> {
        let made = root_params(cluster, serial, now)
            .signed_by(&next.key.pair(), &self.issuer()?)
            .map_err(|why| TrustError::BadCertificate(why.to_string()))?;
        Ok(made.der().into())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, TrustError> {
        Issuer::from_ca_cert_der(&self.certificate.to_rustls(), self.key.pair())
            .map_err(|why| TrustError::BadCertificate(why.to_string()))
    }
}

fn root_params(cluster: ClusterId, serial: Serial, now: Timestamp) -> CertificateParams {
    let mut params = params(serial, now, ROOT_LIFETIME);
    params.distinguished_name =
        name(&[(DnType::OrganizationName, cluster.to_string()), (DnType::CommonName, "essaim-ca".into())]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(serial: Serial, now: Timestamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial.to_bytes()));
    params.not_before = system_time(now).checked_sub(BACKDATE).unwrap_or(SystemTime::UNIX_EPOCH).into();
    params.not_after = (system_time(now) + lifetime).into();
    params
}

fn name(parts: &[(DnType, String)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, text) in parts {
        name.push(kind.clone(), text.as_str());
    }
    name
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at.as_micros())
}

#[cfg(test)]
essaim_wire::golden_bytes!("trust-authority": Authority);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Identity, NODE_LIFETIME};
    use essaim_wire::Index;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn authority(seed: u8) -> Authority {
        Authority::create(ClusterId::from_bits(1), Key::from_seed([seed; 32]), serial(0), NOW)
    }

    fn serial(nonce: u64) -> Serial {
        Serial { granted: Index(7), nonce }
    }

    fn grant(role: Role) -> Grant {
        Grant {
            cluster: ClusterId::from_bits(1),
            node: NodeId::from_bits(9),
            role,
            serial: serial(1),
            now: NOW,
            lifetime: NODE_LIFETIME,
        }
    }

    #[test]
    fn a_certificate_says_what_was_granted_and_is_back_dated() {
        let request = SigningRequest::create(&Key::from_seed([2; 32]));
        let says = authority(1).sign(&request, &grant(Role::Worker)).expect("signed").identity().expect("readable");
        assert_eq!((says.cluster, says.node, says.role), (ClusterId::from_bits(1), NodeId::from_bits(9), Role::Worker));
        assert_eq!(says.serial, serial(1));
        assert_eq!(NOW.saturating_since(says.not_before), BACKDATE);
        assert_eq!(says.not_after.saturating_since(NOW), NODE_LIFETIME);
    }

    #[test]
    fn the_same_seeds_give_the_same_certificates_bit_for_bit() {
        let request = SigningRequest::create(&Key::from_seed([2; 32]));
        assert_eq!(authority(1), authority(1));
        assert_eq!(
            authority(1).sign(&request, &grant(Role::Manager)),
            authority(1).sign(&request, &grant(Role::Manager))
        );
    }

    #[test]
    fn an_authority_refuses_a_key_that_is_not_its_own() {
        let root = authority(1);
        assert!(Authority::from_parts(root.certificate().clone(), Key::from_seed([1; 32])).is_ok());
        assert!(Authority::from_parts(root.certificate().clone(), Key::from_seed([9; 32])).is_err());
    }

    #[test]
    fn what_the_next_authority_signs_is_trusted_by_those_who_know_only_this_one() {
        let (old, new) = (authority(1), authority(2));
        let key = Key::from_seed([3; 32]);
        let leaf = new.sign(&SigningRequest::create(&key), &grant(Role::Worker)).expect("signed");
        let bridge = old.cross_sign(&new, ClusterId::from_bits(1), serial(4), NOW).expect("cross-signed");
        let with = Identity::new(vec![leaf.clone(), bridge], key.clone(), vec![new.certificate().clone()]);
        let without = Identity::new(vec![leaf], key, vec![new.certificate().clone()]);
        let roots = [old.certificate().clone()];
        let verified = |identity: Identity| super::super::verify::chain(&roots, identity.chain(), NOW);
        assert!(verified(with.expect("fits")).is_ok());
        assert!(verified(without.expect("fits")).is_err());
    }
}
