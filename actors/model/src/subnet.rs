//! Subnets: all addresses that begin with the same bits, in IPv4 or IPv6.

use bincode::{Decode, Encode};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// A subnet. Its base has no bit set behind the prefix, so two equal subnets are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Subnet {
    base: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The subnet of this address and prefix length; `None` when the address has fewer bits than that.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let below = width(address).checked_sub(prefix)?;
        let base = address_of(address, clear(number_of(address), below));
        Some(Self { base, prefix })
    }

    /// Parses `10.0.1.0/24`; a single address is the subnet of itself. IPv4 addresses that are written as IPv6 are IPv4.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().ok()?;
        let address = written.to_canonical();
        let prefix = prefix.unwrap_or(width(written));
        let mapped = written.is_ipv6() && address.is_ipv4();
        Self::new(address, if mapped { prefix.checked_sub(96)? } else { prefix })
    }

    /// The first address of the subnet.
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// Number of leading bits that all addresses of the subnet share.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this is a subnet of IPv4.
    pub const fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Whether an address lies in the subnet.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && self.numbers().contains(&number_of(address))
    }

    /// Whether all addresses of `other` lie in this subnet.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// Whether the two subnets have an address in common: then one of them lies in the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The addresses of the subnet as numbers.
    pub fn numbers(&self) -> RangeInclusive<u128> {
        let first = number_of(self.base);
        // A prefix that is longer than the address comes from bytes that no program of ours wrote.
        let below = width(self.base).saturating_sub(self.prefix);
        first..=first | low_bits(below)
    }

    /// The addresses of the subnet that a host may have, as numbers: in IPv4 without the subnet's own address and the
    /// broadcast address, in IPv6 without the anycast address of its routers. A subnet of one or two addresses has no others.
    pub fn hosts(&self) -> RangeInclusive<u128> {
        let (first, last) = self.numbers().into_inner();
        match (last - first, self.is_ipv4()) {
            (0 | 1, _) => first..=last,
            (_, true) => first + 1..=last - 1,
            (_, false) => first + 1..=last,
        }
    }

    /// The address of this subnet's family with this number.
    pub fn address(&self, number: u128) -> IpAddr {
        address_of(self.base, number)
    }

    /// An address with the subnet's prefix, as the API shows it (`10.0.1.3/24`).
    pub fn with_prefix(&self, address: IpAddr) -> String {
        format!("{address}/{}", self.prefix)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.base, self.prefix))
    }
}

/// The number of an address: its bits.
pub fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with this number, of the same family as `like`.
fn address_of(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The number whose lowest `count` bits are set, and no others.
fn low_bits(count: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(count)).unwrap_or(0)
}

fn clear(number: u128, count: u8) -> u128 {
    number & !low_bits(count)
}

#[cfg(test)]
essaim_wire::golden_bytes!("subnet": Subnet);

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap_or_else(|| panic!("{text} is no subnet"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_subnet_is_read_as_it_is_written() {
        for (text, shown) in [
            ("10.0.1.0/24", "10.0.1.0/24"),
            ("10.0.1.77/24", "10.0.1.0/24"),
            ("10.0.1.7", "10.0.1.7/32"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00:0:0:7::1/64", "fd00:0:0:7::/64"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(subnet(text).to_string(), shown);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "::/129", "x/8", "::ffff:10.0.0.0/90"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn subnets_overlap_when_one_lies_in_the_other() {
        let overlap = |a, b| subnet(a).overlaps(&subnet(b));
        assert!(overlap("10.0.0.0/8", "10.9.0.0/16") && overlap("10.9.0.0/16", "10.0.0.0/8"));
        assert!(overlap("10.9.0.0/16", "10.9.0.0/16") && overlap("0.0.0.0/0", "10.9.0.0/16"));
        assert!(!overlap("10.9.0.0/24", "10.9.1.0/24") && !overlap("10.9.0.0/16", "fd00::/8"));
        assert!(subnet("10.0.0.0/8").covers(&subnet("10.9.0.0/16")));
        assert!(!subnet("10.9.0.0/16").covers(&subnet("10.0.0.0/8")));
    }

    #[test]
    fn a_host_has_neither_the_subnets_address_nor_the_broadcast_address() {
        let hosts = |text: &str| {
            let subnet = subnet(text);
            let (first, last) = subnet.hosts().into_inner();
            format!("{} to {}", subnet.address(first), subnet.address(last))
        };
        assert_eq!(hosts("10.0.16.0/20"), "10.0.16.1 to 10.0.31.254");
        assert_eq!(hosts("10.0.0.4/30"), "10.0.0.5 to 10.0.0.6");
        assert_eq!(hosts("10.0.0.4/31"), "10.0.0.4 to 10.0.0.5");
        assert_eq!(hosts("10.0.0.4/32"), "10.0.0.4 to 10.0.0.4");
        assert_eq!(hosts("fd00::/64"), "fd00::1 to fd00::ffff:ffff:ffff:ffff");
        assert!(subnet("10.0.1.0/24").contains(address("10.0.1.255")));
        assert!(!subnet("10.0.1.0/24").contains(address("::10.0.1.3")));
        assert_eq!(subnet("10.0.1.0/24").with_prefix(address("10.0.1.3")), "10.0.1.3/24");
    }
}
