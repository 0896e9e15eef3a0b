//! openraft's network client for another manager: a long-lived stream for appends, and one stream for each question.
//!
//! Appends are pipelined: up to [`WINDOW`] are under way, answered in order. Heartbeats come from a client of their
//! own, with a stream of their own, so a long append never delays them. A stream that failed, or was abandoned in the
//! middle, is dropped and opened anew. This client decides when a silent peer is given up: openraft's timeouts are
//! those of a heartbeat, and a disk that syncs may take longer.
//!
//! openraft (alpha.37) credits an answer to every append under way that ends at or before the index it names, with the
//! time at which the last of them was sent. An append that carries nothing new ends where the one before it did, so the
//! answer to the older one would pass for an answer to the younger one. A leader that was cut off, and is reached by
//! late answers from before the cut, would take them for a present majority and serve a stale read (seed 453 of the
//! simulator). So such an answer is held back until the last append that it would be credited to is answered itself.

use super::convert::{entry, log_id, log_id_in, vote, vote_in};
use super::machine::SnapshotData;
use super::{LogId, Types, Vote};
use crate::format::lane::{Answer, Append, Appended, Chunk, Hello, Offer, Purpose, Question, Received, RequestVote};
use crate::format::{Peer, SnapshotMeta};
use crate::peers::{Peers, Pipe};
use crate::raft::convert;
use crate::time::ClusterTime;
use essaim_transport::{FrameError, Lane};
use essaim_wire::{Lineage, NodeId, Timestamp};
use futures::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkV2, Snapshot};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Appends that may be under way on one stream: as many as openraft accepts at the other end.
const WINDOW: usize = 64;

/// Time without an answer to the oldest append after which a stream is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time without an answer after which a question is given up; the next election asks again.
const QUESTION_PATIENCE: Duration = Duration::from_millis(250);

/// Time after which a snapshot transfer is given up when nothing could be sent, or the snapshot was not installed.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// Factory of clients for the other managers.
pub(crate) struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) lineage: Lineage,
    pub(crate) own: u64,
    pub(crate) time: ClusterTime,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = RaftClient;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> RaftClient {
        RaftClient {
            peers: Arc::clone(&self.peers),
            lineage: self.lineage,
            own: self.own,
            time: self.time.clone(),
            target,
            node: peer.node,
            idle: None,
        }
    }
}

/// Client of one other manager, for openraft.
pub(crate) struct RaftClient {
    peers: Arc<dyn Peers>,
    lineage: Lineage,
    own: u64,
    time: ClusterTime,
    target: u64,
    node: NodeId,
    /// Stream for appends with nothing under way.
    idle: Option<Pipe>,
}

impl RaftClient {
    async fn open(&self, lane: Lane) -> Result<Pipe, Unreachable<Types>> {
        let opened = self.peers.open(self.node, lane).await;
        opened.map_err(|why| Unreachable::from_string(format!("{} ({}): {why}", self.node, self.target)))
    }

    async fn open_raft(&self, purpose: Purpose) -> Result<Pipe, RPCError<Types>> {
        let mut pipe = self.open(Lane::Raft).await?;
        let hello = Hello { lineage: self.lineage, from: self.own, to: self.target, purpose };
        pipe.send.feed(&essaim_wire::encode(&hello)).map_err(broken)?;
        Ok(pipe)
    }

    async fn ask(&self, question: Question) -> Result<Answer, RPCError<Types>> {
        let asking = async {
            let mut pipe = self.open_raft(Purpose::Ask).await?;
            pipe.send.send_value(&question).await.map_err(broken)?;
            pipe.recv.expect_value().await.map_err(broken)
        };
        match tokio::time::timeout(QUESTION_PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(Unreachable::from_string(format!("{} does not answer", self.node)).into()),
        }
    }

