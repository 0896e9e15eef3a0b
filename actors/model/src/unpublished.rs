//! Published ports that a node cannot listen on, because another program of its machine holds them or the kernel refuses
//! them: which services miss them, and on which of their tasks that is shown.
//!
//! The port that a daemon itself listens on for the cluster's traffic is one of them, and is known before any node reports
//! it: [`State::check_daemon_ports`] tells it to who asks for the service.
//!
//! A node reports them in its description. Its tasks run all the same, and the other nodes publish the port, so managers
//! only show the fault and decide nothing by it.

use crate::{
    Departure, Node, PortConfig, PortKey, PortProtocol, PublishMode, Refusal, Service, ServiceId, ServiceSpec, State,
    Task, TaskId, UnpublishedPort,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Ports that nodes cannot listen on, by the service that publishes them.
pub type Unpublished<'a> = BTreeMap<ServiceId, Vec<(&'a Node, &'a UnpublishedPort)>>;

/// The words by which a node reports that its own daemon holds a port.
pub const THIS_DAEMON: &str = "this daemon";

/// Nodes that a warning names; further ones are counted.
const NODES_MAX: usize = 3;

impl State {
    /// Looks for ports of a spec that daemons listen on for the cluster's traffic, which is UDP. A port that every node's
    /// daemon listens on can be published nowhere, and is refused. The nodes of the others are named in warnings: the rest of
    /// the cluster publishes the port, and a node may be given another one. `before` is the spec that is updated: what was
    /// asked for already is not told again, and does not keep its service from being updated.
    pub fn check_daemon_ports(&self, spec: &ServiceSpec, before: Option<&ServiceSpec>) -> Result<Vec<String>, Refusal> {
        let keys = |spec: &ServiceSpec| spec.ports_of_datagrams().collect::<BTreeSet<PortKey>>();
        let (asked, known) = (keys(spec), before.map(keys).unwrap_or_default());
        let mut warnings = Vec::new();
        for key in asked.difference(&known) {
            let there = || self.nodes().filter(|node| !matches!(node.departure, Some(Departure::Left { .. })));
            let listens = |node: &&Arc<Node>| node.addr.is_some_and(|addr| addr.port() == key.number);
            let names: Vec<_> = there().filter(listens).map(|node| node.name()).collect();
            if names.is_empty() {
                continue;
            }
            if names.len() == there().count() {
                return Err(Refusal::invalid(format!(
                    "port {key} cannot be published: it is the daemons' own port for the cluster's traffic, on every node; \
                     publish another port, or start the daemons with another --listen-addr"
                )));
            }
            let more = match names.len().saturating_sub(NODES_MAX) {
                0 => String::new(),
                more => format!(" and {more} others"),
            };
            let names = names[..names.len().min(NODES_MAX)].join(", ");
            warnings.push(format!(
                "port {key} is not published on {names}{more}: it is the daemon's own port for the cluster's traffic there"
            ));
        }
        Ok(warnings)
    }

    /// The ports that nodes report as not listened on and that services still publish.
    pub fn unpublished(&self) -> Unpublished<'_> {
        let mut all = Unpublished::new();
        // A node that cannot be reached is a greater fault, and its report may be out of date.
        for node in self.nodes().filter(|node| node.is_ready()) {
            for port in node.description.iter().flat_map(|description| &description.unpublished) {
                let of_cluster = self.ingress().get(&port.port).map(|ingress| ingress.service);
                let of_host = || self.publisher_on(node, port.port);
                if let Some(service) = of_cluster.or_else(of_host) {
                    all.entry(service).or_default().push((node, port));
                }
            }
        }
        all
    }

    /// The service with a task on the node that publishes the port in host mode.
    fn publisher_on(&self, node: &Node, port: PortKey) -> Option<ServiceId> {
        let publishes = |task: &&Arc<Task>| {
            let spec = self.spec(task.service, task.spec_version);
            let ports = spec.into_iter().flat_map(|spec| &spec.endpoint).flat_map(|endpoint| &endpoint.ports);
            let mut of_host = ports.filter(|port| port.mode == PublishMode::Host);
            of_host.any(|it| it.key() == Some(port))
        };
        self.tasks_on(node.id).filter(|task| !task.has_ended()).find(publishes).map(|task| task.service)
    }

    /// The faults that running tasks show because of ports that nodes cannot listen on. A task shows those of its own
    /// node. The first running task of a service shows those of nodes without one too, because nothing else in the list
    /// of the service's tasks would.
    pub fn faults_of_ports(&self) -> BTreeMap<TaskId, String> {
        let mut faults: BTreeMap<TaskId, String> = BTreeMap::new();
        for (service, ports) in self.unpublished() {
            let running: Vec<_> = self.tasks_of(service).filter(|task| task.is_running() && task.is_wanted()).collect();
            for (node, port) in ports {
                let there: Vec<_> = running.iter().filter(|task| task.node() == Some(node.id)).collect();
                let shown = if there.is_empty() { running.first().into_iter().collect() } else { there };
                for task in shown {
                    let fault = faults.entry(task.id).or_default();
                    if !fault.is_empty() {
                        fault.push_str("; ");
                    }
                    fault.push_str(&format!("port {} is not published on {}: {}", port.port, node.name(), port.why));
                }
            }
        }
        faults
    }
}

