//! VNIs and subnets for new networks: the lowest ones that are free.
//!
//! A subnet is free when it overlaps with none of another network, with none in quarantine, and with none that is taken
//! by something else (the route of a host). An operator's own choice may be in quarantine: a script that removes a network
//! and creates it again names the same subnet.

use essaim_model::noun::network::VNIS;
use essaim_model::quarantine::QUARANTINE;
use essaim_model::{Allocation, IpamConfig, Network, NetworkSpec, NetworkSubnet, Refusal, RefusalKind, State, Subnet};
use essaim_wire::Timestamp;
use essaim_wire::planted::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};

/// A subnet that no network may have, because something else uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The subnet.
    pub subnet: Subnet,
    /// What uses the subnet, in words that continue "overlaps with" (`the route of eth0 on node n3`).
    pub by: String,
}

/// Chooses what a new network is given. `taken` are subnets that it may not have, beside those of other networks.
pub fn allocate(state: &State, asked: &NetworkSpec, taken: &[Taken], now: Timestamp) -> Result<Allocation, Refusal> {
    asked.check()?;
    let ground = Ground::new(state, taken, now);
    let vni = ground.vni(asked)?;
    let mut subnets = Vec::new();
    if asked.ipam.iter().all(|config| !config.subnet.is_ipv4()) {
        subnets.push(complete(&IpamConfig::of(ground.free()?))?);
    }
    for config in &asked.ipam {
        ground.check_overlap(config.subnet)?;
        subnets.push(complete(config)?);
    }
    Ok(Allocation { vni, subnets })
}

/// What is in use, and by what.
struct Ground<'s> {
    state: &'s State,
    taken: &'s [Taken],
    /// VNIs in use or in quarantine.
    vnis: BTreeSet<u32>,
    /// First and last addresses of all subnets of IPv4 that are in use, taken or in quarantine.
    blocked: BTreeMap<u128, u128>,
    /// Whether something is in quarantine, which explains an empty pool.
    has_quarantined: bool,
}

impl<'s> Ground<'s> {
    fn new(state: &'s State, taken: &'s [Taken], now: Timestamp) -> Self {
        let is_over = |since: Timestamp| since + QUARANTINE <= now || planted(Bug::SubnetReusedAtOnce);
        let quarantined: Vec<_> = state.quarantined().filter(|it| !is_over(it.since)).collect();
        let networks = state.all::<Network>().map(|network| &network.spec.allocation);
        let in_use: Vec<&Allocation> = networks.chain(quarantined.iter().map(|it| &*it.allocation)).collect();
        let subnets = in_use.iter().flat_map(|it| &it.subnets).map(|it| it.subnet);
        let subnets = subnets.chain(taken.iter().map(|it| it.subnet)).filter(Subnet::is_ipv4);
        let mut blocked = BTreeMap::new();
        for (first, last) in subnets.map(|subnet| subnet.numbers().into_inner()) {
            let entry: &mut u128 = blocked.entry(first).or_insert(last);
            *entry = last.max(*entry);
        }
        let vnis = in_use.iter().map(|it| it.vni).collect();
        Self { state, taken, vnis, blocked, has_quarantined: !quarantined.is_empty() }
    }

    /// The VNI that the operator chose, or the lowest free one.
    fn vni(&self, asked: &NetworkSpec) -> Result<u32, Refusal> {
        if let Some(vni) = asked.vni()? {
            let other = self.state.all::<Network>().find(|network| network.spec.allocation.vni == vni);
            return other.map_or(Ok(vni), |other| {
                let text = format!("VNI {vni} is in use by network {} ({})", other.spec.asked.name, other.id);
                Err(Refusal::new(RefusalKind::Precondition, text))
            });
        }
        let free = VNIS.clone().find(|vni| !self.vnis.contains(vni));
        free.ok_or_else(|| Refusal::new(RefusalKind::Precondition, "every VNI is in use: remove a network"))
    }

    /// The first free subnet of the cluster's pools.
    fn free(&self) -> Result<Subnet, Refusal> {
        let pools = self.state.cluster().map(|cluster| cluster.pools.clone()).unwrap_or_default();
        let in_order = pools.in_order();
        let found = in_order.iter().find_map(|pool| self.free_in(pool, pools.prefix));
        found.ok_or_else(|| {
            let named: Vec<String> = in_order.iter().map(Subnet::to_string).collect();
            let networks = self.state.all::<Network>().len();
            let wait = if self.has_quarantined {
                format!(", wait until those that were removed a moment ago may be reused ({QUARANTINE:?})")
            } else {
                String::new()
            };
            let text = format!(
                "no subnet of /{} is free in the cluster's address pools ({}), beside those of {networks} networks: remove a \
                 network{wait}, or name a subnet elsewhere with --subnet",
                pools.prefix,
                named.join(", ")
            );
            Refusal::new(RefusalKind::Precondition, text)
        })
    }

