//! The sockets of a simulated machine, for published ports: connections are pipes in memory, and datagrams are values that
//! arrive at once, or are lost where too many wait.

use crate::mesh::sockets::{Arrival, Datagrams, Listener, Sockets};
use essaim_model::{PortKey, PortProtocol};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

/// Bytes of one direction that are on their way at most.
const PIPE_BYTES: usize = 64 << 10;

/// Connections of one port that may wait to be accepted, and datagrams that may wait at a socket or at a client.
const BACKLOG: usize = 64;

/// A datagram, and the address at the client's end.
type Datagram = (Arc<[u8]>, SocketAddr);

/// The sockets of one machine. Clones are the same machine's; a daemon that has died listens no more.
#[derive(Debug, Clone, Default)]
pub struct SimSockets {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    tcp: BTreeMap<u16, mpsc::Sender<(DuplexStream, SocketAddr)>>,
    udp: BTreeMap<u16, mpsc::Sender<Datagram>>,
    /// The ways back to clients that wait for datagrams.
    clients: BTreeMap<SocketAddr, mpsc::Sender<Arc<[u8]>>>,
}

/// A client that sends datagrams to published ports of one machine, from one address.
#[derive(Debug)]
pub struct SimClient {
    sockets: SimSockets,
    address: SocketAddr,
    answers: mpsc::Receiver<Arc<[u8]>>,
}

impl SimSockets {
    /// Connects to a TCP port from this address; `None` when nobody listens there, or too many connections wait.
    pub fn connect(&self, port: u16, client: SocketAddr) -> Option<DuplexStream> {
        let (near, far) = duplex(PIPE_BYTES);
        self.inner.lock().tcp.get(&port)?.try_send((far, client)).ok().map(|()| near)
    }

    /// A client with this address; `None` while there is another one with it.
    pub fn client(&self, address: SocketAddr) -> Option<SimClient> {
        let mut inner = self.inner.lock();
        if inner.clients.contains_key(&address) {
            return None;
        }
        let (way, answers) = mpsc::channel(BACKLOG);
        inner.clients.insert(address, way);
        Some(SimClient { sockets: self.clone(), address, answers })
    }

    /// The ports on which somebody listens.
    pub fn listening(&self) -> BTreeSet<PortKey> {
        let inner = self.inner.lock();
        let tcp = inner.tcp.iter().filter(|(_, port)| !port.is_closed()).map(|(number, _)| *number);
        let udp = inner.udp.iter().filter(|(_, port)| !port.is_closed()).map(|(number, _)| *number);
        let tcp = tcp.map(|number| PortKey { protocol: PortProtocol::Tcp, number });
        tcp.chain(udp.map(|number| PortKey { protocol: PortProtocol::Udp, number })).collect()
    }
}

impl SimClient {
    /// Sends a datagram to a UDP port; it is lost when nobody listens there.
    pub fn send(&self, port: u16, datagram: &[u8]) {
        if let Some(socket) = self.sockets.inner.lock().udp.get(&port) {
            // The socket's queue is full, and the datagram is dropped.
            let _ = socket.try_send((datagram.into(), self.address));
        }
    }

    /// Waits for a datagram to this client. Safe to cancel.
    pub async fn recv(&mut self) -> Arc<[u8]> {
        match self.answers.recv().await {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        self.sockets.inner.lock().clients.remove(&self.address);
    }
}

impl Sockets for SimSockets {
    fn addresses(&self, home: IpAddr, _: PortProtocol) -> Vec<IpAddr> {
        vec![home]
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut inner = self.inner.lock();
        Ok(Box::new(SimListener(claim(&mut inner.tcp, at)?)))
    }

    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn Datagrams>> {
        let mut inner = self.inner.lock();
        let arrivals = Mutex::new(claim(&mut inner.udp, at)?);
        drop(inner);
        Ok(Arc::new(SimSocket { sockets: self.clone(), arrivals }))
    }
}

/// Claims the port of an address, and returns what arrives there.
fn claim<T>(ports: &mut BTreeMap<u16, mpsc::Sender<T>>, at: SocketAddr) -> io::Result<mpsc::Receiver<T>> {
    if ports.get(&at.port()).is_some_and(|port| !port.is_closed()) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let (arrive, arrivals) = mpsc::channel(BACKLOG);
    ports.insert(at.port(), arrive);
    Ok(arrivals)
}

struct SimListener(mpsc::Receiver<(DuplexStream, SocketAddr)>);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Arrival, SocketAddr)>> {
        async {
            let (stream, client) = self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            let arrival: Arrival = Box::new(move || Ok(Box::new(stream)));
            Ok((arrival, client))
        }
        .boxed()
    }
}

/// The socket of a published UDP port.
struct SimSocket {
    sockets: SimSockets,
    arrivals: Mutex<mpsc::Receiver<Datagram>>,
}

impl Datagrams for SimSocket {
    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        let arrived = ready!(self.arrivals.lock().poll_recv(cx));
        let (datagram, client) = arrived.ok_or(io::ErrorKind::NotConnected)?;
        buffer.put_slice(&datagram);
        Poll::Ready(Ok(client))
    }

    fn try_send_to(&self, datagram: &[u8], client: SocketAddr) -> io::Result<()> {
        match self.sockets.inner.lock().clients.get(&client) {
            Some(way) => way.try_send(datagram.into()).map_err(|_| io::ErrorKind::WouldBlock.into()),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}
