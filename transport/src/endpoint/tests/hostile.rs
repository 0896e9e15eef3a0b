//! Tests with a hostile worker: the limits on what it may occupy of a manager, and that other nodes do not notice.

use super::on_both_networks;
use super::world::{Node, World, utc};
use crate::admission::Denied;
use crate::endpoint::hello::{Open, Opened};
use crate::endpoint::{LaneStream, OpenError, PeerInfo, Serve};
use crate::frame::{FrameReceiver, FrameSender, MAX_FRAME};
use crate::lane::{Lane, Traffic};
use crate::network::{Binding, Connection, Network as _, SocketKey, Trust};
use crate::{QuicNetwork, code};
use bytes::Bytes;
use essaim_wire::Role;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

on_both_networks!(
    a_peer_has_a_few_streams_of_a_lane_and_gets_the_next_when_one_ends,
    a_lane_is_served_on_its_own_connection_of_the_pair_only,
    a_peer_that_floods_with_datagrams_loses_its_own_and_none_of_others,
    a_worker_executes_nothing_on_other_nodes,
);

/// A manager, a hostile worker and an honest one; the workers know the manager.
fn three(world: &mut World) -> (Node, Node, Node) {
    let manager = world.node(1, Role::Manager);
    let (hostile, honest) = (world.node(2, Role::Worker), world.node(3, Role::Worker));
    hostile.knows(&manager);
    honest.knows(&manager);
    (manager, hostile, honest)
}

/// Sends a frame and receives its echo: everything that was sent before has arrived.
async fn echo(stream: &mut LaneStream) {
    stream.send.send(b"there?").await.expect("sent");
    let heard = stream.recv.recv().await.expect("heard");
    assert_eq!(heard.as_deref(), Some(&b"there?"[..]));
}

/// Server that reads, and counts the streams that it serves at the moment.
#[derive(Default)]
struct Count(AtomicUsize);

impl Serve for Count {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        async move {
            self.0.fetch_add(1, Ordering::Relaxed);
            while matches!(stream.recv.recv().await, Ok(Some(_))) {}
            drop(stream);
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        .boxed()
    }
}

