//! Real endpoints on loopback with real certificates, for rows that need less than a daemon.

use essaim_system::env::{Clock, RealClock};
use essaim_transport::trust::NODE_LIFETIME;
use essaim_transport::{
    Admission, Authority, Config, Endpoint, Grant, Identity, Key, QuicNetwork, Serial, SigningRequest, SocketKey,
};
use essaim_wire::{ClusterId, Generation, Index, Lineage, NodeId, Role, Timestamp, WireVersion};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::sync::watch;

/// Number of the manager that generates load; the other endpoints treat it as a manager like themselves.
pub(crate) const GENERATOR: u8 = 9;

/// Lineage of the log that all endpoints belong to.
pub(crate) const LINEAGE: Lineage = Lineage { ordinal: 1, nonce: 77 };

const CLUSTER: ClusterId = ClusterId::from_bits(42);

/// The id of manager `number`.
pub(crate) const fn id(number: u8) -> NodeId {
    NodeId::from_bits(number as u128)
}

/// UDP ports that are free at the moment.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("bound").port())
}

/// The endpoint of manager `number`, which knows that the first managers listen on these ports; later managers take any
/// port. Certificates are signed at `signed` by an authority derived from a constant. Must be called inside a runtime.
pub(crate) fn endpoint(number: u8, signed: Timestamp, ports: &[u16]) -> Endpoint {
    let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let listen = addr(ports.get(usize::from(number) - 1).copied().unwrap_or(0));
    let authority =
        Authority::create(CLUSTER, Key::from_seed([77; 32]), Serial { granted: Index(1), nonce: 0 }, signed);
    let key = Key::from_seed([number; 32]);
    let grant = Grant {
        cluster: CLUSTER,
        node: id(number),
        role: Role::Manager,
        serial: Serial { granted: Index(1), nonce: number.into() },
        now: signed,
        lifetime: NODE_LIFETIME,
    };
    let leaf = authority.sign(&SigningRequest::create(&key), &grant).expect("signed");
    let identity = Identity::new(vec![leaf], key, vec![authority.certificate().clone()]).expect("fits");
    let managers = [1, 2, 3, GENERATOR].into_iter().map(id).collect();
    let admission = Admission { lineage: LINEAGE, index: Index(1), managers, ..Admission::default() };
    let clock = RealClock::new();
    let config = Config {
        listen,
        advertise: listen,
        identity,
        wire: WireVersion::NEWEST,
        generation: Generation(1),
        key: SocketKey([number; 32]),
        seed: number.into(),
        utc: Arc::new(move || clock.utc()),
        admission: watch::channel(Arc::new(admission)).1,
    };
    let (endpoint, (mut events, mut datagrams)) = Endpoint::start(&QuicNetwork, config).expect("the port is free");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    tokio::spawn(async move { while datagrams.recv().await.is_some() {} });
    for (other, port) in (1..).zip(ports) {
        if other != number {
            endpoint.learn(id(other), addr(*port));
        }
    }
    endpoint
}
