//! The network as traits: sockets, connections, streams and datagrams. Real and simulated networks implement them.
//!
//! `quic` is QUIC on one UDP port; [`crate::sim`] (feature `sim`) is memory and virtual time. Everything above (Hello,
//! admission, lanes, links, Raft) runs the same code on both, so the simulator tests the code that ships.
//!
//! The ALPN of a connection names its level of trust. At [`TrustLevel::Join`] only the accepting side shows a certificate,
//! and nothing but enrolment can be done. At [`TrustLevel::Member`] both sides show one.

use crate::allowance::Allowance;
use crate::trust::{CaDigest, Identity, PeerIdentity, TrustError};
use bytes::Bytes;
use essaim_wire::Timestamp;
use futures::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// A source of UTC, by which certificates are judged: the clock of `Env`, or a test's.
pub type Utc = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A network on which sockets can be bound.
pub trait Network: Send + Sync {
    /// Binds a socket. With port 0 the network picks a port. Must be called inside the runtime.
    fn bind(&self, listen: SocketAddr, binding: Binding) -> io::Result<Arc<dyn Socket>>;

    /// Whether a socket could be bound at present; the error says why not. Must be called inside the runtime.
    fn is_free(&self, listen: SocketAddr) -> io::Result<()> {
        let _ = listen;
        Ok(())
    }
}

/// Settings of a socket.
#[derive(Clone)]
pub struct Binding {
    /// Certificate and key of this node. A socket without them can only dial in order to enrol, and accepts no
    /// connections.
    pub identity: Option<Identity>,
    /// Key that signs stateless resets and connection ids. It is kept on disk: peers learn of a restart at once only if
    /// the restarted daemon has the same key.
    pub key: SocketKey,
    /// Time by which certificates are judged.
    pub utc: Utc,
}

/// 32 secret bytes, drawn once for a node and kept on its disk; see [`Binding::key`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SocketKey(pub [u8; 32]);

impl fmt::Debug for SocketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketKey(…)")
    }
}

/// One bound UDP port, through which all traffic of the cluster passes.
pub trait Socket: Send + Sync {
    /// The address that the socket is bound to.
    fn local_addr(&self) -> SocketAddr;

    /// Waits for the next incoming connection; `None` once the socket is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Arrival>>>;

    /// Connects to `addr`. Both ends prove to each other what `trust` demands.
    fn dial(&self, addr: SocketAddr, trust: Trust) -> BoxFuture<'_, Result<Arc<dyn Connection>, DialError>>;

    /// Uses another certificate for connections from now on. Established connections keep theirs.
    fn present(&self, identity: Identity) -> Result<(), TrustError>;

    /// The sentinel: asks the operating system at `addr` whether any process listens there, without the cluster's
    /// protocol.
    fn probe(&self, addr: SocketAddr) -> BoxFuture<'_, Probe>;

    /// Closes every connection and the socket. When it returns, the port can be bound again.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Result of a sentinel probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The host is alive and no process listens on the port: the daemon is dead.
    Refused,
    /// No answer came. That means nothing: a living daemon does not answer either.
    Silent,
}

/// An incoming connection. Nothing about it has been verified; dropping it refuses it.
pub trait Arrival: Send {
    /// The sender's address, as far as UDP can tell.
    fn remote_addr(&self) -> SocketAddr;

    /// Whether the peer has shown that it receives what is sent to its address. Until then the address may be forged.
    fn is_validated(&self) -> bool;

    /// Demands that the peer validates its address, and forgets the arrival until it does. Only for an unvalidated one.
    fn demand_validation(self: Box<Self>);

    /// Drops the arrival without an answer. Its peer retries after a while.
    fn ignore(self: Box<Self>);

    /// Performs the handshake.
    fn complete(self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, DialError>>;
}

/// Demands of the dialling side on the other side, and what the dialling side shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The other side's certificate must come from the CA with this digest; this side shows none.
    Join {
        /// Digest of the cluster's CA, from the join token.
        ca: CaDigest,
    },
    /// Both sides show a certificate of the cluster.
    Member,
}

