//! Test fixtures, for this crate and the crates above it: a cluster, nodes and services with ordinary settings. A test
//! changes the settings that it is about.

use crate::*;
use essaim_wire::{ClusterId, Generation, Level, Lineage, NodeId, Reachability, Role, Timestamp};

/// One GiB in bytes.
pub const GIB: u64 = 1 << 30;

/// A cluster whose default engine is the process engine.
pub fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_bits(9),
        lineage: Lineage { ordinal: 1, nonce: 5 },
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        authority: RootCa { certificate: String::new(), key: String::new(), rotations: 0 },
        join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        default_engine: EngineKind::Process,
        level: Level::NEWEST,
        issued_until: Timestamp::default(),
    }
}

/// A ready worker whose id is `number`, with four processors and eight GiB; its host name is `n` followed by the
/// number.
pub fn worker(number: u128) -> Node {
    Node {
        id: NodeId::from_bits(number),
        meta: Meta::default(),
        spec: NodeSpec { name: None, labels: Labels::new(), role: Role::Worker, availability: Availability::Active },
        role: Role::Worker,
        description: Some(NodeDescription {
            hostname: format!("n{number}"),
            hardware: Hardware { nano_cpus: 4_000_000_000, memory_bytes: 8 * GIB },
            engines: vec![EngineKind::Process],
            ..NodeDescription::default()
        }),
        addr: None,
        generation: Generation(1),
        reachability: Reachability::Reachable,
        message: String::new(),
        since: Timestamp::default(),
        unsteady: false,
        departure: None,
        manager: None,
        key_digest: [0; 32],
        loopback: 0,
        level: Level::NEWEST,
    }
}

/// A ready manager, otherwise like [`worker`], without a number in the Raft group.
pub fn manager(number: u128) -> Node {
    let mut node = worker(number);
    (node.role, node.spec.role) = (Role::Manager, Role::Manager);
    node
}

/// The founding of [`cluster()`] by manager 1.
pub fn founding() -> Founding {
    Founding { cluster: cluster(), node: manager(1) }
}

/// A service with `replicas` tasks of the image `a`.
pub fn service(name: &str, replicas: u32) -> ServiceSpec {
    let container = ContainerSpec::new(Image::from("a"));
    ServiceSpec {
        name: Name::parse(name).expect("a name"),
        labels: Labels::new(),
        task: TaskSpec::new(container),
        mode: Mode::Replicated { replicas },
        update: None,
        rollback: None,
        endpoint: None,
    }
}

/// An environment of about `bytes` bytes, to make a spec large.
pub fn environment(bytes: usize) -> Vec<service::Variable> {
    vec![service::Variable::parse(&format!("LARGE={}", "x".repeat(bytes))).expect("a variable")]
}
