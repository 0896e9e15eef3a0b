//! The Propose lane, both ends: asking the leader, and answering as the leader.
//!
//! One stream carries one question at a time. While the leader works on it and has a majority, it says so every fifth
//! of a second, which renews the asker's patience. A stream whose question was answered is kept for the next one
//! ([`Idle`](crate::idle::Idle)), since opening a stream takes a round trip; a stream that was abandoned in the middle is dropped.

use super::effort::{Attempt, Effort, FRESH};
use crate::error::ProposeError;
use crate::format::Command;
use crate::format::lane::{Ask, Forward, LeaderReply};
use crate::peers::Pipe;
use crate::pieces::PROPOSAL_BYTES_MAX;
use crate::store::Store;
use bytes::Bytes;
use essaim_model::{Outcome, Proposal, Refusal};
use essaim_transport::{FrameError, Lane};
use essaim_wire::{Index, NodeId, Timestamp, decode, encode};
use std::time::Duration;

/// Interval at which a leader says that it is at work.
const WORKING: Duration = Duration::from_millis(200);

/// Time for which a leader works on a question: longer than the asker waits.
const DEADLINE: Duration = Duration::from_secs(12);

impl Store {
    /// Asks `leader` until it answers, stays silent for too long, or no longer leads. Once the lane was open, the
    /// leader may have received the question even when no answer came.
    pub(crate) async fn ask_leader(&self, leader: NodeId, ask: Ask, effort: &Effort<'_>) -> Attempt<LeaderReply> {
        let forward = Forward { lineage: self.lineage(), ask };
        let bytes = encode(&forward);
        let asking = async {
            // A kept stream may have ended meanwhile; then the same question goes over a new one.
            while let Some(mut pipe) = self.inner.idle.take(leader) {
                effort.note_sent(&forward.ask);
                match ask_over(&mut pipe, &bytes, effort).await {
                    Ok(told) => return Ok((pipe, told)),
                    Err(why) => tracing::debug!(%leader, %why, "a stream that was kept has ended"),
                }
            }
            let mut pipe = self.peers().open(leader, Lane::Propose).await?;
            effort.note_sent(&forward.ask);
            match ask_over(&mut pipe, &bytes, effort).await {
                Ok(told) => Ok((pipe, told)),
                Err(why) => Err(why.to_string()),
            }
        };
        tokio::select! {
            biased;
            asked = asking => match asked {
                Ok((pipe, told)) => {
                    if !self.is_closed() {
                        self.inner.idle.keep(leader, pipe);
                    }
                    Attempt::Done(told)
                }
                Err(why) => {
                    tracing::debug!(%leader, why, "the leader does not answer");
                    Attempt::Again
                }
            },
            () = self.leader_changed(leader) => Attempt::Again,
        }
    }

    /// Serves one stream of the Propose lane: one question after the other, until the asker or this store ends it.
    pub(crate) async fn serve_propose(&self, pipe: Pipe) -> Result<(), FrameError> {
        let Pipe { mut send, mut recv } = pipe;
        loop {
            let asked = tokio::select! {
                biased;
                // The next asker finds the store that was opened in this one's place.
                () = self.machine().publisher.closed() => return Ok(()),
                asked = recv.recv_value() => asked?,
            };
            let Some(Forward { lineage, ask }) = asked else { return Ok(()) };
            if lineage != self.lineage() {
                let why = format!("history {lineage:?} is not ours, which is {:?}", self.lineage());
                return send.send_value(&LeaderReply::Refused(why)).await;
            }
            let answering = self.answer(ask);
            tokio::pin!(answering);
            let told = loop {
                tokio::select! {
                    biased;
                    told = &mut answering => break told,
                    // The asker has dropped its end. A proposal that was begun is still finished by the group.
                    _ = recv.recv() => return Ok(()),
                    () = tokio::time::sleep(WORKING) => if self.is_leased_within(FRESH) {
                        send.send_value(&LeaderReply::Working).await?;
                    },
                }
            };
            send.send_value(&told).await?;
        }
    }

