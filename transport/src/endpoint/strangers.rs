//! Strangers that are connected in order to join: which of them may stay. Pure, except for the notification that sends
//! one away.
//!
//! A silent stranger must not keep out one that asks. So a newcomer is never turned away: when there are too many, the
//! one that has been silent for longest is sent away, preferably one of the same address. An honest joiner asks as soon
//! as it is connected, so it is silent for a round trip.
//!
//! A stranger whose question is being answered stays, and such strangers are counted apart: an answer may wait for a
//! commit.

use super::limit::subnet;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Connected strangers whose question is not being answered. A connection costs some 30 KiB.
const SILENT_MAX: usize = 256;

/// Connected strangers of one address whose question is not being answered.
const SILENT_OF_ONE: usize = 32;

/// Strangers that are answered at the same time: as many as one commit can carry.
const ASKING_MAX: usize = 128;

/// Strangers of one address that are answered at the same time: a development cluster of this many nodes joins at once
/// on one machine.
const ASKING_OF_ONE: usize = 64;

/// All connected strangers, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: u64,
    all: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    from: IpAddr,
    asks: bool,
    away: Arc<Notify>,
}

/// One connected stranger; dropping it frees its place.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    away: Arc<Notify>,
}

/// Marks a stranger as being answered, so that it is not sent away; dropping it ends that.
#[derive(Debug)]
pub(super) struct Asking<'a>(&'a Stranger);

impl Strangers {
    /// Adds a stranger, and sends another one away for it when there are too many.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Stranger {
        let (from, away) = (subnet(from), Arc::new(Notify::new()));
        let mut known = self.0.lock();
        if known.silent(|it| it.from == from).count() >= SILENT_OF_ONE {
            known.send_away(|it| it.from == from);
        } else if known.silent(|_| true).count() >= SILENT_MAX {
            known.send_away(|_| true);
        }
        known.last += 1;
        let number = known.last;
        known.all.insert(number, Entry { from, asks: false, away: Arc::clone(&away) });
        Stranger { strangers: Arc::clone(self), number, away }
    }
}

impl Known {
    fn silent(&self, which: impl Fn(&Entry) -> bool) -> impl Iterator<Item = u64> {
        self.all.iter().filter(move |(_, it)| !it.asks && which(it)).map(|(number, _)| *number)
    }

    /// Sends away the stranger that has been silent for longest, of those that `which` selects.
    fn send_away(&mut self, which: impl Fn(&Entry) -> bool) {
        let number = self.silent(which).next();
        if let Some(it) = number.and_then(|number| self.all.remove(&number)) {
            it.away.notify_one();
        }
    }
}

impl Stranger {
    /// Waits until this stranger is sent away.
    pub(super) async fn is_sent_away(&self) {
        self.away.notified().await;
    }

    /// Marks this stranger as being answered; `None` when too many are being answered already.
    pub(super) fn asks(&self) -> Option<Asking<'_>> {
        let mut known = self.strangers.0.lock();
        let from = known.all.get(&self.number)?.from;
        let asking = known.all.values().filter(|it| it.asks);
        let (all, of_one) = asking.fold((0, 0), |(all, of_one), it| (all + 1, of_one + usize::from(it.from == from)));
        if all >= ASKING_MAX || of_one >= ASKING_OF_ONE {
            return None;
        }
        known.all.get_mut(&self.number)?.asks = true;
        Some(Asking(self))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.0.lock().all.remove(&self.number);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(it) = self.0.strangers.0.lock().all.get_mut(&self.0.number) {
            it.asks = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn addr(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    fn is_sent_away(stranger: &Stranger) -> bool {
        stranger.is_sent_away().now_or_never().is_some()
    }

    #[test]
    fn a_silent_stranger_goes_for_the_next_of_its_address_and_others_stay() {
        let strangers = Arc::new(Strangers::default());
        let other = strangers.enter(addr(2));
        let of_one: Vec<_> = (0..SILENT_OF_ONE).map(|_| strangers.enter(addr(1))).collect();
        assert!(!of_one.iter().any(is_sent_away));
        let next = strangers.enter(addr(1));
        assert_eq!(of_one.iter().filter(|it| is_sent_away(it)).count(), 1);
        assert!(!is_sent_away(&other) && !is_sent_away(&next));
        assert!(next.asks().is_some());
    }

    #[test]
    fn silent_strangers_of_many_addresses_keep_nobody_out() {
        let strangers = Arc::new(Strangers::default());
        let first = strangers.enter(addr(0));
        let asking = first.asks().expect("a place");
        let silent: Vec<_> =
            (0..SILENT_MAX).map(|number| strangers.enter(addr(u8::try_from(number / 2).expect("few")))).collect();
        let joiner = strangers.enter(addr(255));
        assert!(is_sent_away(&silent[0]) && !is_sent_away(&silent[1]));
        assert!(!is_sent_away(&first), "one that is answered stays");
        assert!(joiner.asks().is_some());
        drop(asking);
    }

    #[test]
    fn one_address_has_half_of_the_answers_at_most_and_gives_them_back() {
        let strangers = Arc::new(Strangers::default());
        let mut of_one = Vec::new();
        for number in 0..=ASKING_OF_ONE {
            let stranger: &Stranger = Box::leak(Box::new(strangers.enter(addr(1))));
            let asking = stranger.asks();
            assert_eq!(asking.is_some(), number < ASKING_OF_ONE);
            of_one.extend(asking);
        }
        let other = strangers.enter(addr(2));
        assert!(other.asks().is_some());
        drop(of_one);
        assert!(strangers.enter(addr(1)).asks().is_some());
        drop(other);
    }
}
