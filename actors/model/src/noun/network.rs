//! Networks: what an operator asked for, and what the managers gave.
//!
//! A network has subnets, a gateway address in each, and the number of its VXLAN (VNI), which no other network of the
//! cluster has. `policy::network` chooses what the operator left open, on the state that the manager knows which
//! answers the request; both parts are then proposed as one object. [`Noun::check_beside`] is the fence: of two
//! requests that chose the same subnet or VNI at the same time, one is refused with [`RefusalKind::OutOfSequence`], and
//! its manager chooses again. So how a subnet is chosen is no part of the log's meaning, and may differ between builds.
//!
//! A network never changes after its creation: its tasks were started with its addresses.

use super::{Noun, Object};
use crate::subnet::number_of;
use crate::{Labels, Name, Refusal, RefusalKind, Service, ServiceSpec, Subnet};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Level, record};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What the operator asked for.
    pub asked: NetworkSpec,
    /// What the managers gave: the operator's choice, or theirs where the operator left it open.
    pub allocation: Allocation,
}
record!(Network { 1: asked, allocation });

/// Settings of a network that operators make. Every network of the cluster has the driver `overlay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name of the network, unique among the networks of the cluster.
    pub name: Name,
    /// Labels of the network.
    pub labels: Labels,
    /// Options of the driver, as they were given: [`ENCRYPTED`], [`MTU`] or [`VNI_LIST`].
    pub options: Labels,
    /// Whether tasks reach nothing outside of the network through it.
    pub internal: bool,
    /// Whether containers that belong to no service may join (`docker run --network`).
    pub attachable: bool,
    /// Whether this is the network that published ports use between nodes. A cluster has one at most.
    pub ingress: bool,
    /// Whether the network has IPv6 addresses beside those of IPv4.
    pub ipv6: bool,
    /// Addresses that the operator chose: at most one entry for each family.
    pub ipam: Vec<IpamConfig>,
}
record!(NetworkSpec { 1: name, labels, options, internal, attachable, ingress, ipv6, ipam });

/// Addresses of one family that an operator chose for a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamConfig {
    /// The subnet.
    pub subnet: Subnet,
    /// Part of the subnet that addresses are given out of; all of it when `None`.
    pub range: Option<Subnet>,
    /// Address of the gateway; chosen by the managers when `None`.
    pub gateway: Option<IpAddr>,
    /// Addresses of machines that are no tasks, by name: they are never given out.
    pub auxiliary: BTreeMap<String, IpAddr>,
}
record!(IpamConfig { 1: subnet, range, gateway, auxiliary });

/// What the managers gave a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Number of the network's VXLAN.
    pub vni: u32,
    /// The network's subnets: one of IPv4, and one of IPv6 if the network has these addresses.
    pub subnets: Vec<NetworkSubnet>,
}
record!(Allocation { 1: vni, subnets });

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// Part of the subnet that addresses are given out of; all of it when `None`.
    pub range: Option<Subnet>,
    /// Address of the gateway. It is the same on every node: each node answers for it to its own tasks.
    pub gateway: IpAddr,
    /// Addresses of machines that are no tasks, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}
record!(NetworkSubnet { 1: subnet, range, gateway, auxiliary });

/// Option of the driver: what the network carries between nodes is encrypted. Its value means nothing, as in Docker.
pub const ENCRYPTED: &str = "encrypted";

/// Option of the driver: bytes that a packet of the network may have at most.
pub const MTU: &str = "com.docker.network.driver.mtu";

/// Option of the driver: the number of the network's VXLAN, where an operator chooses it.
pub const VNI_LIST: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// The numbers from which the managers choose, as in Swarm. A VNI has 24 bits.
pub const VNIS: RangeInclusive<u32> = 4096..=(1 << 24) - 1;

/// Longest prefixes that the subnet of a network may have: a gateway and one task have room.
const PREFIX_MAX: (u8, u8) = (30, 126);

/// Numbers that an MTU may have: what IPv4 promises at least, and what a packet can have at most.
const MTUS: RangeInclusive<u32> = 576..=65_535;

/// Auxiliary addresses that a subnet has at most. They are part of every copy of the network's object.
const AUXILIARY_MAX: usize = 256;

impl NetworkSpec {
    /// A network of this name, with everything else left to the managers.
    pub const fn named(name: Name) -> Self {
        Self {
            name,
            labels: Labels::new(),
            options: Labels::new(),
            internal: false,
            attachable: false,
            ingress: false,
            ipv6: false,
            ipam: Vec::new(),
        }
    }

