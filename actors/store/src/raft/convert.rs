//! Conversions between openraft's types and the frozen ones of `format`.

use super::{Entry, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote};
use crate::format;
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::{RaftLeaderId, RaftVote};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(crate) fn log_id(id: &LogId) -> format::LogId {
    format::LogId { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn log_id_in(id: format::LogId) -> LogId {
    LogId::new(LeaderId::<u64, u64>::new(id.term, 0).to_committed(), id.index)
}

pub(crate) fn vote(vote: &Vote) -> format::Vote {
    let leader = vote.leader_id();
    format::Vote { term: leader.term(), node: *leader.node_id(), committed: vote.is_committed() }
}

pub(crate) fn vote_in(vote: format::Vote) -> Vote {
    Vote::from_leader_id(LeaderId::new(vote.term, vote.node), vote.committed)
}

pub(crate) fn membership(membership: &Membership) -> format::Membership {
    format::Membership {
        voters: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
        peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
    }
}

pub(crate) fn membership_in(from: format::Membership) -> io::Result<Membership> {
    let voters: Vec<BTreeSet<u64>> = from.voters.into_iter().map(BTreeSet::from_iter).collect();
    let peers: BTreeMap<u64, format::Peer> = from.peers.into_iter().collect();
    if voters.is_empty() && peers.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, peers).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))
}

pub(crate) fn stored(stored: &StoredMembership) -> format::StoredMembership {
    format::StoredMembership { at: stored.log_id().as_ref().map(log_id), membership: membership(stored.membership()) }
}

pub(crate) fn stored_in(stored: format::StoredMembership) -> io::Result<StoredMembership> {
    Ok(StoredMembership::new(stored.at.map(log_id_in), membership_in(stored.membership)?))
}

pub(crate) fn meta_in(meta: format::SnapshotMeta) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta { last_log_id: meta.last.map(log_id_in), last_membership: stored_in(meta.membership)? })
}

pub(crate) fn meta(meta: &SnapshotMeta) -> format::SnapshotMeta {
    format::SnapshotMeta { last: meta.last_log_id.as_ref().map(log_id), membership: stored(&meta.last_membership) }
}

pub(crate) fn entry(entry: &Entry) -> format::Entry {
    let body = match &entry.payload {
        EntryPayload::Blank => format::Body::Blank,
        EntryPayload::Normal(Payload(bytes)) => format::Body::Command(bytes.to_vec()),
        EntryPayload::Membership(of) => format::Body::Membership(membership(of)),
    };
    format::Entry { id: log_id(&entry.log_id), body }
}

pub(crate) fn entry_in(entry: format::Entry) -> io::Result<Entry> {
    let payload = match entry.body {
        format::Body::Blank => EntryPayload::Blank,
        format::Body::Command(bytes) => EntryPayload::Normal(Payload(Bytes::from(bytes))),
        format::Body::Membership(of) => EntryPayload::Membership(membership_in(of)?),
    };
    Ok(Entry { log_id: log_id_in(entry.id), payload })
}
