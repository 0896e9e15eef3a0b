//! A UDP socket for quinn that can be taken away from it.
//!
//! quinn's connections, and every stream handle still in use, keep their socket alive. A node that leaves a cluster and
//! starts another must bind the same port again at once. So quinn holds this [`Port`] instead of a socket, and
//! [`Port::shut`] drops the socket inside and waits until it is gone.

use parking_lot::RwLock;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Type};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// Bytes of the socket's send and receive buffers. The kernel's 208 KiB overflow when a hundred peers send in the same
/// millisecond. A host with a lower limit grants less.
const BUFFER: usize = 4 << 20;

/// Time for which `shut` waits for a send or receive under way; each takes microseconds.
const SHUT_MAX: Duration = Duration::from_secs(1);

pub(super) struct Port {
    io: RwLock<Option<Arc<Io>>>,
    addr: SocketAddr,
    shut: Notify,
}

struct Io {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    pub(super) fn bind(listen: SocketAddr) -> io::Result<Arc<Self>> {
        let socket = socket2::Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
        if listen.is_ipv6() {
            // `[::]` means every address of the host, including those of IPv4.
            socket.set_only_v6(false)?;
        }
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&listen.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        let addr = socket.local_addr()?;
        Ok(Arc::new(Self { io: RwLock::new(Some(Arc::new(Io { socket, state }))), addr, shut: Notify::new() }))
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Drops the socket, and returns when the port can be bound again.
    pub(super) async fn shut(&self) {
        let Some(io) = self.io.write().take() else { return };
        let gone = Arc::downgrade(&io);
        drop(io);
        self.shut.notify_waiters();
        let _ = tokio::time::timeout(SHUT_MAX, async {
            while gone.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn io(&self) -> Option<Arc<Io>> {
        self.io.read().clone()
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { port: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // A packet sent after the end is lost, as any datagram may be.
        let Some(io) = self.io() else { return Ok(()) };
        io.socket.try_io(Interest::WRITABLE, || io.state.send((&io.socket).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // After the end no packet arrives; an error instead would make quinn log one.
        let Some(io) = self.io() else { return Poll::Pending };
        loop {
            ready!(io.socket.poll_recv_ready(cx))?;
            let received = io.socket.try_io(Interest::READABLE, || io.state.recv((&io.socket).into(), bufs, meta));
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        self.io().map_or(1, |io| io.state.max_gso_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.io().map_or(1, |io| io.state.gro_segments())
    }

    fn may_fragment(&self) -> bool {
        self.io().is_none_or(|io| io.state.may_fragment())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.addr)
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket accepts another packet, or is taken away.
struct Writable {
    port: Arc<Port>,
    waiting: Option<Waiting>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = self.port.io() else { return Poll::Ready(Ok(())) };
        let port = self.port.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                tokio::select! {
                    writable = io.socket.writable() => writable,
                    () = port.shut.notified() => Ok(()),
                }
            })
        });
        let writable = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(writable)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writable({:?})", self.port)
    }
}
