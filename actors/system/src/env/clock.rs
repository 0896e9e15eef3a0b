//! Two readings of time, and nothing else: whoever wants to wait uses `tokio::time`.

use essaim_wire::{Moment, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Reads time. The only door to it: no other code asks the machine.
pub trait Clock: Send + Sync {
    /// How long the node has been up; never goes back.
    fn now(&self) -> Moment;

    /// What the machine takes for UTC; may jump when somebody sets the clock.
    fn utc(&self) -> Timestamp;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock that starts now.
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

/// tokio's clock, which a paused runtime moves by itself. UTC is that time from a date of one's choice, plus an
/// offset that can be changed at any moment, as somebody setting a machine's clock does.
#[derive(Debug)]
pub struct VirtualClock {
    start: tokio::time::Instant,
    utc_start: Timestamp,
    utc_offset_micros: AtomicI64,
}

impl VirtualClock {
    /// A clock that starts now; UTC then reads `utc_start`.
    pub fn new(utc_start: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), utc_start, utc_offset_micros: AtomicI64::new(0) }
    }

    /// Sets how far this machine's idea of UTC is ahead (or behind, when negative).
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
