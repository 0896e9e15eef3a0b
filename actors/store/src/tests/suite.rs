//! openraft's own test suite for log storage and state machine, run on ours.

use crate::events::Publisher;
use crate::log::LogBackend;
use crate::log::database::LogDatabase;
use crate::log::writer::Writer;
use crate::raft::Types;
use crate::raft::log_store::LogStore;
use crate::raft::machine::{Checks, Machine, MachineShared};
use crate::seal::{Sealer, Secret};
use crate::snapshot::folder::Snapshots;
use essaim_system::env::{Disk, SimDisk};
use essaim_wire::Level;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

struct Builder;

impl StoreBuilder<Types, LogStore, Machine> for Builder {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Types>> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let sealer = Arc::new(Sealer::new(&Secret::new([1; 32]), [2; 16]));
        let (snapshots, image) = Snapshots::open(Arc::clone(&disk), Arc::clone(&sealer)).expect("an empty folder");
        let database: Arc<dyn LogBackend> =
            Arc::new(LogDatabase::open(&disk, "log.redb", sealer).expect("an empty log"));
        let writer = Writer::start(Arc::clone(&database), disk).expect("it starts");
        let found = database.load().expect("empty");
        let log = LogStore::new(database, writer, found).expect("empty");
        let shared = Arc::new(MachineShared {
            publisher: Publisher::new(),
            snapshots,
            checks: Checks::new(),
            log: log.clone(),
            grown_at_snapshot: AtomicU64::new(0),
            understands: Level::NEWEST,
            newer: Mutex::default(),
        });
        Ok(((), log, Machine::new(image, shared).expect("empty")))
    }
}

#[tokio::test]
async fn the_log_and_the_machine_pass_the_librarys_suite() {
    crate::raft::seeded(1, Suite::test_all(Builder)).await.expect("every case holds");
}
