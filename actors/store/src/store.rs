//! The handle: one manager's part in the group, opened and closed as a whole.
//!
//! Opening reads and verifies everything on disk before openraft sees any of it, so damage is an error with words and
//! not a panic later. Closing ends openraft first, then the writer, then the files: when it returns, another store
//! can be opened on the same folder.

use crate::error::OpenError;
use crate::events::{Cursor, Publisher};
use crate::format::{Identity, Peer};
use crate::housekeeping;
use crate::identity;
use crate::leadership::{self, Leadership};
use crate::log::LogBackend;
use crate::log::LogError;
use crate::log::database::{LogDatabase, place};
use crate::log::writer::Writer;
use crate::peers::{Peers, Pipe};
use crate::proposer::UNDER_WAY_MAX;
use crate::raft::log_store::LogStore;
use crate::raft::machine::{Checks, Machine, MachineShared};
use crate::raft::network::Network;
use crate::raft::serve::Server;
use crate::raft::{self, Metrics, Raft, seeded};
use crate::snapshot::folder::Snapshots;
use essaim_model::State;
use essaim_system::env::{Clock, Disk, Seed};
use essaim_transport::Lane;
use essaim_wire::{Generation, Index, Lineage, Moment, NodeId, RequestId};
use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// The number of the first manager of a history that was founded; a later one is the index of a commit.
const FOUNDER: u64 = 1;

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreConfig {
    /// This node.
    pub node: NodeId,
    /// Which start of its daemon this is: requests are numbered within it.
    pub generation: Generation,
    /// Where others reach this node: a hint, kept with its number in the group.
    pub addr: Option<SocketAddr>,
    /// The store's own folder.
    pub disk: Arc<dyn Disk>,
    /// Stamps proposals.
    pub clock: Arc<dyn Clock>,
    /// Election timeouts, the key of the log, nonces.
    pub seed: Seed,
    /// How to reach other managers.
    pub peers: Arc<dyn Peers>,
}

/// How a store begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As the first manager of a new history.
    Found {
        /// The history.
        lineage: Lineage,
    },
    /// As a manager that was just promoted: it waits to be taken into the group under this number.
    Join {
        /// The history.
        lineage: Lineage,
        /// Its number: the index of the commit that promoted it.
        raft_id: u64,
    },
    /// With what is on disk.
    Resume,
}

/// The part in a group that a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The node it belongs to.
    pub node: NodeId,
    /// Its number in the group.
    pub raft_id: u64,
    /// The history.
    pub lineage: Lineage,
}

/// One manager's part in the group. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: StoreConfig,
    identity: Identity,
    raft: Raft,
    server: Server,
    machine: Arc<MachineShared>,
    database: Arc<LogDatabase>,
    writer: Writer,
    leadership: watch::Sender<Leadership>,
    requests: AtomicU64,
    under_way: Semaphore,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
    repaired: Option<String>,
}

impl Store {
    /// What a folder holds, without opening it.
    pub fn known(disk: &Arc<dyn Disk>) -> Result<Option<Known>, OpenError> {
        let known = |Identity { node, raft_id, lineage }| Known { node, raft_id, lineage };
        Ok(identity::find(disk)?.map(known))
    }

    /// Removes everything of a closed store: after a demotion, or when the node leaves.
    pub fn wipe(disk: &Arc<dyn Disk>) -> std::io::Result<()> {
        for name in disk.list("")? {
            if name.starts_with("group-") { disk.remove_folder(&name)? } else { disk.remove(&name)? }
        }
        Ok(())
    }

    /// Opens the store. Must be called inside the runtime.
    pub async fn open(config: StoreConfig, start: Start) -> Result<Self, OpenError> {
        let identity = match start {
            Start::Found { lineage } => Identity { node: config.node, raft_id: FOUNDER, lineage },
            Start::Join { lineage, raft_id } => Identity { node: config.node, raft_id, lineage },
            Start::Resume => identity::find(&config.disk)?.ok_or(OpenError::Nothing)?,
        };
        if identity.node != config.node {
            return Err(OpenError::OtherNode(identity.node));
        }
        let sealer = identity::sealer(&config.disk, &config.seed)?;
        if identity::find(&config.disk)? == Some(identity) {
            identity::expect_log(&config.disk, identity)?;
        } else {
            // Whatever a crash left of an earlier attempt under this number was acknowledged to nobody.
            config.disk.remove_folder(&identity::name(identity))?;
        }
        let disk = Arc::clone(&config.disk);
        let store = Self::start(config, identity, sealer).await?;
        // From here on there is a log, so that one that is missing later is known to be lost.
        let begun = match identity::keep(&disk, identity) {
            Ok(()) if identity.raft_id == FOUNDER => store.initialize().await,
            kept => kept.map_err(OpenError::Disk),
        };
        match begun {
            Ok(()) => Ok(store),
            Err(why) => {
                store.close().await;
                Err(why)
            }
        }
    }

