//! Test fixtures, for this crate and the crates above it: a cluster, nodes, services and tasks with ordinary settings,
//! and a log of proposals that makes a state of them. A test changes the settings that it is about.

use crate::service::{FileTarget, Mount, MountSource, Mounts, SecretReference, SecretReferences};
use crate::*;
use essaim_wire::{
    ClusterId, Generation, Index, Level, Lineage, NodeId, Reachability, RequestId, Role, Term, Timestamp,
};
use std::collections::BTreeMap;

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
        pools: AddressPools::default(),
    }
}

/// References to these secrets, by number and name; each is a file of the same name.
pub fn secrets(named: &[(u128, &str)]) -> SecretReferences {
    let reference = |(id, name): &(u128, &str)| SecretReference {
        id: SecretId::from_bits(*id),
        name: (*name).into(),
        file: FileTarget { name: (*name).into(), uid: "0".into(), gid: "0".into(), mode: 0o444 },
    };
    SecretReferences::parse(named.iter().map(reference).collect()).expect("a file of its own for each")
}

/// A mount of the volume with this name.
pub fn volume(name: &str) -> Mounts {
    let source = MountSource::Volume { source: Some(name.into()), options: None };
    Mounts::parse(vec![Mount::parse("/data", source).expect("an absolute path")]).expect("one target")
}

/// The creation of a secret.
pub fn create_secret(id: u128, name: &str, data: &[u8]) -> Change {
    let spec = SecretSpec { name: name.into(), labels: Labels::new(), data: data.into() };
    Change::PutObject(Box::new(AnyPut::Secret(Put { id: SecretId::from_bits(id), expect: None, spec })))
}

/// A network of this name with this VNI and this subnet, whose gateway is the first address.
pub fn network(name: &str, vni: u32, subnet: &str) -> Network {
    let subnet = Subnet::parse(subnet).expect("a subnet");
    let asked = NetworkSpec::named(Name::parse(name).expect("a name"));
    let gateway = subnet.address(*subnet.hosts().start());
    let subnets = vec![NetworkSubnet { subnet, range: None, gateway, auxiliary: BTreeMap::new() }];
    Network { asked, allocation: Allocation { vni, subnets } }
}

/// The creation of a network.
pub fn create_network(id: u128, network: Network) -> Change {
    let id = NetworkId::from_bits(id);
    Change::PutObject(Box::new(AnyPut::Network(Put { id, expect: None, spec: network })))
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

/// A task of this service and this version of its spec, in slot 1 on this node, that shall run and that no worker has
/// reported on.
pub fn task(id: TaskId, service: ServiceId, spec_version: Index, node: NodeId) -> Task {
    Task {
        id,
        meta: Meta::default(),
        service,
        spec_version,
        slot: Slot::Number(1),
        engine: EngineKind::Process,
        assigned: Assigned::Node(node),
        generic: GenericStock::default(),
        desired: Desired::Running,
        observed: Observed::nothing(Timestamp::default()),
        written_off: None,
        rejected_at: None,
        restarts: 0,
        began_at: None,
        ended_at: None,
        job_iteration: None,
    }
}

/// The proposal of manager 1 with this sequence number, which no leader decided.
pub fn proposal(seq: u64, at: Timestamp, changes: Vec<Change>) -> Proposal {
    let request = RequestId { origin: NodeId::from_bits(1), generation: Generation(1), seq };
    Proposal { request, at, fence: None, changes }
}

/// Applies changes as the next entry of the log, of term 1.
pub fn propose(state: &mut State, at: Timestamp, changes: Vec<Change>) -> (Outcome, Vec<Event>) {
    let index = Index(state.applied().index.0 + 1);
    state.apply(Position { term: Term(1), index }, &proposal(index.0, at, changes))
}

/// Applies changes as [`propose`] does, and returns their events.
///
/// # Panics
///
/// When the changes are refused.
pub fn done(state: &mut State, at: Timestamp, changes: Vec<Change>) -> Vec<Event> {
    let (outcome, events) = propose(state, at, changes);
    assert_eq!(outcome, Outcome::Done(state.applied().index));
    events
}

/// An environment of about `bytes` bytes, to make a spec large.
pub fn environment(bytes: usize) -> Vec<service::Variable> {
    vec![service::Variable::parse(&format!("LARGE={}", "x".repeat(bytes))).expect("a variable")]
}
