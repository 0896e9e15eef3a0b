//! What the tests of this crate are made of.

use crate::engine::{Limits, Run};
use essaim_model::{
    ContainerSpec, Desired, Labels, Mode, Name, Observed, ServiceId, ServiceSpec, Slot, TaskId, TaskSpec, TaskState,
};
use essaim_protocol::{Assignment, AssignmentVersion, TaskOrder};
use essaim_wire::{ClusterId, Index, Lineage, Timestamp};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The version at this index of one history.
pub(crate) fn version(index: u64) -> AssignmentVersion {
    AssignmentVersion { lineage: Lineage { ordinal: 1, nonce: 7 }, index: Index(index) }
}

/// A service `web` that runs `sleep 1000`.
pub(crate) fn spec() -> ServiceSpec {
    let container = ContainerSpec {
        image: "sleep:latest".into(),
        labels: Labels::default(),
        command: vec![],
        args: vec!["1000".into()],
        hostname: None,
        env: vec![],
        dir: None,
        user: None,
        stop_signal: None,
        stop_grace: None,
    };
    ServiceSpec {
        name: Name::parse("web").expect("a name"),
        labels: Labels::default(),
        task: TaskSpec { container, resources: None, restart: None, placement: None, force_update: 0 },
        mode: Mode::Replicated { replicas: 3 },
        update: None,
        rollback: None,
        endpoint: None,
    }
}

/// An order to run task `bits` of that service, in the slot of the same number.
pub(crate) fn order(bits: u128) -> TaskOrder {
    TaskOrder {
        id: TaskId::from_bits(bits << 100),
        service: ServiceId::from_bits(1),
        spec_version: Index(3),
        slot: Slot::Number(u32::try_from(bits).expect("small")),
        desired: Desired::Running,
        observed: Observed::nothing(Timestamp::from_micros(1)),
    }
}

/// All orders of this index, with the spec that they follow.
pub(crate) fn assignment(index: u64, orders: &[TaskOrder]) -> Assignment {
    Assignment {
        version: version(index),
        base: None,
        cluster: ClusterId::from_bits(9),
        subnet: Ipv4Addr::new(127, 70, 3, 0),
        tasks: orders.to_vec(),
        dropped: vec![],
        specs: vec![(ServiceId::from_bits(1), Index(3), Arc::new(spec()))],
    }
}

/// Something that was seen of a task.
pub(crate) fn seen(state: TaskState) -> Observed {
    Observed { state, ..Observed::nothing(Timestamp::from_micros(2)) }
}

/// What an engine is told of task `bits`.
pub(crate) fn run(bits: u128) -> Run {
    Run {
        task: order(bits).id,
        name: format!("web.{bits}.{}", order(bits).id),
        image: "sleep:latest".into(),
        command: vec![],
        args: vec![],
        env: vec![],
        dir: None,
        user: None,
        limits: Limits::default(),
        address: None,
    }
}
