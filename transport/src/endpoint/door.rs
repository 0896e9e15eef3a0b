//! Admission of handshakes: which arrival is next, while no peer is identified yet. Pure: it queues arrivals and counts
//! places.
//!
//! A handshake holds a place until it is done or given up, and there are few places. Three rules keep strangers from
//! holding them all:
//!
//! - An arrival whose address is not validated may be forged. A few of those are let in, so that a quiet node answers
//!   after one round trip; further ones have to prove their address first (QUIC's `Retry`), which costs this node no
//!   memory and the peer a round trip.
//! - One address (an IPv4 address, a /64 of IPv6) holds at most half of the places. Its further arrivals wait here.
//! - Addresses take turns, and when too many arrivals wait, the address with the most waiting loses its newest one.

use super::limit::subnet;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Concurrent handshakes. Measured: without a limit, a storm of 2,000 at once breaks hundreds of handshakes; with 64,
/// none.
pub(super) const PLACES: usize = 64;

/// Concurrent handshakes with one address.
const PLACES_OF_ONE: usize = PLACES / 2;

/// Arrivals with an unvalidated address, in a place or waiting for one.
const UNVALIDATED_MAX: usize = 16;

/// Arrivals that may wait for a place. quinn holds 256 that have not been accepted, and these count among them.
const WAITING_MAX: usize = 192;

/// Queue of waiting arrivals, and the places that handshakes hold.
#[derive(Debug)]
pub(super) struct Door<A> {
    waiting: BTreeMap<IpAddr, VecDeque<(Seat, A)>>,
    /// Addresses in `waiting`, in the order of their turns.
    turns: VecDeque<IpAddr>,
    waits: usize,
    seated: BTreeMap<IpAddr, usize>,
    seats: usize,
    unvalidated: usize,
}

/// Place of one arrival; [`Door::leave`] frees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    from: IpAddr,
    validated: bool,
}

/// What to do with an arrival that is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turned<A> {
    /// Demand that the peer proves its address first.
    Away(A),
    /// Drop the arrival without an answer, because too many wait; its peer retries.
    Ignored(A),
}

impl<A> Default for Door<A> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            waits: 0,
            seated: BTreeMap::new(),
            seats: 0,
            unvalidated: 0,
        }
    }
}

impl<A> Door<A> {
    /// Queues an arrival. Returns an arrival that is turned away for it, which may be the same one.
    pub(super) fn arrive(&mut self, from: IpAddr, validated: bool, arrival: A) -> Option<Turned<A>> {
        if !validated && self.unvalidated >= UNVALIDATED_MAX {
            return Some(Turned::Away(arrival));
        }
        let seat = Seat { from: subnet(from), validated };
        self.unvalidated += usize::from(!validated);
        self.waits += 1;
        let queue = self.waiting.entry(seat.from).or_default();
        if queue.is_empty() {
            self.turns.push_back(seat.from);
        }
        queue.push_back((seat, arrival));
        if self.waits > WAITING_MAX { self.drop_one().map(Turned::Ignored) } else { None }
    }

    /// Gives the next waiting arrival a place, if one is free for its address.
    pub(super) fn next(&mut self) -> Option<(Seat, A)> {
        if self.seats >= PLACES {
            return None;
        }
        let free = |from: &IpAddr| self.seated.get(from).is_none_or(|held| *held < PLACES_OF_ONE);
        let turn = self.turns.iter().position(free)?;
        let from = self.turns.remove(turn)?;
        let queue = self.waiting.get_mut(&from)?;
        let (seat, arrival) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&from);
        } else {
            self.turns.push_back(from);
        }
        self.waits -= 1;
        self.seats += 1;
        *self.seated.entry(from).or_default() += 1;
        Some((seat, arrival))
    }

    /// Frees the place of a handshake that is over.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.seats -= 1;
        self.unvalidated -= usize::from(!seat.validated);
        if let Some(held) = self.seated.get_mut(&seat.from) {
            *held -= 1;
            if *held == 0 {
                self.seated.remove(&seat.from);
            }
        }
    }

    /// Removes the newest arrival of the address with the most waiting arrivals.
    fn drop_one(&mut self) -> Option<A> {
        let from = *self.waiting.iter().max_by_key(|(_, queue)| queue.len())?.0;
        let queue = self.waiting.get_mut(&from)?;
        let (seat, arrival) = queue.pop_back()?;
        if queue.is_empty() {
            self.waiting.remove(&from);
            self.turns.retain(|turn| *turn != from);
        }
        self.waits -= 1;
        self.unvalidated -= usize::from(!seat.validated);
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn forged_addresses_hold_a_few_places_and_everybody_else_proves_its_own() {
        let mut door = Door::default();
        for number in 0..200 {
            let turned = door.arrive(addr(number), false, number);
            let expected = (usize::from(number) >= UNVALIDATED_MAX).then_some(Turned::Away(number));
            assert_eq!(turned, expected);
        }
        let seated = std::iter::from_fn(|| door.next()).count();
        assert_eq!(seated, UNVALIDATED_MAX);
        assert_eq!(door.arrive(addr(250), true, 250), None);
        assert_eq!(door.next().map(|(_, arrival)| arrival), Some(250), "who has proved its address is let in");
    }

    #[test]
    fn one_address_holds_half_of_the_places_and_its_rest_waits() {
        let mut door = Door::default();
        for number in 0..40 {
            assert_eq!(door.arrive(addr(1), true, number), None);
        }
        let seats: Vec<Seat> = std::iter::from_fn(|| door.next()).map(|(seat, _)| seat).collect();
        assert_eq!(seats.len(), PLACES_OF_ONE);
        assert_eq!(door.arrive(addr(2), true, 99), None);
        assert_eq!(door.next().map(|(_, arrival)| arrival), Some(99), "another address does not wait for it");
        assert_eq!(door.next(), None);
        door.leave(seats[0]);
        assert_eq!(door.next().map(|(_, arrival)| arrival), Some(PLACES_OF_ONE), "the oldest that waited");
    }

    #[test]
    fn when_too_many_wait_the_address_with_the_most_loses_its_newest() {
        let mut door = Door::default();
        for number in 0..PLACES {
            door.arrive(addr(u8::try_from(number).expect("few")), true, 0);
            assert!(door.next().is_some());
        }
        assert_eq!(door.arrive(addr(100), true, 0), None);
        for number in 1..WAITING_MAX {
            assert_eq!(door.arrive(addr(200), true, number), None);
        }
        assert_eq!(door.arrive(addr(101), true, 0), Some(Turned::Ignored(WAITING_MAX - 1)));
        assert_eq!(door.arrive(addr(200), true, 999), Some(Turned::Ignored(999)));
        assert_eq!(door.waits, WAITING_MAX);
    }

    #[test]
    fn everything_is_counted_back_when_all_have_left() {
        let mut door = Door::default();
        for number in 0..100u8 {
            door.arrive(addr(number % 3), number % 2 == 0, number);
        }
        while let Some((seat, _)) = door.next() {
            door.leave(seat);
        }
        assert_eq!((door.waits, door.seats, door.unvalidated), (0, 0, 0));
        assert!(door.waiting.is_empty() && door.turns.is_empty() && door.seated.is_empty());
    }
}
