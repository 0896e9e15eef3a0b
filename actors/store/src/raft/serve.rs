//! The server side of `network`: takes appends, questions and snapshots from other managers.
//!
//! A stream is checked by its first frame: it must belong to this history, be meant for this group number, and come
//! from the node that the claimed number belongs to, as far as this manager knows the group already. A failed check is
//! answered with the reason, and ends the stream.

use super::convert::{entry_in, log_id, log_id_in, meta_in, vote, vote_in};
use super::machine::{MachineShared, SnapshotData};
use super::{Raft, Types, aside, seeded};
use crate::format::GroupIdentity;
use crate::format::lane::{Answer, Append, Appended, Chunk, Hello, Offer, Purpose, Question, Received, RequestVote};
use crate::peers::Pipe;
use crate::time::ClusterTime;
use essaim_system::env::Clock;
use essaim_transport::{FrameError, FrameReceiver, FrameSender};
use essaim_wire::{Lineage, NodeId, Timestamp};
use futures::{StreamExt, stream};
use openraft::Snapshot;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Silence in the middle of a snapshot after which the sender counts as gone.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// Serves the Raft and Snapshot lanes of a group.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) raft: Raft,
    pub(crate) identity: GroupIdentity,
    pub(crate) machine: Arc<MachineShared>,
    pub(crate) seed: u64,
    pub(crate) clock: Arc<dyn Clock>,
    /// Time at which a leader's append was last taken, in microseconds of this node's clock; zero for never.
    pub(crate) heard: Arc<AtomicU64>,
    pub(crate) time: ClusterTime,
}

impl Server {
    /// Serves one stream of the Raft lane until it ends.
    pub(crate) async fn serve_raft(&self, peer: NodeId, pipe: Pipe) -> Result<(), FrameError> {
        let Pipe { mut send, mut recv } = pipe;
        let hello: Hello = recv.expect_value().await?;
        let judged = self.judge(peer, hello.lineage, hello.from, hello.to);
        match hello.purpose {
            Purpose::Append => match judged {
                Ok(()) => seeded(self.seed, self.take_appends(send, recv)).await,
                Err(why) => send.send_value(&Appended::Refused(why)).await,
            },
            Purpose::Ask => {
                let question = recv.expect_value().await?;
                let answer = match judged {
                    Ok(()) => self.answer(question).await,
                    Err(why) => Answer::Refused(why),
                };
                send.send_value(&answer).await
            }
        }
    }

    /// Serves one stream of the Snapshot lane.
    pub(crate) async fn serve_snapshot(&self, peer: NodeId, pipe: Pipe) -> Result<(), FrameError> {
        let Pipe { mut send, mut recv } = pipe;
        let offer: Offer = recv.expect_value().await?;
        let received = match self.judge(peer, offer.lineage, offer.from, offer.to) {
            Ok(()) => self.receive_snapshot(offer, &mut recv).await,
            Err(why) => Err(io::Error::other(why)),
        };
        let answer = received.unwrap_or_else(|why| Received::Refused(why.to_string()));
        send.send_value(&answer).await
    }

    fn judge(&self, peer: NodeId, lineage: Lineage, from: u64, to: u64) -> Result<(), String> {
        let GroupIdentity { raft_id, lineage: own, .. } = self.identity;
        if lineage != own {
            return Err(format!("history {lineage:?} is not ours, which is {own:?}"));
        }
        if to != raft_id {
            return Err(format!("this is number {raft_id} in the group, not {to}"));
        }
        let metrics = self.raft.metrics();
        let known = metrics.borrow_watched().membership_config.get_node(&from).map(|known| known.node);
        match known {
            Some(known) if known != peer => Err(format!("number {from} in the group is {known}, not {peer}")),
            _ => Ok(()),
        }
    }

