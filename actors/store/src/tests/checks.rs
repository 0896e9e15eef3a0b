//! The comparison of states between managers, and the end of a store that has failed.

use super::world::{World, has, write};
use crate::format::Command;
use crate::raft::Payload;
use crate::raft::machine::CHECK_EVERY;
use crate::{CursorError, Leadership};
use bytes::Bytes;
use essaim_system::env::DiskFault;
use essaim_wire::encode;
use std::time::Duration;

async fn fill(world: &World) {
    let leader = world.leader().await;
    for place in 0..u128::from(CHECK_EVERY * 2) {
        assert!(write(&leader, 1000 + place).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn equal_states_are_found_equal() {
    let world = World::of(3).await;
    fill(&world).await;
    for store in world.running() {
        assert!(store.machine().checks.hashed().borrow().is_some(), "it was hashed");
        assert_eq!(*store.machine().checks.diverged().borrow(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_whose_state_differs_stops_and_says_so() {
    let world = World::of(1).await;
    fill(&world).await;
    let leader = world.leader().await;
    let (index, hash) = leader.machine().checks.hashed().borrow().expect("it was hashed");
    // As if the leader had another state: its hash for the next checked index is wrong.
    let index = index.0 + CHECK_EVERY;
    let check = encode(&Command::Check { index, hash: hash ^ 1 });
    leader.raft().client_write(Payload(Bytes::from(check))).await.expect("committed");
    for place in 0..u128::from(CHECK_EVERY * 2) {
        if !write(&leader, 9000 + place).await {
            break;
        }
    }
    let why = tokio::time::timeout(Duration::from_secs(20), leader.failed()).await.expect("it has ended");
    assert!(why.contains("differs from the leader's"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_disk_failed_says_so_and_a_closed_one_tells_its_watchers() {
    let mut world = World::of(1).await;
    let store = world.leader().await;
    let mut cursor = store.events(store.state().applied().index);
    let leadership = store.leadership();
    world.disks[&1].set_fault(DiskFault::WritesFail);
    assert!(!write(&store, 100).await);
    let why = tokio::time::timeout(Duration::from_secs(20), store.failed()).await.expect("it has ended");
    assert!(why.contains("the disk refuses writes"), "{why}");
    world.stop(1).await;
    assert_eq!(cursor.next().await, Err(CursorError::Closed));
    assert_eq!(*leadership.borrow(), Leadership::Off);

    world.disks[&1].set_fault(DiskFault::None);
    let again = world.start(1, crate::Start::Resume).await.expect("with the disk mended it starts");
    world.leader().await;
    assert!(write(&again, 101).await && has(&again, 101));
}

/// Actors run these futures on a runtime of several threads.
#[test]
fn whatever_a_store_does_may_move_between_threads() {
    fn is_send(_: impl Send) {}
    fn check(store: &crate::Store, config: crate::StoreConfig) {
        is_send(crate::Store::open(config.clone(), crate::Start::Resume));
        is_send(crate::Store::force_new_cluster(config));
        is_send(store.propose(Vec::new(), None));
        is_send(store.read());
        is_send(store.failed());
        is_send(store.add_voter(store.node(), 1, None));
        is_send(store.remove_voter(1));
        is_send(store.transfer(None));
        is_send(store.close());
    }
    let _ = check;
}
