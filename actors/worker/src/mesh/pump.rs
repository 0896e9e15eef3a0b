//! The bytes of a connection, in both directions.
//!
//! A direction that waits holds no buffer: bytes are read into one buffer of the thread and written from there at once;
//! only what the other end does not take yet is kept, and nothing more is read until it is gone. So ten thousand idle
//! connections cost little, and a slow reader slows its sender down. The end of one direction is passed on, and the other
//! direction goes on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at a time, and kept at most for an end that does not take them.
const PIECE: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// Carries bytes in both directions until both have ended in order; the error of either end is the error of the whole.
/// `early` was read from `b` already.
pub(super) async fn both<A, B>(mut a: A, mut b: B, early: &[u8]) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_a, mut to_b) = (Direction::new(early), Direction::new(&[]));
    poll_fn(|cx| {
        let one = to_b.poll(cx, &mut a, &mut b)?;
        let other = to_a.poll(cx, &mut b, &mut a)?;
        if one.is_ready() && other.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction of a connection.
struct Direction {
    /// Bytes that the receiving end has not taken yet, from `taken` on.
    rest: Vec<u8>,
    taken: usize,
    /// Whether something was written that may lie in a buffer of the receiving end.
    unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Carrying,
    /// The sending end has ended, and the receiving end is to be told.
    Ending,
    Ended,
}

impl Direction {
    fn new(early: &[u8]) -> Self {
        Self { rest: early.to_vec(), taken: 0, unflushed: false, phase: Phase::Carrying }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.taken < self.rest.len() {
                let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.taken..]))?;
                self.taken += nonzero(wrote)?;
                self.unflushed = true;
            }
            // The memory is given back, because the connection may be idle from here on.
            (self.rest, self.taken) = (Vec::new(), 0);
            match self.phase {
                Phase::Ended => return Poll::Ready(Ok(())),
                Phase::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.phase = Phase::Ended;
                }
                Phase::Carrying => match self.read(cx, from, to) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Reads a piece and writes what the other end takes of it.
    fn read<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        BUFFER.with_borrow_mut(|buffer| {
            let mut piece = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut piece))?;
            let mut left = piece.filled();
            if left.is_empty() {
                self.phase = Phase::Ending;
            }
            while !left.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, left)? {
                    Poll::Ready(wrote) => {
                        left = &left[nonzero(wrote)?..];
                        self.unflushed = true;
                    }
                    Poll::Pending => {
                        self.rest = left.to_vec();
                        break;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

fn nonzero(wrote: usize) -> io::Result<usize> {
    if wrote == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(wrote) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn bytes_of_any_length_arrive_in_both_directions_through_a_narrow_end() {
        let ((mut client, near), (far, mut server)) = (duplex(1000), duplex(77));
        let carried = tokio::spawn(async move { both(near, far, b"early").await });
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (there, back) = (sent.clone(), sent.clone());
        let serve = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut piece = vec![0; 4096];
            while got.len() < there.len() {
                let read = server.read(&mut piece).await.expect("read");
                got.extend_from_slice(&piece[..read]);
            }
            assert!(got == there);
            // The client's end came through, and this direction still works.
            assert_eq!(server.read(&mut piece).await.expect("read"), 0);
            server.write_all(&back).await.expect("written");
        });
        client.write_all(&sent).await.expect("written");
        client.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("read");
        assert!(got == [&b"early"[..], &sent].concat());
        serve.await.expect("served");
        carried.await.expect("no panic").expect("ended in order");
    }

    #[tokio::test]
    async fn an_end_that_breaks_ends_the_other() {
        let ((mut client, near), (far, server)) = (duplex(16), duplex(16));
        let carried = tokio::spawn(async move { both(near, far, &[]).await });
        drop(server);
        client.write_all(&[1; 8]).await.expect("taken");
        assert!(carried.await.expect("no panic").is_err());
        assert_eq!(client.read(&mut [0; 1]).await.expect("ended"), 0);
    }
}
