//! Tests of sessions and lanes without faults.

use super::on_both_networks;
use super::world::{Echo, World, echoes};
use crate::admission::Denied;
use crate::endpoint::{Endpoint, Event, LaneStream, Lost, OpenError, PeerInfo, Serve, Unreached};
use crate::frame::{FrameError, MAX_FRAME};
use crate::lane::{Lane, Traffic};
use crate::network::Probe;
use crate::trust::TrustError;
use crate::{EnrolReply, EnrolRequest, Issuer, Refused};
use bytes::Bytes;
use essaim_wire::{Generation, NodeId, Role, WireVersion};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

on_both_networks!(
    a_lane_carries_frames_in_both_directions,
    the_first_datagram_to_a_node_dials_it,
    a_node_at_an_address_can_be_met_and_says_who_it_is,
    a_worker_is_refused_on_the_raft_lane,
    a_demoted_manager_is_refused_on_the_raft_lane,
    a_removed_node_is_refused_everywhere_and_its_session_is_dropped,
    a_promotion_is_presented_and_opens_the_raft_lane,
    a_promotion_during_a_dial_is_shown_by_whatever_session_stands,
    a_lane_that_nobody_serves_says_so,
    a_node_that_moved_is_not_taken_for_another,
    a_frame_over_the_limit_and_undecodable_bytes_are_errors,
    both_dial_at_once_and_one_session_stands,
    a_higher_generation_replaces_the_session,
    the_same_port_is_bound_again_right_after_close,
    a_closed_endpoint_is_freed_though_its_server_and_its_issuer_hold_it,
    bulk_runs_on_a_connection_of_its_own,
    a_closed_daemon_refuses_the_sentinel_and_a_living_one_is_silent,
    a_goodbye_says_why,
    only_its_own_certificate_is_presented,
    a_node_opens_lanes_to_itself_and_is_judged_like_any_other,
    two_programs_of_different_age_speak_the_version_of_the_older,
);

async fn a_lane_carries_frames_in_both_directions(world: &mut World) {
    let (a, b) = world.pair();
    let mut stream = a.endpoint.open(b.id, Lane::Raft).await.expect("open");
    for len in [0, 1, 5000, MAX_FRAME] {
        let message = vec![7; len];
        let (sent, heard) = tokio::join!(stream.send.send(&message), stream.recv.recv());
        sent.expect("sent");
        assert_eq!(heard.expect("heard").expect("a message").len(), len);
    }
    stream.send.finish().await.expect("finished");
    assert_eq!(stream.recv.recv().await, Ok(None));
    assert!(b.speaks_with(&a).await, "the session serves both ways");
    assert_eq!((a.endpoint.peers().len(), b.endpoint.peers().len()), (1, 1));
}

async fn two_programs_of_different_age_speak_the_version_of_the_older(world: &mut World) {
    let new = world.node(1, Role::Manager);
    let old = world.older_node(2, Role::Worker, WireVersion::OLDEST);
    assert_eq!(new.endpoint.meet(old.addr()).await.expect("met").wire, WireVersion::OLDEST);
    assert_eq!(old.endpoint.peer(new.id).expect("the same session").wire, WireVersion::OLDEST);
    assert!(new.speaks_with(&old).await && old.speaks_with(&new).await);
    let newer = world.node(3, Role::Worker);
    assert_eq!(newer.endpoint.meet(new.addr()).await.expect("met").wire, WireVersion::NEWEST);
}

async fn the_first_datagram_to_a_node_dials_it(world: &mut World) {
    let (mut a, mut b) = world.pair();
    a.endpoint.send_datagram(b.id, Bytes::from_static(b"ping"));
    let heard = b.datagram().await;
    assert_eq!((heard.from, &heard.bytes[..]), (a.id, &b"ping"[..]));
    b.endpoint.send_datagram(a.id, Bytes::from(vec![1; 1150]));
    assert_eq!(a.datagram().await.bytes.len(), 1150, "gossip packets fit from the first");
}

async fn a_node_at_an_address_can_be_met_and_says_who_it_is(world: &mut World) {
    let (a, b) = (world.node(1, Role::Manager), world.node(2, Role::Worker));
    let met = b.endpoint.meet(a.addr()).await.expect("met");
    assert_eq!((met.node, met.role, met.generation), (a.id, Role::Manager, Generation(1)));
    assert_eq!((met.advertise, met.traffic), (a.addr(), Traffic::Control));
    assert_eq!(b.endpoint.address(a.id), Some(a.addr()));
    assert_eq!(a.endpoint.meet(a.addr()).await, Err(Unreached::Itself(a.id)));
}

