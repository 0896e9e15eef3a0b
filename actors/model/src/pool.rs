//! Address pools: the ranges out of which the managers take the subnets of networks for which an operator names none.

use crate::{Refusal, Subnet};
use essaim_wire::record;
use std::net::{IpAddr, Ipv4Addr};

/// The address pools of a cluster, as they were set when it was founded (`docker swarm init --default-addr-pool`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPools {
    /// The pools that an operator named; `10.0.0.0/8` when there are none, as in Swarm.
    pub subnets: Vec<Subnet>,
    /// Prefix length of the subnet that a network gets.
    pub prefix: u8,
}
record!(AddressPools { 1: subnets, prefix });

/// Prefix length of a network's subnet unless an operator sets another: 4,093 addresses for tasks, services and nodes. A /24
/// as in Swarm has 253, and a cluster that outgrew one has to move its services to another network.
pub const PREFIX: u8 = 20;

/// Longest prefix that can be set: five addresses beside the gateway's.
const PREFIX_MAX: u8 = 29;

/// Pools that can be named. They are part of every copy of the cluster's object.
const POOLS_MAX: usize = 64;

impl Default for AddressPools {
    fn default() -> Self {
        Self { subnets: Vec::new(), prefix: PREFIX }
    }
}

impl AddressPools {
    /// The pools in the order in which subnets are taken out of them.
    pub fn in_order(&self) -> Vec<Subnet> {
        if !self.subnets.is_empty() {
            return self.subnets.clone();
        }
        Subnet::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8).into_iter().collect()
    }

    /// Refuses pools that no cluster can have, in Docker's words where it has some.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.prefix > PREFIX_MAX {
            let text = format!("subnet size is out of range: {} (a network needs /{PREFIX_MAX} or less)", self.prefix);
            return Err(Refusal::invalid(text));
        }
        if self.subnets.len() > POOLS_MAX {
            return Err(Refusal::invalid(format!("a cluster has at most {POOLS_MAX} address pools")));
        }
        let pools = self.in_order();
        for (place, pool) in pools.iter().enumerate() {
            if !pool.is_ipv4() {
                let text = format!("invalid base pool {pool}: subnets of IPv6 are named with each network (--subnet)");
                return Err(Refusal::invalid(text));
            }
            if self.prefix < pool.prefix() {
                let text = format!("invalid CIDR: \"{pool}\". Subnet size is too small for pool: {}", self.prefix);
                return Err(Refusal::invalid(text));
            }
            if let Some(other) = pools[..place].iter().find(|other| other.overlaps(pool)) {
                return Err(Refusal::invalid(format!(
                    "invalid CIDR: \"{pool}\". overlaps with existing pool: {other}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("pool": AddressPools);

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pools: &[&str], prefix: u8) -> Result<(), String> {
        let subnets = pools.iter().map(|text| Subnet::parse(text).expect("a subnet")).collect();
        AddressPools { subnets, prefix }.check().map_err(|refusal| refusal.text)
    }

    #[test]
    fn pools_that_no_cluster_can_have_are_refused_in_dockers_words() {
        assert_eq!(checked(&[], PREFIX), Ok(()));
        assert_eq!(checked(&["10.20.0.0/16", "10.30.0.0/16"], 24), Ok(()));
        let small = "invalid CIDR: \"10.20.0.0/16\". Subnet size is too small for pool: 12";
        assert_eq!(checked(&["10.20.0.0/16"], 12), Err(small.into()));
        let overlap = "invalid CIDR: \"10.20.4.0/24\". overlaps with existing pool: 10.20.0.0/16";
        assert_eq!(checked(&["10.20.0.0/16", "10.20.4.0/24"], 24), Err(overlap.into()));
        assert!(checked(&[], 30).is_err_and(|text| text.starts_with("subnet size is out of range: 30")));
        assert!(checked(&["fd00::/8"], 24).is_err_and(|text| text.starts_with("invalid base pool fd00::/8: ")));
    }
}
