//! Addresses in one subnet of a network.
//!
//! Tasks and nodes get addresses from the lower end of the range, services from the upper end: so the addresses of
//! services, which live for long, stay together, and both sides may grow until they meet.

use essaim_model::NetworkSubnet;
use essaim_model::quarantine::QUARANTINE;
use essaim_model::subnet::number_of;
use essaim_wire::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The addresses of one subnet: which are free at a moment. It is made of a state, for one batch of decisions, and what is
/// given out is held in it, so that the decisions of one batch do not collide.
#[derive(Debug, Clone)]
pub struct AddressBook {
    subnet: NetworkSubnet,
    now: Timestamp,
    held: BTreeSet<u128>,
    quarantined: BTreeSet<u128>,
    /// Every address of the range below this one is held or in quarantine.
    lowest: u128,
    /// Every address of the range above this one is held or in quarantine.
    highest: u128,
}

/// The end of the range at which an address is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The lower end: tasks and nodes.
    Low,
    /// The upper end: services.
    High,
}

/// No address of a subnet is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// The subnet, with the range if it has one.
    pub subnet: NetworkSubnet,
    /// Addresses of the range that are in use.
    pub held: usize,
    /// Addresses of the range that were released a moment ago.
    pub quarantined: usize,
}

impl AddressBook {
    /// A book of this subnet in which only the gateway and the auxiliary addresses are held.
    pub fn new(subnet: &NetworkSubnet, now: Timestamp) -> Self {
        let (first, last) = subnet.numbers().into_inner();
        let mut book = Self {
            subnet: subnet.clone(),
            now,
            held: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            lowest: first,
            highest: last,
        };
        book.hold(subnet.gateway);
        subnet.auxiliary.values().for_each(|address| book.hold(*address));
        book
    }

    /// Notes that an address is in use. One outside of the subnet is ignored.
    pub fn hold(&mut self, address: IpAddr) {
        if self.subnet.subnet.contains(address) {
            self.held.insert(number_of(address));
            self.quarantined.remove(&number_of(address));
        }
    }

    /// Notes that an address was released at this time. It is free when the quarantine is over and nobody holds it.
    pub fn release(&mut self, address: IpAddr, at: Timestamp) {
        let number = number_of(address);
        let is_over = at + QUARANTINE <= self.now;
        if !is_over && self.subnet.subnet.contains(address) && !self.held.contains(&number) {
            self.quarantined.insert(number);
        }
    }

    /// Gives out the free address that is nearest to this end of the range.
    pub fn give(&mut self, side: Side) -> Result<IpAddr, Exhausted> {
        let is_free = |number: &u128| !self.held.contains(number) && !self.quarantined.contains(number);
        let mut left = self.lowest..=self.highest;
        let found = match side {
            Side::Low => left.find(is_free),
            Side::High => left.rfind(is_free),
        };
        let Some(number) = found else {
            let (first, last) = self.subnet.numbers().into_inner();
            let within = |numbers: &BTreeSet<u128>| numbers.range(first..=last.max(first)).count();
            let (held, quarantined) = (within(&self.held), within(&self.quarantined));
            return Err(Exhausted { subnet: self.subnet.clone(), held, quarantined });
        };
        match side {
            Side::Low => self.lowest = number,
            Side::High => self.highest = number,
        }
        self.held.insert(number);
        Ok(self.subnet.subnet.address(number))
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.subnet.range.unwrap_or(self.subnet.subnet);
        write!(f, "no address of {range} is free: {} are in use", self.held)?;
        if self.quarantined > 0 {
            write!(f, ", and {} were released less than {QUARANTINE:?} ago", self.quarantined)?;
        }
        f.write_str("; move services to a larger network (docker network create --subnet), or remove some")
    }
}

