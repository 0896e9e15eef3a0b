//! Cluster time: the time by which changes are dated, and with which the leader's actors compare those dates.
//!
//! Cluster time follows the leader's time of day, but it neither stands still nor jumps, because delays are counted
//! from dates: when the leader's clock was set, cluster time advances at half the pace, or at half as much again, until
//! the two agree. It is never before a date that is in the state already, set by another manager whose clock was ahead.
//!
//! The leader sends its time with every append, so that the next leader continues from there, whatever its own clock
//! says. A manager that has heard of no leader since it started has only its own clock.

use essaim_system::env::Clock;
use essaim_wire::{Moment, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// Cluster time as one manager knows it. Clones share it.
#[derive(Clone)]
pub(crate) struct ClusterTime {
    clock: Arc<dyn Clock>,
    told: Arc<Mutex<LastTime>>,
}

/// The cluster time that was last told or heard, with the moment of that.
#[derive(Debug, Default)]
struct LastTime(Option<(Moment, Timestamp)>);

impl ClusterTime {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, told: Arc::default() }
    }

    /// Cluster time now; `dated` is the newest known date.
    pub(crate) fn now(&self, dated: Timestamp) -> Timestamp {
        self.told().now(self.clock.now(), self.clock.utc(), dated)
    }

    /// Takes over the cluster time of another manager that leads.
    pub(crate) fn hear(&self, there: Timestamp) {
        *self.told() = LastTime(Some((self.clock.now(), there)));
    }

    fn told(&self) -> MutexGuard<'_, LastTime> {
        self.told.lock()
    }
}

impl LastTime {
    /// Cluster time by this machine's clocks and the newest known date.
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
