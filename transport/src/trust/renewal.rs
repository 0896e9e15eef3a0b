//! Time of a certificate's renewal: about half of its validity.

use super::PeerIdentity;
use essaim_wire::Timestamp;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Earliest renewal, in percent of a certificate's validity.
const EARLIEST_PERCENT: u64 = 45;

/// Latest renewal, in percent of a certificate's validity. A node's seed decides between the two, so that a thousand
/// nodes enrolled in the same minute do not renew in the same minute.
const LATEST_PERCENT: u64 = 55;

/// Time at which the certificate should be renewed. The same seed gives the same time.
pub fn renewal_due(certificate: &PeerIdentity, seed: u64) -> Timestamp {
    let life = certificate.not_after.saturating_since(certificate.not_before);
    let life = u64::try_from(life.as_micros()).unwrap_or(u64::MAX);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ certificate.serial.nonce);
    let per_mille = rng.random_range(EARLIEST_PERCENT * 10..=LATEST_PERCENT * 10);
    Timestamp::from_micros(certificate.not_before.as_micros() + life / 1000 * per_mille)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Serial;
    use essaim_wire::{ClusterId, Index, NodeId, Role};

    #[test]
    fn renewal_is_due_at_half_life_with_a_spread() {
        let certificate = PeerIdentity {
            cluster: ClusterId::from_bits(1),
            node: NodeId::from_bits(2),
            role: Role::Worker,
            not_before: Timestamp::from_micros(1_000),
            not_after: Timestamp::from_micros(1_001_000),
            serial: Serial { granted: Index(1), nonce: 5 },
        };
        let due: Vec<u64> = (0..50).map(|seed| renewal_due(&certificate, seed).as_micros()).collect();
        assert!(due.iter().all(|at| (451_000..=551_000).contains(at)), "{due:?}");
        assert!(due.iter().any(|at| *at != due[0]), "all nodes would renew at once");
        assert_eq!(due[7], renewal_due(&certificate, 7).as_micros());
    }
}