/// Level of trust at which a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustLevel {
    /// The dialling side is a stranger that may only enrol.
    Join,
    /// Both sides are nodes of the cluster.
    Member,
}

/// One established connection.
pub trait Connection: Send + Sync {
    /// Level of trust that the handshake established.
    fn level(&self) -> TrustLevel;

    /// Identity in the other side's certificate; `None` for a stranger that wants to join.
    fn peer(&self) -> Option<&PeerIdentity>;

    /// Address from which the other side's packets come.
    fn remote_addr(&self) -> SocketAddr;

    /// Opens a stream in both directions. The other side sees it once something is written.
    fn open_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>>;

    /// Waits for the next stream that the other side opened.
    fn accept_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>>;

    /// Sends a datagram, which may be lost; never waits.
    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError>;

    /// Waits for the next datagram of the other side.
    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, Ended>>;

    /// Sets the limits on what the other side may occupy of this node. A network in memory has no such limits.
    fn allow(&self, allowance: Allowance) {
        let _ = allowance;
    }

    /// Ends the connection and tells the other side why.
    fn close(&self, code: u32, reason: &str);

    /// Waits until the connection has ended, and returns how.
    fn ended(&self) -> BoxFuture<'_, Ended>;
}

/// Both directions of one stream.
pub struct Stream {
    /// Sending half. `shutdown` ends it in order.
    pub send: Box<dyn SendStream>,
    /// Receiving half.
    pub recv: Box<dyn RecvStream>,
}

/// The sending half of a stream. Dropping it ends the direction in order; what was written still arrives.
pub trait SendStream: AsyncWrite + Send + Sync + Unpin {
    /// Aborts the direction: undelivered bytes are dropped, and the other side reads an error.
    fn reset(&mut self, code: u32);
}

/// The receiving half of a stream. Dropping it tells the other side to stop writing.
pub trait RecvStream: AsyncRead + Send + Sync + Unpin {
    /// Refuses the rest of the stream; the other side's writes fail.
    fn stop(&mut self, code: u32);
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The other side closed the connection and gave a reason.
    #[error("closed by the peer: {reason} (code {code})")]
    Closed {
        /// One of the codes in [`crate::code`].
        code: u32,
        /// The other side's reason, in words for people.
        reason: String,
    },
    /// This side closed the connection.
    #[error("closed by this node: {reason}")]
    Local {
        /// This side's reason, in words for people.
        reason: String,
    },
    /// No packet arrived for the idle timeout.
    #[error("nothing heard for the idle timeout")]
    TimedOut,
    /// The other side no longer knows the connection, because it was restarted.
    #[error("the peer was restarted and does not know this connection")]
    Reset,
    /// The other side violated the protocol, or refused the certificate of this side.
    #[error("failed: {0}")]
    Failed(String),
}

/// Reasons why a datagram was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The datagram does not fit into a packet.
    #[error("a datagram of {len} bytes does not fit: at most {max}")]
    TooLong {
        /// Length of the datagram in bytes.
        len: usize,
        /// Largest length in bytes that fits.
        max: usize,
    },
    /// The connection has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Reasons why a connection could not be made. Nothing has changed on either side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The local socket has no identity or was closed.
    #[error("cannot dial: {0}")]
    Unable(String),
    /// The host reported at once that no process listens on the port.
    #[error("nothing listens at {addr}")]
    NothingListens {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// No answer arrived in time.
    #[error("{addr} does not answer")]
    NoAnswer {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// The peer's certificate is not trusted by this side.
    #[error("{addr} is not trusted: {why}")]
    Untrusted {
        /// The address that was dialled.
        addr: SocketAddr,
        /// What is wrong with the certificate.
        why: String,
    },
    /// At [`Trust::Join`], the peer's CA is not the one of the join token.
    #[error("{addr} belongs to a cluster with another CA than the token's")]
    OtherCa {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// The other side refused the connection or this side's certificate.
    #[error("{addr} refused the connection: {why}")]
    Refused {
        /// The address that was dialled.
        addr: SocketAddr,
        /// The other side's reason, in its words.
        why: String,
    },
}
