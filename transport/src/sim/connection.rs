//! Simulated connections: their two ends, and the traits over one of them.

use super::Shared;
use super::state::{Asked, State, What};
use crate::network::{Connection, DatagramError, DialError, Ended, Level, Stream, Trust, Utc};
use crate::trust::verify::{self, PinError};
use crate::trust::{Certificate, Identity, PeerIdentity};
use crate::{code, network::SocketKey};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::stream::{SimRecv, SimSend};

/// What fits into a packet, roughly as on a real path.
const DATAGRAM_MAX: usize = 1200;

/// Datagrams that wait to be read; the oldest go first.
const DATAGRAMS_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// Both ends of a connection, and how far its handshake is.
pub(super) struct Conn {
    pub(super) phase: Phase,
    /// The acceptor has begun to look at it.
    pub(super) taken: bool,
    ends: [End; 2],
}

pub(super) enum Phase {
    Dialling {
        asked: Asked,
        identity: Option<Identity>,
        utc: Utc,
        reply: oneshot::Sender<Result<PeerIdentity, DialError>>,
    },
    /// The dialler has its answer.
    Answered,
}

/// One end. It is open from the handshake to whatever ends it.
pub(super) struct End {
    pub(super) addr: SocketAddr,
    pub(super) socket: u64,
    /// Of the socket that it belongs to; a later socket with the same key can reset the other end.
    pub(super) key: Option<SocketKey>,
    pub(super) heard: Instant,
    /// What was said reliably and has not arrived, in order.
    pub(super) pipe: VecDeque<(Instant, What)>,
    pub(super) recvs: BTreeMap<u64, RecvHalf>,
    pub(super) sends: BTreeMap<u64, SendHalf>,
    /// How many handles exist; the connection is kept for as long as there is one.
    pub(super) handles: usize,
    open: bool,
    ended: watch::Sender<Option<Ended>>,
    accept: VecDeque<u64>,
    datagrams: VecDeque<Bytes>,
    changed: Arc<Notify>,
    next_stream: u64,
    /// Streams of the other side up to this number were seen.
    seen_stream: Option<u64>,
}

#[derive(Default)]
pub(super) struct RecvHalf {
    pub(super) buffer: VecDeque<Bytes>,
    pub(super) finished: bool,
    pub(super) reset: Option<u32>,
    pub(super) waker: Option<Waker>,
}

#[derive(Default)]
pub(super) struct SendHalf {
    pub(super) in_flight: usize,
    pub(super) stopped: Option<u32>,
    pub(super) waker: Option<Waker>,
}