    fn free_in(&self, pool: &Subnet, prefix: u8) -> Option<Subnet> {
        let size = Subnet::new(pool.base(), prefix)?.numbers();
        let size = *size.end() - *size.start() + 1;
        let (mut first, end) = pool.numbers().into_inner();
        while first + (size - 1) <= end {
            let last = first + (size - 1);
            // Blocked ranges are subnets, so of two that overlap one lies in the other, and the one that begins last before
            // `last` need not be the one that ends last.
            let reach = self.blocked.range(..=last).rev().map(|(_, end)| *end).find(|end| *end >= first);
            match reach {
                None => return Subnet::new(pool.address(first), prefix),
                Some(reach) => first += ((reach - first) / size + 1) * size,
            }
        }
        None
    }

    /// Refuses a subnet that an operator chose and that is in use.
    fn check_overlap(&self, subnet: Subnet) -> Result<(), Refusal> {
        let of_networks = self.state.all::<Network>().flat_map(|network| {
            network.spec.allocation.subnets.iter().map(move |it| {
                (it.subnet, format!("{} of network {} ({})", it.subnet, network.spec.asked.name, network.id))
            })
        });
        let of_others = self.taken.iter().map(|it| (it.subnet, format!("{}, {}", it.subnet, it.by)));
        let other = of_networks.chain(of_others).find(|(other, _)| other.overlaps(&subnet));
        other.map_or(Ok(()), |(_, what)| {
            let text = format!("subnet {subnet} overlaps with {what}: choose another one, or leave --subnet out");
            Err(Refusal::new(RefusalKind::Precondition, text))
        })
    }
}

