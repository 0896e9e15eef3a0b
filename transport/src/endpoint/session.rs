//! One established session: its connection, its use, and the streams that are open on it.

use super::places::{Place, Places};
use super::{Lost, PeerInfo};
use crate::allowance::Allowance;
use crate::network::{Connection, RecvStream, Stream};
use futures::FutureExt as _;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

pub(super) struct Session {
    pub(super) info: PeerInfo,
    pub(super) connection: Arc<dyn Connection>,
    /// Reason why this node ended the session, if it did.
    pub(super) why: Mutex<Option<Lost>>,
    used: Mutex<Instant>,
    /// Number of open streams, in both directions.
    lanes: AtomicUsize,
    /// Streams that the peer has opened, by lane.
    pub(super) places: Places,
    /// Streams that the peer may have open on a bulk connection.
    room: AtomicU32,
}

impl Session {
    pub(super) fn new(info: PeerInfo, connection: Arc<dyn Connection>) -> Arc<Self> {
        Arc::new(Self {
            info,
            connection,
            why: Mutex::new(None),
            used: Mutex::new(Instant::now()),
            lanes: AtomicUsize::new(0),
            places: Places::default(),
            room: AtomicU32::new(Allowance::of_bulk(0).streams),
        })
    }

    /// Ends the session; only the first reason is kept.
    pub(super) fn close(&self, how: Lost, code: u32, reason: &str) {
        self.why.lock().get_or_insert(how);
        self.connection.close(code, reason);
    }

    /// Lets the peer of a bulk connection open more streams when it has opened so many to published ports. What it may open
    /// is not taken back.
    pub(super) fn make_room(&self, ports: usize) {
        let allowance = Allowance::of_bulk(ports);
        if self.room.fetch_max(allowance.streams, Ordering::Relaxed) < allowance.streams {
            self.connection.allow(allowance);
        }
    }

    /// Whether the connection has ended, even if the session's task has not noticed yet.
    pub(super) fn is_over(&self) -> bool {
        self.connection.ended().now_or_never().is_some()
    }

    pub(super) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    /// Time for which the session has been unused; zero while a lane is open.
    pub(super) fn unused(&self) -> Duration {
        if self.lanes.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.used.lock().elapsed()
    }

    /// Wraps a stream so that it counts as use of the session, and holds its place, until its reading half is dropped.
    pub(super) fn guard(self: &Arc<Self>, stream: Stream, place: Arc<OnceLock<Place>>) -> Stream {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        let recv = Guarded { inner: stream.recv, session: self.clone(), _place: place };
        Stream { send: stream.send, recv: Box::new(recv) }
    }
}

struct Guarded {
    inner: Box<dyn RecvStream>,
    session: Arc<Session>,
    /// Place of the stream, held until the stream is dropped by its last owner.
    _place: Arc<OnceLock<Place>>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.session.touch();
        self.session.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RecvStream for Guarded {
    fn stop(&mut self, code: u32) {
        self.inner.stop(code);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_read(cx, buf)
    }
}
