//! The handle on the store, and what it shows: its state and events, its identity, the leader, and whether there is a
//! quorum.

use crate::events::Cursor;
use crate::format::GroupIdentity;
use crate::idle::Idle;
use crate::leadership::Leadership;
use crate::log::database::LogDatabase;
use crate::log::writer::Writer;
use crate::peers::Peers;
use crate::raft::machine::MachineShared;
use crate::raft::serve::Server;
use crate::raft::{self, Metrics, Raft};
use crate::rounds::Rounds;
use crate::time::ClusterTime;
use essaim_model::State;
use essaim_system::env::{Clock, Disk, Seed};
use essaim_wire::{Generation, Index, Level, Lineage, Moment, NodeId, RequestId, Term, Timestamp};
use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Upper bound on the proposals of one node under way. The state remembers the outcomes of four times as many.
pub(crate) const UNDER_WAY_MAX: usize = 256;

/// Configuration of a store.
#[derive(Clone)]
pub struct StoreConfig {
    /// Id of this node.
    pub node: NodeId,
    /// Generation of this node's daemon, within which requests are numbered.
    pub generation: Generation,
    /// Address of this node for other managers: a hint, kept with its number in the group.
    pub addr: Option<SocketAddr>,
    /// Disk of the store's own folder.
    pub disk: Arc<dyn Disk>,
    /// Clock by which proposals are dated.
    pub clock: Arc<dyn Clock>,
    /// Seed of election timeouts, the key of the log, and nonces.
    pub seed: Seed,
    /// Opens lanes to the other managers.
    pub peers: Arc<dyn Peers>,
    /// Highest level of the log that this node's program understands.
    pub level: Level,
    /// Bounds of the log.
    pub log: LogBounds,
}

/// Bounds of a manager's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// Growth in bytes after which the log is replaced by a snapshot, unless the last snapshot is larger still.
    pub snapshot_after: u64,
    /// Entries kept for followers that lag a little when a snapshot is made. For more, sending the snapshot is cheaper.
    pub entries_kept: u64,
}

impl LogBounds {
    /// 64 MiB, which are replayed in about a second, and 1,000 entries.
    pub const USUAL: Self = Self { snapshot_after: 64 << 20, entries_kept: 1000 };
}

impl Default for LogBounds {
    fn default() -> Self {
        Self::USUAL
    }
}

/// One manager's part in the group. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// Shared part of the clones of a store.
pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) identity: GroupIdentity,
    pub(crate) raft: Raft,
    pub(crate) server: Server,
    pub(crate) machine: Arc<MachineShared>,
    pub(crate) database: Arc<LogDatabase>,
    pub(crate) writer: Writer,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) requests: AtomicU64,
    pub(crate) under_way: Semaphore,
    pub(crate) rounds: Rounds,
    pub(crate) idle: Idle,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) closed: AtomicBool,
    pub(crate) time: ClusterTime,
}

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

    /// Cluster time: a change that is proposed now gets this date.
    pub fn now(&self) -> Timestamp {
        self.inner.time.now(self.state().at())
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
    pub(crate) fn has_quorum(&self) -> bool {
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
    pub(crate) async fn wait_applied(&self, index: Index) {
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
