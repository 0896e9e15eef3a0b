//! Reads that are up to date, on any manager.
//!
//! The leader confirms with a majority that it still leads, and says how far the log was committed when it was asked;
//! whoever wants to read waits until its own state has come that far. Every attempt asks anew: an answer to an
//! earlier one may be older than what somebody was told meanwhile (etcd's #20418).

use crate::error::ReadError;
use crate::format::lane::{Ask, Told};
use crate::proposer::effort::{Attempt, Effort, Trouble};
use crate::store::Store;
use essaim_model::State;
use essaim_wire::Index;
use essaim_wire::planted::{Bug, planted};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long a read is tried.
const DEADLINE: Duration = Duration::from_secs(5);

impl Store {
    /// The state, at least as new as everything that was acknowledged to anybody before the call.
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
            Trouble::Closed(why) => ReadError::Closed(why),
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
        if self.leads() {
            return self.read_index_here().await.map_or(Attempt::Again, Attempt::Done);
        }
        let Some(leader) = self.known_leader() else { return Attempt::Again };
        match self.ask_leader(leader, Ask::ReadIndex, effort).await {
            Attempt::Done(Told::ReadAt(index)) => Attempt::Done(index),
            _ => Attempt::Again,
        }
    }
}
