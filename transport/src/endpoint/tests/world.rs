//! Fixture of the tests: a cluster with a CA and an admission table, and nodes made in one line.

use crate::endpoint::{Config, Datagram, Datagrams, Endpoint, Event, LaneStream, PeerInfo, Serve};
use crate::issuer::{EnrolReply, EnrolRequest, Issuer, Refused};
use crate::lane::Lane;
use crate::network::{Network, SocketKey, Utc};
use crate::sim::SimNetwork;
use crate::trust::{Authority, Grant, Identity, JoinToken, Key, NODE_LIFETIME, Serial, SigningRequest, TokenSecret};
use crate::{Admission, QuicNetwork};
use essaim_wire::{ClusterId, Generation, Index, Lineage, NodeId, Role, Timestamp, WireVersion};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const CLUSTER: ClusterId = ClusterId::from_bits(42);
pub(super) const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// Time after which a test gives up waiting: no step takes this long.
const NEVER: Duration = Duration::from_secs(100);

pub(super) struct World {
    pub(super) authority: Authority,
    pub(super) secret: TokenSecret,
    pub(super) tables: watch::Sender<Arc<Admission>>,
    pub(super) sim: Option<SimNetwork>,
    serial: u64,
}

pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) datagrams: Datagrams,
    pub(super) id: NodeId,
}

impl World {
    pub(super) fn on_quic() -> Self {
        Self::new(None)
    }

    pub(super) fn simulated(seed: u64) -> Self {
        Self::new(Some(SimNetwork::new(seed)))
    }

    fn new(sim: Option<SimNetwork>) -> Self {
        Self {
            authority: Authority::create(CLUSTER, Key::from_seed([1; 32]), serial(0), NOW),
            secret: TokenSecret::from_bytes([9; 16]),
            tables: watch::channel(Arc::default()).0,
            sim,
            serial: 0,
        }
    }

    pub(super) fn sim(&self) -> &SimNetwork {
        self.sim.as_ref().expect("a fact about the simulation")
    }

    pub(super) fn network(&self, ip: IpAddr) -> Arc<dyn Network> {
        match &self.sim {
            Some(sim) => sim.host(ip),
            None => Arc::new(QuicNetwork),
        }
    }

    pub(super) fn identity(&mut self, id: u8, role: Role) -> Identity {
        self.serial += 1;
        let key = Key::from_seed([id; 32]);
        let grant = Grant {
            cluster: CLUSTER,
            node: NodeId::from_bits(id.into()),
            role,
            serial: serial(self.serial),
            now: NOW,
            lifetime: NODE_LIFETIME,
        };
        let leaf = self.authority.sign(&SigningRequest::create(&key), &grant).expect("signed");
        Identity::new(vec![leaf], key, vec![self.authority.certificate().clone()]).expect("fits")
    }

    pub(super) fn node(&mut self, id: u8, role: Role) -> Node {
        self.node_at(id, role, 1, 0)
    }

    pub(super) fn node_at(&mut self, id: u8, role: Role, generation: u64, port: u16) -> Node {
        self.start(id, role, generation, SocketAddr::new(ip(id), port))
    }

    pub(super) fn node_on(&mut self, id: u8, role: Role, listen: SocketAddr) -> Node {
        self.start(id, role, 1, listen)
    }

    /// Starts a node whose program speaks no wire version newer than `wire`.
    pub(super) fn older_node(&mut self, id: u8, role: Role, wire: WireVersion) -> Node {
        self.start_as(id, role, 1, SocketAddr::new(ip(id), 0), wire)
    }

    fn start(&mut self, id: u8, role: Role, generation: u64, listen: SocketAddr) -> Node {
        self.start_as(id, role, generation, listen, WireVersion::NEWEST)
    }

    fn start_as(&mut self, id: u8, role: Role, generation: u64, listen: SocketAddr, wire: WireVersion) -> Node {
        let identity = self.identity(id, role);
        let config = Config {
            listen,
            advertise: listen,
            wire,
            identity,
            generation: Generation(generation),
            key: SocketKey([id; 32]),
            seed: id.into(),
            utc: utc(),
            admission: self.tables.subscribe(),
        };
        let (endpoint, (events, datagrams)) =
            Endpoint::start(&*self.network(ip(id)), config).expect("the port is free");
        endpoint.serve(Lane::Members, Arc::new(Echo));
        endpoint.serve(Lane::View, Arc::new(Echo));
        endpoint.serve(Lane::Raft, Arc::new(Echo));
        endpoint.serve(Lane::Logs, Arc::new(Echo));
        Node { endpoint, events, datagrams, id: NodeId::from_bits(id.into()) }
    }

