//! Two kinds of time, separated by type.
//!
//! A [`Moment`] is for decisions: microseconds since this node started, from a clock that never goes back. It means
//! nothing on another node, so it has no encoding and cannot be sent. A [`Timestamp`] is for stored and displayed
//! values: microseconds of UTC, which may jump when the clock is set.

use bincode::{Decode, Encode};
use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A point in this node's monotonic time, from the clock of `Env` or from a test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// Moment at which the node started.
    pub const START: Self = Self(0);

    /// The moment `micros` microseconds after the node's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the node's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this moment; zero when `earlier` is the later one.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(micros(delay)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, delay: Duration) {
        *self = *self + delay;
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A point in UTC, in microseconds since 1970, for values that are stored or sent to other nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `micros` microseconds after the start of 1970, UTC.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of 1970, UTC.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this timestamp; zero when the clock went back between the two.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(micros(delay)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn micros(delay: Duration) -> u64 {
    u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
essaim_wire::golden_bytes!("time": Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        let early = Moment::from_micros(5);
        assert_eq!(early.saturating_since(early + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!((early + Duration::MAX).as_micros(), u64::MAX);
    }
}
