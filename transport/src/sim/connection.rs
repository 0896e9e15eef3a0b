//! Simulated connections: the `Connection` trait on one end, through counted handles.

use super::end::{End, RecvHalf, SendHalf};
use super::handle::Handle;
use super::packet::What;
use super::stream::{SimRecv, SimSend};
use crate::network::{Connection, DatagramError, Ended, Stream, TrustLevel};
use crate::trust::PeerIdentity;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::net::SocketAddr;

/// Largest datagram in bytes: about what fits into one QUIC packet on a real path.
const DATAGRAM_MAX: usize = 1200;

pub(super) struct SimConnection {
    handle: Handle,
    level: TrustLevel,
    peer: Option<PeerIdentity>,
    remote: SocketAddr,
}

impl SimConnection {
    pub(super) const fn new(handle: Handle, level: TrustLevel, peer: Option<PeerIdentity>, remote: SocketAddr) -> Self {
        Self { handle, level, peer, remote }
    }

    fn stream(&self, stream: u64) -> Stream {
        Stream {
            send: Box::new(SimSend::new(self.handle.another(), stream)),
            recv: Box::new(SimRecv::new(self.handle.another(), stream)),
        }
    }

    /// Waits until `take` returns something from this end.
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
    fn level(&self) -> TrustLevel {
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
