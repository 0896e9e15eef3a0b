//! The one source of randomness of a node.
//!
//! In production a seed is 256 bits from the operating system, so keys may be drawn from it; in a simulation the seed
//! is derived from the run's number. From there on both compute the same: HMAC-SHA-256 of a label gives the seed of a
//! part, and HMAC of a counter gives the next draw. Two parts with different labels never share a draw, and the draws
//! of one part do not depend on how often another part drew.

use rand::SeedableRng;
use rand::rngs::StdRng;
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A repeatable source of randomness. Clones share one counter, so no two of them draw the same.
#[derive(Clone)]
pub struct Seed {
    key: Arc<hmac::Key>,
    draws: Arc<AtomicU64>,
}

impl Seed {
    /// A seed from the operating system: no two daemons have the same.
    ///
    /// # Panics
    ///
    /// When the operating system gives no randomness, because nothing safe can be done without it.
    pub fn fresh() -> Self {
        let random: ring::rand::Random<[u8; 32]> =
            ring::rand::generate(&ring::rand::SystemRandom::new()).expect("the operating system has randomness");
        Self::from_bytes(&random.expose())
    }

    /// The seed of the simulated run with this number.
    pub fn from_number(number: u64) -> Self {
        Self::from_bytes(&number.to_be_bytes())
    }

    /// The seed whose HMAC key is these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)), draws: Arc::new(AtomicU64::new(0)) }
    }

    /// The seed of the part named `label`. The same label gives the same seed, with its counter at zero, so it fits
    /// parts that are made once. A part that is made again and again (an actor that is restarted) takes [`Seed::fork`].
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        Self::from_bytes(&self.bytes(b'l', label.as_bytes()))
    }

    /// A new seed on every call, different from every seed given before.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::from_bytes(&self.draw_bytes())
    }

    /// Draws 256 fresh bits, for keys.
    pub fn draw_bytes(&self) -> [u8; 32] {
        let count = self.draws.fetch_add(1, Ordering::Relaxed);
        self.bytes(b'd', &count.to_be_bytes())
    }

    /// Draws 128 fresh bits, for ids.
    pub fn draw_id(&self) -> u128 {
        let bytes = self.draw_bytes();
        u128::from_be_bytes(bytes[..16].try_into().expect("16 bytes are 16 bytes"))
    }

    /// Draws 64 fresh bits, for nonces and the seeds of cores.
    pub fn draw_number(&self) -> u64 {
        let bytes = self.draw_bytes();
        u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes are 8 bytes"))
    }

    /// A random number generator for parts that draw often; each call gives a different generator.
    pub fn rng(&self) -> StdRng {
        StdRng::from_seed(self.draw_bytes())
    }

    fn bytes(&self, kind: u8, what: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[kind]);
        context.update(what);
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Seed {
    /// Leaves the seed's key out, because keys and tokens are drawn from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({} draws)", self.draws.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_draws_the_same_and_a_clone_draws_on() {
        let (a, b) = (Seed::from_number(7), Seed::from_number(7));
        let first = a.draw_id();
        assert_eq!(first, b.draw_id());
        let clone = a.clone();
        assert_ne!(first, clone.draw_id());
        assert_eq!(a.draws.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_part_draws_the_same_however_often_another_drew() {
        let (a, b) = (Seed::from_number(7), Seed::from_number(7));
        for _ in 0..5 {
            a.derive("raft").draw_id();
        }
        assert_eq!(a.derive("roster").draw_id(), b.derive("roster").draw_id());
        assert_ne!(a.derive("roster").draw_id(), a.derive("raft").draw_id());
    }

    #[test]
    fn a_label_and_a_draw_never_meet() {
        let seed = Seed::from_number(1);
        let as_label = seed.derive("\0\0\0\0\0\0\0\0").draw_id();
        assert_ne!(as_label, seed.fork().draw_id());
        assert_ne!(Seed::fresh().draw_id(), Seed::fresh().draw_id());
    }
}
