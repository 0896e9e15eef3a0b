//! What lies on disk and crosses the wire between managers: our own types, frozen, never openraft's.
//!
//! The library is an alpha and adds fields as it goes; bincode is positional and could not skip one. So everything
//! that is written is one of the types below, in an enum whose variant is the version. A new version is a new
//! variant; an old one stays readable for as long as a manager may hold it. The golden bytes at the end of this file
//! are the proof that nothing has moved.
//!
//! [`lane`] has the frames of the Raft, Snapshot and Propose lanes.

pub(crate) mod lane;

use bincode::{Decode, Encode};
use essaim_model::{Change, Proposal};
use essaim_wire::record;
use essaim_wire::{DecodeError, Level, Lineage, NodeId, decode};
use std::net::SocketAddr;

/// Where an entry stands: its leader's term, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// Whom a manager has promised its vote, and whether a majority did the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

/// Who stands behind a number in the group. The address is a hint: whoever dials asks the roster first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) addr: Option<SocketAddr>,
}
record!(Peer { 1: node, addr });

impl Default for Peer {
    /// Nobody; the library's own test suite makes members of nothing.
    fn default() -> Self {
        Self { node: NodeId::from_bits(0), addr: None }
    }
}

/// Who votes (two sets while the group changes) and who is known at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Membership {
    pub(crate) voters: Vec<Vec<u64>>,
    pub(crate) peers: Vec<(u64, Peer)>,
}

/// A membership, and the entry that put it in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct StoredMembership {
    pub(crate) at: Option<LogId>,
    pub(crate) membership: Membership,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Body {
    /// The first entry of a term.
    Blank,
    /// An encoded [`Command`], opaque until it is applied.
    Command(Vec<u8>),
    /// Another membership.
    Membership(Membership),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Entry {
    pub(crate) id: LogId,
    pub(crate) body: Body,
}

/// An entry as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Record {
    V1(Entry),
}

/// What managers agree on. An unknown version stops the manager that meets it: to skip it would be to diverge.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Command {
    /// Changes to the state.
    Proposal(Proposal),
    /// What the leader's state hashed to at a place in the log: every manager compares.
    Check { index: u64, hash: u64 },
}

/// What a snapshot stands for; its first frame.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnapshotMeta {
    /// The last entry it contains.
    pub(crate) last: Option<LogId>,
    /// The membership in force there.
    pub(crate) membership: StoredMembership,
}

/// The first frame of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum SnapshotHead {
    V1(SnapshotMeta),
}

/// Who this manager is in the group, beside the key on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Identity {
    /// The node whose folder this is.
    pub(crate) node: NodeId,
    /// Its number in the group, never used again.
    pub(crate) raft_id: u64,
    /// The history it belongs to.
    pub(crate) lineage: Lineage,
}

/// The file that names this manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum IdentityFile {
    V1(Identity),
}

impl Command {
    /// The command in the bytes of an entry, for a program that understands this level. A change of a higher level is
    /// one of a newer program: for what ships that is so already because it cannot be decoded.
    pub(crate) fn open(bytes: &[u8], understands: Level) -> Result<Self, DecodeError> {
        let command = decode(bytes)?;
        if let Self::Proposal(proposal) = &command
            && let Some(level) = proposal.changes.iter().map(Change::level).max()
            && level > understands
        {
            return Err(DecodeError::Newer { what: "Change", found: level.0.into(), known: understands.0.into() });
        }
        Ok(command)
    }
}

impl Record {
    /// The entry in the bytes of a record.
    pub(crate) fn open(bytes: &[u8]) -> Result<Entry, DecodeError> {
        let Self::V1(entry) = decode(bytes)?;
        Ok(entry)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("format": LogId, Vote, Membership, StoredMembership, Body, Entry, Record, Command, SnapshotMeta, SnapshotHead, Identity, IdentityFile, Peer);
