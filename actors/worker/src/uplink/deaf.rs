//! Decides which orders the uplink takes after the disk has refused some. Knows nothing of disks, clocks or actors.
//!
//! Orders are obeyed once they are on disk. When the disk refuses them, the link stays, because the node lives, reports its
//! tasks and renews their lease. What depends on the refused orders is ignored from then on: later orders are a difference
//! to them, and the list of managers, which follows them, would confirm older orders. When the disk takes data again, the
//! uplink asks for everything, and listens again from the first part of complete orders on.

use std::time::Duration;

/// Delay before a disk that refused is tried again; it doubles up to the bound with each refusal in a row. Room on a disk
/// is made by people or by the rotation of logs.
const TRY_AFTER: Duration = Duration::from_secs(1);
const TRY_AFTER_MAX: Duration = Duration::from_secs(8);

/// What the uplink takes of its manager's words.
#[derive(Debug, Default)]
pub(super) struct Ear {
    phase: Phase,
    /// Refusals of the disk in a row.
    refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Everything is taken.
    #[default]
    Open,
    /// The disk refused, and is tried again later.
    Deaf,
    /// Everything was asked for anew, and the answer begins with complete orders.
    Asking,
}

impl Ear {
    /// Handles that the disk refused something. Returns the delay before it is to be tried again, and whether this is the
    /// first refusal.
    pub(super) fn on_refused(&mut self) -> (Duration, bool) {
        self.phase = Phase::Deaf;
        self.refusals = self.refusals.saturating_add(1);
        let doubled = TRY_AFTER.saturating_mul(1 << (self.refusals - 1).min(8));
        (doubled.min(TRY_AFTER_MAX), self.refusals == 1)
    }

    /// Handles that the disk took orders. Returns whether it had refused some before.
    pub(super) const fn on_taken(&mut self) -> bool {
        let had_refused = self.refusals > 0;
        self.refusals = 0;
        had_refused
    }

    /// Handles that a hello is about to be said. Returns whether it must ask for everything, and begins to listen for the
    /// answer. A manager that is linked anew is asked at once, whatever the disk does.
    pub(super) fn on_hello(&mut self) -> bool {
        let asks = self.phase != Phase::Open;
        if asks {
            self.phase = Phase::Asking;
        }
        asks
    }

    /// Whether a part of orders is taken, which may be the first part of complete orders.
    pub(super) fn hears_orders(&mut self, begins_complete_ones: bool) -> bool {
        if self.phase == Phase::Asking && begins_complete_ones {
            self.phase = Phase::Open;
        }
        self.phase == Phase::Open
    }

    /// Whether what follows the orders is taken.
    pub(super) fn hears(&self) -> bool {
        self.phase == Phase::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_nothing_is_heard_before_the_complete_orders_that_were_asked_for() {
        let mut ear = Ear::default();
        assert!(!ear.on_hello() && ear.hears_orders(false) && ear.hears());
        ear.on_refused();
        // Orders and lists that were on their way, complete ones too.
        assert!(!ear.hears_orders(false) && !ear.hears_orders(true) && !ear.hears());
        assert!(ear.on_hello(), "it asks for everything");
        assert!(!ear.hears_orders(false) && !ear.hears());
        assert!(ear.hears_orders(true) && ear.hears_orders(false) && ear.hears());
    }

    #[test]
    fn a_disk_that_refuses_is_tried_more_and_more_seldom_until_it_has_taken_orders() {
        let mut ear = Ear::default();
        let mut refuse = |times: u32| (0..times).map(|_| ear.on_refused().0.as_secs()).collect::<Vec<_>>();
        assert_eq!(refuse(5), [1, 2, 4, 8, 8]);
        assert!(ear.on_taken() && !ear.on_taken());
        assert_eq!(ear.on_refused(), (TRY_AFTER, true));
        assert!(!ear.on_refused().1);
    }
}
