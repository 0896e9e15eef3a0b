//! Session setup: dialling a node, and accepting a dial.
//!
//! Per node and connection, one dial is under way at a time, and all callers that want the session wait for its
//! outcome. It runs in a task of its own, so that a caller that gives up does not end it for the others.

use super::Unreached;
use super::door::{Door, PLACES, Seat, Turned};
use super::enrol;
use super::hello::{FRAME_MAX, Hello, Unwelcome, Welcome, agree, read_hello};
use super::inner::Inner;
use super::meeting::Met;
use super::session::Session;
use crate::code;
use crate::frame::{FrameReceiver, FrameSender};
use crate::lane::Traffic;
use crate::network::{Arrival, Connection, DialError, Trust, TrustLevel};
use essaim_wire::{NodeId, Role, WireVersion};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Time within which both sides must have said Hello; otherwise there is no session.
const HELLO_MAX: Duration = Duration::from_secs(3);

/// Time within which another session must appear here after the peer said that it has one.
const DUPLICATE_MAX: Duration = Duration::from_secs(1);

/// Time for a refusal to arrive before the connection is closed.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

/// Reason to close a connection that was made before this node's role changed.
const OUTDATED: &str = "this node shows another certificate by now";

impl Inner {
    /// Returns the session with a node; dials if there is none.
    pub(super) async fn reach(self: &Arc<Self>, node: NodeId, traffic: Traffic) -> Result<Arc<Session>, Unreached> {
        loop {
            let changed = self.changed.notified();
            if let Some(session) = self.session(node, traffic) {
                if !session.is_over() {
                    return Ok(session);
                }
                self.forget_session(&session.info);
            }
            let mut outcome = self.dial(node, traffic)?;
            tokio::select! {
                biased;
                // The peer may dial this node in the meantime.
                () = changed => (),
                outcome = outcome.wait_for(Option::is_some) => return match outcome.as_deref() {
                    Ok(Some(outcome)) => outcome.clone(),
                    _ => Err(Unreached::Closed),
                },
            }
        }
    }

    /// Starts a dial, unless one is under way, and returns its future outcome.
    pub(super) fn dial(self: &Arc<Self>, node: NodeId, traffic: Traffic) -> Result<super::book::Outcome, Unreached> {
        if self.is_closed() {
            return Err(Unreached::Closed);
        }
        if node == self.node() {
            return Err(Unreached::Itself(node));
        }
        let mut book = self.book();
        if let Some(outcome) = book.dial(node, traffic) {
            return Ok(outcome);
        }
        if book.address(node).is_none() {
            return Err(Unreached::NoAddress(node));
        }
        let (tell, outcome) = watch::channel(None);
        book.dial_begins(node, traffic, outcome.clone());
        let not_before = book.not_before(node);
        drop(book);
        let inner = self.clone();
        self.tasks.spawn(async move {
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            let made = inner.attempt(node, traffic).await;
            let mut jitter = inner.jitter.lock();
            inner.book().dial_ended(node, traffic, made.is_err(), Instant::now(), &mut jitter);
            tell.send_replace(Some(made));
        });
        Ok(outcome)
    }

    async fn attempt(self: &Arc<Self>, node: NodeId, traffic: Traffic) -> Result<Arc<Session>, Unreached> {
        let _unready = self.unready_out.acquire().await;
        // While this dial waited for its turn, the peer may have dialled this node, or changed its address.
        if let Some(session) = self.session(node, traffic) {
            return Ok(session);
        }
        let addr = self.book().address(node).ok_or(Unreached::NoAddress(node))?;
        if self.is_closed() {
            return Err(Unreached::Closed);
        }
        let shown = self.identity().role();
        let connection = self.socket.dial(addr, Trust::Member).await?;
        self.greet(connection, addr, Some(node), traffic, shown).await
    }

    /// Makes a control session with the node at an address, whichever it is.
    pub(super) async fn meet(self: &Arc<Self>, addr: SocketAddr) -> Result<Arc<Session>, Unreached> {
        let _unready = self.unready_out.acquire().await;
        let shown = self.identity().role();
        let connection = self.socket.dial(addr, Trust::Member).await?;
        self.greet(connection, addr, None, Traffic::Control, shown).await
    }

