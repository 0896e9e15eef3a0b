//! What travels through the simulated network: packets between sockets, and what the sides of a connection say in them.

use crate::network::Trust;
use crate::trust::Certificate;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// A dial that has arrived and waits to be accepted.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) conn: ConnId,
    pub(super) from: SocketAddr,
    pub(super) trust: Trust,
    pub(super) shown: Vec<Certificate>,
}

#[derive(Clone)]
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    Dial(Asked),
    Accepted { conn: ConnId, shown: Vec<Certificate> },
    DialRefused { conn: ConnId, why: String },
    NothingListens { conn: ConnId },
    Said { conn: ConnId, to: Side, what: What },
    Unknown { conn: ConnId, to: Side },
    Probe { reply: Arc<parking_lot::Mutex<Option<oneshot::Sender<()>>>> },
    Refusal { reply: Arc<parking_lot::Mutex<Option<oneshot::Sender<()>>>> },
}

/// Messages that one side of a connection sends to the other.
#[derive(Clone)]
pub(super) enum What {
    Data {
        stream: u64,
        bytes: Bytes,
    },
    Fin {
        stream: u64,
    },
    Reset {
        stream: u64,
        code: u32,
    },
    Stop {
        stream: u64,
        code: u32,
    },
    /// Flow control: this many bytes of the stream were read, and the sender's window grows by as much.
    Credit {
        stream: u64,
        bytes: usize,
    },
    Datagram(Bytes),
    Close {
        code: u32,
        reason: String,
    },
    KeepAlive,
}

impl Body {
    pub(super) fn shape(&self) -> (u64, usize) {
        match self {
            Self::Dial(_) => (0, 0),
            Self::Accepted { .. } => (1, 0),
            Self::DialRefused { .. } => (2, 0),
            Self::NothingListens { .. } => (3, 0),
            Self::Unknown { .. } => (4, 0),
            Self::Probe { .. } => (5, 0),
            Self::Refusal { .. } => (6, 0),
            Self::Said { what, .. } => match what {
                What::Data { bytes, .. } => (7, bytes.len()),
                What::Fin { .. } => (8, 0),
                What::Reset { .. } => (9, 0),
                What::Stop { .. } => (10, 0),
                What::Credit { bytes, .. } => (11, *bytes),
                What::Datagram(bytes) => (12, bytes.len()),
                What::Close { .. } => (13, 0),
                What::KeepAlive => (14, 0),
            },
        }
    }
}