    /// The network that published ports use between nodes, as a new cluster has it.
    pub fn of_ingress() -> Option<Self> {
        Name::parse("ingress").ok().map(|name| Self { ingress: true, ..Self::named(name) })
    }

    /// Refuses settings that no network can have.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.ingress && self.attachable {
            return Err(Refusal::new(RefusalKind::Unsupported, "ingress network cannot be attachable"));
        }
        for option in self.options.keys() {
            if ![ENCRYPTED, MTU, VNI_LIST].contains(&option.as_str()) {
                let text = format!("--opt {option} has no effect on a network of the cluster; leave it out");
                return Err(Refusal::new(RefusalKind::Unsupported, text));
            }
        }
        self.mtu()?;
        self.vni()?;
        for (place, config) in self.ipam.iter().enumerate() {
            config.check(self.ipv6)?;
            if let Some(other) = self.ipam[..place].iter().find(|it| it.subnet.is_ipv4() == config.subnet.is_ipv4()) {
                let family = if config.subnet.is_ipv4() { "IPv4" } else { "IPv6" };
                let text = format!(
                    "a network has one subnet of {family} here, and not both {} and {}; choose a larger one instead",
                    other.subnet, config.subnet
                );
                return Err(Refusal::new(RefusalKind::Unsupported, text));
            }
        }
        if self.ipv6 && self.ipam.iter().all(|config| config.subnet.is_ipv4()) {
            return Err(Refusal::invalid("--ipv6 needs an IPv6 subnet: name one, such as --subnet fd00:1::/64"));
        }
        Ok(())
    }

    /// Whether what the network carries between nodes is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.options.contains_key(ENCRYPTED)
    }

    /// Bytes that a packet of the network may have, if the operator set a limit.
    pub fn mtu(&self) -> Result<Option<u32>, Refusal> {
        self.number(MTU, &MTUS)
    }

    /// The VNI that the operator chose.
    pub fn vni(&self) -> Result<Option<u32>, Refusal> {
        self.number(VNI_LIST, &(1..=*VNIS.end()))
    }

    fn number(&self, option: &str, range: &RangeInclusive<u32>) -> Result<Option<u32>, Refusal> {
        let Some(text) = self.options.get(option) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let words = || format!("--opt {option} is a number from {} to {}, not {text:?}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Refusal::invalid(words()))
    }
}

impl IpamConfig {
    /// Addresses in this subnet, with everything else left to the managers.
    pub const fn of(subnet: Subnet) -> Self {
        Self { subnet, range: None, gateway: None, auxiliary: BTreeMap::new() }
    }

    /// The words are Docker's.
    fn check(&self, ipv6: bool) -> Result<(), Refusal> {
        let Self { subnet, range, gateway, auxiliary } = self;
        let invalid = |text: String| Err(Refusal::invalid(format!("invalid network config: {text}")));
        if !subnet.is_ipv4() && !ipv6 {
            return invalid(format!("{subnet} is a subnet of IPv6: add --ipv6"));
        }
        let prefix_max = if subnet.is_ipv4() { PREFIX_MAX.0 } else { PREFIX_MAX.1 };
        if subnet.prefix() > prefix_max {
            return invalid(format!("subnet {subnet} has no room for a gateway and a task: use /{prefix_max} or less"));
        }
        if let Some(range) = range.filter(|range| !subnet.covers(range)) {
            return invalid(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
        }
        let is_host = |address: IpAddr| subnet.contains(address) && subnet.hosts().contains(&number_of(address));
        if let Some(gateway) = gateway.filter(|gateway| !is_host(*gateway)) {
            return invalid(format!("invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address"));
        }
        if auxiliary.len() > AUXILIARY_MAX {
            return invalid(format!("a subnet has at most {AUXILIARY_MAX} auxiliary addresses"));
        }
        let mut seen = BTreeSet::from_iter(*gateway);
        for (name, address) in auxiliary {
            if !is_host(*address) {
                return invalid(format!(
                    "invalid auxiliary address {address} ({name}): parent subnet {subnet} doesn't contain this address"
                ));
            }
            if !seen.insert(*address) {
                return invalid(format!("auxiliary address {address} ({name}) is named twice, or is the gateway"));
            }
        }
        Ok(())
    }
}

impl NetworkSubnet {
    /// Numbers of the addresses that tasks, services and nodes may get: those of the range that a host may have.
    pub fn numbers(&self) -> RangeInclusive<u128> {
        let (first, last) = self.subnet.hosts().into_inner();
        let range = self.range.map_or(first..=last, |range| range.numbers());
        first.max(*range.start())..=last.min(*range.end())
    }
}

impl Allocation {
    /// The subnet of this family.
    pub fn subnet(&self, ipv4: bool) -> Option<&NetworkSubnet> {
        self.subnets.iter().find(|it| it.subnet.is_ipv4() == ipv4)
    }