    /// Two managers that know each other's address.
    pub(super) fn pair(&mut self) -> (Node, Node) {
        let (a, b) = (self.node(1, Role::Manager), self.node(2, Role::Manager));
        a.knows(&b);
        b.knows(&a);
        (a, b)
    }

    pub(super) fn token(&self) -> JoinToken {
        JoinToken::new(self.authority.certificate(), self.secret.clone())
    }

    /// Publishes an admission table with these managers and removed nodes.
    pub(super) fn publish(&self, index: u64, managers: &[u8], removed: &[u8]) {
        let until = NOW + NODE_LIFETIME;
        self.tables.send_replace(Arc::new(Admission {
            lineage: Lineage { ordinal: 1, nonce: 1 },
            index: Index(index),
            managers: managers.iter().map(|id| NodeId::from_bits((*id).into())).collect(),
            removed: removed.iter().map(|id| (NodeId::from_bits((*id).into()), until)).collect(),
        }));
    }

    /// An issuer that enrols every node with the right secret, as node 50 in the role of a worker.
    pub(super) fn issuer(&self, managers: Vec<(NodeId, SocketAddr)>) -> Arc<Ca> {
        Arc::new(Ca {
            authority: self.authority.clone(),
            secret: self.secret.clone(),
            managers,
            asked: AtomicU64::new(0),
        })
    }
}

impl Node {
    pub(super) fn knows(&self, other: &Self) {
        self.endpoint.learn(other.id, other.addr());
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    pub(super) async fn event(&mut self) -> Event {
        timeout(NEVER, self.events.recv()).await.expect("an event comes").expect("the endpoint lives")
    }

    /// Waits for the next established session.
    pub(super) async fn up(&mut self) -> PeerInfo {
        loop {
            if let Event::Up(peer) = self.event().await {
                return peer;
            }
        }
    }

    /// Waits for the next end of a session.
    pub(super) async fn lost(&mut self) -> crate::endpoint::Lost {
        loop {
            if let Event::Lost { how, .. } = self.event().await {
                return how;
            }
        }
    }

    pub(super) async fn datagram(&mut self) -> Datagram {
        timeout(NEVER, self.datagrams.recv()).await.expect("a datagram comes").expect("the endpoint lives")
    }

    /// Opens a lane that any node may open, and returns whether the echo arrives.
    pub(super) async fn speaks_with(&self, other: &Self) -> bool {
        match self.endpoint.open(other.id, Lane::Members).await {
            Ok(stream) => echoes(stream, b"hello").await,
            Err(_) => false,
        }
    }
}

pub(super) async fn echoes(mut stream: LaneStream, words: &[u8]) -> bool {
    let echoed = stream.send.send(words).await.is_ok()
        && matches!(timeout(NEVER, stream.recv.recv()).await, Ok(Ok(Some(heard))) if heard == words);
    // Waits until the other side has freed the stream's place, too.
    let _ = stream.send.finish().await;
    let _ = timeout(NEVER, stream.recv.recv()).await;
    echoed
}

pub(super) fn ip(id: u8) -> IpAddr {
    IpAddr::from([127, 0, 9, id])
}

pub(super) fn utc() -> Utc {
    Arc::new(|| NOW)
}

fn serial(nonce: u64) -> Serial {
    Serial { granted: Index(1), nonce }
}

/// Server that echoes every frame.
pub(super) struct Echo;

impl Serve for Echo {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        async move {
            while let Ok(Some(message)) = stream.recv.recv().await {
                if stream.send.send(&message).await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

pub(super) struct Ca {
    authority: Authority,
    secret: TokenSecret,
    managers: Vec<(NodeId, SocketAddr)>,
    pub(super) asked: AtomicU64,
}

impl Issuer for Ca {
    fn enrol(&self, asked: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let enrolled = if asked.secret == self.secret {
            let (node, role) = (NodeId::from_bits(50), Role::Worker);
            let grant = Grant { cluster: CLUSTER, node, role, serial: serial(50), now: NOW, lifetime: NODE_LIFETIME };
            self.authority.sign(&asked.request, &grant).map_err(|why| Refused::Request(why.to_string())).map(|leaf| {
                EnrolReply {
                    node,
                    role,
                    chain: vec![leaf],
                    roots: vec![self.authority.certificate().clone()],
                    managers: self.managers.clone(),
                    admission: Admission::default(),
                }
            })
        } else {
            Err(Refused::Secret)
        };
        async { enrolled }.boxed()
    }

    fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.managers.clone()
    }
}