async fn a_peer_has_a_few_streams_of_a_lane_and_gets_the_next_when_one_ends(world: &mut World) {
    let (manager, hostile, honest) = three(world);
    let links = Arc::new(Count::default());
    manager.endpoint.serve(Lane::Link, links.clone());
    manager.endpoint.serve(Lane::Members, Arc::new(super::world::Echo));
    let mut held = Vec::new();
    let denied = loop {
        match hostile.endpoint.open(manager.id, Lane::Link).await {
            Ok(stream) => held.push(stream),
            Err(why) => break why,
        }
    };
    assert_eq!(denied, OpenError::Denied(Denied::TooMany { node: hostile.id, lane: Lane::Link }));
    assert_eq!((held.len(), links.0.load(Ordering::Relaxed)), (3, 3));
    let other = honest.endpoint.open(manager.id, Lane::Link).await;
    assert!(other.is_ok(), "another peer has places of its own");
    assert!(hostile.endpoint.open(manager.id, Lane::Members).await.is_ok(), "and each lane, too");
    drop(held.pop());
    while hostile.endpoint.open(manager.id, Lane::Link).await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn a_worker_executes_nothing_on_other_nodes(world: &mut World) {
    let (manager, hostile, honest) = three(world);
    hostile.knows(&honest);
    manager.knows(&honest);
    let sessions = Arc::new(Count::default());
    for node in [&manager, &honest] {
        node.endpoint.serve(Lane::Exec, sessions.clone());
    }
    for node in [&manager, &honest] {
        let denied = hostile.endpoint.open(node.id, Lane::Exec).await.map(drop);
        assert_eq!(denied, Err(OpenError::Denied(Denied::Worker { node: hostile.id, lane: Lane::Exec })));
    }
    assert_eq!(sessions.0.load(Ordering::Relaxed), 0, "the server was never called");
    assert!(manager.endpoint.open(honest.id, Lane::Exec).await.is_ok(), "a manager does");
}

/// Opens a lane on the given connection, even one that its own endpoint would refuse.
async fn open_on(connection: &dyn Connection, lane: Lane) -> Option<Opened> {
    let stream = connection.open_stream().await.ok()?;
    let (mut send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
    send.send_value(&Open { lane, lineage: essaim_wire::Lineage::default() }).await.ok()?;
    recv.expect_value().await.ok()
}

async fn a_lane_is_served_on_its_own_connection_of_the_pair_only(world: &mut World) {
    let (manager, hostile, _) = three(world);
    manager.endpoint.serve(Lane::Link, Arc::new(Count::default()));
    // The lane is refused; the session stays.
    hostile.endpoint.open(manager.id, Lane::Logs).await.err().expect("a worker reads no logs");
    let bulk = hostile.endpoint.inner.session(manager.id, Traffic::Bulk).expect("it was dialled");
    let answer = open_on(&*bulk.connection, Lane::Link).await;
    assert_eq!(answer, Some(Opened::No(Denied::OtherTraffic { lane: Lane::Link })));
}

async fn a_peer_that_floods_with_datagrams_loses_its_own_and_none_of_others(world: &mut World) {
    let (mut manager, hostile, honest) = three(world);
    manager.endpoint.serve(Lane::Members, Arc::new(super::world::Echo));
    let mut of_hostile = hostile.endpoint.open(manager.id, Lane::Members).await.expect("open");
    let mut of_honest = honest.endpoint.open(manager.id, Lane::Members).await.expect("open");
    // The manager reads nothing in the meantime, so what it keeps is in its queues.
    for _ in 0..100 {
        for _ in 0..100 {
            hostile.endpoint.send_datagram(manager.id, Bytes::from_static(&[6; 1000]));
        }
        echo(&mut of_hostile).await;
    }
    for number in 0..10 {
        honest.endpoint.send_datagram(manager.id, Bytes::from(vec![number]));
        echo(&mut of_honest).await;
    }
    let mut heard = Vec::new();
    while let Some(datagram) = manager.datagrams.try_recv() {
        heard.push(datagram);
    }
    let numbers: Vec<u8> = heard.iter().filter(|it| it.from == honest.id).map(|it| it.bytes[0]).collect();
    assert_eq!(numbers, Vec::from_iter(0..10));
    assert!(heard.len() <= 10 + 64, "{} wait", heard.len());
    let place = heard.iter().position(|it| it.from == honest.id).expect("heard");
    assert!(place <= 1, "it is read in turn, not behind the flood");
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4096
}

/// Opens a lane and sends all of the largest frame except its last byte, as far as flow control allows.
async fn half_a_frame(connection: Arc<dyn Connection>, lane: Lane) -> Option<()> {
    let stream = connection.open_stream().await.ok()?;
    let (mut send, _recv) = (FrameSender::new(stream.send), stream.recv);
    send.send_value(&Open { lane, lineage: essaim_wire::Lineage::default() }).await.ok()?;
    let mut raw = send.into_inner();
    raw.write_all(&u32::try_from(MAX_FRAME).expect("fits").to_be_bytes()).await.ok()?;
    let piece = vec![7; 64 << 10];
    for _ in 0..MAX_FRAME / piece.len() - 1 {
        raw.write_all(&piece).await.ok()?;
    }
    raw.write_all(&piece[1..]).await.ok()?;
    std::future::pending().await
}

/// Both sides are in this process, so the limit covers what each holds for the other: 48 MiB at the manager, and the
/// unsent data at the worker. Without limits for each peer this takes gigabytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_frames_on_every_stream_take_little_memory_and_no_turn_of_others() {
    let mut world = World::on_quic();
    let (manager, hostile, honest) = three(&mut world);
    let served = Arc::new(Count::default());
    manager.endpoint.serve(Lane::Link, served.clone());
    manager.endpoint.serve(Lane::Members, served.clone());
    manager.endpoint.serve(Lane::Enrol, Arc::new(super::world::Echo));
    hostile.endpoint.reach(manager.id).await.expect("reached");
    hostile.endpoint.open(manager.id, Lane::Logs).await.err().expect("denied");
    let before = resident();
    let mut attack = JoinSet::new();
    for traffic in [Traffic::Control, Traffic::Bulk] {
        let session = hostile.endpoint.inner.session(manager.id, traffic).expect("it stands");
        for stream in 0..1024 {
            let lane = if stream % 2 == 0 { Lane::Link } else { Lane::Members };
            attack.spawn(half_a_frame(session.connection.clone(), lane));
        }
    }
    let mut lane = honest.endpoint.open(manager.id, Lane::Enrol).await.expect("open");
    for _ in 0..500 {
        echo(&mut lane).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB", grown >> 20);
    let served = served.0.load(Ordering::Relaxed);
    assert!((1..=5).contains(&served), "{served} streams of a hostile worker are served");
}

/// The first packets of `count` handshakes that are never continued.
async fn first_packets(world: &World, count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind("127.0.9.99:0").await.expect("a port");
    let binding = Binding { identity: None, key: SocketKey([60; 32]), utc: utc() };
    let socket = QuicNetwork.bind(SocketAddr::from(([127, 0, 9, 60], 0)), binding).expect("a port");
    let (addr, trust) = (sink.local_addr().expect("bound"), Trust::Join { ca: world.token().ca });
    // The dials are dropped only at the end, because a dropped dial sends a packet that closes its connection.
    let mut dials = JoinSet::new();
    for _ in 0..count {
        let socket = socket.clone();
        dials.spawn(async move { drop(socket.dial(addr, trust).await) });
    }
    let (mut packets, mut seen) = (Vec::new(), BTreeSet::new());
    while packets.len() < count {
        let mut packet = vec![0; 1500];
        let (len, _) = sink.recv_from(&mut packet).await.expect("received");
        packet.truncate(len);
        // Distinguished by connection id: a packet that was sent twice belongs to one handshake.
        if len >= 1200 && seen.insert(packet[6..6 + usize::from(packet[5])].to_vec()) {
            packets.push(packet);
        }
    }
    socket.close().await;
    packets
}

/// Every first packet comes from an address of its own, which never answers.
#[tokio::test]
async fn nodes_join_while_forged_addresses_ask_for_every_place() {
    let mut world = World::on_quic();
    let manager = world.node(1, Role::Manager);
    manager.endpoint.issue(world.issuer(vec![]));
    let packets = first_packets(&world, 200).await;
    let mut senders = Vec::new();
    for number in 0..packets.len() {
        let ip = IpAddr::from([
            127,
            1,
            u8::try_from(number / 250).expect("few"),
            u8::try_from(number % 250).expect("few") + 1,
        ]);
        senders.push(UdpSocket::bind((ip, 0)).await.expect("a port"));
    }
    let forge = async |range: std::ops::Range<usize>| {
        for (packet, from) in packets[range.clone()].iter().zip(&senders[range]) {
            from.send_to(packet, manager.addr()).await.expect("sent");
        }
    };
    forge(0..100).await;
    let goes_on = async {
        // Forty packets a second: each holds the place of a handshake for five seconds.
        for number in (100..packets.len()).cycle() {
            forge(number..number + 1).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let joins = async {
        for seed in 50..55 {
            super::enrolment::join_as(&world, manager.addr(), &world.token(), seed).await.expect("enrolled");
        }
    };
    tokio::select! {
        biased;
        () = joins => (),
        () = goes_on => unreachable!(),
    }
}

/// 72 strangers from 24 addresses, none of which asks: more than are answered at once.
#[tokio::test]
async fn nodes_join_while_silent_strangers_are_connected() {
    let mut world = World::on_quic();
    let manager = world.node(1, Role::Manager);
    manager.endpoint.issue(world.issuer(vec![]));
    let trust = Trust::Join { ca: world.token().ca };
    let mut silent = Vec::new();
    for host in 1..=24 {
        let binding = Binding { identity: None, key: SocketKey([60; 32]), utc: utc() };
        let socket = QuicNetwork.bind(SocketAddr::from(([127, 2, 0, host], 0)), binding).expect("a port");
        for _ in 0..3 {
            silent.push(socket.dial(manager.addr(), trust).await.expect("anybody may connect"));
        }
    }
    super::enrolment::join_as(&world, manager.addr(), &world.token(), 50).await.expect("enrolled");
    // The first silent stranger had to make room for the joiner, or its time was over.
    let ended = silent[0].ended().await;
    let expected = [code::BUSY, code::HELLO];
    assert!(matches!(ended, crate::Ended::Closed { code, .. } if expected.contains(&code)), "{ended:?}");
}
