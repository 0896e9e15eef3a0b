//! The time of the cluster: what changes are dated with, and what the leader's actors compare those dates with.
//!
//! It follows the time of day of whoever leads, but it neither stands still nor jumps, because delays are counted
//! from dates: beside a clock that somebody set it goes on at half the pace, or at half as much again, until the two
//! agree. And it is never before what is dated already, by another manager whose clock was ahead.
//!
//! Whoever leads tells the others its time with every append, so that the next leader goes on from there, whatever its
//! own clock says. One that has heard of no leader since it started has nothing to go by but its clock.

use crate::store::Store;
use essaim_system::env::Clock;
use essaim_wire::{Moment, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// The time of the cluster, as one manager tells it. Clones are the same.
#[derive(Clone)]
pub(crate) struct ClusterTime {
    clock: Arc<dyn Clock>,
    told: Arc<Mutex<LastTime>>,
}

/// When the time was told last, and what it was.
#[derive(Debug, Default)]
struct LastTime(Option<(Moment, Timestamp)>);

impl ClusterTime {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, told: Arc::default() }
    }

    /// The time now, if this is the newest date that is known.
    pub(crate) fn now(&self, dated: Timestamp) -> Timestamp {
        self.told().now(self.clock.now(), self.clock.utc(), dated)
    }

    /// Another manager leads, and it is so late there.
    pub(crate) fn hear(&self, there: Timestamp) {
        *self.told() = LastTime(Some((self.clock.now(), there)));
    }

    fn told(&self) -> MutexGuard<'_, LastTime> {
        self.told.lock()
    }
}

impl LastTime {
    /// The time of the cluster, by this machine's clocks and the newest date that is known.
    fn now(&mut self, moment: Moment, utc: Timestamp, dated: Timestamp) -> Timestamp {
        let followed = self.0.map_or(utc, |(then, told)| {
            let passed = moment.saturating_since(then);
            utc.clamp(told + passed / 2, told + passed * 3 / 2)
        });
        let now = followed.max(dated);
        self.0 = Some((moment, now));
        now
    }
}

impl Store {
    /// The time of the cluster: what a change that is proposed now is dated with.
    pub fn now(&self) -> Timestamp {
        self.inner.time.now(self.state().at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn after(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_goes_on_beside_a_clock_that_is_set() {
        let mut told = LastTime::default();
        assert_eq!(told.now(after(0), at(5_000), at(90)), at(5_000));
        assert_eq!(told.now(after(10), at(5_010), at(5_000)), at(5_010));
        assert_eq!(told.now(after(20), at(1_020), at(5_010)), at(5_015), "set back: it goes on at half the pace");
        assert_eq!(told.now(after(30), at(5_030), at(5_015)), at(5_030), "set right: it catches up");
        assert_eq!(told.now(after(40), at(9_040), at(5_030)), at(5_045), "set forward: half as fast again");
        assert_eq!(told.now(after(40), at(9_040), at(8_000)), at(8_000), "another manager has dated something");
        assert_eq!(told.now(after(50), at(5_050), at(8_000)), at(8_005), "whose clock is ahead");
    }
}