async fn a_worker_is_refused_on_the_raft_lane(world: &mut World) {
    let (manager, worker) = (world.node(1, Role::Manager), world.node(2, Role::Worker));
    worker.knows(&manager);
    manager.knows(&worker);
    let denied = Denied::Worker { node: worker.id, lane: Lane::Raft };
    assert_eq!(worker.endpoint.open(manager.id, Lane::Raft).await.err(), Some(denied.clone().into()));
    assert_eq!(manager.endpoint.open(worker.id, Lane::Raft).await.err(), Some(denied.into()));
    assert!(worker.speaks_with(&manager).await, "the other lanes are open to it");
}

async fn a_demoted_manager_is_refused_on_the_raft_lane(world: &mut World) {
    let (mut a, b) = world.pair();
    world.publish(5, &[1, 2], &[]);
    assert!(echoes(b.endpoint.open(a.id, Lane::Raft).await.expect("a manager"), b"vote").await);
    // The commit that demotes b: the session is dropped, and its certificate, still a manager's, opens no raft lane.
    world.publish(6, &[1], &[]);
    assert_eq!(a.lost().await, Lost::RoleChanged);
    let refused = b.endpoint.open(a.id, Lane::Raft).await.err();
    assert_eq!(refused, Some(OpenError::Denied(Denied::Demoted { node: b.id, lane: Lane::Raft })));
    assert_eq!(a.up().await.role, Role::Worker);
    assert!(b.speaks_with(&a).await, "as a worker it is welcome");
}

async fn a_removed_node_is_refused_everywhere_and_its_session_is_dropped(world: &mut World) {
    let (mut a, mut b) = world.pair();
    assert!(b.speaks_with(&a).await);
    world.publish(5, &[1], &[2]);
    assert_eq!(a.lost().await, Lost::Denied(Denied::Removed { node: b.id }));
    b.lost().await;
    let removed = Unreached::Denied(Denied::Removed { node: b.id });
    assert_eq!(a.endpoint.reach(b.id).await, Err(removed.clone()));
    assert_eq!(b.endpoint.reach(a.id).await, Err(removed), "it is told, and why");
}

async fn a_promotion_is_presented_and_opens_the_raft_lane(world: &mut World) {
    let (a, mut b) = (world.node(1, Role::Manager), world.node(2, Role::Worker));
    b.knows(&a);
    assert!(b.endpoint.open(a.id, Lane::Raft).await.is_err());
    world.publish(5, &[1, 2], &[]);
    b.endpoint.present(world.identity(2, Role::Manager)).expect("its own");
    assert_eq!(b.lost().await, Lost::RoleChanged);
    assert!(echoes(b.endpoint.open(a.id, Lane::Raft).await.expect("a manager"), b"vote").await);
    // A renewal in the same role drops nothing.
    let session = b.endpoint.peer(a.id).expect("stands").session;
    b.endpoint.present(world.identity(2, Role::Manager)).expect("its own");
    assert!(b.speaks_with(&a).await);
    assert_eq!(b.endpoint.peer(a.id).expect("stands").session, session);
}

async fn a_promotion_during_a_dial_is_shown_by_whatever_session_stands(world: &mut World) {
    // The dialler's certificate changes during its handshake, then that of the dialled node.
    for dials in [true, false] {
        let (a, b) = (world.node(1, Role::Manager), world.node(2, Role::Worker));
        world.publish(5, &[1, 2], &[]);
        let (dialler, dialled) = if dials { (&b, &a) } else { (&a, &b) };
        dialler.knows(dialled);
        let made = {
            let dial = dialler.endpoint.reach(dialled.id);
            let promoted = async {
                tokio::time::sleep(Duration::from_micros(300)).await;
                b.endpoint.present(world.identity(2, Role::Manager)).expect("its own");
            };
            tokio::join!(dial, promoted).0
        };
        b.knows(&a);
        drop(made);
        let opened = b.endpoint.open(a.id, Lane::Raft).await;
        assert!(echoes(opened.expect("a manager on both sides"), b"vote").await, "dialled by itself: {dials}");
        let shown = a.endpoint.peer(b.id).expect("a session stands").identity.role;
        assert_eq!(shown, Role::Manager);
        a.endpoint.close().await;
        b.endpoint.close().await;
    }
}