impl Conn {
    pub(super) fn new(phase: Phase, dialler: End, acceptor: End) -> Self {
        Self { phase, taken: false, ends: [dialler, acceptor] }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub(super) fn is_needed(&self) -> bool {
        let dials = matches!(&self.phase, Phase::Dialling { reply, .. } if !reply.is_closed());
        dials || self.ends.iter().any(|end| end.open || end.handles > 0 || !end.pipe.is_empty())
    }

    /// The dialler judges what the acceptor shows. `None` when it has its answer already.
    pub(super) fn on_accepted(&mut self, shown: &[Certificate]) -> Option<Result<(), What>> {
        if !matches!(self.phase, Phase::Dialling { .. }) {
            return None;
        }
        let Phase::Dialling { asked, identity, utc, reply } = std::mem::replace(&mut self.phase, Phase::Answered)
        else {
            return None;
        };
        let addr = self.end(Side::Acceptor).addr;
        let judged = match asked.trust {
            Trust::Member => {
                let roots = identity.as_ref().map_or(&[][..], Identity::roots);
                verify::chain(roots, shown, utc()).map_err(|why| DialError::Untrusted { addr, why: why.to_string() })
            }
            Trust::Join { ca } => verify::pinned(ca, shown, utc()).map_err(|why| match why {
                PinError::OtherCa => DialError::OtherCa { addr },
                PinError::Chain(why) => DialError::Untrusted { addr, why: why.to_string() },
            }),
        };
        match judged {
            Ok(peer) => {
                // Nobody may wait any more; then the handle never exists, and the end closes with it.
                self.end_mut(Side::Dialler).open();
                let _ = reply.send(Ok(peer));
                Some(Ok(()))
            }
            Err(why) => {
                let close = What::Close { code: code::DENIED, reason: why.to_string() };
                let _ = reply.send(Err(why));
                Some(Err(close))
            }
        }
    }

    pub(super) fn dial_fails(&mut self, why: DialError) {
        if let Phase::Dialling { reply, .. } = std::mem::replace(&mut self.phase, Phase::Answered) {
            let _ = reply.send(Err(why));
        }
    }

    pub(super) fn on_said(&mut self, side: Side, what: What) {
        let end = self.end_mut(side);
        match what {
            What::Data { stream, bytes } => {
                if let Some(half) = end.recv_half(stream, side) {
                    half.buffer.push_back(bytes);
                    half.wake();
                }
            }
            What::Fin { stream } => {
                if let Some(half) = end.recv_half(stream, side) {
                    half.finished = true;
                    half.wake();
                }
            }
            What::Reset { stream, code } => {
                if let Some(half) = end.recv_half(stream, side) {
                    (half.reset, half.buffer) = (Some(code), VecDeque::new());
                    half.wake();
                }
            }
            What::Stop { stream, code } => {
                if let Some(half) = end.sends.get_mut(&stream) {
                    half.stopped = Some(code);
                    half.wake();
                }
            }
            What::Credit { stream, bytes } => {
                if let Some(half) = end.sends.get_mut(&stream) {
                    half.in_flight = half.in_flight.saturating_sub(bytes);
                    half.wake();
                }
            }
            What::Datagram(bytes) => {
                if end.datagrams.len() >= DATAGRAMS_MAX {
                    end.datagrams.pop_front();
                }
                end.datagrams.push_back(bytes);
                end.changed.notify_waiters();
            }
            What::Close { code, reason } => end.end(Ended::Closed { code, reason }),
            What::KeepAlive => (),
        }
    }
}

impl End {
    pub(super) fn new(addr: SocketAddr, socket: u64, key: Option<SocketKey>, now: Instant) -> Self {
        Self {
            addr,
            socket,
            key,
            heard: now,
            pipe: VecDeque::new(),
            recvs: BTreeMap::new(),
            sends: BTreeMap::new(),
            handles: 0,
            open: false,
            ended: watch::channel(None).0,
            accept: VecDeque::new(),
            datagrams: VecDeque::new(),
            changed: Arc::new(Notify::new()),
            next_stream: 0,
            seen_stream: None,
        }
    }

    pub(super) fn open(&mut self) {
        (self.open, self.heard) = (true, Instant::now());
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Ends it once; everybody who waits for anything on it is woken.
    pub(super) fn end(&mut self, how: Ended) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        self.ended.send_replace(Some(how));
        self.changed.notify_waiters();
        self.recvs.values_mut().for_each(RecvHalf::wake);
        self.sends.values_mut().for_each(SendHalf::wake);
    }

