//! Reading of time: monotonic and UTC. Code that wants to wait uses `tokio::time` instead.

use essaim_wire::{Moment, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The clock of a node. No other code asks the machine for the time.
pub trait Clock: Send + Sync {
    /// Time since the node started. Never goes back.
    fn now(&self) -> Moment;

    /// UTC by the machine's clock. Jumps when somebody sets that clock.
    fn utc(&self) -> Timestamp;
}

/// The clocks of the real machine.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts at zero now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Moment {
        Moment::START + self.start.elapsed()
    }

    fn utc(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(0) + since_1970
    }
}

/// Virtual time: tokio's clock, which a paused runtime advances by itself. UTC is that time plus a start date, plus an
/// offset that can be changed at any moment, as an operator who sets a machine's clock does.
#[derive(Debug)]
pub struct VirtualClock {
    start: tokio::time::Instant,
    utc_start: Timestamp,
    utc_offset_micros: AtomicI64,
}

impl VirtualClock {
    /// A clock that starts now and whose UTC reads `utc_start`.
    pub fn new(utc_start: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), utc_start, utc_offset_micros: AtomicI64::new(0) }
    }

    /// Sets how many microseconds this machine's UTC is ahead of the true time; negative when it is behind.
    pub fn set_utc_offset_micros(&self, offset: i64) {
        self.utc_offset_micros.store(offset, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        Moment::START + self.elapsed()
    }

    fn utc(&self) -> Timestamp {
        let straight = (self.utc_start + self.elapsed()).as_micros();
        let offset = self.utc_offset_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(straight.saturating_add_signed(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_follows_the_runtime_and_utc_can_be_set() {
        let clock = VirtualClock::new(Timestamp::from_micros(1_000_000));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now(), Moment::from_micros(3_600_000_000));
        assert_eq!(clock.utc(), Timestamp::from_micros(3_601_000_000));
        clock.set_utc_offset_micros(-3_600_000_000);
        assert_eq!(clock.utc(), Timestamp::from_micros(1_000_000));
    }
}