async fn a_lane_that_nobody_serves_says_so(world: &mut World) {
    let (a, b) = world.pair();
    b.endpoint.unserve(Lane::Members);
    let refused = a.endpoint.open(b.id, Lane::Members).await.err();
    assert_eq!(refused, Some(OpenError::Denied(Denied::Unserved { lane: Lane::Members })));
    b.endpoint.serve(Lane::Members, Arc::new(Echo));
    assert!(a.endpoint.open(b.id, Lane::Members).await.is_ok());
}

async fn a_node_that_moved_is_not_taken_for_another(world: &mut World) {
    let (a, b) = world.pair();
    let other = world.node(3, Role::Worker);
    a.endpoint.learn(b.id, other.addr());
    let reached = a.endpoint.reach(b.id).await;
    assert_eq!(reached, Err(Unreached::OtherNode { wanted: b.id, found: other.id, addr: other.addr() }));
    a.knows(&b);
    assert_eq!(a.endpoint.reach(b.id).await.map(|peer| peer.node), Ok(b.id));
    let nobody = NodeId::from_bits(99);
    assert_eq!(a.endpoint.reach(nobody).await, Err(Unreached::NoAddress(nobody)));
}

/// Server that reports the first frame it reads.
struct Tell(mpsc::UnboundedSender<Result<Option<u64>, FrameError>>);

impl Serve for Tell {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        async move {
            let _ = self.0.send(stream.recv.recv_value().await);
        }
        .boxed()
    }
}

async fn a_frame_over_the_limit_and_undecodable_bytes_are_errors(world: &mut World) {
    use tokio::io::AsyncWriteExt as _;
    let (a, b) = world.pair();
    let (tell, mut told) = mpsc::unbounded_channel();
    b.endpoint.serve(Lane::Raft, Arc::new(Tell(tell)));
    let mut stream = a.endpoint.open(b.id, Lane::Raft).await.expect("open");
    let too_long = FrameError::TooLong { len: MAX_FRAME + 1, max: MAX_FRAME };
    assert_eq!(stream.send.send(&vec![0; MAX_FRAME + 1]).await, Err(too_long), "not even sent");

    // A broken peer announces a frame of 4 GiB: an error, and no allocation.
    let mut raw = stream.send.into_inner();
    raw.write_all(&[255; 4]).await.expect("written");
    raw.flush().await.expect("flushed");
    let claimed = FrameError::TooLong { len: u32::MAX as usize, max: MAX_FRAME };
    assert_eq!(told.recv().await, Some(Err(claimed)));

    let mut stream = a.endpoint.open(b.id, Lane::Raft).await.expect("the session lives");
    stream.send.send(&[7, 7, 7]).await.expect("sent");
    assert!(matches!(told.recv().await, Some(Err(FrameError::Undecodable(_)))));

    let stream = a.endpoint.open(b.id, Lane::Raft).await.expect("the session lives");
    let mut raw = stream.send.into_inner();
    raw.write_all(&[0, 0, 0, 9, 1]).await.expect("written");
    raw.shutdown().await.expect("ended");
    assert_eq!(told.recv().await, Some(Err(FrameError::Cut)));
}

