//! Transport: how bytes and trust move between nodes. It knows no actor, no service and no task.
//!
//! Every node has one UDP port and speaks QUIC on it. A certificate identifies its node, the replicated [`Admission`]
//! table lists the nodes that have lost rights of their certificate, and a [`Lane`] is the purpose of a stream. The
//! [`Endpoint`] is built on these: sessions by node id, dialled when needed, at most two connections a pair.
//!
//! In suggested reading order:
//!
//! - [`network`]: the traits that separate the real network from the simulated one; `allowance`: what a peer may occupy.
//! - [`trust`]: keys, certificates, join tokens.
//! - [`lane`], [`admission`], [`frame`]: purposes of streams, the rights to open them, and messages on them.
//! - [`issuer`]: the trait by which a stranger gets a certificate.
//! - [`endpoint`]: sessions, lanes, enrolment.
//! - `quic` and `sim` (feature `sim`): the two networks.

pub mod admission;
mod allowance;
pub mod endpoint;
pub mod frame;
pub mod issuer;
pub mod lane;
pub mod network;
mod quic;
#[cfg(feature = "sim")]
pub mod sim;
pub mod trust;

pub use admission::{Admission, AdmissionChange, Denied};
pub use allowance::{Allowance, STALLED_MAX};
pub use endpoint::{
    Config, Datagram, DatagramSink, Datagrams, Endpoint, EnrolError, Event, LaneStream, Lost, OpenError, PeerInfo,
    Receivers, Serve, SessionId, Unreached, enrol,
};
pub use frame::{FrameError, FrameReceiver, FrameSender, MAX_FRAME};
pub use issuer::{EnrolReply, EnrolRequest, Issuer, Refused};
pub use lane::{Direction, Lane, Traffic};
pub use network::{Binding, Connection, DialError, Ended, Network, Probe, Socket, SocketKey, Trust, Utc};
pub use quic::QuicNetwork;
pub use trust::{
    Authority, CaDigest, Certificate, Grant, Identity, InvalidToken, JoinToken, Key, PeerIdentity, Serial,
    SigningRequest, TokenSecret, TrustError, renewal_due,
};

/// Code of a stream whose content broke off, for lanes that carry bytes of others.
pub const BROKEN: u32 = code::BROKEN;

/// Reasons why a connection or stream was closed, as numbers on the wire. The text beside a number is for people.
pub(crate) mod code {
    /// The node leaves or stops; nothing is wrong.
    pub(crate) const GOING: u32 = 0;
    /// Hello was malformed, or did not come in time.
    pub(crate) const HELLO: u32 = 1;
    /// The certificate or the admission table does not allow the session or lane.
    pub(crate) const DENIED: u32 = 2;
    /// Another connection between the two nodes replaced this one.
    pub(crate) const DUPLICATE: u32 = 3;
    /// The node has another certificate now and will dial again.
    pub(crate) const IDENTITY: u32 = 4;
    /// A frame was over the limit or could not be decoded.
    pub(crate) const FRAME: u32 = 5;
    /// The session was not used for a while.
    pub(crate) const IDLE: u32 = 7;
    /// The node was told to end the session.
    pub(crate) const DISCONNECTED: u32 = 8;
    /// The connection that the stream carries broke off at the node that says so.
    pub(crate) const BROKEN: u32 = 10;
    /// Too many strangers are connected, or are being answered; the stranger may try again.
    pub(crate) const BUSY: u32 = 9;
}
