//! What a store shows: its state and events, its identity, the leader, and whether there is a quorum.

use crate::events::Cursor;
use crate::leadership::Leadership;
use crate::peers::Peers;
use crate::raft::machine::MachineShared;
use crate::raft::{self, Metrics, Raft};
use crate::read::Rounds;
use crate::store::Store;
use essaim_model::State;
use essaim_system::env::Clock;
use essaim_wire::{Index, Lineage, Moment, NodeId, RequestId, Term};
use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

impl Store {
    /// The state as applied here; it may lag behind. For a linearizable read see [`Store::read`].
    pub fn state(&self) -> Arc<State> {
        self.inner.machine.publisher.state()
    }

    /// Watches the state as applied here; a watcher sees the latest state only.
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.inner.machine.publisher.states()
    }

    /// Watches the index up to which the log is applied here.
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.inner.machine.publisher.applied()
    }

    /// The events after index `after`. List the state first, and watch from its index.
    pub fn events(&self, after: Index) -> Cursor {
        self.inner.machine.publisher.cursor(after)
    }

    /// Watches whether this manager leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Id of this node.
    pub fn node(&self) -> NodeId {
        self.inner.config.node
    }

    /// History of the group.
    pub fn lineage(&self) -> Lineage {
        self.inner.identity.lineage
    }

    /// This manager's number in the group.
    pub fn raft_id(&self) -> u64 {
        self.inner.identity.raft_id
    }

    /// The node that leads. `None` also when this manager has not heard of its leader, or of a majority, lately: then
    /// another node may lead, or none.
    pub fn leader(&self) -> Option<NodeId> {
        self.known_leader().filter(|_| self.has_quorum())
    }

    /// Whether this manager knows of a quorum right now: it leads and was answered within the lease, or it heard its
    /// leader within two leases. Without a quorum a manager refreshes no node's lease, and nodes linked to it look for
    /// another manager.
    pub fn has_quorum(&self) -> bool {
        if self.leads() {
            return self.is_leased();
        }
        let heard = Moment::from_micros(self.inner.server.heard.load(Ordering::Relaxed));
        heard > Moment::START && self.clock().now().saturating_since(heard) < raft::LEASE * 2
    }

    /// Bytes of entries that the log has taken in here, including those that were on disk at the start.
    pub fn log_written(&self) -> u64 {
        self.machine().log.grown()
    }

    /// The latest term in which this manager has voted, or followed an elected leader; it is on disk.
    pub fn voted(&self) -> Term {
        self.machine().log.voted()
    }

    /// Waits until the log is applied here up to `index`.
    pub async fn wait_applied(&self, index: Index) {
        let mut applied = self.applied();
        if applied.wait_for(|applied| *applied >= index).await.is_err() {
            std::future::pending().await
        }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(crate) fn machine(&self) -> &Arc<MachineShared> {
        &self.inner.machine
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.config.clock
    }

    pub(crate) fn peers(&self) -> &dyn Peers {
        &*self.inner.config.peers
    }

    pub(crate) fn under_way(&self) -> &Semaphore {
        &self.inner.under_way
    }

    pub(crate) fn rounds(&self) -> &Rounds {
        &self.inner.rounds
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// The last known leader, which is to be asked first.
    pub(crate) fn known_leader(&self) -> Option<NodeId> {
        // Borrowed instead of cloned, because this is asked with every proposal.
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.get_node(&leader).map(|peer| peer.node)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft().metrics().borrow_watched().clone()
    }

    /// Whether this manager was elected and has not heard of a successor.
    pub(crate) fn leads(&self) -> bool {
        self.raft().as_leader().is_ok()
    }

    /// Whether this manager leads and a majority answered within the lease.
    pub(crate) fn is_leased(&self) -> bool {
        self.is_leased_within(raft::LEASE)
    }

    /// Whether this manager leads and a majority answered within this time.
    pub(crate) fn is_leased_within(&self, limit: Duration) -> bool {
        let Ok(leader) = self.raft().as_leader() else { return false };
        // openraft notes a leader's own consent only when another manager answers; a sole voter needs no other's
        // answer.
        self.votes_alone() || leader.last_quorum_acked().is_some_and(|acked| acked.elapsed() < limit)
    }

    fn votes_alone(&self) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().eq([metrics.id])
    }

    /// Group numbers and nodes of the voters.
    pub(crate) fn voters(&self) -> Vec<(u64, NodeId)> {
        let metrics = self.metrics();
        let node = |id: u64| metrics.membership_config.get_node(&id).map(|peer| (id, peer.node));
        metrics.membership_config.voter_ids().filter_map(node).collect()
    }

    /// Waits until the leader is another one than `leader`, or there is none.
    pub(crate) async fn leader_changed(&self, leader: NodeId) {
        let mut metrics = self.raft().metrics();
        while self.known_leader() == Some(leader) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn next_request(&self) -> RequestId {
        RequestId {
            origin: self.node(),
            generation: self.inner.config.generation,
            seq: self.inner.requests.fetch_add(1, Ordering::Relaxed),
        }
    }
}
