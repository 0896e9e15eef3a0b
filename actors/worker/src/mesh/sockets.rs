//! How a node listens on published ports: on the machine's sockets, or on those of a simulation.

use crate::engine::Duplex;
use essaim_model::PortProtocol;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;
use tokio::runtime::Handle;

/// Where a node listens on published ports.
pub trait Sockets: Send + Sync + 'static {
    /// The addresses on which ports of a protocol are published, as they are now. `home` is the address on which the node listens for the
    /// cluster's traffic: a node that lives on one loopback address, as those of `essaim dev` do, publishes there only.
    fn addresses(&self, home: IpAddr, protocol: PortProtocol) -> Vec<IpAddr>;

    /// Listens for TCP connections. Must be called inside the runtime that accepts them.
    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// The runtime for the next listener or connection. A machine may have threads for them, apart from the daemon's actors.
    fn runtime(&self) -> Handle {
        Handle::current()
    }

    /// Binds a UDP socket. Must be called inside the runtime.
    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn Datagrams>> {
        let _ = at;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The programs that hold these ports, in words for people, in the same order. `None` where the machine does not tell,
    /// which is the case for programs of other users unless the daemon may look into them.
    fn holders(&self, held: Vec<(PortProtocol, SocketAddr)>) -> BoxFuture<'static, Vec<Option<String>>> {
        std::future::ready(vec![None; held.len()]).boxed()
    }
}

/// A UDP socket of a published port.
pub trait Datagrams: Send + Sync {
    /// Receives the next datagram, and the address of the client that has sent it.
    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>>;

    /// Sends a datagram to a client; never waits.
    fn try_send_to(&self, datagram: &[u8], client: SocketAddr) -> io::Result<()>;
}

/// A connection that was accepted. Calling this takes it, in the runtime that carries it.
pub type Arrival = Box<dyn FnOnce() -> io::Result<Box<dyn Duplex>> + Send>;

/// A socket that listens.
pub trait Listener: Send {
    /// Waits for the next connection, and the address of its client.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Arrival, SocketAddr)>>;
}

/// A machine without ports: for tests of other things.
#[derive(Debug, Clone, Copy)]
pub struct NoSockets;

impl Sockets for NoSockets {
    fn addresses(&self, _: IpAddr, _: PortProtocol) -> Vec<IpAddr> {
        Vec::new()
    }

    fn listen(&self, _: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
