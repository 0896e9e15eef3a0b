//! One line of the journal.

use crate::path::Path;
use bincode::{Decode, Encode};
use essaim_wire::Timestamp;
use std::fmt;

/// What an operator reads: when, where, what, why.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Counts the records of this start of this node, from 1.
    pub seq: u64,
    /// When, by this node's idea of UTC.
    pub at: Timestamp,
    /// What happened.
    pub kind: RecordKind,
    /// To whom.
    pub path: Path,
    /// Why, in words.
    pub reason: String,
    /// The number of the record, in the same journal, that this one follows from.
    pub cause: Option<u64>,
}

/// What happened. New kinds come at the end: a record crosses nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum RecordKind {
    /// An actor was started for the first time.
    Started,
    /// An actor failed: an error, a panic, a kill, a lost peer.
    Failed,
    /// An actor will be started again, after a delay.
    Restarting,
    /// An actor was started again.
    Restarted,
    /// An actor's children failed too often: it fails itself.
    Escalated,
    /// An actor ended as it should.
    Stopped,
    /// An actor did not end within its deadline and was killed.
    Killed,
    /// The detector's verdict about a member, or about this node.
    Verdict,
    /// A session or a link came or went.
    Session,
    /// Certificates, enrolment, admission.
    Trust,
    /// The Raft group: leadership, members, snapshots.
    Raft,
    /// A service: its wish, its progress.
    Service,
    /// A task.
    Task,
    /// A node's record: role, availability, reachability.
    Node,
    /// Anything else worth a line.
    Note,
}

impl RecordKind {
    /// The word for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::Restarted => "restarted",
            Self::Escalated => "escalated",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Verdict => "verdict",
            Self::Session => "session",
            Self::Trust => "trust",
            Self::Raft => "raft",
            Self::Service => "service",
            Self::Task => "task",
            Self::Node => "node",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_record_never_change() {
        let record = Record {
            seq: 2,
            at: Timestamp::from_micros(3),
            kind: RecordKind::Restarting,
            path: Path::root("n"),
            reason: "x".into(),
            cause: Some(1),
        };
        let golden = [2, 3, 2, 2, b'/', b'n', 1, b'x', 1, 1];
        assert_eq!(essaim_wire::encode(&record), golden);
        assert_eq!(essaim_wire::decode(&golden), Ok(record));
        assert_eq!(essaim_wire::encode(&RecordKind::Note), [14]);
    }
}