    async fn ask_vote(&self, question: Question) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(question).await? {
            Answer::Vote { vote, granted, last } => {
                Ok(VoteResponse { vote: vote_in(vote), vote_granted: granted, last_log_id: last.map(log_id_in) })
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl RaftNetworkV2<Types> for RaftClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut answers = self.stream_append(Box::pin(stream::iter([request])), option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(NetworkError::from_string("no answer to an append").into()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // The stream is not opened yet: openraft paces its retries where it hands out the next request.
            let under_way = VecDeque::new();
            let appending = Appending { client: self, pipe: None, input, exhausted: false, under_way };
            let answers = stream::unfold(Some(appending), |appending| async move {
                let (answer, rest) = appending?.next().await?;
                Some((answer, rest))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Question::Vote(request_vote(&request))).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Question::PreVote(request_vote(&request))).await
    }

    async fn full_snapshot(
        &mut self,
        leader: Vote,
        snapshot: Snapshot<super::machine::CommittedTerm, u64, Peer, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let offer = Offer {
            lineage: self.lineage,
            from: self.own,
            to: self.target,
            vote: vote(&leader),
            meta: convert::meta(&snapshot.meta),
        };
        tokio::select! {
            sent = self.send_snapshot(offer, snapshot.snapshot) => sent,
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let question = Question::Transfer {
            from: vote(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(log_id),
        };
        match self.ask(question).await? {
            Answer::Transferred => Ok(Ok(())),
            Answer::VoteChanged { expected, actual } => {
                Ok(Err(TransferLeaderError::VoteChanged { expected: vote_in(expected), actual: vote_in(actual) }))
            }
            Answer::NotFlushed { expected, actual } => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(log_id_in),
                actual: actual.map(log_id_in),
            })),
            other => Err(unexpected(&other)),
        }
    }
}

impl RaftClient {
    async fn send_snapshot(
        &self,
        offer: Offer,
        data: SnapshotData,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut pipe = self.open(Lane::Snapshot).await?;
        let stalled = |_| StreamingError::Network(NetworkError::from_string("the snapshot stalled"));
        let sending = |why: FrameError| StreamingError::Network(NetworkError::new(&why));
        let reading = |why: std::io::Error| StreamingError::Network(NetworkError::new(&why));

        let meta: SnapshotMeta = offer.meta.clone();
        let (stored, mut slices) = data.folder.reader(&data.name).map_err(reading)?;
        if stored != meta {
            return Err(StreamingError::Network(NetworkError::from_string("the snapshot is another by now")));
        }
        pipe.send.feed(&essaim_wire::encode(&offer)).map_err(sending)?;
        let mut pieces = 0;
        loop {
            let chunk = match slices.next_slice().map_err(reading)? {
                Some(slice) => Chunk::Piece(slice),
                None => Chunk::End(pieces),
            };
            let sent = tokio::time::timeout(SNAPSHOT_PATIENCE, pipe.send.send_value(&chunk)).await;
            sent.map_err(stalled)?.map_err(sending)?;
            match chunk {
                Chunk::Piece(_) => pieces += 1,
                Chunk::End(_) => break,
            }
        }
        let answer = tokio::time::timeout(SNAPSHOT_PATIENCE, pipe.recv.expect_value::<Received>()).await;
        match answer.map_err(stalled)?.map_err(sending)? {
            Received::Done(vote) => Ok(SnapshotResponse::new(vote_in(vote))),
            Received::Refused(why) => Err(StreamingError::Network(NetworkError::from_string(why))),
        }
    }
}

/// An append stream in use.
struct Appending<'s, S> {
    /// Client that the stream comes from, and returns to when nothing is under way.
    client: &'s mut RaftClient,
    /// The open stream; `None` until there is an append to send.
    pipe: Option<Pipe>,
    input: S,
    exhausted: bool,
    /// Last entry of each append that is not answered yet, oldest first.
    under_way: VecDeque<Option<LogId>>,
}

type Answered = Result<StreamAppendResult<Types>, RPCError<Types>>;

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin> Appending<'_, S> {
    /// Sends appends until an answer comes. Ends when every append was answered and no more come.
    async fn next(mut self) -> Option<(Answered, Option<Self>)> {
        loop {
            if self.exhausted && self.under_way.is_empty() {
                self.client.idle = self.pipe;
                return None;
            }
            tokio::select! {
                biased;
                answer = answer(&mut self.pipe), if !self.under_way.is_empty() => {
                    self.under_way.pop_front();
                    return Some(match answer {
                        Ok(Appended::Accepted(upto)) => {
                            let upto = upto.map(log_id_in);
                            if self.under_way.iter().any(|end| *end <= upto) {
                                // Held back: openraft would credit this answer to the append still under way.
                                continue;
                            }
                            (Ok(Ok(upto)), Some(self))
                        }
                        // openraft ends a stream after these answers, and so does this client.
                        Ok(Appended::Conflict(at)) => (Ok(Err(StreamAppendError::Conflict(log_id_in(at)))), None),
                        Ok(Appended::HigherVote(vote)) => {
                            (Ok(Err(StreamAppendError::HigherVote(vote_in(vote)))), None)
                        }
                        Ok(Appended::Refused(why)) => (Err(Unreachable::from_string(why).into()), None),
                        Err(error) => (Err(error), None),
                    });
                }
                request = self.input.next(), if !self.exhausted && self.under_way.len() < WINDOW => match request {
                    None => self.exhausted = true,
                    Some(request) => match self.send(&request).await {
                        Ok(()) => self.under_way.push_back(end(&request)),
                        Err(error) => return Some((Err(error), None)),
                    },
                },
            }
        }
    }

    async fn send(&mut self, request: &AppendEntriesRequest<Types>) -> Result<(), RPCError<Types>> {
        if self.pipe.is_none() {
            self.pipe = match self.client.idle.take() {
                Some(pipe) => Some(pipe),
                None => Some(self.client.open_raft(Purpose::Append).await?),
            };
        }
        match &mut self.pipe {
            Some(pipe) => {
                let now = self.client.time.now(Timestamp::default());
                pipe.send.send_value(&append(request, now)).await.map_err(broken)
            }
            None => Ok(()),
        }
    }
}

/// The last entry that is the same at both ends once this append is accepted.
fn end(request: &AppendEntriesRequest<Types>) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

async fn answer(pipe: &mut Option<Pipe>) -> Result<Appended, RPCError<Types>> {
    let Some(pipe) = pipe else { return std::future::pending().await };
    match tokio::time::timeout(PATIENCE, pipe.recv.expect_value::<Appended>()).await {
        Ok(answer) => answer.map_err(broken),
        Err(_) => Err(NetworkError::from_string("an append is not answered").into()),
    }
}

fn append(request: &AppendEntriesRequest<Types>, now: Timestamp) -> Append {
    Append {
        vote: vote(&request.vote),
        prev: request.prev_log_id.as_ref().map(log_id),
        committed: request.leader_commit.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        now,
    }
}

fn request_vote(request: &VoteRequest<Types>) -> RequestVote {
    let last: Option<&LogId> = request.last_log_id.as_ref();
    RequestVote { vote: vote(&request.vote), last: last.map(log_id), transfer: request.leadership_transfer }
}

fn broken(why: FrameError) -> RPCError<Types> {
    NetworkError::new(&why).into()
}

fn unexpected(answer: &Answer) -> RPCError<Types> {
    let why = match answer {
        Answer::Refused(why) => why.clone(),
        other => format!("an answer that does not fit: {other:?}"),
    };
    Unreachable::from_string(why).into()
}
