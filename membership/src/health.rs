//! Timing after Lifeguard: how much this node trusts its own probes, and how long a suspicion of the slow probe lasts.
//!
//! (Dadgar, Phillips, Currey: *Lifeguard*, arXiv 1707.00788.) A node whose probes fail, or that has to refute, is more
//! likely slow itself than surrounded by dead members, so it probes more slowly. A suspicion shrinks from its longest
//! to its shortest duration as other members confirm it independently.

use crate::accusation::MAX_PROBERS;
use std::time::Duration;

/// Upper bound on the local health score (Lifeguard's S): delays take at most nine times as long.
const WORST: u32 = 8;

/// Factor by which an unconfirmed suspicion lasts longer than one that enough members confirm.
const UNCONFIRMED: f64 = 3.0;

/// Local health multiplier of Lifeguard; zero is healthy.
#[derive(Debug, Default)]
pub(crate) struct Health {
    score: u32,
}

impl Health {
    /// Lowers the score: a probe was answered.
    pub(crate) fn on_success(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// Raises the score: a probe failed, or this node had to refute.
    pub(crate) fn on_trouble(&mut self) {
        self.score = (self.score + 1).min(WORST);
    }

    /// Stretches a delay of the slow probe by the score.
    pub(crate) fn stretch(&self, delay: Duration) -> Duration {
        delay * (self.score + 1)
    }
}

/// Duration of a suspicion with `voices` accusers in a cluster of `members`; `shortest` is that of a confirmed one.
pub(crate) fn suspicion(shortest: Duration, members: usize, voices: usize) -> Duration {
    let shortest = shortest.as_secs_f64() * (members as f64).log10().max(1.0);
    let longest = shortest * UNCONFIRMED;
    let confirmations = voices.saturating_sub(1) as f64;
    let confirmed = (confirmations + 1.0).ln() / (MAX_PROBERS as f64 + 1.0).ln();
    Duration::from_secs_f64((longest - (longest - shortest) * confirmed).max(shortest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_trouble_probes_more_slowly_up_to_nine_times() {
        let second = Duration::from_secs(1);
        let mut health = Health::default();
        assert_eq!(health.stretch(second), second);
        for _ in 0..20 {
            health.on_trouble();
        }
        assert_eq!(health.stretch(second), 9 * second);
        health.on_success();
        assert_eq!(health.stretch(second), 8 * second);
    }

    #[test]
    fn confirmations_shorten_a_suspicion_down_to_its_minimum() {
        let of = |voices| suspicion(Duration::from_secs(5), 10, voices);
        assert_eq!(of(1), Duration::from_secs(15));
        assert!(of(2) < of(1) && of(3) < of(2));
        assert_eq!(of(4), Duration::from_secs(5));
        assert_eq!(of(40), Duration::from_secs(5));
    }

    #[test]
    fn a_larger_cluster_waits_longer() {
        assert_eq!(suspicion(Duration::from_secs(5), 1000, 4), Duration::from_secs(15));
    }
}
