//! The Propose lane, both ends: asking the leader, and answering as one.
//!
//! One stream carries one question. While the leader works on it and a majority is there, it says so every fifth of
//! a second: that is what the asker's patience lives on.

use super::effort::{Attempt, Effort, FRESH};
use crate::format::lane::{Ask, Forward, Told};
use crate::peers::Pipe;
use crate::store::Store;
use bytes::Bytes;
use essaim_transport::{FrameError, Lane};
use essaim_wire::{Index, NodeId};
use std::time::Duration;

/// How often a leader says that it is at work.
const WORKING: Duration = Duration::from_millis(200);

/// How long a leader keeps at a question; longer than whoever asks.
const DEADLINE: Duration = Duration::from_secs(12);

impl Store {
    /// Asks `leader` until it answers, is silent for too long, or leads no more. Without an answer it may have heard
    /// the question all the same, once the lane was open.
    pub(crate) async fn ask_leader(&self, leader: NodeId, ask: Ask, effort: &Effort<'_>) -> Attempt<Told> {
        let mut pipe = tokio::select! {
            biased;
            opened = self.peers().open(leader, Lane::Propose) => match opened {
                Ok(pipe) => pipe,
                Err(why) => {
                    tracing::debug!(%leader, why, "cannot reach the leader");
                    return Attempt::Again;
                }
            },
            () = self.leader_changed(leader) => return Attempt::Again,
        };
        effort.note_sent(&ask);
        let forward = Forward { lineage: self.lineage(), ask };
        let asking = async {
            pipe.send.send_value(&forward).await?;
            loop {
                match pipe.recv.expect_value::<Told>().await? {
                    Told::Working => effort.note_sign(),
                    told => return Ok::<_, FrameError>(told),
                }
            }
        };
        tokio::select! {
            biased;
            told = asking => match told {
                Ok(told) => Attempt::Done(told),
                Err(why) => {
                    tracing::debug!(%leader, %why, "the leader did not answer");
                    Attempt::Again
                }
            },
            () = self.leader_changed(leader) => Attempt::Again,
        }
    }

    /// Asks once, and takes the first answer.
    pub(crate) async fn ask_once(&self, node: NodeId, ask: Ask) -> Option<Told> {
        let mut pipe = self.peers().open(node, Lane::Propose).await.ok()?;
        pipe.send.send_value(&Forward { lineage: self.lineage(), ask }).await.ok()?;
        pipe.recv.recv_value().await.ok()?
    }

    /// Serves one stream of the Propose lane.
    pub(crate) async fn serve_propose(&self, pipe: Pipe) -> Result<(), FrameError> {
        let Pipe { mut send, mut recv } = pipe;
        let Forward { lineage, ask } = recv.expect_value().await?;
        if lineage != self.lineage() {
            let why = format!("history {lineage:?} is not ours, which is {:?}", self.lineage());
            return send.send_value(&Told::Refused(why)).await;
        }
        let answering = self.answer(ask);
        tokio::pin!(answering);
        loop {
            tokio::select! {
                biased;
                told = &mut answering => return send.send_value(&told).await,
                // An asker that goes away has dropped its end; whatever was begun is finished by the group.
                _ = recv.recv() => return Ok(()),
                () = tokio::time::sleep(WORKING) => if self.is_leased_within(FRESH) {
                    send.send_value(&Told::Working).await?;
                },
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Told {
        match ask {
            Ask::Ping => Told::Here { raft_id: self.raft_id() },
            _ if !self.leads() => Told::NotLeader(self.known_leader()),
            Ask::Propose(bytes) => {
                let effort = Effort::begin(self, DEADLINE);
                match self.commit_here(Bytes::from(bytes), None, &effort).await {
                    Attempt::Done((index, outcome)) => Told::Applied { index, outcome },
                    Attempt::Again if self.leads() => Told::NoQuorum,
                    Attempt::Again => Told::NotLeader(self.known_leader()),
                    Attempt::Lost => Told::Lost,
                    Attempt::Closed(why) => Told::Refused(why),
                }
            }
            Ask::ReadIndex => match self.read_index_here().await {
                Some(index) => Told::ReadAt(index),
                None if self.leads() => Told::NoQuorum,
                None => Told::NotLeader(self.known_leader()),
            },
        }
    }

    /// From which place a read is up to date, confirmed by a majority just now. `None` when this manager does not
    /// lead, or cannot be sure.
    pub(crate) async fn read_index_here(&self) -> Option<Index> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let reading = self.raft().get_read_log_id(openraft::raft::ReadPolicy::ReadIndex);
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok((read, _))) => Some(Index(read.index())),
            _ => None,
        }
    }
}
