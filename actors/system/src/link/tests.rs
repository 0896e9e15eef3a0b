//! Links between two sides in one process, over a pipe in memory.

use super::{CastError, ImportError, Link, Remote};
use crate::exported;
use crate::fixture::scope;
use crate::supervisor::CallError;
use essaim_transport::network::{RecvStream, SendStream};
use essaim_transport::{FrameReceiver, FrameSender, MAX_FRAME};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::{RactorClusterMessage, RactorMessage};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(2);

/// Messages that the counter accepts from another node.
#[derive(RactorClusterMessage)]
enum ToCounter {
    Add(u64),
    Text(String),
    Sleep(u64),
    Fail(String),
    #[rpc]
    Sum(RpcReplyPort<u64>),
    #[rpc]
    Never(RpcReplyPort<u64>),
}

/// A message type that no actor of these tests accepts.
#[derive(RactorClusterMessage)]
enum ToNobody {
    Add(u64),
}

/// Messages of the counter: those from another node, and one of its own node.
enum CounterMsg {
    Remote(ToCounter),
    AddHere(u64),
}

exported!(CounterMsg, Remote(ToCounter));

struct Counter;

struct Count {
    seen: Vec<u64>,
    kept: Vec<RpcReplyPort<u64>>,
}

impl Actor for Counter {
    type Msg = CounterMsg;
    type State = Count;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CounterMsg>, (): ()) -> Result<Count, ActorProcessingErr> {
        Ok(Count { seen: Vec::new(), kept: Vec::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMsg>,
        message: CounterMsg,
        count: &mut Count,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMsg::AddHere(n) | CounterMsg::Remote(ToCounter::Add(n)) => {
                let in_order = count.seen.last().is_none_or(|last| *last < n);
                assert!(in_order, "{n} came after {:?}", count.seen.last());
                count.seen.push(n);
            }
            CounterMsg::Remote(ToCounter::Text(_)) => (),
            CounterMsg::Remote(ToCounter::Sleep(seconds)) => sleep(Duration::from_secs(seconds)).await,
            CounterMsg::Remote(ToCounter::Fail(why)) => return Err(why.into()),
            CounterMsg::Remote(ToCounter::Sum(reply)) => drop(reply.send(count.seen.iter().sum())),
            CounterMsg::Remote(ToCounter::Never(reply)) => count.kept.push(reply),
        }
        Ok(())
    }
}

/// An actor that opens links and writes down how the actors it is linked to end.
struct Owner(Arc<Mutex<Vec<String>>>);

#[derive(RactorMessage)]
enum OwnerMsg {
    Monitor(ractor::ActorCell),
}

impl Actor for Owner {
    type Msg = OwnerMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<OwnerMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, me: ActorRef<OwnerMsg>, message: OwnerMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let OwnerMsg::Monitor(who) = message;
        me.get_cell().monitor(who);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<OwnerMsg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let line = match event {
            SupervisionEvent::ActorFailed(_, error) => format!("failed: {error}"),
            SupervisionEvent::ActorTerminated(_, _, why) => format!("ended: {}", why.unwrap_or_default()),
            _ => return Ok(()),
        };
        self.0.lock().push(line);
        Ok(())
    }
}

struct Half<T>(T);

impl AsyncRead for Half<ReadHalf<DuplexStream>> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Half<WriteHalf<DuplexStream>> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl SendStream for Half<WriteHalf<DuplexStream>> {
    fn reset(&mut self, _: u32) {}
}

impl RecvStream for Half<ReadHalf<DuplexStream>> {
    fn stop(&mut self, _: u32) {}
}

/// Frame sender and receiver on one end of a pipe.
fn frames(end: DuplexStream) -> (FrameSender, FrameReceiver) {
    let (read, write) = tokio::io::split(end);
    (FrameSender::new(Box::new(Half(write))), FrameReceiver::new(Box::new(Half(read))))
}

/// One node with one link.
struct Side {
    link: Link,
    owner: ActorRef<OwnerMsg>,
    heard: Arc<Mutex<Vec<String>>>,
}