    fn check(&self, asked: &NetworkSpec) -> Result<(), Refusal> {
        let of_families = [(true, 1), (false, usize::from(asked.ipv6))];
        let count = |ipv4| self.subnets.iter().filter(|it| it.subnet.is_ipv4() == ipv4).count();
        let is_whole = of_families.iter().all(|(ipv4, wanted)| count(*ipv4) == *wanted);
        let as_asked = asked.ipam.iter().all(|config| {
            self.subnets.iter().any(|it| {
                it.subnet == config.subnet
                    && it.range == config.range
                    && config.gateway.is_none_or(|gateway| gateway == it.gateway)
                    && it.auxiliary == config.auxiliary
            })
        });
        let gateways = self.subnets.iter().all(|it| it.subnet.contains(it.gateway));
        if is_whole && as_asked && gateways && (1..=*VNIS.end()).contains(&self.vni) {
            return Ok(());
        }
        Err(Refusal::new(RefusalKind::Internal, "the network was not given what was asked for"))
    }
}

impl Noun for Network {
    const WORD: &'static str = "network";
    const LEVEL: Level = Level(2);

    fn name(&self) -> &str {
        self.asked.name.as_str()
    }

    fn labels(&self) -> &Labels {
        &self.asked.labels
    }

    fn check(&self) -> Result<(), Refusal> {
        self.asked.check()?;
        self.allocation.check(&self.asked)
    }

    fn updated(&self, _: &Self) -> Result<Self, Refusal> {
        Err(Refusal::invalid("a network is never changed: create another one, and remove this one"))
    }

    fn check_beside<'a>(&self, others: impl Iterator<Item = &'a Arc<Object<Self>>>) -> Result<(), Refusal> {
        let meanwhile = |what: String, other: &Self| {
            let text = format!("{what} was given to network {} meanwhile", other.name());
            Err(Refusal::new(RefusalKind::OutOfSequence, text))
        };
        for Object { spec: other, .. } in others.map(|other| &**other) {
            if self.asked.ingress && other.asked.ingress {
                let text = format!("ingress network ({}) is already present", other.name());
                return Err(Refusal::new(RefusalKind::AlreadyExists, text));
            }
            if planted(Bug::OverlapNotRefused) {
                continue;
            }
            if self.allocation.vni == other.allocation.vni {
                return meanwhile(format!("VNI {}", self.allocation.vni), other);
            }
            let theirs = || other.allocation.subnets.iter().map(|it| it.subnet);
            let overlaps = |own: &&NetworkSubnet| theirs().any(|theirs| theirs.overlaps(&own.subnet));
            if let Some(own) = self.allocation.subnets.iter().find(overlaps) {
                return meanwhile(format!("subnet {}", own.subnet), other);
            }
        }
        Ok(())
    }

    fn taken(which: &dyn fmt::Display) -> Refusal {
        Refusal::new(RefusalKind::AlreadyExists, format!("network with name {which} already exists"))
    }

    /// A service that publishes a port needs the ingress network, as in Swarm.
    fn is_used_by(object: &Object<Self>, service: &ServiceSpec) -> bool {
        let id = object.id.to_string();
        let attached = service.task.networks.iter().any(|it| it.target == id || it.target == object.spec.name());
        attached || (object.spec.asked.ingress && service.ingress().next().is_some())
    }