    async fn answer(&self, ask: Ask) -> LeaderReply {
        match ask {
            Ask::Ping => LeaderReply::Here { raft_id: self.raft_id() },
            _ if !self.leads() => LeaderReply::NotLeader(self.known_leader()),
            Ask::Propose(bytes) => {
                let bytes = match dated(&bytes, self.now()) {
                    Ok(bytes) => bytes,
                    Err(refusal) => {
                        return LeaderReply::Applied { index: Index(0), outcome: Outcome::Refused(refusal) };
                    }
                };
                let effort = Effort::begin(self, DEADLINE);
                match self.commit_here(bytes, None, &effort).await {
                    Attempt::Done((index, outcome)) => LeaderReply::Applied { index, outcome },
                    Attempt::Again if self.leads() => LeaderReply::NoQuorum,
                    Attempt::Again => LeaderReply::NotLeader(self.known_leader()),
                    Attempt::Lost => LeaderReply::Lost,
                    Attempt::Closed(why) => LeaderReply::Refused(why),
                }
            }
            Ask::ReadIndex => match self.rounds().share(self.read_index_here()).await {
                Some(index) => LeaderReply::ReadAt(index),
                None if self.leads() => LeaderReply::NoQuorum,
                None => LeaderReply::NotLeader(self.known_leader()),
            },
        }
    }

    /// The read index, confirmed by a majority just now. `None` when this manager does not lead, or cannot be sure that
    /// it does.
    pub(crate) async fn read_index_here(&self) -> Option<Index> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let reading = self.raft().get_read_log_id(openraft::raft::ReadPolicy::ReadIndex);
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok((read, _))) => Some(Index(read.index())),
            _ => None,
        }
    }
}

/// Dates a forwarded proposal with the leader's time: cluster time is the leader's, and the clock of a manager that was
/// started a moment ago may be wrong by hours.
///
/// Refused when the proposal is too large or cannot be decoded. The forwarding manager checks the same; the check is
/// repeated because every manager has to decode the log, and a follower has to receive an entry in one message.
fn dated(bytes: &[u8], now: Timestamp) -> Result<Bytes, Refusal> {
    let too_large = |bytes| Refusal::from(ProposeError::TooLarge { bytes });
    if bytes.len() > PROPOSAL_BYTES_MAX {
        return Err(too_large(bytes.len()));
    }
    let proposal = match decode(bytes) {
        Ok(Command::Proposal(proposal)) => proposal,
        Ok(_) => return Err(Refusal::invalid("what was forwarded is no proposal")),
        Err(why) => return Err(Refusal::invalid(format!("the forwarded proposal cannot be read: {why}"))),
    };
    let dated = encode(&Command::Proposal(Proposal { at: now, ..proposal }));
    if dated.len() > PROPOSAL_BYTES_MAX { Err(too_large(dated.len())) } else { Ok(dated.into()) }
}

/// Sends one question on a stream, and waits for the reply.
async fn ask_over(pipe: &mut Pipe, question: &[u8], effort: &Effort<'_>) -> Result<LeaderReply, FrameError> {
    pipe.send.send(question).await?;
    loop {
        match pipe.recv.expect_value::<LeaderReply>().await? {
            LeaderReply::Working => effort.note_sign(),
            told => return Ok(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Change, RefusalKind, TaskId};
    use essaim_wire::{Generation, RequestId};

    fn forwarded(why: usize) -> Vec<u8> {
        let request = RequestId { origin: NodeId::from_bits(2), generation: Generation(1), seq: 1 };
        let changes = vec![Change::WriteOffTask { id: TaskId::from_bits(1), why: "x".repeat(why) }];
        encode(&Command::Proposal(Proposal { request, at: Timestamp::from_micros(1), fence: None, changes }))
    }

    #[test]
    fn a_forwarded_proposal_gets_the_leaders_date() {
        let dated = dated(&forwarded(9), Timestamp::from_micros(77)).expect("it fits");
        let Ok(Command::Proposal(proposal)) = decode(&dated) else { panic!("it is a proposal still") };
        assert_eq!(proposal.at, Timestamp::from_micros(77));
    }

    #[test]
    fn what_is_too_large_or_unreadable_does_not_get_into_the_log() {
        for bytes in [forwarded(PROPOSAL_BYTES_MAX), vec![0xff; 40], Vec::new()] {
            let refusal = dated(&bytes, Timestamp::from_micros(77)).expect_err("refused");
            assert_eq!(refusal.kind, RefusalKind::Invalid, "{refusal}");
        }
    }
}
