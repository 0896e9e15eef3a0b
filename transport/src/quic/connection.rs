//! quinn's connections and streams, as the traits of [`crate::network`].

use super::settings;
use crate::allowance::Allowance;
use crate::network::{Connection, DatagramError, Ended, RecvStream, SendStream, Stream, TrustLevel};
use crate::trust::{PeerIdentity, TrustError};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quinn::{ConnectionError, SendDatagramError, VarInt};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct QuicConnection {
    quic: quinn::Connection,
    level: TrustLevel,
    peer: Option<PeerIdentity>,
}

impl QuicConnection {
    /// Wraps a connection whose certificates TLS has verified. A member without a certificate is refused here.
    pub(super) fn new(quic: quinn::Connection, level: TrustLevel) -> Result<Self, TrustError> {
        let peer = settings::shown(&quic).map(|certificate| certificate.identity()).transpose()?;
        if level == TrustLevel::Member && peer.is_none() {
            return Err(TrustError::BadCertificate("none was shown; without one a node can only join".into()));
        }
        Ok(Self { quic, level, peer })
    }
}

impl Connection for QuicConnection {
    fn level(&self) -> TrustLevel {
        self.level
    }

    fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    fn remote_addr(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>> {
        async { self.quic.open_bi().await.map(stream).map_err(ended) }.boxed()
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>> {
        async { self.quic.accept_bi().await.map(stream).map_err(ended) }.boxed()
    }

    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        let len = bytes.len();
        self.quic.send_datagram(bytes).map_err(|why| match why {
            SendDatagramError::ConnectionLost(why) => DatagramError::Ended(ended(why)),
            SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                DatagramError::TooLong { len, max: self.quic.max_datagram_size().unwrap_or(0) }
            }
        })
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, Ended>> {
        async { self.quic.read_datagram().await.map_err(ended) }.boxed()
    }

    fn allow(&self, Allowance { streams, window }: Allowance) {
        self.quic.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
        self.quic.set_receive_window(VarInt::from_u32(window));
        self.quic.set_send_window(window.into());
    }

    fn close(&self, code: u32, reason: &str) {
        self.quic.close(VarInt::from_u32(code), reason.as_bytes());
    }

    fn ended(&self) -> BoxFuture<'_, Ended> {
        async { ended(self.quic.closed().await) }.boxed()
    }
}

fn stream((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Stream {
    Stream { send: Box::new(QuicSend(send)), recv: Box::new(QuicRecv(recv)) }
}

fn ended(why: ConnectionError) -> Ended {
    match why {
        ConnectionError::ApplicationClosed(close) => Ended::Closed {
            code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::LocallyClosed => Ended::Local { reason: "the connection was closed".into() },
        ConnectionError::TimedOut => Ended::TimedOut,
        ConnectionError::Reset => Ended::Reset,
        other => Ended::Failed(other.to_string()),
    }
}

struct QuicSend(quinn::SendStream);

impl SendStream for QuicSend {
    fn reset(&mut self, code: u32) {
        // An error means that the stream has ended already.
        let _ = self.0.reset(VarInt::from_u32(code));
    }
}

impl AsyncWrite for QuicSend {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

struct QuicRecv(quinn::RecvStream);

impl RecvStream for QuicRecv {
    fn stop(&mut self, code: u32) {
        // An error means that the stream has ended already.
        let _ = self.0.stop(VarInt::from_u32(code));
    }
}

impl AsyncRead for QuicRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.0), cx, buf)
    }
}
