//! Tests with faults, in the simulation; and that the same seed gives the same run.

use super::world::{World, ip, utc};
use crate::code;
use crate::endpoint::{Event, Lost, Unreached};
use crate::network::{Binding, DialError, Ended, Probe, SocketKey, Trust};
use bytes::Bytes;
use essaim_wire::{Generation, Role};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_cut_ends_the_session_by_the_idle_timeout_on_both_sides() {
    let mut world = World::simulated(1);
    let (mut a, mut b) = world.pair();
    assert!(a.speaks_with(&b).await);
    let cut = Instant::now();
    world.sim().cut(ip(1), ip(2));
    assert_eq!(a.lost().await, Lost::Ended(Ended::TimedOut));
    assert_eq!(b.lost().await, Lost::Ended(Ended::TimedOut));
    assert!((2..=4).contains(&cut.elapsed().as_secs()), "{:?}", cut.elapsed());
    assert_eq!(a.endpoint.reach(b.id).await, Err(Unreached::Dial(DialError::NoAnswer { addr: b.addr() })));
    world.sim().heal_all();
    assert!(a.speaks_with(&b).await);
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_delays_streams_and_loses_datagrams() {
    let mut world = World::simulated(2);
    let (a, mut b) = world.pair();
    assert!(a.speaks_with(&b).await);
    world.sim().cut_one_way(ip(1), ip(2));
    a.endpoint.send_datagram(b.id, Bytes::from_static(b"lost"));
    let (spoke, ()) = tokio::join!(a.speaks_with(&b), async {
        sleep(Duration::from_secs(1)).await;
        world.sim().heal(ip(1), ip(2));
    });
    assert!(spoke, "the stream waited for the way to open");
    a.endpoint.send_datagram(b.id, Bytes::from_static(b"heard"));
    assert_eq!(&b.datagram().await.bytes[..], b"heard");
}

#[tokio::test(start_paused = true)]
async fn a_killed_daemon_refuses_the_sentinel_and_its_successor_resets_the_session() {
    let mut world = World::simulated(3);
    let (mut a, b) = world.pair();
    assert!(a.speaks_with(&b).await);
    let port = b.addr().port();
    world.sim().crash(ip(2));
    assert_eq!(a.endpoint.probe(b.id).await, Probe::Refused);
    let again = world.node_at(2, Role::Manager, 2, port);
    assert_eq!(a.lost().await, Lost::Ended(Ended::Reset), "the successor has the key of the dead one");
    assert_eq!(a.endpoint.reach(again.id).await.map(|peer| peer.generation), Ok(Generation(2)));
}

#[tokio::test(start_paused = true)]
async fn a_dark_host_is_silent_and_a_frozen_daemon_hears_everything_late() {
    let mut world = World::simulated(4);
    let (a, mut b) = world.pair();
    assert!(a.speaks_with(&b).await);
    world.sim().freeze(ip(2));
    assert_eq!(a.endpoint.probe(b.id).await, Probe::Silent, "its socket is bound, so nobody refuses");
    a.endpoint.send_datagram(b.id, Bytes::from_static(b"late"));
    sleep(Duration::from_secs(1)).await;
    assert!(b.datagrams.try_recv().is_none());
    world.sim().thaw(ip(2));
    assert_eq!(&b.datagram().await.bytes[..], b"late");
    world.sim().power_off(ip(2));
    assert_eq!(a.endpoint.probe(b.id).await, Probe::Silent);
}

#[tokio::test(start_paused = true)]
async fn sessions_survive_loss_and_datagrams_are_lost_by_it() {
    let mut world = World::simulated(5);
    let (a, mut b) = world.pair();
    world.sim().set_loss(300);
    assert!(a.speaks_with(&b).await);
    for number in 0..100u8 {
        a.endpoint.send_datagram(b.id, Bytes::from(vec![number]));
    }
    sleep(Duration::from_secs(1)).await;
    let mut heard = 0;
    while b.datagrams.try_recv().is_some() {
        heard += 1;
    }
    assert!((50..90).contains(&heard), "{heard} of 100 arrived");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_is_closed_and_no_accusation() {
    let mut world = World::simulated(6);
    let (mut a, b) = world.pair();
    a.endpoint.reach(b.id).await.expect("reached");
    let lost = a.lost().await;
    assert_eq!(lost, Lost::Unused);
}

#[tokio::test(start_paused = true)]
async fn those_who_dial_and_say_nothing_are_sent_away_and_others_get_in() {
    let mut world = World::simulated(8);
    let node = world.node(1, Role::Manager);
    let binding = Binding { identity: Some(world.identity(2, Role::Worker)), key: SocketKey([2; 32]), utc: utc() };
    let socket = world.network(ip(2)).bind((ip(2), 0).into(), binding).expect("a port");
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(socket.dial(node.addr(), Trust::Member).await.expect("dialled"));
    }
    // Every place is taken, so this node waits until the time of the silent ones is over.
    let late = world.node(3, Role::Worker);
    late.knows(&node);
    assert!(late.endpoint.reach(node.id).await.is_err() || node.endpoint.peers().len() == 1);
    assert!(late.speaks_with(&node).await);
    for connection in silent {
        assert!(matches!(connection.ended().await, Ended::Closed { code: code::HELLO, .. }));
    }
}

/// Five nodes that speak with each other at random while links are cut and a daemon dies.
async fn a_run(seed: u64) -> (u64, String) {
    let mut world = World::simulated(seed);
    let mut nodes: Vec<_> = (1..=5).map(|id| world.node(id, Role::Manager)).collect();
    for one in &nodes {
        nodes.iter().filter(|other| other.id != one.id).for_each(|other| one.knows(other));
    }
    world.sim().set_loss(20);
    for round in 0..20u8 {
        for one in &nodes {
            for other in &nodes {
                one.endpoint.send_datagram(other.id, Bytes::from(vec![round]));
            }
        }
        match round {
            5 => world.sim().cut(ip(1), ip(2)),
            8 => world.sim().isolate(ip(3)),
            12 => world.sim().heal_all(),
            14 => world.sim().crash(ip(4)),
            _ => (),
        }
        sleep(Duration::from_millis(500)).await;
    }
    let mut log = String::new();
    for node in &mut nodes {
        while let Ok(event) = node.events.try_recv() {
            let _ = match event {
                Event::Up(peer) => writeln!(log, "{} up {} {:?}", node.id, peer.node, peer.session),
                Event::Lost { node: peer, session, how, .. } => {
                    writeln!(log, "{} lost {peer} {session:?} {how:?}", node.id)
                }
            };
        }
        node.endpoint.close().await;
    }
    (world.sim().fingerprint(), log)
}

fn run_in_a_seeded_runtime(seed: u64) -> (u64, String) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true);
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    runtime.build().expect("a runtime").block_on(a_run(seed))
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = run_in_a_seeded_runtime(11);
    assert_eq!(first, run_in_a_seeded_runtime(11));
    assert_ne!(first.0, run_in_a_seeded_runtime(12).0);
    assert!(first.1.contains("TimedOut") && first.1.lines().count() > 25, "much happens in it: {}", first.1);
}
