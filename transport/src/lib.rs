//! How bytes and trust move between nodes. Knows no actor, no service and no task.
//!
//! Every node has one UDP port and speaks QUIC on it. The certificate says who a node is, the replicated
//! [`Admission`] table says who is no longer what its certificate claims, and a [`Lane`] says what a stream is for.
//! Above sits the [`Endpoint`]: sessions by node id, dialled when needed, at most two connections a pair.
//!
//! In suggested reading order:
//!
//! - [`network`]: the cut between the world and the simulation.
//! - [`trust`]: keys, certificates, join tokens.
//! - [`lane`], [`admission`], [`frame`]: what may be said, by whom, and in which pieces.
//! - [`endpoint`]: sessions, lanes, enrolment.
//! - `quic` and `sim` (feature `sim`): the two networks.

pub mod admission;
pub mod endpoint;
pub mod frame;
pub mod lane;
pub mod network;
mod quic;
#[cfg(feature = "sim")]
pub mod sim;
pub mod trust;

pub use admission::{Admission, Denied};
pub use endpoint::{
    Allowance, Config, Datagram, DatagramSink, Datagrams, Endpoint, EnrolError, Event, Heard, LaneStream, Lost,
    OpenError, PeerInfo, Serve, SessionId, Unreached, enrol,
};
pub use frame::{FrameError, FrameReceiver, FrameSender, MAX_FRAME};
pub use lane::{Direction, Lane, Traffic};
pub use network::{Binding, Connection, DialError, Ended, Network, Probe, Socket, SocketKey, Trust, Utc};
pub use quic::QuicNetwork;
pub use trust::{
    Authority, CaDigest, Certificate, EnrolReply, EnrolRequest, Grant, Identity, InvalidToken, Issuer, JoinToken, Key,
    PeerIdentity, Refused, Serial, SigningRequest, TokenSecret, TrustError, renewal_due,
};

/// Why a connection or stream was closed, as a number on the wire. The words beside it are for people.
pub mod code {
    /// The node leaves or stops; nothing is wrong.
    pub const GOING: u32 = 0;
    /// Hello was not understood, or did not come in time.
    pub const HELLO: u32 = 1;
    /// The certificate or the admission table does not allow it.
    pub const DENIED: u32 = 2;
    /// Another connection between the two stands in its place.
    pub const DUPLICATE: u32 = 3;
    /// The node shows another certificate now and will dial again.
    pub const IDENTITY: u32 = 4;
    /// A frame was over the limit or did not decode.
    pub const FRAME: u32 = 5;
    /// Nobody serves the lane.
    pub const UNSERVED: u32 = 6;
    /// The session was not used for a while.
    pub const IDLE: u32 = 7;
    /// Somebody asked for the end of the session.
    pub const DISCONNECTED: u32 = 8;
    /// Too many strangers are connected, or are being answered; this one may try again.
    pub const BUSY: u32 = 9;
}
