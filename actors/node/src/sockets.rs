//! The machine's sockets for published ports.
//!
//! Ports are published on each address of version 4 by itself, and not on the unspecified address: a process task that
//! listens on its own loopback address may use the number of a published port, which the unspecified address would take
//! on every address there is. Version 6, where no task has an address, takes one socket for TCP. UDP takes one for each
//! address of version 6, too, because an answer has to come from the address that the client has sent to; link-local
//! addresses, which mean nothing without an interface, are left out.

use crate::address::interfaces;
use crate::carriers::Carriers;
use crate::holders;
use essaim_model::PortProtocol;
use essaim_worker::engine::Connected;
use essaim_worker::{Arrival, Datagrams, Listener, Sockets};
use futures::FutureExt;
use futures::future::BoxFuture;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;

/// Connections of one port that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bytes of datagrams that may wait in the socket of one port: a burst of some hundred while the daemon does other things.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Time without a byte after which a client is asked whether it is still there. An idle connection is never ended; one
/// whose client has vanished is, some two minutes later.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The sockets of the machine that the daemon runs on.
#[derive(Debug, Default)]
pub struct MachineSockets {
    carriers: Carriers,
}

impl Sockets for MachineSockets {
    fn addresses(&self, home: IpAddr, protocol: PortProtocol) -> Vec<IpAddr> {
        if home.is_loopback() {
            return vec![home];
        }
        let all = interfaces().into_iter().filter_map(|it| match it.address {
            IpAddr::V4(address) => Some(IpAddr::V4(address)),
            IpAddr::V6(_) if protocol == PortProtocol::Tcp => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            IpAddr::V6(address) => Some(IpAddr::V6(address)).filter(|_| !address.is_unicast_link_local()),
        });
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // The port is free again at once when the daemon restarts, whatever connections linger.
        socket.set_reuse_address(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // What is accepted inherits both. TCP_NODELAY sends small answers at once.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        Ok(Box::new(Listening::of(socket.into())?))
    }

    fn runtime(&self) -> Handle {
        self.carriers.runtime()
    }

    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn Datagrams>> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The kernel gives what it allows; less works, too.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&at.into())?;
        Ok(Arc::new(Bound(UdpSocket::from_std(socket.into())?)))
    }

    fn holders(&self, held: Vec<(PortProtocol, SocketAddr)>) -> BoxFuture<'static, Vec<Option<String>>> {
        holders::of(held).boxed()
    }
}

struct Bound(UdpSocket);

impl Datagrams for Bound {
    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        self.0.poll_recv_from(cx, buffer)
    }

    fn try_send_to(&self, datagram: &[u8], client: SocketAddr) -> io::Result<()> {
        self.0.try_send_to(datagram, client).map(drop)
    }
}

/// The standard library's listener, whose connections belong to no runtime yet.
struct Listening(AsyncFd<TcpListener>);

impl Listening {
    #[allow(unsafe_code, reason = "what a listener's descriptor does, tokio asks its owner to promise")]
    fn of(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: a listener owns one open descriptor until it is dropped, and gives it up to nobody.
        let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
        Ok(Self(registered?))
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Arrival, SocketAddr)>> {
        async {
            let (stream, from) = self.0.async_io(Interest::READABLE, TcpListener::accept).await?;
            let arrival: Arrival = Box::new(move || {
                stream.set_nonblocking(true)?;
                Ok(Box::new(Connected::of(TcpStream::from_std(stream)?)))
            });
            Ok((arrival, from))
        }
        .boxed()
    }
}
