//! The bytes of a connection, in both directions.
//!
//! A direction that waits holds no buffer: bytes are read into one buffer of the thread and written from there at once;
//! only what the other end does not take yet is kept, and nothing more is read until it is gone. So ten thousand idle
//! connections cost little, and a slow reader slows its sender down. The end of one direction is passed on, and the other
//! direction goes on.
//!
//! Between two sockets, a direction that fills the buffer is left to the kernel ([`splice`](super::splice)), until little
//! comes again.

use super::splice::Pipe;
use crate::engine::Duplex;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Bytes that are read at a time, and kept at most for an end that does not take them.
const PIECE: usize = 64 << 10;

/// Bytes in a pipe below which a direction is no longer left to the kernel, to which small pieces are dearer.
const LITTLE: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// Carries bytes in both directions until both have ended in order. When either end breaks, and when this is dropped
/// before, both ends read an error: neither takes for whole what is not. `early` was read from `b` already.
pub(super) async fn both(a: Box<dyn Duplex>, b: Box<dyn Duplex>, early: &[u8]) -> io::Result<()> {
    let mut pair = Pair { a, b, are_done: false };
    let (mut to_a, mut to_b) = (Direction::new(early), Direction::new(&[]));
    poll_fn(|cx| {
        let one = to_b.poll(cx, &mut *pair.a, &mut *pair.b)?;
        let other = to_a.poll(cx, &mut *pair.b, &mut *pair.a)?;
        if one.is_ready() && other.is_ready() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    })
    .await?;
    pair.are_done = true;
    Ok(())
}

/// Both ends of a connection.
struct Pair {
    a: Box<dyn Duplex>,
    b: Box<dyn Duplex>,
    are_done: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.are_done {
            self.a.abort();
            self.b.abort();
        }
    }
}

/// One direction of a connection.
struct Direction {
    /// Bytes that the receiving end has not taken yet, from `taken` on.
    rest: Vec<u8>,
    taken: usize,
    /// Whether so much comes that the kernel is to move it.
    is_much: bool,
    /// The pipe through which the kernel moves bytes, while there are any.
    pipe: Option<Pipe>,
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
        Self { rest: early.to_vec(), taken: 0, is_much: false, pipe: None, unflushed: false, phase: Phase::Carrying }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut dyn Duplex, to: &mut dyn Duplex) -> Poll<io::Result<()>> {
        loop {
            while self.taken < self.rest.len() {
                let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.taken..]))?;
                self.taken += nonzero(wrote)?;
                self.unflushed = true;
            }
            // The memory is given back, because the connection may be idle from here on.
            (self.rest, self.taken) = (Vec::new(), 0);
            if let (Some(pipe), Some(socket)) = (&mut self.pipe, to.socket()) {
                ready!(pipe.pour(cx, socket))?;
            }
            match self.phase {
                Phase::Ended => return Poll::Ready(Ok(())),
                Phase::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.phase = Phase::Ended;
                }
                Phase::Carrying => match self.carry(cx, from, to) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => {
                        self.pipe = None;
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

    /// Carries a piece, or has the kernel take one into the pipe.
    fn carry(&mut self, cx: &mut Context<'_>, from: &mut dyn Duplex, to: &mut dyn Duplex) -> Poll<io::Result<()>> {
        if self.is_much
            && let (Some(from), Some(_)) = (from.socket(), to.socket())
            && let Some(pipe) = self.pipe.take().or_else(Pipe::new)
        {
            return self.take_in(cx, from, pipe);
        }
        self.read(cx, from, to)
    }

    /// Has the kernel take bytes into the empty pipe.
    fn take_in(&mut self, cx: &mut Context<'_>, from: &TcpStream, mut pipe: Pipe) -> Poll<io::Result<()>> {
        match ready!(pipe.fill(cx, from))? {
            // The pipe is given back: the other direction may go on for long.
            0 => self.phase = Phase::Ending,
            took => {
                self.is_much = took >= LITTLE;
                self.pipe = Some(pipe);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a piece and writes what the other end takes of it.
    fn read(&mut self, cx: &mut Context<'_>, from: &mut dyn Duplex, to: &mut dyn Duplex) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut piece = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut piece))?;
            let mut left = piece.filled();
            if left.is_empty() {
                self.phase = Phase::Ending;
            }
            self.is_much = left.len() == PIECE;
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
    use crate::engine::Connected;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn bytes_of_any_length_arrive_in_both_directions_through_a_narrow_end() {
        let ((mut client, near), (far, mut server)) = (duplex(1000), duplex(77));
        let carried = tokio::spawn(async move { both(Box::new(near), Box::new(far), b"early").await });
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

    /// Both ends of a connection over the loopback.
    async fn connected() -> (Connected, Connected) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let to = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        (Connected::of(client.expect("connected")), Connected::of(accepted.expect("accepted").0))
    }

    #[tokio::test]
    async fn between_sockets_every_byte_arrives_in_order_when_the_kernel_moves_them() {
        let ((mut client, near), (far, mut server)) = (connected().await, connected().await);
        let carried = tokio::spawn(async move { both(Box::new(near), Box::new(far), &[]).await });
        let sent: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = sent.clone();
        let serve = tokio::spawn(async move {
            let mut got = Vec::new();
            // A reader that is slow for a while fills the pipe.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            server.read_to_end(&mut got).await.expect("read");
            assert!(got == expected, "{} bytes", got.len());
            server.write_all(b"all there").await.expect("written");
        });
        client.write_all(&sent).await.expect("written");
        client.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"all there");
        serve.await.expect("served");
        carried.await.expect("no panic").expect("ended in order");
    }

    #[tokio::test]
    async fn a_direction_that_has_ended_keeps_no_pipe() {
        let ((mut client, near), (far, mut server)) = (connected().await, connected().await);
        let carried = tokio::spawn(async move { both(Box::new(near), Box::new(far), &[]).await });
        let sender = tokio::spawn(async move {
            client.write_all(&vec![7; 4 << 20]).await.expect("written");
            client.shutdown().await.expect("half closed");
            client
        });
        server.read_to_end(&mut Vec::new()).await.expect("read");
        assert_eq!(crate::mesh::splice::in_use(), 0);
        drop((sender.await.expect("sent"), server));
        carried.await.expect("no panic").expect("ended in order");
    }

    #[tokio::test]
    async fn when_one_end_breaks_the_other_reads_an_error() {
        let ((mut client, near), (far, mut server)) = (connected().await, connected().await);
        let carried = tokio::spawn(async move { both(Box::new(near), Box::new(far), &[]).await });
        client.write_all(b"half of it").await.expect("written");
        server.read_exact(&mut [0; 10]).await.expect("read");
        client.abort();
        drop(client);
        assert!(carried.await.expect("no panic").is_err());
        let ended = server.read(&mut [0; 1]).await;
        assert_eq!(ended.map_err(|why| why.kind()), Err(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn both_ends_read_an_error_when_carrying_stops_before_the_end() {
        let ((mut client, near), (far, mut server)) = (connected().await, connected().await);
        let carried = tokio::spawn(async move { both(Box::new(near), Box::new(far), &[]).await });
        client.write_all(b"half of it").await.expect("written");
        server.read_exact(&mut [0; 10]).await.expect("read");
        carried.abort();
        for end in [&mut client, &mut server] {
            let ended = end.read(&mut [0; 1]).await;
            assert_eq!(ended.map_err(|why| why.kind()), Err(io::ErrorKind::ConnectionReset));
        }
    }
}
