//! The sockets of a simulated machine, for published ports: connections are pipes in memory.

use crate::mesh::sockets::{Arrival, Listener, Sockets};
use essaim_model::PortProtocol;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

/// Bytes of one direction that are on their way at most.
const PIPE_BYTES: usize = 64 << 10;

/// Connections of one port that may wait to be accepted.
const BACKLOG: usize = 64;

/// The sockets of one machine. Clones are the same machine's; a daemon that has died listens no more.
#[derive(Debug, Clone, Default)]
pub struct SimSockets {
    ports: Arc<Mutex<BTreeMap<u16, mpsc::Sender<DuplexStream>>>>,
}

impl SimSockets {
    /// Connects to a port; `None` when nobody listens there, or too many connections wait.
    pub fn connect(&self, port: u16) -> Option<DuplexStream> {
        let (near, far) = duplex(PIPE_BYTES);
        self.ports.lock().get(&port)?.try_send(far).ok().map(|()| near)
    }

    /// The ports on which somebody listens.
    pub fn listening(&self) -> Vec<u16> {
        self.ports.lock().iter().filter(|(_, port)| !port.is_closed()).map(|(port, _)| *port).collect()
    }
}

impl Sockets for SimSockets {
    fn addresses(&self, home: IpAddr, _: PortProtocol) -> Vec<IpAddr> {
        vec![home]
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut ports = self.ports.lock();
        if ports.get(&at.port()).is_some_and(|port| !port.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (arrive, arrivals) = mpsc::channel(BACKLOG);
        ports.insert(at.port(), arrive);
        Ok(Box::new(SimListener(arrivals)))
    }
}

struct SimListener(mpsc::Receiver<DuplexStream>);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Arrival, SocketAddr)>> {
        async {
            let stream = self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            let arrival: Arrival = Box::new(move || Ok(Box::new(stream)));
            Ok((arrival, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
        }
        .boxed()
    }
}