    /// Exchanges Hellos on a connection that this node dialled, with a certificate of the role `shown`.
    async fn greet(
        self: &Arc<Self>,
        connection: Arc<dyn Connection>,
        addr: SocketAddr,
        wanted: Option<NodeId>,
        traffic: Traffic,
        shown: Role,
    ) -> Result<Arc<Session>, Unreached> {
        let Some(peer) = connection.peer().cloned() else {
            return Err(DialError::Untrusted { addr, why: "it shows no certificate".into() }.into());
        };
        if peer.node == self.node() {
            connection.close(code::DISCONNECTED, "that is the same node");
            return Err(Unreached::Itself(peer.node));
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != peer.node) {
            connection.close(code::DISCONNECTED, "another node was wanted");
            return Err(Unreached::OtherNode { wanted, found: peer.node, addr });
        }
        if let Err(denied) = self.judge_session(&peer) {
            connection.close(code::DENIED, &denied.to_string());
            return Err(denied.into());
        }
        let said = match timeout(HELLO_MAX, self.say_hello(&*connection, traffic)).await {
            Ok(said) => said,
            Err(_) => Err("no answer to Hello".into()),
        };
        let failed = |why: String| {
            connection.close(code::HELLO, &why);
            Err(Unreached::Hello(why))
        };
        let hello = match said {
            Ok(Ok(hello)) => hello,
            Ok(Err(Unwelcome::Denied(denied))) => {
                connection.close(code::DENIED, "understood");
                return Err(denied.into());
            }
            Ok(Err(Unwelcome::Duplicate)) => {
                connection.close(code::DUPLICATE, "understood");
                return self.wait_for(peer.node, traffic).await;
            }
            Ok(Err(why)) => return failed(why.to_string()),
            Err(why) => return failed(why),
        };
        match self.establish(connection.clone(), peer, &hello, self.node(), shown) {
            Met::Session(session) => Ok(session),
            Met::Duplicate(stands) => {
                connection.close(code::DUPLICATE, "another session stands");
                Ok(stands)
            }
            Met::Older(known) => failed(Unwelcome::Older { known }.to_string()),
            Met::Denied(denied) => {
                connection.close(code::DENIED, &denied.to_string());
                Err(denied.into())
            }
            Met::Outdated => {
                connection.close(code::IDENTITY, OUTDATED);
                Err(Unreached::Hello(OUTDATED.into()))
            }
            Met::Closed => Err(Unreached::Closed),
        }
    }

