//! The leader's tree on a store of its own, with the real detector among machines on the simulated network. What a
//! worker would report is reported by the test.

mod bed;
mod stories;
mod trust;

use essaim_model::*;
use essaim_wire::{ClusterId, Generation, Lineage, NodeId, Reachability, Role, Timestamp};

/// A ready worker that runs processes.
pub(super) fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_bits(number),
        meta: Meta::default(),
        spec: NodeSpec { name: None, labels: Labels::new(), role: Role::Worker, availability: Availability::Active },
        role: Role::Worker,
        description: Some(NodeDescription {
            hostname: format!("n{number}"),
            engines: vec![EngineKind::Process],
            ..NodeDescription::default()
        }),
        addr: None,
        generation: Generation(1),
        reachability: Reachability::Reachable,
        message: String::new(),
        since: Timestamp::default(),
        unsteady: false,
        manager: None,
        key_digest: [0; 32],
        loopback: 0,
    }
}

/// A cluster with the manager 1, which keeps these as its root of trust.
pub(super) fn founding(certificate: String, key: String) -> Founding {
    let cluster = Cluster {
        id: ClusterId::from_bits(9),
        lineage: Lineage { ordinal: 1, nonce: 5 },
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        authority: Authority { certificate, key, rotations: 0 },
        join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        default_engine: EngineKind::Process,
    };
    let mut first = node(1);
    (first.role, first.spec.role) = (Role::Manager, Role::Manager);
    first.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    Founding { cluster, node: first }
}

/// The first change of a log in which nobody asks for certificates.
pub(super) fn found() -> Change {
    Change::Found(Box::new(founding(String::new(), String::new())))
}

pub(super) fn spec(name: &str, replicas: u32) -> ServiceSpec {
    let container = ContainerSpec {
        image: "a".into(),
        labels: Labels::new(),
        command: vec![],
        args: vec![],
        hostname: None,
        env: vec![],
        dir: None,
        user: None,
        stop_signal: None,
        stop_grace: None,
    };
    ServiceSpec {
        name: Name::parse(name).expect("a name"),
        labels: Labels::new(),
        task: TaskSpec { container, resources: None, restart: None, placement: None, force_update: 0 },
        mode: Mode::Replicated { replicas },
        update: None,
        rollback: None,
        endpoint: None,
    }
}