    /// Makes this manager the only voter, unless the log says otherwise already.
    async fn initialize(&self) -> Result<(), OpenError> {
        let failed = |why: String| OpenError::Raft(why);
        if self.raft().is_initialized().await.map_err(|why| failed(why.to_string()))? {
            return Ok(());
        }
        let members = BTreeMap::from([(FOUNDER, Peer { node: self.node(), addr: self.inner.config.addr })]);
        self.raft().initialize(members).await.map_err(|why| failed(why.to_string()))
    }

    async fn start(
        config: StoreConfig,
        identity: Identity,
        sealer: Arc<crate::seal::Sealer>,
    ) -> Result<Self, OpenError> {
        let disk = identity::files(&config.disk, identity);
        let whole = place(&config.disk, "");
        let damaged = |why: String| OpenError::damaged(why, &whole);

        let (snapshots, image) =
            Snapshots::open(Arc::clone(&disk), Arc::clone(&sealer)).map_err(|why| match why.kind() {
                std::io::ErrorKind::InvalidData => damaged(why.to_string()),
                _ => OpenError::Disk(why),
            })?;
        let open = || -> Result<_, LogError> {
            let database = Arc::new(LogDatabase::open(&disk, identity::LOG, sealer)?);
            let found = database.load()?;
            Ok((database, found))
        };
        let (database, found) = open().map_err(|why| match why {
            LogError::Disk(why) => OpenError::Disk(why),
            LogError::Damaged(why) => damaged(why),
        })?;
        if found.purged > image.as_ref().and_then(|image| image.last) {
            database.close();
            return Err(damaged(format!(
                "the snapshot that belongs to the log {} is gone",
                place(&disk, identity::LOG)
            )));
        }
        let repaired = found.repaired.clone();
        if let Some(repaired) = &repaired {
            tracing::warn!("{repaired}");
        }

        let writer = Writer::start(Arc::clone(&database) as Arc<dyn LogBackend>, Arc::clone(&disk))?;
        let log = LogStore::new(Arc::clone(&database) as Arc<dyn LogBackend>, writer.clone(), found)?;
        let machine = Arc::new(MachineShared {
            publisher: Publisher::new(),
            snapshots,
            checks: Checks::new(),
            log: log.clone(),
            grown_at_snapshot: AtomicU64::new(0),
        });
        let state_machine = Machine::new(image, Arc::clone(&machine))?;
        let network = Network { peers: Arc::clone(&config.peers), lineage: identity.lineage, own: identity.raft_id };
        let settings = raft::settings(format!("{:?}", identity.lineage));
        let settings = Arc::new(settings.validate().map_err(|why| OpenError::Raft(why.to_string()))?);
        let seed = config.seed.derive("raft").fork();
        let started =
            seeded(seed.draw_number(), Raft::new(identity.raft_id, settings, network, log, state_machine)).await;
        let raft = match started {
            Ok(raft) => raft,
            Err(why) => {
                writer.close().await;
                database.close();
                return Err(damaged(why.to_string()));
            }
        };

        let leadership = watch::Sender::new(Leadership::Off);
        let server = Server {
            raft: raft.clone(),
            identity,
            machine: Arc::clone(&machine),
            seed: seed.draw_number(),
            clock: Arc::clone(&config.clock),
            heard: Arc::default(),
        };
        let store = Self {
            inner: Arc::new(Inner {
                config,
                identity,
                raft,
                server,
                machine,
                database,
                writer,
                leadership: leadership.clone(),
                requests: AtomicU64::new(0),
                under_way: Semaphore::new(UNDER_WAY_MAX),
                tasks: Mutex::default(),
                closed: AtomicBool::new(false),
                repaired,
            }),
        };
        let tasks = [
            tokio::spawn(seeded(seed.draw_number(), leadership::watch(store.clone(), leadership))),
            tokio::spawn(seeded(seed.draw_number(), housekeeping::keep_house(store.clone()))),
        ];
        store.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        Ok(store)
    }

    /// Ends this manager's part, and lets go of every file. A leader should [`hand over`](Self::hand_over) first.
    pub async fn close(&self) {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.under_way.close();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        self.inner.leadership.send_replace(Leadership::Off);
        self.inner.machine.publisher.close();
        if let Err(why) = self.raft().shutdown().await {
            tracing::error!(%why, "the group's task ended badly");
        }
        self.inner.writer.close().await;
        self.inner.database.close();
    }