impl ServiceSpec {
    /// Whether the spec publishes a UDP port whose number it names.
    pub fn publishes_datagrams(&self) -> bool {
        self.ports_of_datagrams().next().is_some()
    }

    fn ports_of_datagrams(&self) -> impl Iterator<Item = PortKey> + '_ {
        let ports = self.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        ports.filter_map(PortConfig::key).filter(|key| key.protocol == PortProtocol::Udp)
    }
}

impl Service {
    /// The ports of this service that a node cannot listen on, in words for people.
    pub fn unpublished_on(&self, node: &Node, all: &Unpublished<'_>) -> Option<String> {
        let ports = all.get(&self.id).into_iter().flatten().filter(|(on, _)| on.id == node.id);
        let words: Vec<_> = ports.map(|(_, it)| format!("port {} is not published: {}", it.port, it.why)).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::World;
    use crate::{Change, EndpointSpec, fixtures};
    use essaim_wire::NodeId;

    /// A spec that publishes these ports of UDP, and TCP ports of the same numbers.
    fn spec(numbers: &[u16]) -> ServiceSpec {
        let port = |protocol, published| PortConfig {
            name: String::new(),
            protocol,
            target: 80,
            published,
            mode: PublishMode::Ingress,
        };
        let both = [PortProtocol::Tcp, PortProtocol::Udp];
        let ports = numbers.iter().flat_map(|number| both.map(|protocol| port(protocol, *number))).collect();
        ServiceSpec { endpoint: Some(EndpointSpec { dns_round_robin: false, ports }), ..fixtures::service("dns", 1) }
    }

    fn listens_on(world: &mut World, node: u128, port: u16) {
        let found = world.state.node(NodeId::from_bits(node)).expect("there").clone();
        world.done(Change::DescribeNode {
            id: found.id,
            generation: found.generation,
            addr: ([10, 0, 0, node as u8], port).into(),
            level: found.level,
            description: found.description.clone(),
        });
    }

    #[test]
    fn the_daemons_own_port_is_refused_where_every_daemon_has_it_and_told_where_some_have() {
        let mut world = World::new();
        let nodes: Vec<_> = world.state.nodes().map(|node| node.id.bits()).collect();
        for node in &nodes {
            listens_on(&mut world, *node, 2377);
        }
        let check = |world: &World, numbers: &[u16], before: Option<&[u16]>| {
            let before = before.map(spec);
            world.state.check_daemon_ports(&spec(numbers), before.as_ref()).map_err(|refusal| refusal.text)
        };
        let refused = check(&world, &[53, 2377], None).expect_err("no node could publish it");
        assert!(refused.starts_with("port 2377/udp cannot be published: it is the daemons' own port"), "{refused}");
        assert_eq!(check(&world, &[53], None), Ok(vec![]));
        assert_eq!(check(&world, &[53, 2377], Some(&[2377])), Ok(vec![]), "an update of something else");

        listens_on(&mut world, nodes[0], 12377);
        let warnings = check(&world, &[12377, 2377], None).expect("some nodes publish each");
        let name = |id: u128| world.state.node(NodeId::from_bits(id)).expect("there").name();
        let on = nodes[1..].iter().map(|id| name(*id)).collect::<Vec<_>>().join(", ");
        let why = "it is the daemon's own port for the cluster's traffic there";
        assert_eq!(
            warnings,
            [
                format!("port 2377/udp is not published on {on}: {why}"),
                format!("port 12377/udp is not published on {}: {why}", name(nodes[0])),
            ]
        );
    }
}
