//! Membership of the group: adding and removing managers, handing over leadership, and the group's status.
//!
//! These operations are the leader's, so they are called on the leader's store (its role manager drives them from the
//! state). A promotion goes: commit, learner, caught up, voter, with a number that was never used before. A demotion of
//! the leader itself hands over first, and any demotion is refused when the remaining voters would have no majority.

use crate::format::Peer;
use crate::raft::LEASE;
use crate::store::Store;
use essaim_model::{Refusal, RefusalKind};
use essaim_wire::{Index, Lineage, NodeId, Term};
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Entries by which a learner may lag when it is made a voter: it catches up with them in a moment.
const LAG_MAX: u64 = 64;

/// Time for a learner to catch up before the promotion returns an error; the learner goes on catching up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Time that a membership change may take, and that one waits for another change under way.
const CHANGE: Duration = Duration::from_secs(5);

/// Time without an answer to the leader after which a voter does not count as present.
const SILENCE: Duration = Duration::from_secs(1);

/// Time that a leadership transfer may take: a few milliseconds, as a rule.
const TRANSFER: Duration = Duration::from_secs(1);

const POLL: Duration = Duration::from_millis(10);

/// Status of the group, as seen from one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Id of this node.
    pub node: NodeId,
    /// This manager's number in the group.
    pub raft_id: u64,
    /// History of the group.
    pub lineage: Lineage,
    /// Current term, as far as this manager knows.
    pub term: Term,
    /// Node that leads; see [`Store::leader`].
    pub leader: Option<NodeId>,
    /// Whether this manager knows of a majority right now; see [`Store::has_quorum`].
    pub has_quorum: bool,
    /// Index of the last entry in this manager's log.
    pub last: Index,
    /// Index up to which the log is committed.
    pub committed: Index,
    /// Index up to which this manager has applied the log.
    pub applied: Index,
    /// Index of the last entry in this manager's newest snapshot.
    pub snapshot: Index,
    /// All members of the group.
    pub members: Vec<MemberStatus>,
}

/// Status of one member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Id of the member's node.
    pub node: NodeId,
    /// The member's number in the group.
    pub raft_id: u64,
    /// Whether the member is a voter; a learner is not yet.
    pub voter: bool,
    /// Index up to which the member's log is known to match; only the leader knows.
    pub matched: Option<Index>,
    /// Whether the member answered within a second; only the leader knows.
    pub answers: Option<bool>,
}

