//! A record: one line of the journal.

use crate::path::Path;
use bincode::{Decode, Encode};
use essaim_wire::Timestamp;
use essaim_wire::record;
use std::fmt;

/// One line of the journal: time, actor, what happened and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the record, counted from 1 since the daemon started.
    pub seq: u64,
    /// When the record was written, in UTC by the node's clock.
    pub at: Timestamp,
    /// What kind of thing happened.
    pub kind: RecordKind,
    /// Path of the actor that the record is about.
    pub path: Path,
    /// Reason, in words for people.
    pub reason: String,
    /// Number of the record in the same journal from which this one follows.
    pub cause: Option<u64>,
}
record!(Record { 1: seq, at, kind, path, reason, cause });

/// Kinds of records. New kinds are appended, because records are sent between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum RecordKind {
    /// An actor was started for the first time.
    Started,
    /// An actor failed: by an error, a panic, a kill, or the loss of its peer.
    Failed,
    /// An actor will be started again after a back-off delay.
    Restarting,
    /// An actor was started again.
    Restarted,
    /// An actor failed because its children exceeded its restart intensity.
    Escalated,
    /// An actor stopped in order.
    Stopped,
    /// An actor did not stop within its shutdown deadline and was killed.
    Killed,
    /// The membership detector reached a verdict about a member, or about this node.
    Verdict,
    /// A session or a link began or ended.
    Session,
    /// A certificate, an enrolment or the admission table changed.
    Trust,
    /// The Raft group changed: leadership, membership, a snapshot.
    Raft,
    /// A service changed, or its update made progress.
    Service,
    /// A task changed state.
    Task,
    /// A node's role, availability or reachability changed.
    Node,
    /// Something else that an operator may want to know.
    Note,
}

impl RecordKind {
    /// The kind as one lower-case word, as `essaim journal` prints it.
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
essaim_wire::golden_bytes!("journal-record": RecordKind, Record);
