//! Proposing: how a change gets into the log, from any manager.
//!
//! The manager that is asked numbers the request once. Every retry sends the same request, so it is applied once,
//! whatever happens on the way. On the leader it goes into openraft's batch; elsewhere it goes over the Propose lane to
//! the leader ([`lane`] is the other end), which dates it. The answer waits until the local state has the change, so
//! that a caller reads its own writes.
//!
//! No caller waits without a reason. [`effort`] tracks when a majority was last known to be there: a slow disk is
//! waited for, and a missing majority is reported within a second, by name.

pub(crate) mod effort;
mod lane;
mod missing;

use crate::error::ProposeError;
use crate::format::Command;
use crate::format::lane::{Ask, LeaderReply};
use crate::pieces::{PROPOSAL_BYTES_MAX, pieces};
use crate::raft::{Payload, Types};
use crate::store::Store;
use bytes::Bytes;
use effort::{Attempt, Effort, Trouble};
use essaim_model::{Change, Outcome, Proposal, Refusal, RefusalKind};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, Term, decode, encode};
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::impls::ProgressResponder;
use std::ops::ControlFlow;
use std::time::Duration;

/// Time after which a change that a majority works on is given up; it may still be applied.
const DEADLINE: Duration = Duration::from_secs(10);

impl Store {
    /// Proposes changes, all or nothing, and returns their outcome once the local state has it.
    ///
    /// With a `fence`, the changes are void under a leader of another term; a leader's actors propose in this way.
    pub async fn propose(&self, changes: Vec<Change>, fence: Option<Term>) -> Result<Outcome, ProposeError> {
        // Checked before the changes are in the log, because a manager that cannot read an entry has to stop.
        if let Err(refusal) = self.state().check_level(&changes) {
            return Ok(Outcome::Refused(refusal));
        }
        let permit = self.under_way().acquire().await.map_err(|_| closed())?;
        let proposal = Proposal { request: self.next_request(), at: self.now(), fence, changes };
        // Copied, because the log keeps it: a vector that grew while it was written is up to twice as large.
        let mut bytes = Bytes::copy_from_slice(&encode(&Command::Proposal(proposal)));
        if bytes.len() > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len() });
        }
        let fence = if planted(Bug::DroppedFence) { None } else { fence };
        let effort = Effort::begin(self, DEADLINE);
        let done = loop {
            if planted(Bug::FreshRequestNumber) {
                bytes = self.numbered_anew(&bytes);
            }
            let tried = effort.attempt(self.attempt_proposal(&bytes, fence, &effort)).await;
            if let ControlFlow::Break(done) = effort.weigh(tried).await {
                break done;
            }
        };
        drop(permit);
        let (index, outcome) = done.map_err(propose_error)?;
        // Only a manager that lags far behind takes long here, and then the change is applied all the same.
        match tokio::time::timeout(DEADLINE, self.wait_applied(index)).await {
            Ok(()) => Ok(outcome),
            Err(_) => Err(ProposeError::Unknown("This manager is still catching up with the others.".into())),
        }
    }

    /// As [`Store::propose`], with every failure as a refusal, for callers that pass it on to people.
    pub async fn change(&self, changes: Vec<Change>, fence: Option<Term>) -> Result<Index, Refusal> {
        match self.propose(changes, fence).await? {
            Outcome::Done(index) => Ok(index),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    /// Proposes changes that need not be made together, in as few proposals as they fit into, one after the other. The
    /// first refusal ends it: the pieces before it are applied, and the rest is not.
    pub async fn change_in_pieces(&self, changes: Vec<Change>, fence: Option<Term>) -> Result<(), Refusal> {
        for piece in pieces(changes) {
            self.change(piece, fence).await?;
        }
        Ok(())
    }

    /// The same proposal under a new request number; used only where that bug is planted.
    fn numbered_anew(&self, bytes: &Bytes) -> Bytes {
        match decode(bytes) {
            Ok(Command::Proposal(proposal)) => {
                Bytes::from(encode(&Command::Proposal(Proposal { request: self.next_request(), ..proposal })))
            }
            _ => bytes.clone(),
        }
    }

    async fn attempt_proposal(
        &self,
        bytes: &Bytes,
        fence: Option<Term>,
        effort: &Effort<'_>,
    ) -> Attempt<(Index, Outcome)> {
        if self.leads() {
            return self.commit_here(bytes.clone(), fence, effort).await;
        }
        if fence.is_some() {
            // The proposal would be void: a fence is a term in which this manager leads.
            let refusal = Refusal::new(RefusalKind::Precondition, "this manager no longer leads");
            return Attempt::Done((Index(0), Outcome::Refused(refusal)));
        }
        let Some(leader) = self.known_leader() else { return Attempt::Again };
        match self.ask_leader(leader, Ask::Propose(bytes.to_vec()), effort).await {
            Attempt::Done(LeaderReply::Applied { index, outcome }) => Attempt::Done((index, outcome)),
            Attempt::Done(LeaderReply::Refused(why)) => {
                tracing::debug!(why, "the leader refused a proposal");
                Attempt::Again
            }
            _ => Attempt::Again,
        }
    }

    /// Commits a proposal on this manager, which leads as far as it knows.
    pub(crate) async fn commit_here(
        &self,
        bytes: Bytes,
        fence: Option<Term>,
        effort: &Effort<'_>,
    ) -> Attempt<(Index, Outcome)> {
        let (responder, committed) = ProgressResponder::<Types, _>::complete_only();
        let mut request = self.raft().write(Payload(bytes)).responder(responder);
        if let Some(term) = fence {
            request = request.with_leader(term.0);
        }
        if let Err(fatal) = request.await {
            return Attempt::Closed(fatal.to_string());
        }
        let sent = effort.presume_sent();
        let written = tokio::select! {
            written = committed => written,
            () = effort.lease_lost() => return Attempt::Lost,
        };
        match written {
            Ok(Ok(response)) => match response.data.0 {
                Some(outcome) => Attempt::Done((Index(response.log_id.index()), outcome)),
                None => Attempt::Closed("an entry that is no proposal came back for one".into()),
            },
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => match (fence, to.reason) {
                (Some(_), ForwardReason::NotLeader) => {
                    let refusal = Refusal::new(RefusalKind::Precondition, "this manager no longer leads");
                    Attempt::Done((Index(0), Outcome::Refused(refusal)))
                }
                _ => {
                    // The proposal was refused before it got into the log.
                    effort.restore_sent(sent);
                    Attempt::Again
                }
            },
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Attempt::Lost,
            Ok(Err(other)) => Attempt::Closed(other.to_string()),
            Err(_) => Attempt::Closed("the group has stopped".into()),
        }
    }
}

fn propose_error(trouble: Trouble) -> ProposeError {
    match trouble {
        Trouble::NoQuorum { why, sent: false } => ProposeError::NoQuorum(why),
        Trouble::NoQuorum { why, sent: true } => ProposeError::Unknown(why.to_string()),
        Trouble::Late => ProposeError::Unknown("The managers take their time: the disk or the network is slow.".into()),
        Trouble::Closed { why, sent: false } => ProposeError::Closed(why),
        Trouble::Closed { why, sent: true } => ProposeError::Unknown(format!("This manager is stopping: {why}.")),
    }
}

fn closed() -> ProposeError {
    ProposeError::Closed("the store is closed".into())
}