    async fn say_hello(
        &self,
        connection: &dyn Connection,
        traffic: Traffic,
    ) -> Result<Result<(Hello, WireVersion), Unwelcome>, String> {
        let stream = connection.open_stream().await.map_err(|why| why.to_string())?;
        let (mut send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
        recv.limit(FRAME_MAX);
        let asked = async {
            send.send_value(&self.hello(traffic)).await?;
            recv.expect_value::<Welcome>().await
        };
        match asked.await {
            Ok(Welcome::Hello(hello)) => Ok(agree(hello.oldest, hello.newest, self.wire).map(|spoken| (hello, spoken))),
            Ok(Welcome::No(why)) => Ok(Err(why)),
            // The end of a connection gives a better reason than the failure of its stream.
            Err(why) => match timeout(Duration::from_millis(50), connection.ended()).await {
                Ok(ended) => Err(ended.to_string()),
                Err(_) => Err(why.to_string()),
            },
        }
    }

    async fn wait_for(&self, node: NodeId, traffic: Traffic) -> Result<Arc<Session>, Unreached> {
        let stands = async {
            loop {
                let changed = self.changed.notified();
                if let Some(session) = self.session(node, traffic) {
                    return session;
                }
                changed.await;
            }
        };
        timeout(DUPLICATE_MAX, stands)
            .await
            .map_err(|_| Unreached::Hello("the peer holds on to a session that this node does not have".into()))
    }

    /// Accepts connections until the socket is closed. Every arrival is examined at once; the [`Door`] decides which
    /// one completes its handshake next.
    pub(super) async fn accept(self: Arc<Self>) {
        let mut door = Door::default();
        // One message for each place that is taken, so the queue never overflows.
        let (leave, mut left) = mpsc::channel(PLACES);
        loop {
            tokio::select! {
                biased;
                Some(seat) = left.recv() => door.leave(seat),
                arrival = self.socket.accept() => {
                    let Some(arrival) = arrival else { return };
                    let (from, validated) = (arrival.remote_addr().ip(), arrival.is_validated());
                    match door.arrive(from, validated, arrival) {
                        Some(Turned::Away(unknown)) => unknown.demand_validation(),
                        Some(Turned::Ignored(one)) => one.ignore(),
                        None => (),
                    }
                }
            }

            while let Some((seat, arrival)) = door.next() {
                let unready = Unready { seat, leave: leave.clone() };
                self.tasks.spawn(self.clone().welcome(arrival, unready));
            }
        }
    }

    async fn welcome(self: Arc<Self>, arrival: Box<dyn Arrival>, unready: Unready) {
        let remote = arrival.remote_addr();
        let shown = self.identity().role();
        let connection = match arrival.complete().await {
            Ok(connection) => connection,
            Err(why) => return tracing::info!(%remote, %why, "a connection is refused"),
        };
        if connection.level() == TrustLevel::Join {
            drop(unready);
            return enrol::answer(&self, &*connection).await;
        }
        let hello = match timeout(HELLO_MAX, hear_hello(&*connection, self.wire)).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(why)) => {
                tracing::info!(%remote, %why, "no Hello");
                return connection.close(code::HELLO, &why);
            }
            Err(_) => return connection.close(code::HELLO, "no Hello in time"),
        };
        let (mut send, hello) = hello;
        let refused = match (hello, connection.peer().cloned()) {
            (Err(why), _) => why,
            (Ok(_), None) => return connection.close(code::DENIED, "no certificate"),
            (Ok(_), Some(peer)) if peer.node == self.node() => {
                return connection.close(code::DISCONNECTED, "same node");
            }
            (Ok(hello), Some(peer)) => {
                let dialled_by = peer.node;
                match self.establish(connection.clone(), peer, &hello, dialled_by, shown) {
                    Met::Session(_) => {
                        let _ = send.send_value(&Welcome::Hello(self.hello(hello.0.traffic))).await;
                        let _ = send.finish().await;
                        return;
                    }
                    Met::Duplicate(_) => Unwelcome::Duplicate,
                    Met::Older(known) => Unwelcome::Older { known },
                    Met::Denied(denied) => Unwelcome::Denied(denied),
                    Met::Outdated => return connection.close(code::IDENTITY, OUTDATED),
                    Met::Closed => return connection.close(code::GOING, "the node closes its endpoint"),
                }
            }
        };
        tracing::info!(%remote, why = %refused, "a session is refused");
        let code = if matches!(refused, Unwelcome::Denied(_)) { code::DENIED } else { code::HELLO };
        let reason = refused.to_string();
        let _ = send.send_value(&Welcome::No(refused)).await;
        let _ = send.finish().await;
        let _ = timeout(REFUSAL_MAX, connection.ended()).await;
        connection.close(code, &reason);
    }
}

/// Place of a connection whose peer has not been identified yet.
struct Unready {
    seat: Seat,
    leave: mpsc::Sender<Seat>,
}

impl Drop for Unready {
    fn drop(&mut self) {
        // The queue has room for every seat; if the reader is gone, the endpoint is closed.
        let _ = self.leave.try_send(self.seat);
    }
}

type Greeting = (FrameSender, Result<(Hello, WireVersion), Unwelcome>);

async fn hear_hello(connection: &dyn Connection, newest: WireVersion) -> Result<Greeting, String> {
    let stream = connection.accept_stream().await.map_err(|why| why.to_string())?;
    let (send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
    recv.limit(FRAME_MAX);
    let bytes = recv.recv().await.map_err(|why| why.to_string())?.ok_or("an empty stream")?;
    let hello = read_hello(&bytes, newest).map_err(|why| why.to_string())?;
    Ok((send, hello))
}
