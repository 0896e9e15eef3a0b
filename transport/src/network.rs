//! The cut between the world and the simulation: sockets, connections, streams and datagrams as traits.
//!
//! Two implementations stand side by side: `quic`, which is QUIC on one UDP port, and [`crate::sim`]
//! (feature `sim`), which is memory and virtual time. Whatever lies above (Hello, admission, lanes, links, Raft)
//! runs the same code on both, so what the simulator proves is the code that ships.
//!
//! The ALPN of a connection names its level of trust. At [`Level::Join`] only the accepting side shows a
//! certificate, and nothing but enrolment exists. At [`Level::Member`] both sides show one.

use crate::endpoint::Allowance;
use crate::trust::{CaDigest, Identity, PeerIdentity, TrustError};
use bytes::Bytes;
use essaim_wire::Timestamp;
use futures::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where UTC comes from: `Env`'s clock, or a test. Certificates are judged by it.
pub type Utc = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A place where sockets can be bound.
pub trait Network: Send + Sync {
    /// Binds a socket. With port 0 the network picks a port. Must be called inside the runtime.
    fn bind(&self, listen: SocketAddr, binding: Binding) -> io::Result<Arc<dyn Socket>>;
}

/// What a socket is bound with.
#[derive(Clone)]
pub struct Binding {
    /// Who this node is. Without one, the socket can only dial in order to enrol, and accepts nobody.
    pub identity: Option<Identity>,
    /// Signs stateless resets and connection ids. Keep it on disk: peers learn of a restart at once only if the
    /// restarted daemon has the same key.
    pub key: SocketKey,
    /// The time by which certificates are judged.
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

/// One bound port: everything of a cluster passes through it.
pub trait Socket: Send + Sync {
    /// Where it is bound.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection that somebody asks for; `None` once the socket is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Arrival>>>;

    /// Connects, and proves both ends to each other as far as `trust` demands.
    fn dial(&self, addr: SocketAddr, trust: Trust) -> BoxFuture<'_, Result<Arc<dyn Connection>, DialError>>;

    /// Shows another certificate from now on. Connections that stand keep what they were made with.
    fn present(&self, identity: Identity) -> Result<(), TrustError>;

    /// Asks the operating system at `addr` whether anything listens there, without a word of the protocol.
    fn probe(&self, addr: SocketAddr) -> BoxFuture<'_, Probe>;

    /// Closes every connection and the socket; when it returns, the port can be bound again.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What the sentinel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The host is alive, and nothing listens on the port: the daemon is dead.
    Refused,
    /// No answer. It says nothing: a living daemon stays silent too.
    Silent,
}

/// A connection that somebody asks for. Nothing of it has been verified; dropping it refuses it.
pub trait Arrival: Send {
    /// Who asks, as far as UDP can tell.
    fn remote_addr(&self) -> SocketAddr;

    /// Whether the peer has shown that it receives what is sent to its address. Until then the address may be forged.
    fn is_validated(&self) -> bool;

    /// Asks the peer to show that, and forgets it until it does. Only while it has not.
    fn demand_validation(self: Box<Self>);

    /// Drops it without an answer. Its peer asks again after a while.
    fn ignore(self: Box<Self>);

    /// Does the handshake.
    fn complete(self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, DialError>>;
}

/// How much the dialling side demands of the other, and shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The other side's certificate must come from the CA with this digest; this side shows none.
    Join {
        /// From the join token.
        ca: CaDigest,
    },
    /// Both show a certificate of the cluster.
    Member,
}

/// The level of trust that a connection was made at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The dialler is a stranger who may enrol.
    Join,
    /// Both are nodes of the cluster.
    Member,
}

/// One established connection.
pub trait Connection: Send + Sync {
    /// What both sides proved.
    fn level(&self) -> Level;

    /// Who the certificate of the other side says it is; `None` for a stranger who wants to join.
    fn peer(&self) -> Option<&PeerIdentity>;

    /// Where its packets come from.
    fn remote_addr(&self) -> SocketAddr;

    /// Opens a stream in both directions. The other side sees it once something is written.
    fn open_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>>;

    /// The next stream that the other side opened.
    fn accept_stream(&self) -> BoxFuture<'_, Result<Stream, Ended>>;

    /// Sends a datagram, which may be lost; never waits.
    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError>;

    /// The next datagram of the other side.
    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, Ended>>;

    /// What the other side may occupy of this node from now on. A network in memory keeps no such limit.
    fn allow(&self, allowance: Allowance) {
        let _ = allowance;
    }

    /// Ends the connection and tells the other side why.
    fn close(&self, code: u32, reason: &str);

    /// Waits until the connection has ended, and says how.
    fn ended(&self) -> BoxFuture<'_, Ended>;
}

/// Both directions of one stream.
pub struct Stream {
    /// Towards the other side. `shutdown` ends it in order.
    pub send: Box<dyn SendStream>,
    /// From the other side.
    pub recv: Box<dyn RecvStream>,
}

/// The writing half of a stream. Dropping it ends the direction in order; what was written still arrives.
pub trait SendStream: AsyncWrite + Send + Sync + Unpin {
    /// Gives up the direction: what was not delivered is dropped, and the other side reads an error.
    fn reset(&mut self, code: u32);
}

/// The reading half of a stream. Dropping it tells the other side to stop writing.
pub trait RecvStream: AsyncRead + Send + Sync + Unpin {
    /// Refuses the rest; the other side's writes fail.
    fn stop(&mut self, code: u32);
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The other side closed it and said why.
    #[error("closed by the peer: {reason} (code {code})")]
    Closed {
        /// One of [`crate::code`]'s.
        code: u32,
        /// For people.
        reason: String,
    },
    /// This side closed it.
    #[error("closed by this node: {reason}")]
    Local {
        /// For people.
        reason: String,
    },
    /// Nothing was heard for the idle timeout.
    #[error("nothing heard for the idle timeout")]
    TimedOut,
    /// The other side does not know the connection any more: it was restarted.
    #[error("the peer was restarted and does not know this connection")]
    Reset,
    /// The protocol was violated, or the certificate of this side was refused.
    #[error("failed: {0}")]
    Failed(String),
}

/// A datagram was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// It does not fit into a packet.
    #[error("a datagram of {len} bytes does not fit: at most {max}")]
    TooLong {
        /// Of the datagram.
        len: usize,
        /// What fits.
        max: usize,
    },
    /// The connection has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// A connection could not be made. Nothing has changed anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The socket has no identity, or was closed.
    #[error("cannot dial: {0}")]
    Unable(String),
    /// The host says at once that nothing listens there.
    #[error("nothing listens at {addr}")]
    NothingListens {
        /// Who was asked.
        addr: SocketAddr,
    },
    /// Nobody answered in time.
    #[error("{addr} does not answer")]
    NoAnswer {
        /// Who was asked.
        addr: SocketAddr,
    },
    /// Somebody answered whose certificate this side does not trust.
    #[error("{addr} is not trusted: {why}")]
    Untrusted {
        /// Who answered.
        addr: SocketAddr,
        /// What is wrong with the certificate.
        why: String,
    },
    /// Somebody answered at [`Trust::Join`] whose CA is not the one of the token.
    #[error("{addr} belongs to a cluster with another CA than the token's")]
    OtherCa {
        /// Who answered.
        addr: SocketAddr,
    },
    /// The other side refused: this side's certificate, or the connection as such.
    #[error("{addr} refused the connection: {why}")]
    Refused {
        /// Who refused.
        addr: SocketAddr,
        /// In its words.
        why: String,
    },
}
