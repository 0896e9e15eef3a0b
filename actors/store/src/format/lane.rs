//! The frames that managers exchange on the Raft, Snapshot and Propose lanes.
//!
//! Raft lane: [`Hello`], then either appends or questions, each answered in order. Snapshot lane: an offer, chunks,
//! one answer. Propose lane: questions, each answered before the next is asked. Every stream names the history and the
//! number in the group it is meant for, because the library demands that a message reach the right member or nobody.

use super::{Entry, LogId, SnapshotMeta, Vote};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Index, Lineage, NodeId, Timestamp};

/// The first frame on the Raft lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The history the sender belongs to.
    pub(crate) lineage: Lineage,
    /// The sender's number in the group.
    pub(crate) from: u64,
    /// The number it means to reach.
    pub(crate) to: u64,
    /// What follows.
    pub(crate) purpose: Purpose,
}
record!(Hello { 1: lineage, from, to, purpose });

/// What follows on a Raft stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Purpose {
    /// [`Append`] frames, each answered by an [`Appended`], in order.
    Append,
    /// One [`Question`], answered by one [`Answer`].
    Ask,
}

/// Entries for a follower; none is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) vote: Vote,
    pub(crate) prev: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
    /// How late it is at the leader.
    pub(crate) now: Timestamp,
}
record!(Append { 1: vote, prev, committed, entries, now });

/// What became of an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Appended {
    /// On disk up to here.
    Accepted(Option<LogId>),
    /// The follower has another entry there, or none.
    Conflict(LogId),
    /// The follower has promised somebody newer.
    HigherVote(Vote),
    /// The stream is of no use, and why; nothing was changed.
    Refused(String),
}

/// A candidate's, or a parting leader's, question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Question {
    /// Would you vote for me?
    PreVote(Ballot),
    /// Vote for me.
    Vote(Ballot),
    /// Lead in my place.
    Transfer { from: Vote, to: u64, last: Option<LogId> },
}

/// Who asks for a vote, and how far its log reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    pub(crate) transfer: bool,
}
record!(Ballot { 1: vote, last, transfer });

/// The reply to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Answer {
    /// To a vote or pre-vote.
    Vote { vote: Vote, granted: bool, last: Option<LogId> },
    /// It leads, or will in a moment.
    Transferred,
    /// It has promised somebody else meanwhile.
    VoteChanged { expected: Vote, actual: Vote },
    /// Its log does not reach far enough yet.
    NotFlushed { expected: Option<LogId>, actual: Option<LogId> },
    /// The question is of no use, and why.
    Refused(String),
}

/// The first frame on the Snapshot lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) lineage: Lineage,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}
record!(Offer { 1: lineage, from, to, vote, meta });

/// A piece of the compressed stream, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Chunk {
    Piece(Vec<u8>),
    /// After so many pieces.
    End(u64),
}

/// The reply to an offer, after its end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Received {
    /// Installed, or not needed; the follower's vote either way.
    Done(Vote),
    /// Of no use, and why; nothing was changed.
    Refused(String),
}

/// A question on the Propose lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) lineage: Lineage,
    pub(crate) ask: Ask,
}
record!(Forward { 1: lineage, ask });

/// What a manager wants of the leader, or of any other manager.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Ask {
    /// Commit this command; byte for byte the same at each retry.
    Propose(Vec<u8>),
    /// From which place in the log is a read up to date?
    ReadIndex,
    /// Are you there? Asked of every voter when there is no quorum, to name those that are missing.
    Ping,
}

/// The reply to a [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum LeaderReply {
    /// Committed and applied at the leader.
    Applied { index: Index, outcome: essaim_model::Outcome },
    /// A read that waits for this place is up to date.
    ReadAt(Index),
    /// I am.
    Here { raft_id: u64 },
    /// Ask that one, if anybody.
    NotLeader(Option<NodeId>),
    /// Leads, but heard too little of the others: ask again.
    NoQuorum,
    /// Taken into the log, and whether it was committed is not known: ask again, the same.
    Lost,
    /// Of no use, and why.
    Refused(String),
    /// A majority is there, and the disk or the network takes its time. More follows.
    Working,
}

#[cfg(test)]
essaim_wire::golden_bytes!("format-lane": Purpose, Appended, Question, Answer, Chunk, Received, Ask, LeaderReply, Hello, Append, Ballot, Offer, Forward);