async fn side(end: DuplexStream) -> Side {
    let heard = Arc::default();
    let (owner, _) = Actor::spawn(None, Owner(Arc::clone(&heard)), ()).await.expect("it starts");
    let (send, recv) = frames(end);
    let link = Link::open(&scope(), owner.get_cell(), "the peer", send, recv).await.expect("it opens");
    Side { link, owner, heard }
}

async fn two_sides() -> (Side, Side) {
    let (one, other) = tokio::io::duplex(64 << 10);
    (side(one).await, side(other).await)
}

async fn counter() -> ActorRef<CounterMsg> {
    Actor::spawn(None, Counter, ()).await.expect("it starts").0
}

/// Two linked sides, the first of which exports a counter to the second.
async fn linked_counter() -> (Side, Side, ActorRef<CounterMsg>, Remote<ToCounter>) {
    let (here, there) = two_sides().await;
    let counter = counter().await;
    here.link.export("counter", &counter);
    let remote = there.link.import("counter", SOON).await.expect("it is exported");
    (here, there, counter, remote)
}

#[tokio::test(start_paused = true)]
async fn casts_arrive_in_order_and_a_call_is_answered() {
    let (_here, _there, counter, remote) = linked_counter().await;
    counter.cast(CounterMsg::AddHere(0)).expect("it runs");
    for n in 1..=1000 {
        remote.cast(ToCounter::Add(n)).expect("there is room");
    }
    assert_eq!(remote.call(ToCounter::Sum, SOON).await, Ok(500_500));
}

