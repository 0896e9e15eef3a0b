//! Allowances: what QUIC lets a peer occupy of this node, in streams and unread bytes.
//!
//! A worker is trusted to run tasks, not to work correctly: a broken or hostile one must not take a manager's memory,
//! nor the turns of other peers. So every number that a peer can drive up has a limit for each session, low for workers
//! and high for managers, which could stop the cluster anyway. QUIC enforces these limits (flow control) before a byte
//! is read; the endpoint counts the streams of each lane (`endpoint/places`).

use crate::lane::Traffic;
use essaim_wire::Role;

/// Limits of a peer before its identity is known: one stream, for the Hello of a node or the question of a joiner, and
/// the bytes of a few such frames.
pub(crate) const STRANGER: Allowance = Allowance { streams: 1, window: 64 << 10 };

/// Concurrent streams of a worker: twice what the lanes allow (`endpoint/places`), so that a stream that is about to end does not delay
/// the next one.
const STREAMS_OF_A_WORKER: u32 = 16;

/// Concurrent streams of a manager: between managers, each proposal and each append takes one.
pub(crate) const STREAMS_OF_A_MANAGER: u32 = 1024;

/// Connections to published ports that a node may carry to the tasks of another one at a time. It is a third of what a node
/// carries in all (`essaim_worker`'s `CONNECTIONS_MAX`), so that no node takes all of it from others. An idle connection takes
/// some 10 kB on either node.
pub(crate) const PORT_STREAMS: u32 = 10_240;

/// Concurrent streams on a bulk connection beside those to published ports: each task whose log is read, and each program
/// that a manager executes.
const OTHER_STREAMS_OF_BULK: u32 = 1024;

/// Concurrent streams to published ports for which a bulk connection has room from the start. QUIC keeps some 60 bytes for
/// each stream that a peer may open, whether or not it does. So there is always room for as many again as are open, and no
/// more.
const PORT_STREAMS_AT_FIRST: u32 = 1024;

/// Unread bytes on the control connection of a worker: at a round trip of 1 ms they carry 2 GB/s, and reports and
/// tables fit.
const WINDOW_OF_A_WORKER: u32 = 2 << 20;

/// Unread bytes on one stream: at a round trip of 1 ms a stream carries 256 MB/s. QUIC gives all streams of a connection
/// the same, and a stream that is not read keeps its share of the connection's window.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;

/// Unread bytes on the control connection between managers: that of 32 streams, of which each is read at once.
const WINDOW: u32 = 8 << 20;

/// Unread bytes on a bulk connection: that of [`STALLED_MAX`] streams that nobody reads, and 8 MiB for all others.
const WINDOW_OF_BULK: u32 = STALLED_MAX as u32 * STREAM_WINDOW + (8 << 20);

/// Streams of a bulk connection that nobody reads, such as those of clients of a published port that do not take what they
/// asked for, and that hold up no other stream. Who serves a lane has to end further ones.
pub const STALLED_MAX: usize = 64;

/// QUIC's limits for a peer on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Concurrent streams that the peer may open. A further one waits at the peer.
    pub streams: u32,
    /// Bytes of the peer that have not been read yet, and bytes for the peer that have not been acknowledged yet.
    pub window: u32,
}

impl Allowance {
    /// Limits of a peer on a session with this node, by the roles of both.
    pub(crate) fn of(here: Role, peer: Role, traffic: Traffic) -> Self {
        match (here, peer, traffic) {
            (_, _, Traffic::Bulk) => Self::of_bulk(0),
            (Role::Manager, Role::Manager, Traffic::Control) => Self { streams: STREAMS_OF_A_MANAGER, window: WINDOW },
            (Role::Worker, Role::Manager, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW },
            (_, Role::Worker, Traffic::Control) => Self { streams: STREAMS_OF_A_WORKER, window: WINDOW_OF_A_WORKER },
        }
    }

    /// Limits of a peer on a bulk connection on which it has opened so many streams to published ports.
    pub(crate) fn of_bulk(ports: usize) -> Self {
        let ports = u32::try_from(ports).unwrap_or(u32::MAX);
        // In few steps, because each is a frame to the peer.
        let room = ports.saturating_mul(2).min(PORT_STREAMS).next_power_of_two();
        let room = room.clamp(PORT_STREAMS_AT_FIRST, PORT_STREAMS);
        Self { streams: room + OTHER_STREAMS_OF_BULK, window: WINDOW_OF_BULK }
    }
}
