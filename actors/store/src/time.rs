//! The time of the cluster: what changes are dated with, and what the leader's actors compare those dates with.
//!
//! It is the time of day of whoever proposes, but never before what is dated already: the clock of another manager may
//! have been ahead, by an hour if somebody set it wrong. Then the cluster's time goes on at half the pace until the
//! clocks have caught up with it. (If it stood still meanwhile, or if dates stood still while the leader's time went on,
//! every delay that is counted from a date would be endless, or over at once.)

use crate::store::Store;
use essaim_wire::Timestamp;
use std::sync::PoisonError;
use std::time::Duration;

/// How far the time of the cluster is ahead of this machine's clock, and when it was found so.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    by: Duration,
    found: Timestamp,
}

impl Ahead {
    /// The time of the cluster, by this machine's clock and the newest date that is known.
    pub(crate) fn now(&mut self, utc: Timestamp, dated: Timestamp) -> Timestamp {
        let caught_up = utc.saturating_since(self.found) / 2;
        let now = (utc + self.by.saturating_sub(caught_up)).max(dated);
        (self.by, self.found) = (now.saturating_since(utc), utc);
        now
    }
}

impl Store {
    /// The time of the cluster: what a change that is proposed now is dated with.
    pub fn now(&self) -> Timestamp {
        let (utc, dated) = (self.clock().utc(), self.state().at());
        self.inner.ahead.lock().unwrap_or_else(PoisonError::into_inner).now(utc, dated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_date_from_a_clock_that_was_ahead_is_caught_up_with_at_half_the_pace() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.now(at(100), at(90)), at(100), "nobody was ahead");
        assert_eq!(ahead.now(at(110), at(1_110)), at(1_110), "a thousand seconds");
        assert_eq!(ahead.now(at(210), at(1_110)), at(1_160), "it goes on");
        assert_eq!(ahead.now(at(1_110), at(1_160)), at(1_610));
        assert_eq!(ahead.now(at(2_110), at(1_610)), at(2_110));
        assert_eq!(ahead.now(at(2_120), at(2_110)), at(2_120));
        assert_eq!(ahead.now(at(1_000), at(2_120)), at(2_120), "its own clock was ahead, and was set right");
    }
}