    /// The words are Swarm's, with the names of the services.
    fn in_use(object: &Object<Self>, users: &[&Service]) -> Refusal {
        let all: Vec<String> = users.iter().map(|user| format!("service {} ({})", user.id, user.spec.name)).collect();
        let text = if object.spec.asked.ingress {
            format!("ingress network cannot be removed because {} depends on it", all.join(", "))
        } else {
            format!("network {} is in use by {}", object.id, all.join(", "))
        };
        Refusal::new(RefusalKind::Precondition, text)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-network": Network, NetworkSpec, IpamConfig, Allocation, NetworkSubnet);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::World;
    use crate::fixtures::{self, create_network, network};
    use crate::quarantine::QUARANTINE;
    use crate::service::NetworkAttachment;
    use crate::{
        AnyId, Change, EndpointSpec, Event, NetworkId, PortConfig, PortProtocol, PublishMode, ServiceId, State,
    };
    use essaim_wire::Timestamp;

    fn remove(id: u128) -> Change {
        Change::RemoveObject(AnyId::Network(NetworkId::from_bits(id)))
    }

    fn refusal(edit: impl FnOnce(&mut NetworkSpec)) -> String {
        let mut asked = NetworkSpec::named(Name::parse("front").expect("a name"));
        edit(&mut asked);
        asked.check().map_or_else(|refusal| refusal.text, |()| "accepted".into())
    }

    fn config(subnet: &str) -> IpamConfig {
        IpamConfig::of(Subnet::parse(subnet).expect("a subnet"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn no_two_networks_have_a_name_a_vni_or_an_address_in_common() {
        let mut world = World::new();
        let events = world.done(create_network(1, network("front", 4096, "10.0.0.0/20")));
        assert!(matches!(events[..], [Event::Object { old: None, new: Some(_) }]));
        let refused = |world: &mut World, network| {
            let refusal = world.refusal(create_network(9, network));
            (refusal.kind, refusal.text)
        };
        let again = (RefusalKind::OutOfSequence, "VNI 4096 was given to network front meanwhile".to_owned());
        assert_eq!(refused(&mut world, network("back", 4096, "10.0.16.0/20")), again);
        let overlap =
            (RefusalKind::OutOfSequence, "subnet 10.0.3.0/24 was given to network front meanwhile".to_owned());
        assert_eq!(refused(&mut world, network("back", 4097, "10.0.3.0/24")), overlap);
        let name = (RefusalKind::AlreadyExists, "network with name front already exists".to_owned());
        assert_eq!(refused(&mut world, network("front", 4097, "10.0.16.0/20")), name);
        world.done(create_network(2, network("back", 4097, "10.0.16.0/20")));

        let mut ingress = network("ingress", 4098, "10.0.32.0/20");
        ingress.asked.ingress = true;
        world.done(create_network(3, ingress.clone()));
        let text = "ingress network (ingress) is already present".to_owned();
        ingress.asked.name = Name::parse("mine").expect("a name");
        assert_eq!(refused(&mut world, ingress), (RefusalKind::AlreadyExists, text));
    }

    #[test]
    fn a_network_that_services_use_stays_and_names_them() {
        let mut world = World::new();
        world.done(create_network(1, network("front", 4096, "10.0.0.0/20")));
        let mut ingress = network("ingress", 4097, "10.0.16.0/20");
        ingress.asked.ingress = true;
        world.done(create_network(2, ingress));
        let id = ServiceId::from_bits(7);
        let mut spec = fixtures::service("web", 1);
        let target = NetworkId::from_bits(1).to_string();
        spec.task.networks = vec![NetworkAttachment { target, aliases: Vec::new(), driver_opts: Labels::new() }];
        let port = PortConfig {
            name: String::new(),
            protocol: PortProtocol::Tcp,
            target: 80,
            published: 8080,
            mode: PublishMode::Ingress,
        };
        spec.endpoint = Some(EndpointSpec { dns_round_robin: false, ports: vec![port] });
        world.done(Change::CreateService { id, spec: Box::new(spec) });
        let used = world.refusal(remove(1));
        let words = format!("network {} is in use by service {id} (web)", NetworkId::from_bits(1));
        assert_eq!((used.kind, used.text), (RefusalKind::Precondition, words));
        let words = format!("ingress network cannot be removed because service {id} (web) depends on it");
        assert_eq!(world.refused(remove(2)), words);
        world.done(Change::RemoveService { id });
        world.done(remove(1));
        world.done(remove(2));
        assert_eq!(world.refused(remove(1)), format!("network {} not found", NetworkId::from_bits(1)));
    }

    #[test]
    fn what_a_removed_network_had_is_kept_for_a_while_and_over_a_snapshot() {
        let mut state = State::default();
        let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
        fixtures::done(&mut state, at(1), vec![Change::Found(Box::new(fixtures::founding()))]);
        fixtures::done(&mut state, at(2), vec![create_network(1, network("front", 4096, "10.0.0.0/20"))]);
        assert_eq!(state.quarantined().count(), 0);
        fixtures::done(&mut state, at(3), vec![remove(1)]);
        let kept: Vec<_> = state.quarantined().map(|it| (it.since, it.allocation.vni)).collect();
        assert_eq!(kept, [(at(3), 4096)]);
        let mut restored = State::default();
        state.pieces().for_each(|piece| restored.insert(piece));
        assert_eq!(restored, state);
        let over = 3 + QUARANTINE.as_secs();
        for (when, kept) in [(over - 1, 1), (over, 0)] {
            let create = create_network(2, network("front", 4096, "10.0.0.0/20"));
            fixtures::done(&mut state, at(when), vec![create, remove(2)]);
            // The network of this proposal is in quarantine from now on.
            assert_eq!(state.quarantined().filter(|it| it.since == at(3)).count(), kept);
        }
    }

    #[test]
    fn settings_that_no_network_can_have_are_refused_in_words() {
        assert_eq!(refusal(|_| ()), "accepted");
        assert_eq!(refusal(|it| (it.ingress, it.attachable) = (true, true)), "ingress network cannot be attachable");
        let option = |name: &str, value: &str| refusal(|it| drop(it.options.insert(name.into(), value.into())));
        assert_eq!((option(ENCRYPTED, ""), option(MTU, "1400")), ("accepted".into(), "accepted".into()));
        assert_eq!(option(MTU, "20"), format!("--opt {MTU} is a number from 576 to 65535, not \"20\""));
        assert!(option(VNI_LIST, "4100,4101").starts_with(&format!("--opt {VNI_LIST} is a number from 1 to 16777215")));
        assert!(option("colour", "red").starts_with("--opt colour has no effect"));
        let one = |edit: &dyn Fn(&mut IpamConfig)| {
            let mut config = config("10.88.0.0/24");
            edit(&mut config);
            refusal(|it| it.ipam = vec![config])
        };
        assert_eq!(one(&|_| ()), "accepted");
        let words = |text: &str| format!("invalid network config: {text}");
        let gateway = "invalid gateway 10.89.0.1: parent subnet 10.88.0.0/24 doesn't contain this address";
        assert_eq!(one(&|it| it.gateway = Some(ip("10.89.0.1"))), words(gateway));
        assert_eq!(one(&|it| it.gateway = Some(ip("10.88.0.0"))), words(&gateway.replace("10.89.0.1", "10.88.0.0")));
        let range = "invalid ip-range 10.0.0.0/8: parent subnet 10.88.0.0/24 doesn't contain ip-range";
        assert_eq!(one(&|it| it.range = Subnet::parse("10.0.0.0/8")), words(range));
        let auxiliary = |it: &mut IpamConfig| {
            it.gateway = Some(ip("10.88.0.1"));
            it.auxiliary = BTreeMap::from([("router".into(), ip("10.88.0.1"))]);
        };
        assert_eq!(one(&auxiliary), words("auxiliary address 10.88.0.1 (router) is named twice, or is the gateway"));
        assert!(refusal(|it| it.ipam = vec![config("10.88.0.0/31")]).contains("no room for a gateway and a task"));
        assert!(
            refusal(|it| it.ipam = vec![config("10.1.0.0/24"), config("10.2.0.0/24")]).contains("one subnet of IPv4")
        );
        assert!(refusal(|it| it.ipam = vec![config("fd00::/64")]).ends_with("is a subnet of IPv6: add --ipv6"));
        assert!(refusal(|it| it.ipv6 = true).starts_with("--ipv6 needs an IPv6 subnet"));
        assert_eq!(refusal(|it| (it.ipv6, it.ipam) = (true, vec![config("fd00::/64")])), "accepted");
    }

    #[test]
    fn a_network_that_was_not_given_what_was_asked_for_is_refused() {
        let mut world = World::new();
        let mut wrong = network("front", 4096, "10.0.0.0/20");
        wrong.asked.ipam = vec![config("10.88.0.0/24")];
        assert_eq!(world.refused(create_network(1, wrong)), "the network was not given what was asked for");
        let mut none = network("front", 0, "10.0.0.0/20");
        assert_eq!(world.refused(create_network(1, none.clone())), "the network was not given what was asked for");
        (none.allocation.vni, none.asked.ipv6) = (4096, true);
        none.asked.ipam = vec![config("fd00::/64")];
        assert_eq!(world.refused(create_network(1, none)), "the network was not given what was asked for");
    }
}
