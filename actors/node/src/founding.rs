//! Founding of a cluster: its ids, its root of trust and its first node, all drawn from this node's seed.

use crate::request::InitRequest;
use essaim_model::{Cluster, EngineKind, Founding, JoinSecrets, ManagerStatus, Meta, Node, NodeSpec, Refusal, RootCa};
use essaim_presence::endpoint::Keep;
use essaim_system::Env;
use essaim_transport::trust::{Authority, Grant, Identity, Key, Serial, SigningRequest, node_id};
use essaim_wire::{ClusterId, Generation, Index, Lineage, Reachability, Role, Timestamp};
use std::net::SocketAddr;

/// A new cluster that was drawn and not yet stored or started.
pub(crate) struct Founded {
    /// Identity of the first node.
    pub(crate) identity: Identity,
    /// First change of the cluster's log.
    pub(crate) founding: Founding,
}

/// Draws a new cluster. Nothing is stored or changed.
pub(crate) fn found(
    env: &Env,
    keep: &Keep,
    request: &InitRequest,
    advertise: SocketAddr,
    generation: Generation,
    default_engine: EngineKind,
) -> Result<Founded, Refusal> {
    let (seed, now) = (&env.seed, env.utc());
    let internal = |why: String| Refusal::new(essaim_model::RefusalKind::Internal, why);
    let cluster = ClusterId::from_bits(seed.draw_id());
    let serial = || Serial { granted: Index(0), nonce: seed.draw_number() };
    let authority = Authority::create(cluster, Key::from_seed(seed.draw_bytes()), serial(), now);

    let key = keep.key(seed).map_err(|why| internal(why.to_string()))?;
    let node = node_id(&key.public());
    let grant =
        Grant { cluster, node, role: Role::Manager, serial: serial(), now, lifetime: request.spec.certificate_expiry };
    let signing = SigningRequest::create(&key);
    let certificate = authority.sign(&signing, &grant).map_err(|why| internal(why.to_string()))?;
    let key_digest = signing.key_digest().map_err(|why| internal(why.to_string()))?;
    let root = authority.certificate().clone();
    let identity = Identity::new(vec![certificate], key, vec![root]).map_err(|why| internal(why.to_string()))?;

    let founding = Founding {
        cluster: Cluster {
            id: cluster,
            lineage: Lineage { ordinal: 1, nonce: seed.draw_number() },
            meta: Meta::default(),
            spec: request.spec.clone(),
            authority: RootCa {
                certificate: authority.certificate().to_pem(),
                key: authority.key().to_pem(),
                rotations: 0,
            },
            join: JoinSecrets { worker: seed.draw_id().to_be_bytes(), manager: seed.draw_id().to_be_bytes() },
            default_engine,
            level: env.build.level,
            issued_until: Timestamp::default(),
            pools: request.pools.clone(),
        },
        node: Node {
            id: node,
            meta: Meta::default(),
            spec: NodeSpec {
                name: None,
                labels: essaim_model::Labels::new(),
                role: Role::Manager,
                availability: request.availability,
            },
            role: Role::Manager,
            description: None,
            addr: Some(advertise),
            generation,
            reachability: Reachability::Unknown,
            message: String::new(),
            since: now,
            unsteady: false,
            departure: None,
            // The first manager of a group has the number 1, with which its store begins.
            manager: Some(ManagerStatus { raft_id: 1, voter: true }),
            key_digest,
            loopback: 0,
            level: env.build.level,
        },
    };
    Ok(Founded { identity, founding })
}
