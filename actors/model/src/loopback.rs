//! Loopback addresses for tasks that run as host processes: each node has a /24 of the loopback range, and each of its
//! tasks one address in it.
//!
//! The range is 127.64.0.0/10, which is 16,384 times /24. The cluster's id shifts where in the range its subnets begin,
//! so that two clusters on one machine seldom use the same subnet. A worker claims each address by binding to it, so a
//! collision is noticed.

use essaim_wire::ClusterId;
use std::net::Ipv4Addr;

/// Number of /24 subnets in 127.64.0.0/10.
pub(crate) const SUBNETS: u16 = 1 << 14;

/// Last parts of the addresses that tasks of a node get. The subnet's own address, its broadcast address and `.1`,
/// which is the node's address, are left out.
pub const PARTS: std::ops::RangeInclusive<u8> = 2..=254;

/// Tasks of a node that can have an address in its /24 at the same time.
pub const ADDRESSES: u32 = *PARTS.end() as u32 - *PARTS.start() as u32 + 1;

/// The network address of the `share`-th /24 of a cluster.
pub fn subnet(cluster: ClusterId, share: u16) -> Ipv4Addr {
    let shift = (cluster.bits() % u128::from(SUBNETS)) as u32;
    let number = (shift + u32::from(share)) % u32::from(SUBNETS);
    Ipv4Addr::from(0x7f40_0000 | (number << 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_cluster_are_distinct_and_stay_in_the_range() {
        let cluster = ClusterId::from_bits(u128::MAX - 5);
        let all: std::collections::BTreeSet<_> = (0..SUBNETS).map(|share| subnet(cluster, share)).collect();
        assert_eq!(all.len(), usize::from(SUBNETS));
        assert_eq!(all.first(), Some(&Ipv4Addr::new(127, 64, 0, 0)));
        assert_eq!(all.last(), Some(&Ipv4Addr::new(127, 127, 255, 0)));
    }
}
