//! The store on a real disk and several threads: the writer's thread, concurrent snapshots, file modes.

use super::world::{LINEAGE, accept, has, id};
use crate::peers::{Peers, Pipe};
use crate::{LogBounds, Start, Store, StoreConfig};
use essaim_system::env::{Disk, RealClock, RealDisk, Seed};
use essaim_transport::Lane;
use essaim_wire::{Generation, Level, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

struct Nobody;

impl Peers for Nobody {
    fn open(&self, _: NodeId, _: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        async { Err("there is nobody".to_owned()) }.boxed()
    }
}

fn config(folder: &std::path::Path) -> StoreConfig {
    StoreConfig {
        node: id(1),
        generation: Generation(1),
        addr: None,
        disk: Arc::new(RealDisk::open(folder).expect("a folder")) as Arc<dyn Disk>,
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        peers: Arc::new(Nobody),
        level: Level::NEWEST,
        log: LogBounds::USUAL,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_real_disk_is_written_closed_and_opened_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(config(folder.path()), Start::Found { lineage: LINEAGE }).await.expect("founded");
    let mut leadership = store.leadership();
    let active = leadership.wait_for(|now| now.active().is_some());
    tokio::time::timeout(Duration::from_secs(20), active).await.expect("in time").expect("open");
    let writes = (100..300).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.change(vec![accept(number)], None).await })
    });
    for write in futures::future::join_all(writes).await {
        write.expect("no panic").expect("committed");
    }
    store.raft().trigger().snapshot().await.expect("asked");
    store
        .raft()
        .wait(Some(Duration::from_secs(20)))
        .metrics(|metrics| metrics.snapshot.is_some(), "a snapshot is built")
        .await
        .expect("built");
    store.close().await;

    let mode = std::fs::metadata(folder.path().join("key")).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Store::open(config(folder.path()), Start::Resume).await.expect("opened at once: every file was let go");
    let mut leadership = again.leadership();
    let active = leadership.wait_for(|now| now.active().is_some());
    tokio::time::timeout(Duration::from_secs(20), active).await.expect("in time").expect("open");
    assert!((100..300).all(|number| has(&again, number)));
    again.close().await;
}
