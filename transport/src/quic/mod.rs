//! The real network: QUIC (quinn, rustls with ring, TLS 1.3) on one UDP port, dialling and accepting.
//!
//! Two ALPNs name the two levels of trust. On `essaim-join/1` only the accepting side shows a certificate, which the
//! dialler checks against the CA digest of its join token; on `essaim/1` both sides show one. TLS cannot request the
//! dialler's certificate by ALPN, so it is always requested, verified when shown, and a member without one is refused
//! right after the handshake.
//!
//! Sessions are not resumed: a resumed one would carry the certificate of its first handshake past a change of role.
//!
//! - `settings`: the configuration of TLS and QUIC.
//! - `port`: a UDP socket that can be taken away from quinn, so that the port is free when `close` returns.
//! - `connection`: quinn's connections and streams behind the traits.

mod connection;
mod port;
mod settings;

use crate::network::{
    Arrival, Binding, Connection, DialError, Network, Probe, Socket, SocketKey, Trust, TrustLevel, Utc,
};
use crate::trust::verify::OTHER_CA;
use crate::trust::{Identity, TrustError};
use connection::QuicConnection;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use port::Port;
use quinn::{ConnectionError, TokioRuntime, VarInt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// Time after which a handshake has failed. A peer that is merely slow answers within the idle timeout.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Time without an answer to a dial after which the sentinel asks whether any process listens on the port. A handshake
/// takes one round trip, so the sentinel is the exception.
const SENTINEL_AFTER: Duration = Duration::from_millis(100);

/// Time for which the sentinel waits for an ICMP message. Measured: the message comes after 6 to 13 ms.
const SENTINEL_MAX: Duration = Duration::from_millis(200);

/// Time for which `close` waits for the goodbyes to be sent. They are sent at once; the rest is QUIC's draining, which
/// serves peers whose goodbye was lost: they learn of the end from the sentinel, or from the reset of a successor.
const GOODBYE_MAX: Duration = Duration::from_millis(50);

/// QUIC over UDP sockets of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuicNetwork;

impl Network for QuicNetwork {
    fn bind(&self, listen: SocketAddr, binding: Binding) -> io::Result<Arc<dyn Socket>> {
        let Binding { identity, key, utc } = binding;
        let server = match &identity {
            Some(identity) => Some(settings::server(identity, &key, &utc).map_err(io::Error::other)?),
            None => None,
        };
        let client = match &identity {
            Some(identity) => Some(settings::member(identity, &utc).map_err(io::Error::other)?),
            None => None,
        };
        let port = Port::bind(listen)?;
        let local = port.addr();
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            settings::endpoint(&key),
            server,
            port.clone(),
            Arc::new(TokioRuntime),
        )?;
        Ok(Arc::new(QuicSocket { port, local, utc, open: Mutex::new(Some(Open { endpoint, client })), key }))
    }

    fn is_free(&self, listen: SocketAddr) -> io::Result<()> {
        Port::bind(listen).map(drop)
    }
}

struct QuicSocket {
    port: Arc<Port>,
    local: SocketAddr,
    key: SocketKey,
    utc: Utc,
    /// The open endpoint; `None` after `close`.
    open: Mutex<Option<Open>>,
}

struct Open {
    endpoint: quinn::Endpoint,
    /// Configuration for dialling as a member; `None` without an identity.
    client: Option<quinn::ClientConfig>,
}

impl QuicSocket {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock()
    }

    fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.open().as_ref().map(|open| open.endpoint.clone())
    }

    fn connecting(&self, addr: SocketAddr, trust: Trust) -> Result<quinn::Connecting, DialError> {
        let open = self.open();
        let Some(open) = open.as_ref() else {
            return Err(DialError::Unable("the socket is closed".into()));
        };
        let config = match trust {
            Trust::Join { ca } => settings::joiner(ca, &self.utc),
            Trust::Member => {
                open.client.clone().ok_or_else(|| DialError::Unable("this node has no certificate".into()))?
            }
        };
        open.endpoint
            .connect_with(config, addr, settings::SERVER_NAME)
            .map_err(|why| DialError::Unable(why.to_string()))
    }
}