async fn both_dial_at_once_and_one_session_stands(world: &mut World) {
    for _ in 0..5 {
        let (a, b) = world.pair();
        let (one, other) = tokio::join!(a.endpoint.reach(b.id), b.endpoint.reach(a.id));
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        assert!(a.speaks_with(&b).await && b.speaks_with(&a).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((a.endpoint.peers().len(), b.endpoint.peers().len()), (1, 1));
        assert!(a.speaks_with(&b).await && b.speaks_with(&a).await, "both hold the same one");
        a.endpoint.close().await;
        b.endpoint.close().await;
    }
}

async fn a_higher_generation_replaces_the_session(world: &mut World) {
    let (mut a, b) = world.pair();
    assert!(b.speaks_with(&a).await);
    let first = a.up().await;
    // The same node starts again at another address, while its old session is still established.
    let again = world.node_at(2, Role::Manager, 2, 0);
    again.knows(&a);
    assert!(again.speaks_with(&a).await);
    let mut heard = [a.event().await, a.event().await];
    heard.sort_by_key(|event| matches!(event, Event::Up(_)));
    let [Event::Lost { session, generation, how, .. }, Event::Up(second)] = heard else { panic!("{heard:?}") };
    assert_eq!((session, generation, how), (first.session, Generation(1), Lost::Restarted));
    assert_eq!(second.generation, Generation(2));
    // The daemon of the earlier start is still there, and is refused a session.
    let refused = b.endpoint.reach(a.id).await.expect_err("an old start");
    assert!(matches!(refused, Unreached::Hello(_)), "{refused:?}");
}

async fn the_same_port_is_bound_again_right_after_close(world: &mut World) {
    let (a, b) = world.pair();
    assert!(b.speaks_with(&a).await);
    // A stream is still held, and the port must be free all the same.
    let held = a.endpoint.open(b.id, Lane::View).await.expect("open");
    let port = a.addr().port();
    a.endpoint.close().await;
    let again = world.node_at(1, Role::Manager, 2, port);
    assert_eq!(again.addr().port(), port);
    b.knows(&again);
    assert!(b.speaks_with(&again).await);
    assert!(!echoes(held, b"old").await);
    assert_eq!(a.endpoint.reach(b.id).await, Err(Unreached::Closed));
}

/// Server and issuer that hold the endpoint that they serve, as those of a node do.
struct Holder {
    _endpoint: Endpoint,
}

impl Serve for Holder {
    fn serve(self: Arc<Self>, _: PeerInfo, _: LaneStream) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

impl Issuer for Holder {
    fn enrol(&self, _: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>> {
        async { Err(Refused::Secret) }.boxed()
    }

    fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        Vec::new()
    }
}

async fn a_closed_endpoint_is_freed_though_its_server_and_its_issuer_hold_it(world: &mut World) {
    let (a, b) = world.pair();
    assert!(b.speaks_with(&a).await);
    let holder = || Arc::new(Holder { _endpoint: a.endpoint.clone() });
    let (server, issuer) = (holder(), holder());
    let held = [Arc::downgrade(&server), Arc::downgrade(&issuer)];
    a.endpoint.serve(Lane::View, server);
    a.endpoint.issue(issuer);
    a.endpoint.close().await;
    assert!(held.iter().all(|held| held.upgrade().is_none()));
}

/// Server that sends without an end.
struct Flood;

impl Serve for Flood {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        async move { while stream.send.send(&[0; 100_000]).await.is_ok() {} }.boxed()
    }
}

async fn bulk_runs_on_a_connection_of_its_own(world: &mut World) {
    let (a, mut b) = world.pair();
    b.endpoint.serve(Lane::Logs, Arc::new(Flood));
    let mut logs = a.endpoint.open(b.id, Lane::Logs).await.expect("open");
    assert_eq!(logs.peer.traffic, Traffic::Bulk);
    assert!(logs.recv.recv().await.expect("floods").is_some());
    // The flood is no longer read and its windows are full; control traffic is not affected.
    assert!(a.speaks_with(&b).await);
    assert_eq!(b.up().await.traffic, Traffic::Control, "bulk sessions are no events");
    assert!(logs.recv.recv().await.expect("floods").is_some());
}

async fn a_closed_daemon_refuses_the_sentinel_and_a_living_one_is_silent(world: &mut World) {
    let (a, b) = world.pair();
    assert_eq!(a.endpoint.probe(b.id).await, Probe::Silent);
    b.endpoint.close().await;
    assert_eq!(a.endpoint.probe(b.id).await, Probe::Refused);
    assert_eq!(a.endpoint.probe(NodeId::from_bits(77)).await, Probe::Silent, "nobody knows where it is");
}

async fn a_goodbye_says_why(world: &mut World) {
    let (mut a, b) = world.pair();
    assert!(b.speaks_with(&a).await);
    b.endpoint.disconnect(a.id, "the test is over");
    let lost = a.lost().await;
    assert!(matches!(&lost, Lost::Ended(ended) if ended.to_string().contains("the test is over")), "{lost:?}");
    assert!(b.speaks_with(&a).await, "whoever needs it dials again");
}

async fn only_its_own_certificate_is_presented(world: &mut World) {
    let a = world.node(1, Role::Manager);
    let other = world.identity(2, Role::Manager);
    assert!(matches!(a.endpoint.present(other), Err(TrustError::Mismatch(_))));
}

async fn a_node_opens_lanes_to_itself_and_is_judged_like_any_other(world: &mut World) {
    let worker = world.node(1, Role::Worker);
    assert!(echoes(worker.endpoint.open(worker.id, Lane::Members).await.expect("open"), b"me").await);
    let refused = worker.endpoint.open(worker.id, Lane::Raft).await.err();
    assert_eq!(refused, Some(OpenError::Denied(Denied::Worker { node: worker.id, lane: Lane::Raft })));
}
