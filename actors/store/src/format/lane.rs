//! Frames that managers exchange on the Raft, Snapshot and Propose lanes.
//!
//! Raft lane: [`Hello`], then either appends or questions, each answered in order. Snapshot lane: an offer, chunks, one
//! answer. Propose lane: questions, each answered before the next is asked. Every stream names the history and the
//! group number that it is meant for, because openraft demands that a message reaches the right member or none.

use super::{Entry, LogId, SnapshotMeta, Vote};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, Lineage, NodeId, Timestamp};

/// First frame on the Raft lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// History that the sender belongs to.
    pub(crate) lineage: Lineage,
    /// Sender's number in the group.
    pub(crate) from: u64,
    /// Number in the group that the sender means to reach.
    pub(crate) to: u64,
    /// Kind of frames that follow.
    pub(crate) purpose: Purpose,
}
record!(Hello { 1: lineage, from, to, purpose });

/// Kind of frames that follow on a Raft stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Purpose {
    /// [`Append`] frames, each answered by an [`Appended`], in order.
    Append,
    /// One [`Question`], answered by one [`Answer`].
    Ask,
}

/// Entries for a follower; an append without entries is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) vote: Vote,
    pub(crate) prev: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
    /// Cluster time at the leader.
    pub(crate) now: Timestamp,
}
record!(Append { 1: vote, prev, committed, entries, now });

/// Reply to an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Appended {
    /// All entries up to this one are on the follower's disk.
    Accepted(Option<LogId>),
    /// The follower has another entry at this index, or none.
    Conflict(LogId),
    /// The follower has promised its vote in a newer term.
    HigherVote(Vote),
    /// The follower ends the stream for this reason; nothing was changed.
    Refused(String),
}

/// Question of a candidate, or of a leader that hands over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Question {
    /// Pre-vote: would this manager vote for the sender?
    PreVote(RequestVote),
    /// Vote request of a candidate.
    Vote(RequestVote),
    /// Leadership transfer: the receiver is to lead in the sender's place.
    Transfer { from: Vote, to: u64, last: Option<LogId> },
}

/// Vote that a candidate asks for, and the end of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestVote {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    pub(crate) transfer: bool,
}
record!(RequestVote { 1: vote, last, transfer });

/// The reply to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Answer {
    /// Reply to a vote or pre-vote.
    Vote { vote: Vote, granted: bool, last: Option<LogId> },
    /// Reply to a transfer: this manager leads, or will in a moment.
    Transferred,
    /// Transfer refused: this manager has promised its vote to another one meanwhile.
    VoteChanged { expected: Vote, actual: Vote },
    /// Transfer refused: this manager's log does not reach far enough yet.
    NotFlushed { expected: Option<LogId>, actual: Option<LogId> },
    /// The question was refused for this reason.
    Refused(String),
}

/// First frame on the Snapshot lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) lineage: Lineage,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}
record!(Offer { 1: lineage, from, to, vote, meta });

/// Piece of the compressed snapshot stream, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Chunk {
    Piece(Vec<u8>),
    /// End of the stream, with the number of pieces.
    End(u64),
}

/// Reply to an offer, after the last chunk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Received {
    /// The snapshot is installed, or was not needed; carries the follower's vote either way.
    Done(Vote),
    /// The snapshot was refused for this reason; nothing was changed.
    Refused(String),
}

/// Question on the Propose lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) lineage: Lineage,
    pub(crate) ask: Ask,
}
record!(Forward { 1: lineage, ask });

/// Request of a manager to the leader, or to any other manager.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Ask {
    /// Commit this command; a retry carries the same bytes.
    Propose(Vec<u8>),
    /// Ask for the read index: the log index from which a read is linearizable.
    ReadIndex,
    /// Ask for a sign of life. Sent to every voter when there is no quorum, to name the missing ones.
    Ping,
}

/// The reply to a [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum LeaderReply {
    /// The command was committed, and applied at the leader.
    Applied { index: Index, outcome: essaim_model::Outcome },
    /// The read index: a read that waits for it is linearizable.
    ReadAt(Index),
    /// Reply to a ping, with the manager's number in the group.
    Here { raft_id: u64 },
    /// The manager does not lead; the known leader is to be asked, if there is one.
    NotLeader(Option<NodeId>),
    /// The manager leads, but has not heard enough of the voters: ask again.
    NoQuorum,
    /// The command is in the log, and it is unknown whether it was committed: ask again with the same command.
    Lost,
    /// The request was refused for this reason.
    Refused(String),
    /// The leader has a majority and still waits for a disk or the network; another reply follows.
    Working,
}

#[cfg(test)]
essaim_wire::golden_bytes!("format-lane": Purpose, Appended, Question, Answer, Chunk, Received, Ask, LeaderReply, Hello, Append, RequestVote, Offer, Forward);
