//! A TCP connection that was just made or accepted.
//!
//! There is work for it at once: a client sends its request right after the handshake, and on one machine the handshake is
//! over when `connect(2)` returns. The runtime waits all the same until the kernel reports a new socket as ready, and a
//! time limit for that wait is a timer that wakes the thread. So the end of the handshake, the first read and the first
//! write are asked of the kernel itself; only what it does not have yet waits for its report.

use super::Duplex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection, which tries its first read and its first write before it waits.
#[derive(Debug)]
pub struct Connected {
    stream: TcpStream,
    is_unread: bool,
    is_unwritten: bool,
}

impl Connected {
    /// Wraps a connection that was made or accepted.
    pub const fn of(stream: TcpStream) -> Self {
        Self { stream, is_unread: true, is_unwritten: true }
    }

    /// Connects to an address.
    pub async fn to(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // TCP_NODELAY sends small answers at once; a connection without it works, too.
        let _ = socket.set_tcp_nodelay(true);
        match socket.connect(&at.into()) {
            // EINPROGRESS of Linux: the kernel says so even when the handshake is over.
            Err(why) if why.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(why),
            _ => (),
        }
        let stream = TcpStream::from_std(socket.into())?;
        if stream.peer_addr().is_err() {
            stream.writable().await?;
            if let Some(why) = stream.take_error()? {
                return Err(why);
            }
        }
        // A server has nothing to say yet, as a rule.
        Ok(Self { stream, is_unread: false, is_unwritten: true })
    }
}

impl Duplex for Connected {
    fn socket(&self) -> Option<&TcpStream> {
        Some(&self.stream)
    }

    fn abort(&mut self) {
        // The kernel refuses it for a connection that is gone already.
        let _ = self.stream.set_zero_linger();
    }
}

/// The result of a call to the kernel, unless it has to wait.
fn unless_waiting<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    if result.as_ref().is_err_and(|why| why.kind() == ErrorKind::WouldBlock) { None } else { Some(result) }
}

impl AsyncRead for Connected {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if mem::take(&mut self.is_unread)
            && let Some(read) = unless_waiting((&*SockRef::from(&self.stream)).read(buf.initialize_unfilled()))
        {
            return Poll::Ready(read.map(|count| buf.advance(count)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if mem::take(&mut self.is_unwritten)
            && let Some(wrote) = unless_waiting((&*SockRef::from(&self.stream)).write(buf))
        {
            return Poll::Ready(wrote);
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::net::TcpListener;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    /// Listens on the loopback, with room for so many connections that nobody has accepted.
    fn listening(backlog: i32) -> (TcpListener, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        socket.listen(backlog).expect("listens");
        let listener = TcpListener::from(socket);
        let at = listener.local_addr().expect("bound");
        (listener, at)
    }

    fn accepted(listener: &TcpListener) -> Connected {
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        Connected::of(TcpStream::from_std(stream).expect("registered"))
    }

    #[tokio::test]
    async fn on_one_machine_a_connection_and_its_first_bytes_wait_for_nothing() {
        let (listener, at) = listening(8);
        let mut client = Connected::to(at).now_or_never().expect("it does not wait").expect("connected");
        client.write_all(b"request").now_or_never().expect("it does not wait").expect("written");
        let mut server = accepted(&listener);
        let mut request = [0; 7];
        server.read_exact(&mut request).now_or_never().expect("it does not wait").expect("read");
        assert_eq!(&request, b"request");
        // What comes later is waited for.
        let (mut answer, mut more) = ([0; 6], [0; 4]);
        assert!(client.read(&mut answer).now_or_never().is_none());
        server.write_all(b"answer").await.expect("written");
        client.read_exact(&mut answer).await.expect("read");
        client.write_all(b"more").await.expect("written");
        server.read_exact(&mut more).await.expect("read");
        assert_eq!((&answer, &more), (b"answer", b"more"));
        drop(client);
        assert_eq!(server.read(&mut more).await.expect("read"), 0);
    }

    #[tokio::test]
    async fn a_first_read_without_bytes_waits_for_them() {
        let (listener, at) = listening(8);
        let mut client = Connected::to(at).await.expect("connected");
        let mut server = accepted(&listener);
        let mut request = [0; 7];
        assert!(server.read(&mut request).now_or_never().is_none());
        client.write_all(b"request").await.expect("written");
        server.read_exact(&mut request).await.expect("read");
        assert_eq!(&request, b"request");
    }

    #[tokio::test]
    async fn a_port_on_which_nobody_listens_refuses() {
        let (listener, at) = listening(8);
        drop(listener);
        assert_eq!(Connected::to(at).await.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_handshake_that_takes_time_is_waited_for() {
        let (listener, at) = listening(0);
        // The kernel drops handshakes while its queue is full, and the other side repeats them after a second.
        let mut made = Vec::new();
        let waiting = loop {
            let mut connects = Box::pin(Connected::to(at));
            match connects.as_mut().now_or_never() {
                Some(connected) => made.push(connected.expect("connected")),
                None => break connects,
            }
        };
        for _ in &made {
            drop(accepted(&listener));
        }
        let mut late = timeout(Duration::from_secs(20), waiting).await.expect("in time").expect("connected");
        late.write_all(b"late").await.expect("written");
        let mut heard = [0; 4];
        accepted(&listener).read_exact(&mut heard).await.expect("read");
        assert_eq!(&heard, b"late");
    }
}
