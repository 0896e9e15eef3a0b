//! Published ports: which numbers a service's ports are published under, and the table of those that every node answers.
//!
//! An operator names the number, or leaves it to the managers, who take the lowest free one of [`DYNAMIC_PORTS`]. A port
//! that an update leaves as it was keeps its number.

use super::{PortConfig, PublishMode, Service, ServiceSpec};
use crate::{PortKey, Refusal, RefusalKind, ServiceId};
use essaim_wire::record;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Numbers from which the managers choose for ports in ingress mode for which the operator named none: Swarm's range, for
/// each protocol.
pub const DYNAMIC_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// What a port that every node publishes leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressPort {
    /// The service whose tasks get the connections.
    pub service: ServiceId,
    /// Port inside the task.
    pub target: u16,
    /// Whether a node prefers its own tasks.
    pub is_local_first: bool,
}
record!(IngressPort { 1: service, target, is_local_first });

impl PortConfig {
    /// The number and protocol under which the port is published; `None` when no number is known.
    pub const fn key(&self) -> Option<PortKey> {
        match self.published {
            0 => None,
            number => Some(PortKey { protocol: self.protocol, number }),
        }
    }

    fn is_same_but_for_its_number(&self, other: &Self) -> bool {
        Self { published: 0, ..self.clone() } == Self { published: 0, ..other.clone() }
    }
}

impl Service {
    /// The ports that every node publishes for the service.
    pub fn ingress(&self) -> impl Iterator<Item = (PortKey, IngressPort)> + '_ {
        let ingress = self.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
        let is_local_first = self.spec.is_local_first();
        ingress.filter_map(move |port| {
            Some((port.key()?, IngressPort { service: self.id, target: port.target, is_local_first }))
        })
    }
}

impl ServiceSpec {
    /// The ports of the spec that every node publishes. One whose number was left to the managers has none here.
    pub fn ingress(&self) -> impl Iterator<Item = &PortConfig> {
        let ports = self.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        ports.filter(|port| port.mode == PublishMode::Ingress)
    }
}

/// The port inside a task that the published port leads to, by the ports of the spec that the task follows. `target` is
/// where the spec in force leads it: during an update, a task of the former spec may publish the port under the same number
/// for another target, or not at all.
pub fn target_of(ports: &[PortConfig], key: PortKey, target: u16) -> Option<u16> {
    let mut alike = ports.iter().filter(|port| port.mode == PublishMode::Ingress && port.protocol == key.protocol);
    let is_it = |port: &&PortConfig| port.published == key.number || port.published == 0 && port.target == target;
    alike.find(is_it).map(|port| port.target)
}

/// The ports of a spec with the numbers under which they are published. `before` are the ports that the service has; a port
/// that is in them keeps its number. `is_taken` says whether another service publishes a port.
pub(crate) fn number(
    spec: &ServiceSpec,
    before: &[PortConfig],
    is_taken: impl Fn(PortKey) -> bool,
) -> Result<Vec<PortConfig>, Refusal> {
    let mut ports: Vec<PortConfig> = spec.endpoint.iter().flat_map(|endpoint| endpoint.ports.clone()).collect();
    let mut taken: BTreeSet<PortKey> = ports.iter().filter_map(PortConfig::key).collect();
    for port in &mut ports {
        if port.published != 0 || port.mode == PublishMode::Host {
            continue;
        }
        let key = |number| PortKey { protocol: port.protocol, number };
        let is_free = |number: &u16| !taken.contains(&key(*number)) && !is_taken(key(*number));
        let kept = before.iter().filter(|old| old.is_same_but_for_its_number(port)).map(|old| old.published);
        let found = kept.filter(|number| *number != 0).chain(DYNAMIC_PORTS).find(is_free);
        let Some(found) = found else {
            let (first, last) = DYNAMIC_PORTS.into_inner();
            let text = format!("no {} port between {first} and {last} is free", port.protocol.as_str());
            return Err(Refusal::new(RefusalKind::Precondition, text));
        };
        taken.insert(key(found));
        port.published = found;
    }
    Ok(ports)
}

#[cfg(test)]
essaim_wire::golden_bytes!("ports": IngressPort);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointSpec;
    use crate::PortProtocol;
    use crate::fixtures::service;

    const TAKEN: u16 = 30_001;

    fn port(target: u16, published: u16) -> PortConfig {
        let (protocol, mode) = (PortProtocol::Tcp, PublishMode::Ingress);
        PortConfig { name: String::new(), protocol, target, published, mode }
    }

    fn spec(ports: &[PortConfig]) -> ServiceSpec {
        let endpoint = EndpointSpec { dns_round_robin: false, ports: ports.to_vec() };
        ServiceSpec { endpoint: Some(endpoint), ..service("web", 1) }
    }

    fn numbers(ports: &[PortConfig], before: &[PortConfig]) -> Vec<u16> {
        let numbered = number(&spec(ports), before, |key| key.number == TAKEN).expect("free ports");
        numbered.iter().map(|port| port.published).collect()
    }

    #[test]
    fn ports_without_a_number_get_the_lowest_free_ones_of_their_protocol() {
        assert_eq!(numbers(&[port(80, 0), port(81, 0)], &[]), [30_000, 30_002]);
        assert_eq!(numbers(&[port(80, 0), port(81, 30_000)], &[]), [30_002, 30_000], "the spec names the first one");
        let udp = PortConfig { protocol: PortProtocol::Udp, ..port(80, 0) };
        assert_eq!(numbers(&[port(80, 0), udp], &[]), [30_000, 30_000]);
        let host = PortConfig { mode: PublishMode::Host, ..port(80, 0) };
        assert_eq!(numbers(&[host], &[]), [0], "each node chooses");
    }

    #[test]
    fn a_port_that_an_update_leaves_as_it_was_keeps_its_number() {
        let before = [port(80, 30_007), port(81, 30_000)];
        assert_eq!(numbers(&[port(81, 0), port(80, 0), port(82, 0)], &before), [30_000, 30_007, 30_002]);
        assert_eq!(numbers(&[port(80, 0), port(90, 30_007)], &before), [30_000, 30_007], "it was given to another");
    }

    #[test]
    fn a_service_without_a_free_port_is_refused() {
        let refused = number(&spec(&[port(80, 0)]), &[], |_| true).expect_err("none is free");
        assert_eq!(refused.text, "no tcp port between 30000 and 32767 is free");
    }

    #[test]
    fn a_task_of_a_former_spec_is_reached_where_that_spec_leads_the_port() {
        let key = PortKey { protocol: PortProtocol::Tcp, number: 9999 };
        assert_eq!(target_of(&[port(8080, 9999)], key, 80), Some(8080));
        assert_eq!(target_of(&[port(80, 0)], key, 80), Some(80));
        assert_eq!(target_of(&[port(80, 0)], key, 81), None);
        assert_eq!(target_of(&[port(80, 9998)], key, 80), None);
        assert_eq!(target_of(&[PortConfig { mode: PublishMode::Host, ..port(80, 9999) }], key, 80), None);
    }
}
