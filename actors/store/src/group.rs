//! Who is in the group: taking in, letting go, handing over; and what the group looks like from here.
//!
//! These are the leader's to do, so they are asked of the leader's store (its role manager drives them from the
//! state). A promotion goes commit → learner → caught up → voter, with a number that was never used; a demotion hands
//! over first when it is the leader's own, and is refused when the voters left would be no majority.

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

/// How many entries a learner may lag behind to be made a voter: it catches up with those in a moment.
const LAG_MAX: u64 = 64;

/// How long a learner may take to catch up before whoever promotes it is told; it goes on catching up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// How long a change of the group may take, and how long one waits for another that is under way.
const CHANGE: Duration = Duration::from_secs(5);

/// A voter that has not answered the leader for so long does not count as there.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a handed-over leadership may take to arrive: a few milliseconds, as a rule.
const TRANSFER: Duration = Duration::from_secs(1);

const POLL: Duration = Duration::from_millis(10);

/// The group, as seen from one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its number in the group.
    pub raft_id: u64,
    /// The history.
    pub lineage: Lineage,
    /// The term, as far as it knows.
    pub term: Term,
    /// Who leads; see [`Store::leader`].
    pub leader: Option<NodeId>,
    /// Whether it knows of a majority right now; see [`Store::has_quorum`].
    pub has_quorum: bool,
    /// The last entry of its log.
    pub last: Index,
    /// How far its log is committed.
    pub committed: Index,
    /// How far it has applied.
    pub applied: Index,
    /// The last entry in its newest snapshot.
    pub snapshot: Index,
    /// Everybody in the group.
    pub members: Vec<MemberStatus>,
}

/// One of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which node.
    pub node: NodeId,
    /// Its number in the group.
    pub raft_id: u64,
    /// Whether it votes; a learner does not yet.
    pub voter: bool,
    /// How far its log is known to match; the leader alone knows.
    pub matched: Option<Index>,
    /// Whether it answered within a second; the leader alone knows.
    pub answers: Option<bool>,
}

impl Store {
    /// What the group looks like from here.
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

    /// Takes a manager into the group: as a learner, and as a voter once it has caught up. Returns when it votes; to
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

    /// Lets a manager go. Refused for the last one, and when too few of the others are there.
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
            // The next leader finds the wish in the state and does it.
            self.hand_over().await?;
            return Err(self.not_leader());
        }
        self.change_group(ChangeMembers::RemoveVoters(BTreeSet::from([raft_id]))).await
    }

    /// Gives leadership to `to`, or to whoever is best prepared. Does nothing on a manager that does not lead.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<(), Refusal> {
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
        // The furthest, and of those the smallest number.
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

    /// Gives leadership away before a planned stop, if there is anybody to give it to.
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

/// A leader's voters count as there for longer than its lease, so that a blip refuses no demotion.
const _: () = assert!(SILENCE.as_millis() > LEASE.as_millis());
