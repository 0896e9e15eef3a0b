//! What the tasks of a service need of a node. All tasks of one version of a service need the same.

use essaim_model::service::{GenericResources, MountSource};
use essaim_model::{EngineKind, Node, Placement, PortProtocol, PublishMode, ServiceId, ServiceSpec, Share, SpreadOver};
use essaim_wire::{Index, Level, encode};
use std::sync::Arc;

/// Tasks of one version of a service, which are all alike.
pub(super) type Group = (ServiceId, Index);

/// Name of an area: two needs with the same name suit the same nodes, and are spread over the same branches.
pub(super) type AreaName = Arc<[u8]>;

/// What the tasks of one version of a service need of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) service: ServiceId,
    pub(super) reservation: Share,
    pub(super) generic: GenericResources,
    pub(super) host_ports: Vec<(PortProtocol, u16)>,
    /// Addresses of the node that each task takes.
    pub(super) addresses: u32,
    /// Tasks of the service that one node may have at most; 0 means no limit.
    pub(super) most_per_node: u64,
    pub(super) terrain: Arc<Terrain>,
    pub(super) area: AreaName,
}

/// What needs say of a node's record alone, whatever tasks the node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terrain {
    pub(super) engine: EngineKind,
    /// Constraints, platforms and spread preferences.
    pub(super) placement: Placement,
    /// Plugins that the engine must have, by kind and name.
    pub(super) plugins: Vec<(&'static str, String)>,
    /// Level that a node's program needs to read the spec.
    pub(super) level: Level,
}

/// Docker's words for kinds of plugins.
const VOLUME: &str = "Volume";
const LOG: &str = "Log";

impl Needs {
    pub(super) fn of(service: ServiceId, spec: &ServiceSpec, engine: EngineKind) -> Self {
        let ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        let placement = spec.task.placement();
        let most_per_node = placement.replicas_max_per_node;
        let level = spec.level();
        let plugins = plugins(spec);
        let Placement { constraints, replicas_max_per_node: _, preferences, platforms } = &placement;
        let area = encode(&((engine, level), (constraints, preferences, platforms), plugins_name(&plugins)));
        Self {
            service,
            reservation: spec.task.reservation(),
            generic: spec.task.resources.as_ref().map(|it| it.generic.clone()).unwrap_or_default(),
            host_ports: ports
                .filter(|port| port.mode == PublishMode::Host && port.published != 0)
                .map(|port| (port.protocol, port.published))
                .collect(),
            addresses: u32::from(engine.claims_addresses()),
            most_per_node,
            terrain: Arc::new(Terrain { engine, placement, plugins, level }),
            area: area.into(),
        }
    }

    /// Whether the resources of other tasks on a node may keep such a task off it. Addresses are not counted here,
    /// because nodes nearly always have enough.
    pub(super) fn take_room(&self) -> bool {
        self.reservation.nano_cpus > 0
            || self.reservation.memory_bytes > 0
            || !self.generic.is_empty()
            || !self.host_ports.is_empty()
            || self.most_per_node > 0
    }
}

impl Terrain {
    /// Whether the node's record suits such tasks.
    pub(super) fn suits(&self, node: &Node) -> bool {
        self.has_plugins(node)
            && node.description.as_ref().is_some_and(|it| it.engines.contains(&self.engine))
            && node.level >= self.level
            && self.placement.allows(node)
            && self.placement.supports(node)
    }

    /// Whether the node's engine has every plugin that is needed. An engine that reports no log driver at all is taken
    /// to have every one.
    pub(super) fn has_plugins(&self, node: &Node) -> bool {
        let Some(description) = &node.description else { return self.plugins.is_empty() };
        let has = |(kind, name): &(&str, String)| {
            description.has_plugin(kind, name) || (*kind == LOG && description.plugins_of(LOG).next().is_none())
        };
        self.plugins.iter().all(has)
    }

    pub(super) fn preferences(&self) -> &[SpreadOver] {
        &self.placement.preferences
    }
}

/// The plugins that the tasks of a spec need: drivers of their volumes, and the log driver. A bind mount needs none, nor
/// does the driver `none`, which every engine has and no engine reports.
fn plugins(spec: &ServiceSpec) -> Vec<(&'static str, String)> {
    let volumes = spec.task.container.mounts.iter().filter_map(|mount| match mount.source() {
        MountSource::Volume { options: Some(options), .. } => options.driver.as_ref()?.name.clone(),
        _ => None,
    });
    let log = spec.task.log_driver.as_ref().and_then(|driver| driver.name.clone()).filter(|name| name != "none");
    let named = volumes.map(|name| (VOLUME, name)).chain(log.map(|name| (LOG, name)));
    named.filter(|(_, name)| !name.is_empty()).collect()
}

fn plugins_name(plugins: &[(&'static str, String)]) -> Vec<String> {
    plugins.iter().map(|(kind, name)| format!("{kind}/{name}")).collect()
}
