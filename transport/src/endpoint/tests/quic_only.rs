//! Tests that need the real network: TLS, and a daemon that dies without a goodbye.

use super::world::{World, echoes, ip};
use crate::endpoint::Lost;
use crate::network::{Binding, Ended, Network as _, Probe, SocketKey, Trust};
use crate::trust::{Authority, Identity, Key};
use crate::{DialError, Lane, LaneStream, PeerInfo, QuicNetwork, STALLED_MAX, Serve};
use essaim_wire::{ClusterId, Generation, Role, Timestamp};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_by_both_sides() {
    let mut world = World::on_quic();
    let node = world.node(1, Role::Manager);
    let mut elsewhere = World::on_quic();
    elsewhere.authority =
        Authority::create(ClusterId::from_bits(42), Key::from_seed([66; 32]), elsewhere_serial(), super::world::NOW);
    let stranger = elsewhere.node(2, Role::Manager);
    stranger.knows(&node);
    let refused = stranger.endpoint.reach(node.id).await.expect_err("another CA");
    assert!(refused.to_string().contains("is not trusted"), "{refused}");

    // A stranger that trusts the cluster, and that the cluster does not trust.
    let theirs = elsewhere.identity(2, Role::Manager);
    let roots = vec![world.authority.certificate().clone()];
    let mixed = Identity::new(theirs.chain().to_vec(), theirs.key().clone(), roots).expect("fits");
    let binding = Binding { identity: Some(mixed), key: SocketKey([2; 32]), utc: super::world::utc() };
    let socket = QuicNetwork.bind(SocketAddr::new(ip(2), 0), binding).expect("a port");
    // In TLS 1.3 the dialler is done before the other side has judged it, so the refusal comes after the dial.
    if let Ok(connection) = socket.dial(node.addr(), Trust::Member).await {
        let ended = connection.ended().await;
        assert!(matches!(ended, Ended::Failed(_)), "{ended:?}");
    }
    assert!(node.endpoint.peers().is_empty());
    socket.close().await;
}

