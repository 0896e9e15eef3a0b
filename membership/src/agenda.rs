//! The one queue of timers, and the detection of stalls (time in which this process did not run).
//!
//! The detector asks its actor for one wake-up at a time, that of its earliest deadline; all other timers wait here. So
//! the order of timers is the detector's own, and a stall is noticed in one place: the wake-up comes late. Then every
//! deadline moves by the time that was lost, and everything queued outside is read before any deadline counts.

use crate::{Config, Effect, Wake};
use essaim_wire::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// Timers of the detector, by deadline.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// Key: the deadline and a serial number, so that deadlines of the same moment keep their order.
    queue: BTreeMap<(Moment, u64), T>,
    next: u64,
    armed: Option<(Moment, Wake)>,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { queue: BTreeMap::new(), next: 0, armed: None }
    }

    /// Adds a deadline. A deadline cannot be cancelled: the caller numbers its era and ignores a deadline of an older
    /// one.
    pub(crate) fn add(&mut self, at: Moment, due: T) {
        self.next += 1;
        self.queue.insert((at, self.next), due);
    }

    /// Takes the first deadline that has passed, with the moment at which it was due.
    pub(crate) fn pop(&mut self, now: Moment) -> Option<(Moment, T)> {
        let entry = self.queue.first_entry()?;
        let at = entry.key().0;
        (at <= now).then(|| (at, entry.remove()))
    }

    /// The time that was lost, when the armed wake-up is overdue by more than [`Config::stall`]; otherwise `None`.
    pub(crate) fn stall(&self, now: Moment, config: &Config) -> Option<Duration> {
        let (at, _) = self.armed?;
        let late = now.saturating_since(at);
        (late > config.stall).then_some(late)
    }

    /// Moves every deadline by the time that was lost, and arms a new wake-up.
    pub(crate) fn shift(&mut self, lost: Duration) {
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|((at, number), due)| ((at + lost, number), due)).collect();
        self.armed = None;
    }

    /// Consumes a wake-up. Returns whether it is the one that was armed last; an older one is stale.
    pub(crate) fn take(&mut self, wake: Wake) -> bool {
        let current = self.armed.is_some_and(|(_, armed)| armed == wake);
        if current {
            self.armed = None;
        }
        current
    }

    /// Asks for a wake-up at the earliest deadline, unless one that early is armed already.
    pub(crate) fn arm(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Some((&(at, _), _)) = self.queue.first_key_value() else { return };
        // A deadline may have passed already when it is added; a wake-up armed in the past would look like a stall.
        let at = at.max(now);
        if self.armed.is_none_or(|(armed, _)| at < armed) {
            self.next += 1;
            let wake = Wake(self.next);
            self.armed = Some((at, wake));
            effects.push(Effect::WakeAt(at, wake));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn armed(agenda: &mut Agenda<&str>) -> Vec<Effect> {
        let mut effects = Vec::new();
        agenda.arm(at(0), &mut effects);
        effects
    }

    #[test]
    fn only_an_earlier_deadline_arms_again_and_the_older_wake_up_is_stale() {
        let mut agenda = Agenda::new();
        agenda.add(at(50), "later");
        let first = armed(&mut agenda);
        assert!(armed(&mut agenda).is_empty());
        agenda.add(at(20), "sooner");
        let second = armed(&mut agenda);
        let ([Effect::WakeAt(_, old)], [Effect::WakeAt(when, new)]) = (&first[..], &second[..]) else {
            panic!("{first:?} {second:?}")
        };
        assert_eq!(*when, at(20));
        assert!(!agenda.take(*old));
        assert!(agenda.take(*new));
    }

    #[test]
    fn a_deadline_that_is_over_when_it_is_added_is_no_stall() {
        let mut agenda = Agenda::new();
        agenda.add(at(10), "over");
        let mut effects = Vec::new();
        agenda.arm(at(5000), &mut effects);
        assert!(matches!(effects[..], [Effect::WakeAt(when, _)] if when == at(5000)));
        assert_eq!(agenda.stall(at(5000), &Config::default()), None);
    }

    #[test]
    fn deadlines_come_in_their_order_and_not_too_early() {
        let mut agenda = Agenda::new();
        agenda.add(at(20), "b");
        agenda.add(at(20), "c");
        agenda.add(at(10), "a");
        assert_eq!(agenda.pop(at(9)), None);
        let all = [(at(10), "a"), (at(20), "b"), (at(20), "c")].map(Some);
        assert_eq!([agenda.pop(at(20)), agenda.pop(at(20)), agenda.pop(at(20))], all);
    }

    #[test]
    fn after_a_stall_every_deadline_is_as_far_away_as_before() {
        let config = Config::default();
        let mut agenda = Agenda::new();
        agenda.add(at(50), "due");
        armed(&mut agenda);
        assert_eq!(agenda.stall(at(60), &config), None, "a hiccup");
        let lost = agenda.stall(at(2050), &config).expect("two seconds");
        agenda.shift(lost);
        assert_eq!(agenda.pop(at(2040)), None);
        assert_eq!(agenda.pop(at(2050)), Some((at(2050), "due")));
    }
}
