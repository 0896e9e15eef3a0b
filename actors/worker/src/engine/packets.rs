//! Datagrams to and from a UDP port of a task.

use essaim_protocol::DATAGRAM_MAX;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UdpSocket;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM_MAX].into());
}

/// Receives a datagram into the one buffer of the thread: most sockets wait most of the time.
pub(crate) fn with_buffer<T>(receive: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| receive(buffer))
}

/// A socket for datagrams to and from one UDP port of a task.
pub trait Packets: Send + Sync {
    /// Waits for the next datagram of the task. An error says that the task does not listen. Safe to cancel.
    fn recv(&self) -> BoxFuture<'_, io::Result<Arc<[u8]>>>;

    /// Sends a datagram to the task; never waits.
    fn try_send(&self, datagram: &[u8]) -> io::Result<()>;
}

/// Makes a socket for datagrams to and from a UDP port at an address of this machine.
pub async fn packets(at: SocketAddr) -> io::Result<Box<dyn Packets>> {
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at).await?;
    // Before the runtime has looked at the socket for the first time, it would refuse to send.
    socket.writable().await?;
    Ok(Box::new(Connected(socket)))
}

struct Connected(UdpSocket);

impl Packets for Connected {
    fn recv(&self) -> BoxFuture<'_, io::Result<Arc<[u8]>>> {
        async {
            loop {
                // Linux does not call a socket readable because of the message that nobody listens.
                let ready = self.0.ready(Interest::READABLE | Interest::ERROR).await?;
                match with_buffer(|buffer| self.0.try_recv(buffer).map(|len| Arc::from(&buffer[..len]))) {
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                        if ready.is_error() {
                            let why = self.0.take_error()?;
                            return Err(why.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
                        }
                    }
                    got => return got,
                }
            }
        }
        .boxed()
    }

    fn try_send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.try_send(datagram).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_socket_says_that_nobody_listens_however_long_it_has_waited() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        for before in [Duration::ZERO, Duration::from_millis(100)] {
            let socket = packets(free).await.expect("any address");
            let waits = async {
                sleep(before).await;
                socket.try_send(b"hello").expect("sent");
                std::future::pending::<()>().await;
            };
            let got = tokio::select! {
                got = timeout(PATIENCE, socket.recv()) => got.expect("an answer"),
                () = waits => unreachable!("it waits for ever"),
            };
            assert_eq!(got.map_err(|why| why.kind()), Err(io::ErrorKind::ConnectionRefused), "{before:?}");
        }
    }

    #[tokio::test]
    async fn datagrams_of_any_length_come_back_whole() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let socket = packets(server.local_addr().expect("bound")).await.expect("any address");
        let mut buffer = vec![0; DATAGRAM_MAX];
        for len in [0, 1, DATAGRAM_MAX] {
            socket.try_send(&vec![7; len]).expect("sent");
            let (got, from) = server.recv_from(&mut buffer).await.expect("received");
            server.send_to(&buffer[..got], from).await.expect("sent");
            let back = timeout(PATIENCE, socket.recv()).await.expect("an answer").expect("received");
            assert!(back.len() == len && back.iter().all(|byte| *byte == 7), "{} of {len}", back.len());
        }
    }
}