fn elsewhere_serial() -> crate::trust::Serial {
    crate::trust::Serial { granted: essaim_wire::Index(0), nonce: 0 }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_clock_that_was_handed_in() {
    let mut world = World::on_quic();
    let node = world.node(1, Role::Manager);
    let late: crate::Utc = Arc::new(|| Timestamp::from_micros(super::world::NOW.as_micros() * 2));
    let binding = Binding { identity: Some(world.identity(2, Role::Worker)), key: SocketKey([2; 32]), utc: late };
    let socket = QuicNetwork.bind(SocketAddr::new(ip(2), 0), binding).expect("a port");
    let refused = socket.dial(node.addr(), Trust::Member).await.err().expect("expired");
    assert!(matches!(&refused, DialError::Untrusted { why, .. } if why.contains("xpired")), "{refused}");
    socket.close().await;
}

/// A server that sends without end what nobody reads, to whom asks for `flood`, and echoes everything else.
#[derive(Default)]
struct Flood(AtomicUsize);

impl Serve for Flood {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        async move {
            while let Ok(Some(message)) = stream.recv.recv().await {
                while message == b"flood"[..] && stream.send.send(&[0; 16 << 10]).await.is_ok() {
                    self.0.fetch_add(1, Ordering::Relaxed);
                }
                if stream.send.send(&message).await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_leave_the_others_their_room() {
    let mut world = World::on_quic();
    let (server, client) = world.pair();
    let flood = Arc::new(Flood::default());
    server.endpoint.serve(Lane::Port, flood.clone());
    let mut stalled = Vec::new();
    for _ in 0..STALLED_MAX {
        let mut stream = client.endpoint.open(server.id, Lane::Port).await.expect("open");
        stream.send.send(b"flood").await.expect("sent");
        stalled.push(stream);
    }
    // Until nothing is sent on any of them.
    let mut before = usize::MAX;
    while flood.0.load(Ordering::Relaxed) != before || before < STALLED_MAX {
        before = flood.0.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut stream = client.endpoint.open(server.id, Lane::Port).await.expect("open");
    let words = vec![7; 180];
    for _ in 0..20_000 {
        stream.send.feed(&words).expect("short");
    }
    let (mut send, mut recv) = (stream.send, stream.recv);
    let sends = tokio::spawn(async move { send.flush().await.map(|()| send) });
    for at in 0..20_000 {
        let heard = timeout(Duration::from_secs(20), recv.recv()).await.expect("it flows");
        assert_eq!(heard.expect("heard").as_deref(), Some(&words[..]), "message {at}");
    }
    drop(sends.await.expect("no panic").expect("sent"));
}

/// More connections to published ports than a bulk connection has room for at its begin.
const MANY: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_room_for_more_connections_to_ports_while_it_opens_them() {
    let mut world = World::on_quic();
    let (server, client) = world.pair();
    server.endpoint.serve(Lane::Port, Arc::new(Flood::default()));
    let mut open = Vec::new();
    while open.len() < MANY {
        let opens = (0..100).map(|_| client.endpoint.open(server.id, Lane::Port));
        let opened = timeout(Duration::from_secs(20), try_join_all(opens)).await.expect("none waits for room");
        open.extend(opened.expect("open"));
    }
    // All of them are open at the same time, and other lanes have room beside them.
    for mut stream in open.into_iter().step_by(100) {
        stream.send.send(b"words").await.expect("sent");
        assert_eq!(stream.recv.recv().await.expect("heard").as_deref(), Some(&b"words"[..]));
    }
    let logs = client.endpoint.open(server.id, Lane::Logs).await.expect("open");
    assert!(echoes(logs, b"a line").await);
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    let mut world = World::on_quic();
    let (a, b) = world.pair();
    let noise = tokio::net::UdpSocket::bind((ip(9), 0)).await.expect("a port");
    for len in [0, 1, 20, 1200, 1400] {
        noise.send_to(&vec![0xff; len], a.addr()).await.expect("sent");
    }
    assert!(a.speaks_with(&b).await);
}

#[tokio::test]
async fn a_killed_daemon_is_refused_by_its_host_and_reset_by_its_successor() {
    let mut world = World::on_quic();
    let mut a = world.node(1, Role::Manager);
    // A daemon in a runtime of its own, which ends without a goodbye, as by SIGKILL.
    let (doomed, mut b) = {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _inside = runtime.enter();
        let b = world.node(2, Role::Manager);
        (runtime, b)
    };
    a.knows(&b);
    b.knows(&a);
    let addr = b.addr();
    a.endpoint.reach(b.id).await.expect("reached");
    assert_eq!(b.up().await.node, a.id);
    doomed.shutdown_background();
    drop(b);
    while a.endpoint.probe(essaim_wire::NodeId::from_bits(2)).await != Probe::Refused {
        tokio::task::yield_now().await;
    }
    let again = world.node_at(2, Role::Manager, 2, addr.port());
    assert_eq!(a.lost().await, Lost::Ended(Ended::Reset), "long before the idle timeout");
    assert_eq!(a.endpoint.reach(again.id).await.map(|peer| peer.generation), Ok(Generation(2)));
}

#[tokio::test]
async fn ipv6_and_every_address_of_the_host_serve_as_well() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("skipped: this host has no IPv6");
    }
    let mut world = World::on_quic();
    let everywhere = SocketAddr::from(([0u16; 8], 0));
    let (a, b) = (world.node_on(1, Role::Manager, everywhere), world.node_on(2, Role::Worker, everywhere));
    let at = |ip: std::net::IpAddr| SocketAddr::new(ip, a.addr().port());
    for addr in [at("::1".parse().expect("an address")), at("::ffff:127.0.0.1".parse().expect("an address"))] {
        let met = b.endpoint.meet(addr).await.expect("met");
        assert_eq!(met.advertise, addr, "who listens everywhere is reached where it was met");
        b.endpoint.disconnect(a.id, "next");
    }
}
