//! Linearizable reads, on any manager.
//!
//! The leader confirms with a majority that it still leads, and returns the committed index at which it was asked (the
//! read index); the reader waits until its own state has applied it. Every attempt asks anew: an answer to an earlier
//! one may be older than what another client was told meanwhile (etcd's #20418). Readers that wait at the same time
//! share a question that is asked after the last of them came ([`Rounds`](crate::rounds::Rounds)).

use crate::error::ReadError;
use crate::format::lane::{Ask, LeaderReply};
use crate::proposer::effort::{Attempt, Effort, Trouble};
use crate::store::Store;
use essaim_model::State;
use essaim_wire::Index;
use essaim_wire::planted::{Bug, planted};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Time for which a read is tried.
const DEADLINE: Duration = Duration::from_secs(5);

impl Store {
    /// The state, at least as new as every change that was acknowledged to any client before the call.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        let effort = Effort::begin(self, DEADLINE);
        let index = loop {
            let tried = effort.attempt(self.attempt_read(&effort)).await;
            if let ControlFlow::Break(done) = effort.weigh(tried).await {
                break done;
            }
        };
        let index = index.map_err(|trouble| match trouble {
            Trouble::NoQuorum { why, .. } => ReadError::NoQuorum(why),
            Trouble::Late => ReadError::Behind,
            Trouble::Closed { why, .. } => ReadError::Closed(why),
        })?;
        match tokio::time::timeout(DEADLINE, self.wait_applied(index)).await {
            Ok(()) => Ok(self.state()),
            Err(_) => Err(ReadError::Behind),
        }
    }

    async fn attempt_read(&self, effort: &Effort<'_>) -> Attempt<Index> {
        if self.is_closed() {
            return Attempt::Closed("the store is closed".into());
        }
        if self.leads() && planted(Bug::UnconfirmedRead) || planted(Bug::LocalRead) {
            return Attempt::Done(self.state().applied().index);
        }
        let asking = async {
            if self.leads() {
                return self.read_index_here().await;
            }
            let leader = self.known_leader()?;
            match self.ask_leader(leader, Ask::ReadIndex, effort).await {
                Attempt::Done(LeaderReply::ReadAt(index)) => Some(index),
                _ => None,
            }
        };
        self.rounds().share(asking).await.map_or(Attempt::Again, Attempt::Done)
    }
}
