//! Addresses for tasks that run as host processes: each node has a /24 of the loopback range, each task one of it.
//!
//! The range is 127.64.0.0/10, which is 16,384 times /24. Where it begins is shifted by the cluster's id, so that
//! two clusters on one machine seldom meet; a worker claims each address by binding to it, so that a meeting is
//! noticed.

use essaim_wire::ClusterId;
use std::net::Ipv4Addr;

/// How many /24 there are in 127.64.0.0/10.
pub const SUBNETS: u16 = 1 << 14;

/// The last parts of the addresses that tasks of a node get. The network's own address, the broadcast one and `.1`,
/// which is the node's, are not among them.
pub const PARTS: std::ops::RangeInclusive<u8> = 2..=254;

/// How many tasks of a node can have an address of its /24.
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
