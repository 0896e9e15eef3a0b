//! Opens and closes the store: one manager's part in the group, as a whole.
//!
//! Opening reads and verifies everything on disk before openraft sees any of it, so damage is an error with a text
//! instead of a later panic. Closing ends openraft first, then the writer, then the files: when it returns, another
//! store can be opened on the same folder.

use crate::error::OpenError;
use crate::events::Publisher;
use crate::format::{GroupIdentity, Peer};
use crate::housekeeping;
use crate::identity;
use crate::idle::Idle;
use crate::leadership::Leadership;
use crate::log::LogBackend;
use crate::log::LogError;
use crate::log::database::{LogDatabase, place};
use crate::log::writer::Writer;
use crate::peers::Pipe;
use crate::raft::log_store::LogStore;
use crate::raft::machine::{Checks, Machine, MachineShared};
use crate::raft::network::Network;
use crate::raft::serve::Server;
use crate::raft::{self, Raft, seeded};
use crate::rounds::Rounds;
use crate::snapshot::folder::Snapshots;
use crate::store::{Inner, Store, StoreConfig, UNDER_WAY_MAX};
use crate::time::ClusterTime;
use crate::watchdog;
use essaim_system::env::Disk;
use essaim_transport::Lane;
use essaim_wire::{Lineage, NodeId};
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Semaphore, watch};

/// Group number of the first manager of a new history; the number of a later manager is the index of a commit.
const FOUNDER: u64 = 1;

/// How a store is opened: with a new history, as a joining manager, or with what is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Found a new history, as its first manager.
    Found {
        /// Id of the new history.
        lineage: Lineage,
    },
    /// Join as a manager that was just promoted, and wait to be added to the group under this number.
    Join {
        /// Id of the group's history.
        lineage: Lineage,
        /// Number in the group: the index of the commit that promoted this manager.
        raft_id: u64,
    },
    /// Resume with what is on disk.
    Resume,
}

impl Store {
    /// Reads the identity that a folder contains, without opening the store.
    pub fn known(disk: &Arc<dyn Disk>) -> Result<Option<GroupIdentity>, OpenError> {
        identity::find(disk)
    }

    /// Removes all files of a closed store, after a demotion or when the node leaves.
    pub fn wipe(disk: &Arc<dyn Disk>) -> std::io::Result<()> {
        for name in disk.list("")? {
            if name.starts_with("group-") { disk.remove_folder(&name)? } else { disk.remove(&name)? }
        }
        Ok(())
    }

