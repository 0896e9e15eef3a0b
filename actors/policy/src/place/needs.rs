//! What the tasks of a service need of a node. All tasks of one version of a service need the same.

use essaim_model::{EngineKind, Placement, PortProtocol, PublishMode, ServiceId, ServiceSpec, Share};
use essaim_wire::{Index, Level};

/// Tasks of one version of a service, which are all alike.
pub(super) type Group = (ServiceId, Index);

/// What the tasks of one version of a service need of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) service: ServiceId,
    pub(super) reservation: Share,
    pub(super) engine: EngineKind,
    pub(super) placement: Placement,
    pub(super) host_ports: Vec<(PortProtocol, u16)>,
    /// Addresses of the node that each task takes.
    pub(super) addresses: u32,
    /// Level that a node's program needs to read the spec.
    pub(super) level: Level,
}

impl Needs {
    pub(super) fn of(service: ServiceId, spec: &ServiceSpec, engine: EngineKind) -> Self {
        let ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        Self {
            service,
            reservation: spec.task.reservation(),
            engine,
            placement: spec.task.placement(),
            host_ports: ports
                .filter(|port| port.mode == PublishMode::Host && port.published != 0)
                .map(|port| (port.protocol, port.published))
                .collect(),
            addresses: u32::from(engine.claims_addresses()),
            level: spec.level(),
        }
    }

    /// Whether the resources of other tasks on a node may keep such a task off it. Addresses are not counted here,
    /// because nodes nearly always have enough.
    pub(super) fn take_room(&self) -> bool {
        self.reservation.nano_cpus > 0
            || self.reservation.memory_bytes > 0
            || !self.host_ports.is_empty()
            || self.placement.replicas_max_per_node > 0
    }
}