impl Socket for QuicSocket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Arrival>>> {
        let endpoint = self.endpoint();
        async move {
            let incoming = endpoint?.accept().await?;
            Some(Box::new(QuicArrival(incoming)) as Box<dyn Arrival>)
        }
        .boxed()
    }

    fn dial(&self, addr: SocketAddr, trust: Trust) -> BoxFuture<'_, Result<Arc<dyn Connection>, DialError>> {
        async move {
            let connecting = self.connecting(addr, trust)?;
            let nothing_listens = async {
                sleep(SENTINEL_AFTER).await;
                if self.probe(addr).await == Probe::Silent {
                    std::future::pending::<()>().await;
                }
            };
            let made = tokio::select! {
                made = timeout(HANDSHAKE_MAX, connecting) => made,
                () = nothing_listens => return Err(DialError::NothingListens { addr }),
            };
            let connection = match made {
                Ok(Ok(connection)) => connection,
                Ok(Err(why)) => return Err(refusal(addr, &why)),
                Err(_) => return Err(DialError::NoAnswer { addr }),
            };
            let level = if trust == Trust::Member { TrustLevel::Member } else { TrustLevel::Join };
            match QuicConnection::new(connection, level) {
                Ok(connection) => Ok(Arc::new(connection) as Arc<dyn Connection>),
                Err(why) => Err(DialError::Untrusted { addr, why: why.to_string() }),
            }
        }
        .boxed()
    }

    fn present(&self, identity: Identity) -> Result<(), TrustError> {
        let server = settings::server(&identity, &self.key, &self.utc)?;
        let client = settings::member(&identity, &self.utc)?;
        if let Some(open) = self.open().as_mut() {
            open.endpoint.set_server_config(Some(server));
            open.client = Some(client);
        }
        Ok(())
    }

    fn probe(&self, addr: SocketAddr) -> BoxFuture<'_, Probe> {
        let from = match (self.local.ip(), addr.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => SocketAddr::new(self.local.ip(), 0),
            (_, IpAddr::V4(_)) => SocketAddr::from(([0, 0, 0, 0], 0)),
            (_, IpAddr::V6(_)) => SocketAddr::from(([0u16; 8], 0)),
        };
        async move {
            let refused = timeout(SENTINEL_MAX, async {
                // The kernel reports ICMP messages only to a connected socket.
                let sentinel = UdpSocket::bind(from).await?;
                sentinel.connect(addr).await?;
                // One byte is no QUIC packet: a living daemon ignores it.
                sentinel.send(&[0]).await?;
                sentinel.recv(&mut [0; 1]).await
            });
            match refused.await {
                Ok(Err(why)) if why.kind() == io::ErrorKind::ConnectionRefused => Probe::Refused,
                _ => Probe::Silent,
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let Some(Open { endpoint, .. }) = self.open().take() else { return };
            endpoint.close(VarInt::from_u32(crate::code::GOING), b"the node closes its endpoint");
            let _ = timeout(GOODBYE_MAX, endpoint.wait_idle()).await;
            drop(endpoint);
            self.port.shut().await;
        }
        .boxed()
    }
}

struct QuicArrival(quinn::Incoming);

impl Arrival for QuicArrival {
    fn remote_addr(&self) -> SocketAddr {
        self.0.remote_address()
    }

    fn is_validated(&self) -> bool {
        self.0.remote_address_validated()
    }

    fn demand_validation(self: Box<Self>) {
        // An error means that the peer has proved its address already; then the arrival in the error is dropped, which
        // refuses it.
        let _ = self.0.retry();
    }

    fn ignore(self: Box<Self>) {
        self.0.ignore();
    }

    fn complete(self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, DialError>> {
        let addr = self.remote_addr();
        async move {
            let connecting = self.0.accept().map_err(|why| refusal(addr, &why))?;
            let connection = match timeout(HANDSHAKE_MAX, connecting).await {
                Ok(made) => made.map_err(|why| refusal(addr, &why))?,
                Err(_) => return Err(DialError::NoAnswer { addr }),
            };
            let level = settings::level(&connection);
            let close = connection.clone();
            match QuicConnection::new(connection, level) {
                Ok(connection) => Ok(Arc::new(connection) as Arc<dyn Connection>),
                Err(why) => {
                    let why = why.to_string();
                    close.close(VarInt::from_u32(crate::code::DENIED), why.as_bytes());
                    Err(DialError::Untrusted { addr, why })
                }
            }
        }
        .boxed()
    }
}

fn refusal(addr: SocketAddr, why: &ConnectionError) -> DialError {
    match why {
        ConnectionError::TimedOut => DialError::NoAnswer { addr },
        ConnectionError::TransportError(own) if own.reason.contains(OTHER_CA) => DialError::OtherCa { addr },
        ConnectionError::TransportError(own) => DialError::Untrusted { addr, why: own.to_string() },
        ConnectionError::ApplicationClosed(close) => {
            DialError::Refused { addr, why: String::from_utf8_lossy(&close.reason).into_owned() }
        }
        other => DialError::Refused { addr, why: other.to_string() },
    }
}
