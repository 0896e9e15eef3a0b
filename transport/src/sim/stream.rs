//! Simulated streams: reliable, in order, with a flow-control window.

use super::handle::Handle;
use super::packet::What;
use crate::code;
use crate::network::{Ended, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may be under way or unread on one stream, as in the real network.
const WINDOW: usize = 1 << 20;

/// Bytes of the largest piece of a stream that is sent at once.
const PIECE: usize = 64 << 10;

pub(super) struct SimSend {
    handle: Handle,
    stream: u64,
    over: bool,
}

impl SimSend {
    pub(super) const fn new(handle: Handle, stream: u64) -> Self {
        Self { handle, stream, over: false }
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            let stream = self.stream;
            let _ = self.handle.with(|state, id, side| state.say(id, side, What::Fin { stream }));
        }
    }
}

impl SendStream for SimSend {
    fn reset(&mut self, code: u32) {
        if !std::mem::replace(&mut self.over, true) {
            let stream = self.stream;
            let _ = self.handle.with(|state, id, side| state.say(id, side, What::Reset { stream, code }));
        }
    }
}

impl AsyncWrite for SimSend {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.over {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let stream = self.stream;
        let written = self.handle.with(|state, id, side| {
            let half = state.conns.get_mut(&id).and_then(|conn| conn.end_mut(side).sends.get_mut(&stream));
            let Some(half) = half else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
            if let Some(code) = half.stopped {
                return Poll::Ready(Err(io::Error::other(format!("the peer stopped the stream (code {code})"))));
            }
            let len = bytes.len().min(WINDOW.saturating_sub(half.in_flight)).min(PIECE);
            if len == 0 && !bytes.is_empty() {
                half.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            half.in_flight += len;
            state.say(id, side, What::Data { stream, bytes: Bytes::copy_from_slice(&bytes[..len]) });
            Poll::Ready(Ok(len))
        });
        written.unwrap_or_else(|ended| Poll::Ready(Err(lost(&ended))))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimSend {
    fn drop(&mut self) {
        self.finish();
        if let Some(conn) = self.handle.shared.state().conns.get_mut(&self.handle.id) {
            conn.end_mut(self.handle.side).sends.remove(&self.stream);
        }
    }
}

pub(super) struct SimRecv {
    handle: Handle,
    stream: u64,
    over: bool,
}

impl SimRecv {
    pub(super) const fn new(handle: Handle, stream: u64) -> Self {
        Self { handle, stream, over: false }
    }
}

impl RecvStream for SimRecv {
    fn stop(&mut self, code: u32) {
        if !std::mem::replace(&mut self.over, true) {
            let stream = self.stream;
            let _ = self.handle.with(|state, id, side| state.say(id, side, What::Stop { stream, code }));
        }
    }
}

impl AsyncRead for SimRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (id, side, stream) = (self.handle.id, self.handle.side, self.stream);
        let mut state = self.handle.shared.state();
        let Some(conn) = state.conns.get_mut(&id) else { return Poll::Ready(Err(lost(&Ended::TimedOut))) };
        let end = conn.end_mut(side);
        let how = end.how();
        let Some(half) = end.recvs.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(first) = half.buffer.front_mut() {
            let len = first.len().min(buf.remaining());
            buf.put_slice(&first[..len]);
            first.advance(len);
            if first.is_empty() {
                half.buffer.pop_front();
            }
            drop(state);
            let _ = self.handle.with(|state, id, side| state.say(id, side, What::Credit { stream, bytes: len }));
            return Poll::Ready(Ok(()));
        }
        let over = match (half.reset, half.finished, how) {
            (Some(code), ..) => Err(io::Error::other(format!("the peer gave the stream up (code {code})"))),
            (None, true, _) => Ok(()),
            (None, false, Some(ended)) => Err(lost(&ended)),
            (None, false, None) => {
                half.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        drop(state);
        self.over = true;
        Poll::Ready(over)
    }
}

impl Drop for SimRecv {
    fn drop(&mut self) {
        self.stop(code::GOING);
        if let Some(conn) = self.handle.shared.state().conns.get_mut(&self.handle.id) {
            conn.end_mut(self.handle.side).recvs.remove(&self.stream);
        }
    }
}

fn lost(ended: &Ended) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, ended.to_string())
}
