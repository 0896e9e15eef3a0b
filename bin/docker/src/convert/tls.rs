//! Conversion of the root of trust: the root certificate, and its subject and public key in base64.

use crate::node::TlsInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The root certificate `root_pem` in Docker's shape. A text that is no certificate is shown as it is, without subject
/// and key.
pub fn info(root_pem: &str) -> TlsInfo {
    let mut info = TlsInfo { trust_root: root_pem.into(), ..TlsInfo::default() };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(root_pem.as_bytes()) else { return info };
    if let Ok(certificate) = pem.parse_x509() {
        info.cert_issuer_subject = STANDARD.encode(certificate.subject().as_raw());
        info.cert_issuer_public_key = STANDARD.encode(certificate.public_key().raw);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_root_shows_its_recorded_parts() {
        let text = include_str!("../../tests/fixtures/swarm.json");
        let recorded: Vec<crate::swarm::Swarm> = serde_json::from_str(text).expect("recorded bodies parse");
        // While a root is being replaced, Docker shows the issuer of the next root.
        for swarm in recorded.into_iter().filter(|swarm| !swarm.cluster.root_rotation_in_progress) {
            assert_eq!(info(&swarm.cluster.tls_info.trust_root), swarm.cluster.tls_info);
        }
    }

    #[test]
    fn what_is_no_certificate_is_shown_as_it_is() {
        assert_eq!(info("nonsense"), TlsInfo { trust_root: "nonsense".into(), ..TlsInfo::default() });
    }
}
