//! Time of a certificate's renewal: about half of its validity.

use super::{BACKDATE, PeerIdentity};
use essaim_wire::Timestamp;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Earliest renewal, in percent of a certificate's validity.
const EARLIEST_PERCENT: u64 = 45;

/// Latest renewal, in percent of a certificate's validity. A node's seed decides between the two, so that a thousand
/// nodes enrolled in the same minute do not renew in the same minute.
const LATEST_PERCENT: u64 = 55;

/// Time at which the certificate should be renewed. The same seed gives the same time.
///
/// The validity is counted from the signature, [`BACKDATE`] after `not_before`: counted from `not_before`, a certificate
/// of one hour would be due for renewal as soon as it is issued.
pub fn renewal_due(certificate: &PeerIdentity, seed: u64) -> Timestamp {
    let backdate = u64::try_from(BACKDATE.as_micros()).unwrap_or(u64::MAX);
    let signed = Timestamp::from_micros(certificate.not_before.as_micros().saturating_add(backdate));
    let life = certificate.not_after.saturating_since(signed);
    let life = u64::try_from(life.as_micros()).unwrap_or(u64::MAX);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ certificate.serial.nonce);
    let per_mille = rng.random_range(EARLIEST_PERCENT * 10..=LATEST_PERCENT * 10);
    Timestamp::from_micros(signed.as_micros().saturating_add(life / 1000 * per_mille))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Serial;
    use essaim_wire::{ClusterId, Index, NodeId, Role};
    use std::time::Duration;

    /// The identity in a certificate that was signed at `signed` and is valid for `lifetime`.
    fn certificate(signed: Timestamp, lifetime: Duration) -> PeerIdentity {
        let micros = |time: Duration| u64::try_from(time.as_micros()).expect("short");
        PeerIdentity {
            cluster: ClusterId::from_bits(1),
            node: NodeId::from_bits(2),
            role: Role::Worker,
            not_before: Timestamp::from_micros(signed.as_micros() - micros(BACKDATE)),
            not_after: Timestamp::from_micros(signed.as_micros() + micros(lifetime)),
            serial: Serial { granted: Index(1), nonce: 5 },
        }
    }

    #[test]
    fn renewal_is_due_at_half_life_with_a_spread() {
        let signed = Timestamp::from_micros(10_000_000_000_000);
        for lifetime in [Duration::from_secs(3600), super::super::NODE_LIFETIME] {
            let certificate = certificate(signed, lifetime);
            let due: Vec<Duration> =
                (0..50).map(|seed| renewal_due(&certificate, seed).saturating_since(signed)).collect();
            assert!(due.iter().all(|at| (lifetime / 100 * 45..=lifetime / 100 * 55).contains(at)), "{due:?}");
            assert!(due.iter().any(|at| *at != due[0]), "all nodes would renew at once");
            assert_eq!(due[7], renewal_due(&certificate, 7).saturating_since(signed));
        }
    }
}