    pub(super) fn how(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// The reading half of a stream; the first word about a stream of the other side opens it here.
    fn recv_half(&mut self, stream: u64, side: Side) -> Option<&mut RecvHalf> {
        let is_theirs = stream % 2 != side as u64;
        if is_theirs && self.seen_stream.is_none_or(|seen| stream > seen) {
            self.seen_stream = Some(stream);
            self.recvs.insert(stream, RecvHalf::default());
            self.sends.insert(stream, SendHalf::default());
            self.accept.push_back(stream);
            self.changed.notify_waiters();
        }
        self.recvs.get_mut(&stream)
    }
}

impl RecvHalf {
    fn wake(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl SendHalf {
    fn wake(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// A counted way to one end. When the last one goes, the connection is closed, as quinn does it.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnId,
    pub(super) side: Side,
    ended: watch::Receiver<Option<Ended>>,
}

impl Handle {
    /// `None` when the connection is forgotten already.
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, side: Side) -> Option<Self> {
        let mut state = shared.state();
        let end = state.conns.get_mut(&id)?.end_mut(side);
        end.handles += 1;
        let ended = end.ended.subscribe();
        drop(state);
        Some(Self { shared: shared.clone(), id, side, ended })
    }

    /// The end, while it is open.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State, ConnId, Side) -> T) -> Result<T, Ended> {
        let mut state = self.shared.state();
        match state.conns.get(&self.id).map(|conn| conn.end(self.side)) {
            Some(end) if end.is_open() => {
                let acted = act(&mut state, self.id, self.side);
                drop(state);
                self.shared.queued.notify_one();
                Ok(acted)
            }
            Some(end) => Err(end.how().unwrap_or(Ended::TimedOut)),
            None => Err(Ended::TimedOut),
        }
    }

    fn another(&self) -> Self {
        let (shared, id, side, ended) = (self.shared.clone(), self.id, self.side, self.ended.clone());
        if let Some(conn) = shared.state().conns.get_mut(&id) {
            conn.end_mut(side).handles += 1;
        }
        Self { shared, id, side, ended }
    }

    fn close(&self, how: Ended, code: u32, reason: &str) {
        let _ = self.with(|state, id, side| {
            state.say(id, side, What::Close { code, reason: reason.into() });
            if let Some(conn) = state.conns.get_mut(&id) {
                conn.end_mut(side).end(how);
            }
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let last = match self.shared.state().conns.get_mut(&self.id) {
            Some(conn) => {
                let end = conn.end_mut(self.side);
                end.handles -= 1;
                end.handles == 0
            }
            None => false,
        };
        if last {
            self.close(Ended::Local { reason: "nobody holds the connection".into() }, code::GOING, "");
            self.shared.state().forget_ended();
        }
    }
}

pub(super) struct SimConnection {
    handle: Handle,
    level: Level,
    peer: Option<PeerIdentity>,
    remote: SocketAddr,
}

impl SimConnection {
    pub(super) const fn new(handle: Handle, level: Level, peer: Option<PeerIdentity>, remote: SocketAddr) -> Self {
        Self { handle, level, peer, remote }
    }

    fn stream(&self, stream: u64) -> Stream {
        Stream {
            send: Box::new(SimSend::new(self.handle.another(), stream)),
            recv: Box::new(SimRecv::new(self.handle.another(), stream)),
        }
    }

    /// Waits until `take` finds something at this end.
    async fn next<T>(&self, take: impl Fn(&mut End) -> Option<T>) -> Result<T, Ended> {
        loop {
            let changed = {
                let mut state = self.handle.shared.state();
                let Some(conn) = state.conns.get_mut(&self.handle.id) else { return Err(Ended::TimedOut) };
                let end = conn.end_mut(self.handle.side);
                if let Some(found) = take(end) {
                    return Ok(found);
                }
                if let Some(how) = end.how() {
                    return Err(how);
                }
                end.changed.clone().notified_owned()
            };
            changed.await;
        }
    }
}

impl Connection for SimConnection {
    fn level(&self) -> Level {
        self.level
    }

    fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>> {
        let opened = self.handle.with(|state, id, side| {
            let end = state.conns.get_mut(&id)?.end_mut(side);
            let stream = end.next_stream * 2 + side as u64;
            end.next_stream += 1;
            end.recvs.insert(stream, RecvHalf::default());
            end.sends.insert(stream, SendHalf::default());
            Some(stream)
        });
        let opened = opened.and_then(|stream| stream.ok_or(Ended::TimedOut)).map(|stream| self.stream(stream));
        async { opened }.boxed()
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>> {
        async { Ok(self.stream(self.next(|end| end.accept.pop_front()).await?)) }.boxed()
    }

    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        if bytes.len() > DATAGRAM_MAX {
            return Err(DatagramError::TooLong { len: bytes.len(), max: DATAGRAM_MAX });
        }
        Ok(self.handle.with(|state, id, side| state.mention(id, side, What::Datagram(bytes)))?)
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, Ended>> {
        self.next(|end| end.datagrams.pop_front()).boxed()
    }

    fn close(&self, code: u32, reason: &str) {
        self.handle.close(Ended::Local { reason: "the connection was closed".into() }, code, reason);
    }

    fn ended(&self) -> BoxFuture<'_, Ended> {
        let mut ended = self.handle.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(how) => how.clone().unwrap_or(Ended::TimedOut),
                Err(_) => Ended::TimedOut,
            }
        }
        .boxed()
    }
}