impl Store {
    /// Status of the group, as seen from this manager.
    pub fn status(&self) -> Status {
        let metrics = self.metrics();
        let leads = self.leads();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let index = |id: Option<u64>| Index(id.unwrap_or(0));
        let member = |(id, peer): (&u64, &Peer)| {
            let own = *id == self.raft_id();
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).copied();
            let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).copied().flatten();
            MemberStatus {
                node: peer.node,
                raft_id: *id,
                voter: voters.contains(id),
                matched: matched.filter(|_| leads).map(|matched| index(matched.map(|id| id.index()))),
                answers: leads.then(|| own || heard.is_some_and(|heard| heard.elapsed() < SILENCE)),
            }
        };
        Status {
            node: self.node(),
            raft_id: self.raft_id(),
            lineage: self.lineage(),
            term: Term(metrics.current_term),
            leader: self.leader(),
            has_quorum: self.has_quorum(),
            last: index(metrics.last_log_index),
            committed: index(metrics.local_committed.map(|id| id.index())),
            applied: *self.applied().borrow(),
            snapshot: index(metrics.snapshot.map(|id| id.index())),
            members: metrics.membership_config.nodes().map(member).collect(),
        }
    }

    /// Adds a manager to the group: as a learner, and as a voter once it has caught up. Returns when it is a voter; to
    /// be repeated after a failure or a change of the leader.
    pub async fn add_voter(&self, node: NodeId, raft_id: u64, addr: Option<SocketAddr>) -> Result<(), Refusal> {
        let known = self.metrics().membership_config.get_node(&raft_id).map(|peer| peer.node);
        match known {
            Some(known) if known != node => {
                return Err(Refusal::invalid(format!("number {raft_id} in the group belongs to {known}")));
            }
            Some(_) if self.voters().iter().any(|(id, _)| *id == raft_id) => return Ok(()),
            Some(_) => (),
            None => {
                let peers = BTreeMap::from([(raft_id, Peer { node, addr })]);
                self.change_group(ChangeMembers::AddNodes(peers)).await?;
            }
        }
        let caught_up = tokio::time::timeout(CATCH_UP, self.wait_caught_up(raft_id)).await;
        caught_up.map_err(|_| {
            let text = format!("node {node} is taking long to catch up with the managers; it goes on, try again");
            Refusal::new(RefusalKind::Unknown, text)
        })??;
        self.change_group(ChangeMembers::AddVoterIds(BTreeSet::from([raft_id]))).await
    }

    /// Removes a manager from the group. Refused for the last voter, and when too few of the other voters answer.
    pub async fn remove_voter(&self, raft_id: u64) -> Result<(), Refusal> {
        let Some(peer) = self.metrics().membership_config.get_node(&raft_id).cloned() else { return Ok(()) };
        let status = self.status();
        let is_voter = status.members.iter().any(|member| member.raft_id == raft_id && member.voter);
        if !is_voter {
            return self.change_group(ChangeMembers::RemoveNodes(BTreeSet::from([raft_id]))).await;
        }
        let left: Vec<&MemberStatus> =
            status.members.iter().filter(|member| member.voter && member.raft_id != raft_id).collect();
        if left.is_empty() {
            return Err(precondition("attempting to demote the last manager of the swarm"));
        }
        if !self.leads() {
            return Err(self.not_leader());
        }
        let there = left.iter().filter(|member| member.answers == Some(true)).count();
        if there * 2 <= left.len() {
            let silent: Vec<String> = left
                .iter()
                .filter(|member| member.answers != Some(true))
                .map(|member| self.name_of(member.node))
                .collect();
            return Err(precondition(format!(
                "can't remove member from the raft: this would result in a loss of quorum \
                 (without {}, {} of {} managers would answer; missing: {})",
                self.name_of(peer.node),
                there,
                left.len(),
                silent.join(", ")
            )));
        }
        if raft_id == self.raft_id() {
            // The next leader finds the demotion in the state and carries it out.
            self.hand_over().await?;
            return Err(self.not_leader());
        }
        self.change_group(ChangeMembers::RemoveVoters(BTreeSet::from([raft_id]))).await
    }

    /// Transfers leadership to `to`, or to the best prepared voter. Does nothing on a manager that does not lead.
    pub(crate) async fn transfer(&self, to: Option<NodeId>) -> Result<(), Refusal> {
        if !self.leads() {
            return Ok(());
        }
        let status = self.status();
        let fits = |member: &&MemberStatus| {
            member.voter
                && member.raft_id != self.raft_id()
                && member.answers == Some(true)
                && to.is_none_or(|to| member.node == to)
        };
        // The voter whose log matches furthest; ties go to the smallest number.
        let best =
            status.members.iter().filter(fits).max_by_key(|member| (member.matched, std::cmp::Reverse(member.raft_id)));
        let Some(best) = best else {
            return Err(precondition("no other manager could lead: none answers"));
        };
        let asked = self.raft().trigger().transfer_leader(best.raft_id).await;
        asked.map_err(|fatal| Refusal::new(RefusalKind::Internal, fatal.to_string()))?;
        let led_by_another = async {
            while self.leads() || self.known_leader().is_none() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(TRANSFER, led_by_another)
            .await
            .map_err(|_| precondition(format!("{} did not take over leadership in time", self.name_of(best.node))))
    }

    /// Transfers leadership before a planned stop, if there is another voter.
    pub async fn hand_over(&self) -> Result<(), Refusal> {
        if self.leads() && self.voters().len() > 1 { self.transfer(None).await } else { Ok(()) }
    }

    async fn change_group(&self, change: ChangeMembers<u64, Peer>) -> Result<(), Refusal> {
        let changing = async {
            loop {
                match self.raft().change_membership(change.clone(), false).await {
                    Ok(_) => return Ok(()),
                    Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                        ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                    ))) => tokio::time::sleep(POLL).await,
                    Err(RaftError::APIError(
                        ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
                    )) => return Err(self.not_leader()),
                    Err(other) => return Err(Refusal::new(RefusalKind::Internal, other.to_string())),
                }
            }
        };
        match tokio::time::timeout(CHANGE, changing).await {
            Ok(changed) => changed,
            Err(_) => {
                let text = format!("the group did not agree on its new members in time. {}", self.find_missing().await);
                Err(Refusal::new(RefusalKind::Unknown, text))
            }
        }
    }

    async fn wait_caught_up(&self, raft_id: u64) -> Result<(), Refusal> {
        loop {
            if !self.leads() {
                return Err(self.not_leader());
            }
            let metrics = self.metrics();
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&raft_id)).copied().flatten();
            if let Some(matched) = matched
                && matched.index() + LAG_MAX >= metrics.last_log_index.unwrap_or(0)
            {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn not_leader(&self) -> Refusal {
        let text = match self.known_leader() {
            Some(leader) => format!("this manager does not lead; {} does", self.name_of(leader)),
            None => "this manager does not lead".into(),
        };
        Refusal::new(RefusalKind::Precondition, text)
    }

    fn name_of(&self, node: NodeId) -> String {
        self.state().node(node).map_or_else(|| node.to_string(), |node| node.name())
    }
}

fn precondition(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Precondition, text)
}

/// A leader's voters count as present for longer than its lease, so that a short disturbance refuses no demotion.
const _: () = assert!(SILENCE.as_millis() > LEASE.as_millis());