/// The subnet with everything chosen that its operator left open: the gateway is the first address that is no auxiliary one.
fn complete(config: &IpamConfig) -> Result<NetworkSubnet, Refusal> {
    let IpamConfig { subnet, range, gateway, auxiliary } = config.clone();
    let is_free = |number: &u128| auxiliary.values().all(|other| *other != subnet.address(*number));
    let first = || subnet.hosts().find(is_free).map(|number| subnet.address(number));
    let Some(gateway) = gateway.or_else(first) else {
        return Err(Refusal::invalid(format!("subnet {subnet} has no address left for the gateway")));
    };
    Ok(NetworkSubnet { subnet, range, gateway, auxiliary })
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{self, create_network, network};
    use essaim_model::{AddressPools, AnyId, Change, Name, NetworkId};
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// A cluster with these pools.
    fn cluster(pools: &[&str], prefix: u8) -> State {
        let mut founding = fixtures::founding();
        founding.cluster.pools = AddressPools { subnets: pools.iter().map(|text| subnet(text)).collect(), prefix };
        let mut state = State::default();
        fixtures::done(&mut state, at(1), vec![Change::Found(Box::new(founding))]);
        state
    }

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).expect("a subnet")
    }

    fn asked(name: &str) -> NetworkSpec {
        NetworkSpec::named(Name::parse(name).expect("a name"))
    }

    fn with(subnet_of: &str) -> NetworkSpec {
        NetworkSpec { ipam: vec![IpamConfig::of(subnet(subnet_of))], ..asked("mine") }
    }

    /// The VNI, subnet and gateway that a network gets.
    fn given(state: &State, asked: &NetworkSpec, taken: &[Taken], now: u64) -> String {
        match allocate(state, asked, taken, at(now)) {
            Ok(Allocation { vni, subnets }) => {
                let shown: Vec<_> = subnets.iter().map(|it| format!("{} by {}", it.subnet, it.gateway)).collect();
                format!("{vni}: {}", shown.join(", "))
            }
            Err(refusal) => refusal.text,
        }
    }

    /// Creates a network as a manager does.
    fn create(state: &mut State, id: u128, spec: &NetworkSpec, now: u64) -> Result<Allocation, Refusal> {
        let allocation = allocate(state, spec, &[], at(now))?;
        let network = Network { asked: spec.clone(), allocation: allocation.clone() };
        fixtures::done(state, at(now), vec![create_network(id, network)]);
        Ok(allocation)
    }

    fn remove(state: &mut State, id: u128, now: u64) {
        let remove = Change::RemoveObject(AnyId::Network(NetworkId::from_bits(id)));
        fixtures::done(state, at(now), vec![remove]);
    }

    #[test]
    fn networks_get_the_lowest_free_vni_and_subnet() {
        let mut state = cluster(&[], 20);
        for (id, name, expected) in [
            (1, "ingress", "4096: 10.0.0.0/20 by 10.0.0.1"),
            (2, "front", "4097: 10.0.16.0/20 by 10.0.16.1"),
            (3, "back", "4098: 10.0.32.0/20 by 10.0.32.1"),
        ] {
            assert_eq!(given(&state, &asked(name), &[], 2), expected);
            create(&mut state, id, &asked(name), 2).expect("room");
        }
        // A subnet of an operator inside of the pool is left out, and so is what something else uses.
        create(&mut state, 4, &NetworkSpec { name: Name::parse("db").expect("a name"), ..with("10.0.50.0/24") }, 2)
            .expect("room");
        let taken = [Taken { subnet: subnet("10.0.64.0/18"), by: "the route of eth0 on node n1".into() }];
        assert_eq!(given(&state, &asked("next"), &[], 2), "4100: 10.0.64.0/20 by 10.0.64.1");
        assert_eq!(given(&state, &asked("next"), &taken, 2), "4100: 10.0.128.0/20 by 10.0.128.1");
    }

    #[test]
    fn what_was_released_is_given_out_after_the_quarantine_or_when_an_operator_names_it() {
        let mut state = cluster(&[], 24);
        create(&mut state, 1, &asked("front"), 2).expect("room");
        remove(&mut state, 1, 5);
        assert_eq!(given(&state, &asked("back"), &[], 34), "4097: 10.0.1.0/24 by 10.0.1.1");
        assert_eq!(given(&state, &asked("back"), &[], 35), "4096: 10.0.0.0/24 by 10.0.0.1");
        assert_eq!(given(&state, &with("10.0.0.0/24"), &[], 6), "4097: 10.0.0.0/24 by 10.0.0.1");
    }

    #[test]
    fn an_operators_choice_is_kept_and_one_that_overlaps_is_refused_with_the_name_of_the_other() {
        let mut state = cluster(&[], 20);
        create(&mut state, 1, &NetworkSpec { name: Name::parse("att").expect("a name"), ..with("10.88.0.0/24") }, 2)
            .expect("room");
        let words = format!(
            "subnet 10.88.0.0/16 overlaps with 10.88.0.0/24 of network att ({}): choose another one, or leave --subnet out",
            NetworkId::from_bits(1)
        );
        assert_eq!(given(&state, &with("10.88.0.0/16"), &[], 2), words);
        let taken = [Taken { subnet: subnet("192.168.0.0/16"), by: "the route of eth0 on node n1".into() }];
        let words = "subnet 192.168.7.0/24 overlaps with 192.168.0.0/16, the route of eth0 on node n1: choose another one, \
                     or leave --subnet out";
        assert_eq!(given(&state, &with("192.168.7.0/24"), &taken, 2), words);
        let mut own = with("10.90.0.0/16");
        own.ipam[0].range = Some(subnet("10.90.5.0/24"));
        own.ipam[0].gateway = Some("10.90.0.9".parse().expect("an address"));
        own.ipam.push(IpamConfig::of(subnet("fd00:7::/64")));
        own.ipv6 = true;
        own.options.insert(essaim_model::noun::network::VNI_LIST.into(), "5000".into());
        assert_eq!(given(&state, &own, &[], 2), "5000: 10.90.0.0/16 by 10.90.0.9, fd00:7::/64 by fd00:7::1");
        own.options.insert(essaim_model::noun::network::VNI_LIST.into(), "4096".into());
        let words = format!("VNI 4096 is in use by network att ({})", NetworkId::from_bits(1));
        assert_eq!(given(&state, &own, &[], 2), words);
        let mut auxiliary = with("10.91.0.0/24");
        auxiliary.ipam[0].auxiliary.insert("router".into(), "10.91.0.1".parse().expect("an address"));
        assert_eq!(given(&state, &auxiliary, &[], 2), "4097: 10.91.0.0/24 by 10.91.0.2");
        // IPv6 alone is beside a subnet of IPv4.
        let six = NetworkSpec { ipam: vec![IpamConfig::of(subnet("fd00:8::/64"))], ipv6: true, ..asked("six") };
        assert_eq!(given(&state, &six, &[], 2), "4097: 10.0.0.0/20 by 10.0.0.1, fd00:8::/64 by fd00:8::1");
    }

    #[test]
    fn an_empty_pool_says_what_to_do() {
        let mut state = cluster(&["10.9.0.0/23", "10.7.0.0/24"], 24);
        for (id, name, expected) in [(1, "a", "10.9.0.0/24"), (2, "b", "10.9.1.0/24"), (3, "c", "10.7.0.0/24")] {
            let allocation = create(&mut state, id, &asked(name), 2).expect("room");
            assert_eq!(allocation.subnets[0].subnet, subnet(expected));
        }
        let words = "no subnet of /24 is free in the cluster's address pools (10.9.0.0/23, 10.7.0.0/24), beside those of 3 \
                     networks: remove a network, or name a subnet elsewhere with --subnet";
        assert_eq!(given(&state, &asked("d"), &[], 2), words);
        remove(&mut state, 2, 3);
        assert!(given(&state, &asked("d"), &[], 4).contains("wait until those that were removed a moment ago"));
        assert_eq!(given(&state, &asked("d"), &[], 33), "4097: 10.9.1.0/24 by 10.9.1.1");
    }

    proptest! {
        /// Whatever is created and removed: no two networks overlap or share a VNI, the subnets lie in the pools, nothing
        /// that was released comes back within the quarantine, every subnet of the pools is used before one is refused, and
        /// two allocations from the same state are equal.
        #[test]
        fn subnets_are_given_out_once(
            steps in proptest::collection::vec((any::<bool>(), 0_u128..24, 0_u64..12), 1..80),
            route in proptest::option::of(0_u8..16),
        ) {
            let mut state = cluster(&["10.9.0.0/20"], 24);
            let taken: Vec<Taken> = route
                .map(|third| Taken { subnet: subnet(&format!("10.9.{third}.64/26")), by: "a route".into() })
                .into_iter()
                .collect();
            let (mut now, mut released) = (2, Vec::<(u64, Allocation)>::new());
            for (creates, id, pause) in steps {
                now += pause;
                let exists = state.object::<Network>(NetworkId::from_bits(id)).is_some();
                if creates && !exists {
                    let spec = asked(&format!("n{id}"));
                    let allocation = allocate(&state, &spec, &taken, at(now));
                    prop_assert_eq!(&allocation, &allocate(&state, &spec, &taken, at(now)));
                    released.retain(|(since, _)| since + QUARANTINE.as_secs() > now);
                    match allocation {
                        Ok(allocation) => {
                            let own = allocation.subnets[0].subnet;
                            prop_assert!(subnet("10.9.0.0/20").covers(&own) && own.prefix() == 24);
                            prop_assert!(taken.iter().all(|it| !it.subnet.overlaps(&own)));
                            for (_, former) in &released {
                                prop_assert!(former.vni != allocation.vni);
                                prop_assert!(!former.subnets[0].subnet.overlaps(&own));
                            }
                            // `apply` refuses a network that has anything in common with another one.
                            let network = Network { asked: spec, allocation };
                            fixtures::done(&mut state, at(now), vec![create_network(id, network)]);
                        }
                        Err(_) => {
                            let used = state.all::<Network>().len() + released.len() + taken.len();
                            prop_assert!(used >= 16, "{} of 16 subnets were used", used);
                        }
                    }
                } else if !creates && exists {
                    let allocation = state.object::<Network>(NetworkId::from_bits(id)).expect("there").spec.allocation.clone();
                    remove(&mut state, id, now);
                    released.push((now, allocation));
                }
            }
        }
    }

    #[test]
    fn a_network_that_lies_in_a_larger_blocked_one_hides_nothing() {
        let mut state = cluster(&["10.0.0.0/16"], 24);
        fixtures::done(&mut state, at(2), vec![create_network(1, network("large", 4096, "10.0.0.0/18"))]);
        let taken = [
            Taken { subnet: subnet("10.0.2.0/24"), by: "a route inside of the large one".into() },
            Taken { subnet: subnet("10.0.64.0/24"), by: "the next one".into() },
        ];
        assert_eq!(given(&state, &asked("small"), &taken, 3), "4097: 10.0.65.0/24 by 10.0.65.1");
    }
}
