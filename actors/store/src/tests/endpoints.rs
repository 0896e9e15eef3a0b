//! The group over real endpoints on the simulated network, with their hello, admission and lanes.

use super::world::{LINEAGE, accept, has, id};
use crate::peers::{Peers, Pipe};
use crate::{LogBounds, Start, Store, StoreConfig};
use essaim_system::env::{Disk, Seed, SimDisk, VirtualClock};
use essaim_transport::sim::SimNetwork;
use essaim_transport::trust::NODE_LIFETIME;
use essaim_transport::{
    Admission, Authority, Config, Endpoint, Grant, Identity, Key, Lane, LaneStream, PeerInfo, Serial, Serve,
    SigningRequest, SocketKey,
};
use essaim_wire::{ClusterId, Generation, Index, Level, NodeId, Role, Timestamp, WireVersion};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const CLUSTER: ClusterId = ClusterId::from_bits(42);
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

struct Lanes(Endpoint);

impl Peers for Lanes {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        async move {
            let LaneStream { send, recv, .. } = self.0.open(node, lane).await.map_err(|why| why.to_string())?;
            Ok(Pipe { send, recv })
        }
        .boxed()
    }
}

struct Served(Store);

impl Serve for Served {
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        let LaneStream { lane, send, recv, .. } = stream;
        async move { self.0.serve(lane, peer.node, Pipe { send, recv }).await }.boxed()
    }
}

fn ip(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::new(ip(number), 2377)
}

async fn manager(number: u8, start: Start, net: &SimNetwork, authority: &Authority) -> (Endpoint, Store) {
    let key = Key::from_seed([number; 32]);
    let grant = Grant {
        cluster: CLUSTER,
        node: id(number.into()),
        role: Role::Manager,
        serial: Serial { granted: Index(1), nonce: number.into() },
        now: NOW,
        lifetime: NODE_LIFETIME,
    };
    let leaf = authority.sign(&SigningRequest::create(&key), &grant).expect("signed");
    let identity = Identity::new(vec![leaf], key, vec![authority.certificate().clone()]).expect("fits");
    let admission = Admission {
        lineage: LINEAGE,
        index: Index(1),
        managers: (1..=3).map(id).collect(),
        removed: Default::default(),
    };
    let config = Config {
        wire: WireVersion::NEWEST,
        listen: addr(number),
        advertise: addr(number),
        identity,
        generation: Generation(1),
        key: SocketKey([number; 32]),
        seed: number.into(),
        utc: Arc::new(|| NOW),
        admission: watch::channel(Arc::new(admission)).1,
    };
    let (endpoint, (mut events, mut datagrams)) = Endpoint::start(&*net.host(ip(number)), config).expect("bound");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    tokio::spawn(async move { while datagrams.recv().await.is_some() {} });
    for other in 1..=3 {
        if other != number {
            endpoint.learn(id(other.into()), addr(other));
        }
    }
    let config = StoreConfig {
        node: id(number.into()),
        generation: Generation(1),
        addr: None,
        disk: Arc::new(SimDisk::new()) as Arc<dyn Disk>,
        clock: Arc::new(VirtualClock::new(NOW)),
        seed: Seed::from_number(number.into()),
        peers: Arc::new(Lanes(endpoint.clone())),
        level: Level::NEWEST,
        log: LogBounds::USUAL,
    };
    let store = Store::open(config, start).await.expect("opened");
    for lane in Store::LANES {
        endpoint.serve(lane, Arc::new(Served(store.clone())));
    }
    (endpoint, store)
}

#[tokio::test(start_paused = true)]
async fn three_managers_on_endpoints_agree_and_survive_the_loss_of_their_leader() {
    let net = SimNetwork::new(5);
    let authority = Authority::create(CLUSTER, Key::from_seed([77; 32]), Serial { granted: Index(1), nonce: 0 }, NOW);
    let (endpoint, first) = manager(1, Start::Found { lineage: LINEAGE }, &net, &authority).await;
    first.leadership().wait_for(|now| now.active().is_some()).await.expect("it leads");
    let mut others = Vec::new();
    for number in 2..=3 {
        let raft_id = first.change(vec![accept(number.into())], None).await.expect("committed").0;
        others.push(manager(number, Start::Join { lineage: LINEAGE, raft_id }, &net, &authority).await);
        first.add_voter(id(number.into()), raft_id, None).await.expect("it votes");
    }
    let follower = &others[0].1;
    for place in 100..110 {
        follower.change(vec![accept(place)], None).await.expect("forwarded");
        assert!(has(follower, place));
    }
    let seen = others[1].1.read().await.expect("a linearizable read");
    assert!(seen.node(id(109)).is_some());

    net.crash(ip(1));
    follower.change(vec![accept(200)], None).await.expect("the other two are a majority");
    net.power_off(ip(3));
    let began = tokio::time::Instant::now();
    let refused = follower.change(vec![accept(201)], None).await.expect_err("one of three is none");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(refused.text.contains("2 cannot be reached"), "{}", refused.text);
    drop(endpoint);
}