    /// Opens the store. Must be called inside the runtime.
    pub async fn open(config: StoreConfig, start: Start) -> Result<Self, OpenError> {
        let identity = match start {
            Start::Found { lineage } => GroupIdentity { node: config.node, raft_id: FOUNDER, lineage },
            Start::Join { lineage, raft_id } => GroupIdentity { node: config.node, raft_id, lineage },
            Start::Resume => identity::find(&config.disk)?.ok_or(OpenError::Nothing)?,
        };
        if identity.node != config.node {
            return Err(OpenError::OtherNode(identity.node));
        }
        let sealer = identity::sealer(&config.disk, &config.seed)?;
        if identity::find(&config.disk)? == Some(identity) {
            identity::expect_log(&config.disk, identity)?;
        } else {
            // Files that a crash left of an earlier attempt under this number were never acknowledged.
            config.disk.remove_folder(&identity::name(identity))?;
        }
        let disk = Arc::clone(&config.disk);
        let store = Self::start(config, identity, sealer).await?;
        // From here on there is a log, so a missing log is known to be lost.
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

    /// Makes this manager the only voter, unless the log already has a membership.
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
        identity: GroupIdentity,
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
        let writer = Writer::start(Arc::clone(&database) as Arc<dyn LogBackend>, Arc::clone(&disk))?;
        let log = LogStore::new(Arc::clone(&database) as Arc<dyn LogBackend>, writer.clone(), found)?;
        let machine = Arc::new(MachineShared {
            publisher: Publisher::new(),
            snapshots,
            checks: Checks::new(),
            log: log.clone(),
            grown_at_snapshot: AtomicU64::new(0),
            understands: config.level,
            newer: Mutex::default(),
        });
        let newer = || machine.newer.lock().clone().map(OpenError::Newer);
        let state_machine = match Machine::new(image, Arc::clone(&machine)) {
            Ok(state_machine) => state_machine,
            Err(why) => {
                writer.close().await;
                database.close();
                return Err(newer().unwrap_or(OpenError::Disk(why)));
            }
        };
        let time = ClusterTime::new(Arc::clone(&config.clock));
        let network = Network {
            peers: Arc::clone(&config.peers),
            lineage: identity.lineage,
            own: identity.raft_id,
            time: time.clone(),
        };
        let settings = raft::settings(format!("{:?}", identity.lineage), config.log.entries_kept);
        let settings = Arc::new(settings.validate().map_err(|why| OpenError::Raft(why.to_string()))?);
        let seed = config.seed.derive("raft").fork();
        let started =
            seeded(seed.draw_number(), Raft::new(identity.raft_id, settings, network, log, state_machine)).await;
        let raft = match started {
            Ok(raft) => raft,
            Err(why) => {
                writer.close().await;
                database.close();
                return Err(newer().unwrap_or_else(|| damaged(why.to_string())));
            }
        };

        // A node that is demoted and promoted again, or whose store is opened again, stays in one generation: with the
        // numbers of its former requests, new requests would get the outcomes of those. The clock counts from the start
        // of the node, and no request takes less than a microsecond, so the time in microseconds is beyond every number
        // used before.
        let first_request = config.clock.now().as_micros();
        let leadership = watch::Sender::new(Leadership::Off);
        let server = Server {
            raft: raft.clone(),
            identity,
            machine: Arc::clone(&machine),
            seed: seed.draw_number(),
            clock: Arc::clone(&config.clock),
            heard: Arc::default(),
            time: time.clone(),
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
                requests: AtomicU64::new(first_request),
                under_way: Semaphore::new(UNDER_WAY_MAX),
                rounds: Rounds::default(),
                idle: Idle::default(),
                tasks: Mutex::default(),
                closed: AtomicBool::new(false),
                time,
            }),
        };
        let tasks = [
            tokio::spawn(seeded(seed.draw_number(), watchdog::watch(store.clone(), leadership))),
            tokio::spawn(seeded(seed.draw_number(), housekeeping::keep_house(store.clone()))),
        ];
        store.inner.tasks.lock().extend(tasks);
        Ok(store)
    }

    /// Ends this manager's part, and closes every file. A leader should [`hand over`](Self::hand_over) first.
    pub async fn close(&self) {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.under_way.close();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        self.inner.leadership.send_replace(Leadership::Off);
        self.inner.machine.publisher.close();
        self.inner.idle.forget();
        if let Err(why) = self.raft().shutdown().await {
            tracing::error!(%why, "the group's task ended badly");
        }
        self.inner.writer.close().await;
        self.inner.database.close();
    }

    /// Waits until this manager's part has ended without being closed, and returns why: its disk failed, or its state
    /// differs from the leader's. The store is of no more use then; close it, and open it again.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft().metrics();
        let mut core_ended = false;
        loop {
            let ended = metrics.borrow_watched().running_state.clone().err();
            match ended {
                Some(fatal) if !self.is_closed() => {
                    if let Some(newer) = &*self.inner.machine.newer.lock() {
                        return OpenError::Newer(newer.clone()).to_string();
                    }
                    return match *self.inner.machine.checks.diverged().borrow() {
                        Some(index) => format!("its state differs from the leader's since {}", index.0),
                        None => fatal.to_string(),
                    };
                }
                // The store was closed: it did not fail, and will not.
                _ if core_ended => std::future::pending().await,
                // The end of the core is the last thing that its metrics report, so one more look is enough.
                _ => core_ended = metrics.changed().await.is_err(),
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
}