#[tokio::test(start_paused = true)]
async fn both_sides_export_on_one_link() {
    let (here, there, _counter, remote) = linked_counter().await;
    let other = counter().await;
    there.link.export("counter", &other);
    let back: Remote<ToCounter> = here.link.import("counter", SOON).await.expect("it is exported");
    back.cast(ToCounter::Add(5)).expect("there is room");
    assert_eq!(back.call(ToCounter::Sum, SOON).await, Ok(5));
    assert_eq!(remote.call(ToCounter::Sum, SOON).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_exported_can_be_imported_and_only_as_its_own_type() {
    let (_here, there, ..) = linked_counter().await;
    let error = there.link.import::<ToCounter>("leader", SOON).await.expect_err("never exported");
    assert_eq!(error, ImportError::NotExported { name: "leader".into() });
    let error = there.link.import::<ToNobody>("counter", SOON).await.expect_err("another type");
    assert!(matches!(error, ImportError::OtherType { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_cannot_address_an_actor_that_was_not_exported_to_it() {
    use super::frame::Frame;
    let (one, other) = tokio::io::duplex(64 << 10);
    let here = side(one).await;
    let (secret, public) = (counter().await, counter().await);
    here.link.export("counter", &public);
    let (mut send, mut recv) = frames(other);
    send.send_value(&Frame::Open { revision: 1 }).await.expect("sent");
    // The peer guesses keys, among them ractor's own ids.
    for to in (0..64).chain([secret.get_id().pid()]).filter(|to| *to != 1) {
        let args = [8u64.to_be_bytes(), 9u64.to_be_bytes()].concat();
        send.send_value(&Frame::Cast { to, variant: "Add".into(), args: args.clone() }).await.expect("sent");
        send.send_value(&Frame::Call { to, tag: to, within_ms: 1000, variant: "Sum".into(), args: vec![] })
            .await
            .expect("sent");
    }
    let mut answers = Vec::new();
    while let Ok(Ok(Some(frame))) = tokio::time::timeout(SOON, recv.recv_value::<Frame>()).await {
        answers.extend(match frame {
            Frame::Reply { answer, .. } => Some(answer),
            _ => None,
        });
    }
    assert!(answers.len() >= 63 && answers.iter().all(Option::is_none), "{answers:?}");
    for actor in [secret, public] {
        let sum = actor.call(|reply| CounterMsg::Remote(ToCounter::Sum(reply)), Some(SOON)).await.expect("it runs");
        assert_eq!(sum.unwrap(), 0);
    }
    assert_eq!(here.link.reason(), None, "an old key is no crime");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_actor_that_ended_ends_at_once() {
    let (_here, _there, counter, remote) = linked_counter().await;
    counter.stop(None);
    counter.wait(None).await.expect("it stopped");
    let before = tokio::time::Instant::now();
    remote.call(ToCounter::Sum, Duration::from_secs(60)).await.expect_err("nobody answers");
    assert!(before.elapsed() < SOON);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends_at_its_deadline_on_both_sides() {
    let (here, _there, _counter, remote) = linked_counter().await;
    assert_eq!(remote.call(ToCounter::Never, Duration::from_secs(5)).await, Err(CallError::Timeout));
    // The caller sets no deadline, so the link's default applies.
    let before = tokio::time::Instant::now();
    let answer = remote.actor().call(ToCounter::Never, None).await.expect("sent");
    assert!(answer.is_send_error());
    assert!(before.elapsed() >= super::proxy::CALL_DEADLINE && before.elapsed() < super::proxy::CALL_DEADLINE * 2);
    sleep(SOON).await;
    assert_eq!(here.link.shared.state().served, 0);
}

#[tokio::test(start_paused = true)]
async fn how_an_exported_actor_ended_travels() {
    let (_here, there, counter, remote) = linked_counter().await;
    there.owner.cast(OwnerMsg::Monitor(remote.actor().get_cell())).expect("it runs");
    sleep(Duration::from_millis(1)).await;
    remote.cast(ToCounter::Fail("the disk is full".into())).expect("there is room");
    sleep(SOON).await;
    assert_eq!(*there.heard.lock(), ["failed: the disk is full"]);
    drop(counter);

    let (_here, there, counter, remote) = linked_counter().await;
    there.owner.cast(OwnerMsg::Monitor(remote.actor().get_cell())).expect("it runs");
    sleep(Duration::from_millis(1)).await;
    counter.stop(Some("done".into()));
    sleep(SOON).await;
    assert_eq!(*there.heard.lock(), ["ended: done"]);
    assert_eq!(remote.cast(ToCounter::Add(1)), Err(CastError::Ended));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_ended_before_its_export_is_reported_as_failed() {
    let (here, there) = two_sides().await;
    let counter = counter().await;
    counter.stop(None);
    counter.wait(None).await.expect("it stopped");
    here.link.export("counter", &counter);
    sleep(SOON).await;
    let error = there.link.import::<ToCounter>("counter", SOON).await.expect_err("it is gone");
    assert_eq!(error, ImportError::NotExported { name: "counter".into() });
}

#[tokio::test(start_paused = true)]
async fn bytes_that_do_not_decode_are_dropped_and_the_call_ends() {
    use ractor::message::SerializedMessage;
    let (_here, _there, _counter, remote) = linked_counter().await;
    let cell = remote.actor().get_cell();
    let cast = SerializedMessage::Cast { variant: "Add".into(), args: vec![1, 2, 3], metadata: None };
    cell.send_serialized(cast).expect("it runs");
    let unknown = SerializedMessage::Cast { variant: "Explode".into(), args: vec![], metadata: None };
    cell.send_serialized(unknown).expect("it runs");
    let (reply, answer) = tokio::sync::oneshot::channel::<Vec<u8>>();
    let call = SerializedMessage::Call { variant: "Sum".into(), args: vec![9], reply: reply.into(), metadata: None };
    cell.send_serialized(call).expect("it runs");
    answer.await.expect_err("no answer");
    assert_eq!(remote.call(ToCounter::Sum, SOON).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_frame_end_the_link_with_a_reason() {
    for (bytes, words) in [
        ([255, 1, 2, 3], "noconnection: undecodable Frame"),
        ([99, 1, 2, 3], "noconnection: written by a newer essaim: Frame has number 99"),
    ] {
        let (one, other) = tokio::io::duplex(64 << 10);
        let here = side(one).await;
        let (mut send, _recv) = frames(other);
        send.send(&bytes).await.expect("sent");
        let why = here.link.ended().await;
        assert!(why.starts_with(words), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_over_the_limit_ends_the_link_and_a_message_over_it_only_itself() {
    use tokio::io::AsyncWriteExt;
    let (one, mut other) = tokio::io::duplex(64 << 10);
    let here = side(one).await;
    other.write_all(&u32::MAX.to_be_bytes()).await.expect("written");
    let why = here.link.ended().await;
    assert!(why.contains("over the limit"), "{why}");

    let (_here, _there, _counter, remote) = linked_counter().await;
    // Whoever says it is told that it was not sent.
    for size in [MAX_FRAME, 32 << 20] {
        assert_eq!(remote.cast(ToCounter::Text("x".repeat(size))), Err(CastError::TooLong));
    }
    assert_eq!(remote.call(ToCounter::Sum, SOON).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn when_the_peer_is_gone_its_actors_fail_with_noconnection_and_calls_end() {
    let (here, there, _counter, remote) = linked_counter().await;
    there.owner.cast(OwnerMsg::Monitor(remote.actor().get_cell())).expect("it runs");
    let call = tokio::spawn({
        let remote = remote.clone();
        async move { remote.call(ToCounter::Never, Duration::from_secs(3600)).await }
    });
    sleep(SOON).await;
    here.link.close("the daemon stops");
    assert_eq!(call.await.expect("no panic"), Err(CallError::Dropped));
    let why = there.link.ended().await;
    assert_eq!(&*why, "noconnection: the peer closed the link: the daemon stops");
    sleep(SOON).await;
    let heard = there.heard.lock().clone();
    assert_eq!(heard, [format!("failed: {why}"), format!("ended: {why}")], "the proxy, then the guard");
    assert_eq!(remote.cast(ToCounter::Add(1)), Err(CastError::Ended));
    assert!(there.link.import::<ToCounter>("counter", SOON).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_link_ends_with_the_actor_that_opened_it() {
    let (here, there, ..) = linked_counter().await;
    here.owner.kill();
    assert_eq!(&*there.link.ended().await, "noconnection: the peer ended the stream");
    assert_eq!(&*here.link.ended().await, "noconnection: the actor that held it ended");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_costs_no_more_than_the_limit() {
    let (one, other) = tokio::io::duplex(4 << 10);
    let here = side(one).await;
    // The peer exports an actor and then reads nothing.
    use super::frame::Frame;
    let (mut send, _recv) = frames(other);
    send.send_value(&Frame::Open { revision: 1 }).await.expect("sent");
    let hears = super::type_name::<ToCounter>();
    send.send_value(&Frame::Export { key: 1, name: "counter".into(), hears }).await.expect("sent");
    let remote: Remote<ToCounter> = here.link.import("counter", SOON).await.expect("exported");

    // A sender that asks first is refused, and the link goes on.
    let mut sent = 0;
    let refused = loop {
        match remote.cast(ToCounter::Text("x".repeat(4 << 10))) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
        if sent % 64 == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(refused, CastError::Stalled);
    assert!(sent < 5_000, "{sent}");
    let (messages, bytes) = here.link.backlog();
    assert!(messages < 5_000 && bytes < 24 << 20, "{messages} {bytes}");
    assert_eq!(here.link.reason(), None);
    assert_eq!(remote.find_room(), Err(CastError::Stalled));
    let room = tokio::spawn({
        let remote = remote.clone();
        async move { remote.wait_for_room().await }
    });

    // A sender that does not ask floods the outbox, and the link ends.
    for n in 0..50_000 {
        let _ = remote.actor().cast(ToCounter::Text("x".repeat(4 << 10)));
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let why = here.link.ended().await;
    assert!(!room.await.expect("no panic"), "whoever waits for room is told that there will be none");
    assert!(why.contains("reads too slowly"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_for_too_long_is_lost() {
    let (one, other) = tokio::io::duplex(64);
    let here = side(one).await;
    here.link.export("counter", &counter().await);
    here.link.export("another", &counter().await);
    let why = here.link.ended().await;
    assert_eq!(&*why, "noconnection: the peer took nothing for 30 s");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn another_language_is_refused_before_anything_is_said() {
    use super::frame::Frame;
    let (one, other) = tokio::io::duplex(64 << 10);
    let here = side(one).await;
    let (mut send, _recv) = frames(other);
    send.send_value(&Frame::Open { revision: 7 }).await.expect("sent");
    assert_eq!(&*here.link.ended().await, "noconnection: the peer speaks revision 7 of links, this node 1");
}

#[tokio::test(start_paused = true)]
async fn a_link_is_read_no_faster_than_its_actor_hears_and_nothing_is_lost() {
    let (here, there, _counter, remote) = linked_counter().await;
    remote.cast(ToCounter::Sleep(5)).expect("there is room");
    let mut sent = 0;
    // Sends as much as the link takes while the actor sleeps.
    for _ in 0..1_000 {
        while sent < 50_000 && remote.cast(ToCounter::Add(sent + 1)).is_ok() {
            sent += 1;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(sent < 20_000, "{sent} were taken");
    assert!(there.link.backlog().0 > 1_000, "they wait at the side that sends");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(remote.call(ToCounter::Sum, SOON).await, Ok(sent * (sent + 1) / 2));
    assert_eq!(here.link.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_flooded_and_stuck_ends_the_link() {
    let (here, _there, _counter, remote) = linked_counter().await;
    remote.cast(ToCounter::Sleep(3600)).expect("there is room");
    for n in 1..10_000 {
        let _ = remote.cast(ToCounter::Add(n));
        if n % 100 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let why = here.link.ended().await;
    assert_eq!(&*why, "noconnection: an actor that the peer floods hears nothing for 20 s");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_exports_one_actor_under_names_without_end_loses_the_link() {
    use super::frame::Frame;
    let (one, other) = tokio::io::duplex(64 << 10);
    let here = side(one).await;
    let (mut send, _recv) = frames(other);
    send.send_value(&Frame::Open { revision: 1 }).await.expect("sent");
    for number in 0..1_000 {
        let frame = Frame::Export { key: 1, name: format!("name {number}"), hears: "a".into() };
        if send.send_value(&frame).await.is_err() {
            break;
        }
    }
    assert_eq!(&*here.link.ended().await, "noconnection: the peer exported actors under more than 256 names");
    assert!(here.link.shared.state().imports.is_empty(), "and nothing of it is kept");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_calls_with_much_at_once_is_read_no_faster_than_its_actor_hears() {
    use super::frame::Frame;
    let (one, other) = tokio::io::duplex(64 << 10);
    let here = side(one).await;
    let busy = counter().await;
    here.link.export("counter", &busy);
    busy.cast(CounterMsg::Remote(ToCounter::Sleep(5))).expect("it runs");
    let (mut send, _recv) = frames(other);
    send.send_value(&Frame::Open { revision: 1 }).await.expect("sent");
    let mut sent = 0;
    let calls = async {
        for tag in 0..100 {
            let args = vec![0; 1 << 20];
            let call = Frame::Call { to: 1, tag, within_ms: 60_000, variant: "Nobody knows it".into(), args };
            send.send_value(&call).await.expect("the link stands");
            sent += 1;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(4), calls).await.is_err(), "its actor sleeps");
    assert!(sent < 10, "{sent} MiB were taken in");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waits_for_room_sends_everything_over_a_link_that_is_slower() {
    let (_here, _there, _counter, remote) = linked_counter().await;
    for number in 1..=40 {
        // Five times as much as the link lets wait.
        for message in [ToCounter::Text("x".repeat(512 << 10)), ToCounter::Add(number)] {
            while remote.find_room() == Err(CastError::Stalled) {
                assert!(remote.wait_for_room().await, "the link stands");
            }
            remote.cast(message).expect("there was room");
        }
    }
    assert_eq!(remote.call(ToCounter::Sum, SOON * 100).await, Ok(40 * 41 / 2));
}