    /// Waits until this manager's part has ended without being closed, and says why: its disk failed, or its state
    /// turned out to differ from the leader's. The store is of no more use then; close it, and open it again.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft().metrics();
        loop {
            if !self.is_closed()
                && let Err(fatal) = &metrics.borrow_watched().running_state
            {
                return match *self.inner.machine.checks.diverged().borrow() {
                    Some(index) => format!("its state differs from the leader's since {}", index.0),
                    None => fatal.to_string(),
                };
            }
            if metrics.changed().await.is_err() {
                // The end of the core is the last thing it reports; without that it was closed.
                match &metrics.borrow_watched().running_state {
                    Err(_) if !self.is_closed() => (),
                    _ => return std::future::pending().await,
                }
            }
        }
    }

    /// Serves one stream that `peer`, a manager by its certificate, opened on the Raft, Snapshot or Propose lane.
    pub async fn serve(&self, lane: Lane, peer: NodeId, pipe: Pipe) {
        if self.is_closed() {
            return;
        }
        let served = match lane {
            Lane::Raft => self.inner.server.serve_raft(peer, pipe).await,
            Lane::Snapshot => self.inner.server.serve_snapshot(peer, pipe).await,
            Lane::Propose => self.serve_propose(pipe).await,
            _ => Ok(()),
        };
        if let Err(why) = served {
            tracing::debug!(%lane, %peer, %why, "a stream of a manager ended");
        }
    }

    /// The lanes that a store serves.
    pub const LANES: [Lane; 3] = [Lane::Raft, Lane::Snapshot, Lane::Propose];

    /// The state as applied here; it may lag behind. For what is up to date see [`Store::read`].
    pub fn state(&self) -> Arc<State> {
        self.inner.machine.publisher.state()
    }

    /// The same, as it changes: the latest only.
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.inner.machine.publisher.states()
    }

    /// How far the log is applied here.
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.inner.machine.publisher.applied()
    }

    /// What happens after `after`, place by place. List the state first, and watch from its place.
    pub fn events(&self, after: Index) -> Cursor {
        self.inner.machine.publisher.cursor(after)
    }

    /// Whether this manager leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.config.node
    }

    /// The history.
    pub fn lineage(&self) -> Lineage {
        self.inner.identity.lineage
    }

    /// This manager's number in the group.
    pub fn raft_id(&self) -> u64 {
        self.inner.identity.raft_id
    }

    /// The node that leads, as far as this manager knows.
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.metrics();
        let leader = metrics.current_leader?;
        metrics.membership_config.get_node(&leader).map(|peer| peer.node)
    }

    /// Whether this manager knows of a majority right now: it leads and was answered within the lease, or it heard its
    /// leader within two. Without one it refreshes nobody's lease, and whoever is linked to it looks for another.
    pub fn has_quorum(&self) -> bool {
        if self.leads() {
            return self.is_leased();
        }
        let heard = Moment::from_micros(self.inner.server.heard.load(Ordering::Relaxed));
        heard > Moment::START && self.clock().now().saturating_since(heard) < raft::LEASE * 2
    }

    /// What had to be repaired when the store was opened, in words.
    pub fn repaired(&self) -> Option<&str> {
        self.inner.repaired.as_deref()
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

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft().metrics().borrow_watched().clone()
    }

    /// Whether this manager was elected and has not heard of a successor.
    pub(crate) fn leads(&self) -> bool {
        self.raft().as_leader().is_ok()
    }

    /// Whether it leads and a majority answered within the lease.
    pub(crate) fn is_leased(&self) -> bool {
        self.is_leased_within(raft::LEASE)
    }

    /// Whether it leads and a majority answered within this time.
    pub(crate) fn is_leased_within(&self, limit: Duration) -> bool {
        let Ok(leader) = self.raft().as_leader() else { return false };
        // openraft notes a leader's own consent only when another manager answers; one that votes alone needs nobody's.
        self.votes_alone() || leader.last_quorum_acked().is_some_and(|acked| acked.elapsed() < limit)
    }

    fn votes_alone(&self) -> bool {
        let metrics = self.metrics();
        metrics.membership_config.voter_ids().eq([metrics.id])
    }

    /// The voters: their numbers and nodes.
    pub(crate) fn voters(&self) -> Vec<(u64, NodeId)> {
        let metrics = self.metrics();
        let node = |id: u64| metrics.membership_config.get_node(&id).map(|peer| (id, peer.node));
        metrics.membership_config.voter_ids().filter_map(node).collect()
    }

    /// Waits until somebody else than `leader` leads, or nobody.
    pub(crate) async fn leader_changed(&self, leader: NodeId) {
        let mut metrics = self.raft().metrics();
        while self.leader() == Some(leader) {
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