impl std::error::Error for Exhausted {}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::Subnet;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp::from_micros(100_000_000);

    fn subnet(of: &str, range: Option<&str>) -> NetworkSubnet {
        let parse = |text: &str| Subnet::parse(text).expect("a subnet");
        let subnet = parse(of);
        let gateway = subnet.address(*subnet.hosts().start());
        NetworkSubnet { subnet, range: range.map(parse), gateway, auxiliary: BTreeMap::new() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn given(book: &mut AddressBook, side: Side, count: usize) -> Vec<String> {
        (0..count).map(|_| book.give(side).map_or_else(|why| why.to_string(), |address| address.to_string())).collect()
    }

    #[test]
    fn tasks_get_addresses_from_below_and_services_from_above() {
        let mut book = AddressBook::new(&subnet("10.0.1.0/24", None), NOW);
        assert_eq!(given(&mut book, Side::Low, 2), ["10.0.1.2", "10.0.1.3"]);
        assert_eq!(given(&mut book, Side::High, 2), ["10.0.1.254", "10.0.1.253"]);
        book.hold(ip("10.0.1.4"));
        book.hold(ip("10.0.1.252"));
        assert_eq!(given(&mut book, Side::Low, 1), ["10.0.1.5"]);
        assert_eq!(given(&mut book, Side::High, 1), ["10.0.1.251"]);
        let mut six = AddressBook::new(&subnet("fd00::/64", None), NOW);
        assert_eq!(given(&mut six, Side::Low, 1), ["fd00::2"]);
        assert_eq!(given(&mut six, Side::High, 1), ["fd00::ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn the_range_and_the_auxiliary_addresses_are_kept() {
        let mut subnet = subnet("10.0.0.0/16", Some("10.0.5.0/29"));
        subnet.auxiliary.insert("router".into(), ip("10.0.5.1"));
        let mut book = AddressBook::new(&subnet, NOW);
        // The first address of a range that lies inside of the subnet is an address like any other.
        assert_eq!(given(&mut book, Side::Low, 2), ["10.0.5.0", "10.0.5.2"]);
        assert_eq!(given(&mut book, Side::High, 5), ["10.0.5.7", "10.0.5.6", "10.0.5.5", "10.0.5.4", "10.0.5.3"]);
        let words = "no address of 10.0.5.0/29 is free: 8 are in use; move services to a larger network (docker network \
                     create --subnet), or remove some";
        assert_eq!(given(&mut book, Side::Low, 1), [words]);
        assert_eq!(given(&mut book, Side::High, 1), [words]);
    }

    #[test]
    fn a_released_address_rests() {
        let subnet = subnet("10.0.1.0/29", None);
        let released = |ago: u64| {
            let mut book = AddressBook::new(&subnet, NOW);
            book.release(ip("10.0.1.2"), Timestamp::from_micros(NOW.as_micros() - ago * 1_000_000));
            book
        };
        assert_eq!(given(&mut released(30), Side::Low, 1), ["10.0.1.2"]);
        let mut book = released(29);
        assert_eq!(given(&mut book, Side::Low, 4), ["10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6"]);
        assert!(given(&mut book, Side::Low, 1)[0].contains("5 are in use, and 1 were released less than 30s ago;"));
        // Whoever names a released address has it.
        book.hold(ip("10.0.1.2"));
        assert!(given(&mut book, Side::Low, 1)[0].contains("6 are in use;"));
    }

    proptest! {
        /// No address is given out twice, or to anybody while it is held or in quarantine, or outside of the range; and all
        /// others are given out before one is refused. Two books of equal inputs give the same.
        #[test]
        fn every_free_address_is_given_out_once(
            range in proptest::option::of(0_u8..4),
            held in proptest::collection::btree_set(0_u8..=255, 0..200),
            released in proptest::collection::btree_map(0_u8..=255, 60_u64..=100, 0..100),
            sides in proptest::collection::vec(any::<bool>(), 0..300),
        ) {
            let range = range.map(|quarter| format!("10.0.1.{}/26", u16::from(quarter) * 64));
            let subnet = subnet("10.0.1.0/24", range.as_deref());
            let address = |last: u8| IpAddr::from([10, 0, 1, last]);
            let mut book = AddressBook::new(&subnet, NOW);
            held.iter().for_each(|last| book.hold(address(*last)));
            released.iter().for_each(|(last, at)| book.release(address(*last), Timestamp::from_micros(at * 1_000_000)));
            let resting = |last: u8| released.get(&last).is_some_and(|at| at + 30 > 100);
            let is_free = |last: u8| {
                let number = number_of(address(last));
                subnet.numbers().contains(&number) && last != 1 && !held.contains(&last) && !resting(last)
            };
            let mut left: BTreeSet<IpAddr> = (0..=255).filter(|last| is_free(*last)).map(address).collect();
            let mut twin = book.clone();
            for low in sides {
                let side = if low { Side::Low } else { Side::High };
                let given = book.give(side);
                prop_assert_eq!(&given, &twin.give(side));
                match given {
                    Ok(given) => prop_assert!(left.remove(&given), "{} was not free", given),
                    Err(_) => prop_assert!(left.is_empty(), "{:?} are left", left),
                }
            }
        }
    }
}
