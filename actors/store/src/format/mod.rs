//! Formats on disk and on the wire between managers: our own frozen types, never those of openraft.
//!
//! openraft is an alpha and adds fields between releases; bincode is positional and could not skip a new field. So
//! everything that is written is one of the types below, in an enum whose variant is the version. A new version is a
//! new variant, and an old one stays readable for as long as a manager may hold it. The golden bytes at the end of this
//! file prove that no format has changed.
//!
//! [`lane`] has the frames of the Raft, Snapshot and Propose lanes.

pub(crate) mod lane;

use bincode::{Decode, Encode};
use essaim_model::{Change, Proposal};
use essaim_wire::record;
use essaim_wire::{DecodeError, Level, Lineage, NodeId, decode};
use std::net::SocketAddr;

/// Id of a log entry: the term of its leader, and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// Vote that a manager has promised, and whether a majority did the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

/// The node behind a number in the group. The address is a hint: dialling asks the roster first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) addr: Option<SocketAddr>,
}
record!(Peer { 1: node, addr });

impl Default for Peer {
    /// A placeholder node; openraft's own test suite makes members from defaults.
    fn default() -> Self {
        Self { node: NodeId::from_bits(0), addr: None }
    }
}

/// Membership of the group: the voters (two sets during a joint change) and all known members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Membership {
    pub(crate) voters: Vec<Vec<u64>>,
    pub(crate) peers: Vec<(u64, Peer)>,
}

/// A membership, and the entry by which it came into force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct StoredMembership {
    pub(crate) at: Option<LogId>,
    pub(crate) membership: Membership,
}

/// Content of a log entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Body {
    /// Blank entry, the first of a term.
    Blank,
    /// An encoded [`Command`], opaque until it is applied.
    Command(Vec<u8>),
    /// A new membership of the group.
    Membership(Membership),
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Entry {
    pub(crate) id: LogId,
    pub(crate) body: Body,
}

/// A log entry in its stored form, with its version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum StoredEntry {
    V1(Entry),
}

/// Command that managers agree on. A manager that meets an unknown version stops: skipping it would make states
/// diverge.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Command {
    /// Changes to the state.
    Proposal(Proposal),
    /// Hash of the leader's state at a log index, with which every manager compares its own.
    Check { index: u64, hash: u64 },
}

/// Metadata of a snapshot; its first frame.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnapshotMeta {
    /// The last entry that the snapshot contains.
    pub(crate) last: Option<LogId>,
    /// The membership in force at that entry.
    pub(crate) membership: StoredMembership,
}

/// The first frame of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum SnapshotHead {
    V1(SnapshotMeta),
}

/// Identity of this manager in the group, beside the key on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct GroupIdentity {
    /// Node that the folder belongs to.
    pub node: NodeId,
    /// The node's number in the group, which is never reused.
    pub raft_id: u64,
    /// History that the manager belongs to.
    pub lineage: Lineage,
}

/// Contents of the `identity` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum IdentityFile {
    V1(GroupIdentity),
}

impl Command {
    /// Decodes the command of an entry, for a program that understands this level. A change of a higher level is from a
    /// newer program; among released programs, decoding such a change fails anyway.
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

impl StoredEntry {
    /// Decodes the entry of a stored record.
    pub(crate) fn open(bytes: &[u8]) -> Result<Entry, DecodeError> {
        let Self::V1(entry) = decode(bytes)?;
        Ok(entry)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("format": LogId, Vote, Membership, StoredMembership, Body, Entry, StoredEntry, Command, SnapshotMeta, SnapshotHead, GroupIdentity, IdentityFile, Peer);
