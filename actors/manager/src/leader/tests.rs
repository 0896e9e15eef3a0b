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

/// The first change: a cluster with the manager 1.
pub(super) fn found() -> Change {
    let cluster = Cluster {
        id: ClusterId::from_bits(9),
        lineage: Lineage { ordinal: 1, nonce: 5 },
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        authority: Authority { certificate: String::new(), key: String::new(), rotations: 0 },
        join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        default_engine: EngineKind::Process,
    };
    let mut first = node(1);
    (first.role, first.spec.role) = (Role::Manager, Role::Manager);
    first.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    Change::Found(Box::new(Founding { cluster, node: first }))
}