    async fn take_appends(&self, mut send: FrameSender, recv: FrameReceiver) -> Result<(), FrameError> {
        let told = Arc::new(AtomicU64::new(0));
        let requests = stream::unfold((recv, Arc::clone(&told)), |(mut recv, told)| async move {
            let request = recv.recv_value::<Append>().await.ok()??;
            told.store(request.now.as_micros(), Ordering::Relaxed);
            // A frame that cannot be converted ends the stream, like one that cannot be decoded.
            Some((append_in(request).ok()?, (recv, told)))
        });
        let mut answers = Box::pin(self.raft.stream_append(requests));
        while let Some(answer) = answers.next().await {
            let answer = match answer {
                Ok(Ok(upto)) => {
                    self.heard.store(self.clock.now().as_micros().max(1), Ordering::Relaxed);
                    self.time.hear(Timestamp::from_micros(told.load(Ordering::Relaxed)));
                    Appended::Accepted(upto.as_ref().map(log_id))
                }
                Ok(Err(StreamAppendError::Conflict(at))) => Appended::Conflict(log_id(&at)),
                Ok(Err(StreamAppendError::HigherVote(higher))) => Appended::HigherVote(vote(&higher)),
                Err(fatal) => Appended::Refused(fatal.to_string()),
            };
            send.send_value(&answer).await?;
        }
        Ok(())
    }

    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::PreVote(request) => voted(self.raft.pre_vote(request_vote_in(&request)).await),
            Question::Vote(request) => voted(self.raft.vote(request_vote_in(&request)).await),
            Question::Transfer { from, to, last } => {
                let request = TransferLeaderRequest::new(vote_in(from), to, last.map(log_id_in));
                match self.raft.handle_transfer_leader(request).await {
                    Ok(Ok(())) => Answer::Transferred,
                    Ok(Err(TransferLeaderError::VoteChanged { expected, actual })) => {
                        Answer::VoteChanged { expected: vote(&expected), actual: vote(&actual) }
                    }
                    Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => Answer::NotFlushed {
                        expected: expected.as_ref().map(log_id),
                        actual: actual.as_ref().map(log_id),
                    },
                    Err(fatal) => Answer::Refused(fatal.to_string()),
                }
            }
        }
    }

    async fn receive_snapshot(&self, offer: Offer, recv: &mut FrameReceiver) -> io::Result<Received> {
        let folder = self.machine.snapshots.clone();
        let (draft, writer) = folder.begin(offer.meta.clone())?;
        let written = self.write_snapshot(writer, recv).await;
        let len = match written {
            Ok(len) => len,
            Err(why) => {
                folder.discard(&draft);
                return Err(why);
            }
        };
        let snapshot = SnapshotData { folder: folder.clone(), name: draft.clone(), draft: Some(len) };
        let meta = meta_in(offer.meta)?;
        let installed = self.raft.install_full_snapshot(vote_in(offer.vote), Snapshot { meta, snapshot }).await;
        // An installed snapshot has its final name by now; a draft that was refused or not needed is of no use.
        folder.discard(&draft);
        let response = installed.map_err(|fatal| io::Error::other(fatal.to_string()))?;
        Ok(Received::Done(vote(&response.vote)))
    }

    async fn write_snapshot(
        &self,
        mut writer: crate::snapshot::frames::FrameWriter,
        recv: &mut FrameReceiver,
    ) -> io::Result<u64> {
        let blocks = self.machine.snapshots.blocks();
        let mut pieces = 0;
        loop {
            let chunk = tokio::time::timeout(SNAPSHOT_PATIENCE, recv.expect_value::<Chunk>()).await;
            match chunk.map_err(|_| io::Error::other("the snapshot stalled"))?.map_err(io::Error::other)? {
                Chunk::Piece(slice) => {
                    pieces += 1;
                    writer = aside(blocks, move || writer.write_all(&slice).map(|()| writer)).await?;
                }
                Chunk::End(of) if of == pieces => return aside(blocks, move || writer.finish()).await,
                Chunk::End(of) => return Err(io::Error::other(format!("{pieces} pieces came of {of}"))),
            }
        }
    }
}

fn append_in(append: Append) -> io::Result<AppendEntriesRequest<Types>> {
    Ok(AppendEntriesRequest {
        vote: vote_in(append.vote),
        prev_log_id: append.prev.map(log_id_in),
        entries: append.entries.into_iter().map(entry_in).collect::<io::Result<_>>()?,
        leader_commit: append.committed.map(log_id_in),
    })
}

fn request_vote_in(asked: &RequestVote) -> VoteRequest<Types> {
    let mut request = VoteRequest::new(vote_in(asked.vote), asked.last.map(log_id_in));
    request.leadership_transfer = asked.transfer;
    request
}

fn voted<E: std::fmt::Display>(answer: Result<VoteResponse<Types>, E>) -> Answer {
    match answer {
        Ok(given) => Answer::Vote {
            vote: vote(&given.vote),
            granted: given.vote_granted,
            last: given.last_log_id.as_ref().map(log_id),
        },
        Err(fatal) => Answer::Refused(fatal.to_string()),
    }
}
