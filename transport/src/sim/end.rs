//! The two ends of a simulated connection, and how each of them handles what arrives.

use super::packet::{Asked, Side, What};
use crate::code;
use crate::network::{DialError, Ended, SocketKey, Trust, Utc};
use crate::trust::verify::{self, PinError};
use crate::trust::{Certificate, Identity, PeerIdentity};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

/// Datagrams that may wait to be read at one end; the oldest are dropped first.
const DATAGRAMS_MAX: usize = 1024;

/// Both ends of a connection, and the phase of its handshake.
pub(super) struct Conn {
    pub(super) phase: Phase,
    /// Whether the accepting side has taken the dial from its queue.
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
    /// The dialling side has received the answer.
    Answered,
}

/// One end of a connection. It is open from the handshake until the connection ends.
pub(super) struct End {
    pub(super) addr: SocketAddr,
    pub(super) socket: u64,
    /// Key of the socket that the end belongs to; a later socket with the same key can reset the other end.
    pub(super) key: Option<SocketKey>,
    pub(super) heard: Instant,
    /// Reliable messages of this end that have not arrived yet, in order, each with its due time.
    pub(super) pipe: VecDeque<(Instant, What)>,
    pub(super) recvs: BTreeMap<u64, RecvHalf>,
    pub(super) sends: BTreeMap<u64, SendHalf>,
    /// Number of handles on this end; the connection is kept while there is one.
    pub(super) handles: usize,
    open: bool,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) accept: VecDeque<u64>,
    pub(super) datagrams: VecDeque<Bytes>,
    pub(super) changed: Arc<Notify>,
    pub(super) next_stream: u64,
    /// Highest number of a stream opened by the other side that was seen here.
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

    /// The dialling side checks the certificates of the accepting side. `None` when it was answered before.
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
                // When no caller waits for the dial any more, no handle is created, and the end closes with it.
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

    /// Ends this end of the connection once, and wakes everything that waits on it.
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

    /// The receiving half of a stream. The first message about a stream of the other side opens the stream here.
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
