//! Programs of different versions on one log: a change that a manager cannot read does not get into the log, and a
//! program that is too old for its cluster stops with an error.

use super::world::{LINEAGE, World, accept, found, has, id, write};
use crate::{OpenError, Start, Store};
use essaim_model::{Change, Outcome};
use essaim_wire::{Generation, Level};
use std::net::SocketAddr;
use std::time::Duration;

/// A level that no present program understands.
const NEXT: Level = Level(Level::NEWEST.0 + 1);

/// The level of a program before the first release, older than every present change.
const BEFORE: Level = Level::UNKNOWN;

fn understands(number: u128, level: Level) -> Change {
    let addr = SocketAddr::from(([127, 0, 0, 1], 2377));
    Change::DescribeNode { id: id(number), generation: Generation(1), addr, level, description: None }
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_than_the_level_does_not_get_into_the_log() {
    let mut world = World::new();
    let store = world.start(1, Start::Found { lineage: LINEAGE }).await.expect("it starts");
    let mut founding = found();
    if let Change::Found(founding) = &mut founding {
        (founding.cluster.level, founding.node.level) = (BEFORE, BEFORE);
    }
    world.leader().await.change(vec![founding], None).await.expect("founded");
    let last = store.status().last;
    let refused = store.propose(vec![accept(2)], None).await.expect("it answers");
    let Outcome::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert!(refusal.text.contains("has not said yet which essaim it runs"), "{refusal}");
    assert_eq!(store.status().last, last, "nothing was added to the log");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_too_old_for_its_cluster_does_not_start_and_leaves_its_files_to_a_newer_one() {
    let mut world = World::of(1).await;
    assert!(write(&world.store(1), 100).await);
    world.stop(1).await;
    for old in [false, true, false] {
        let mut config = world.config(1);
        if old {
            config.level = BEFORE;
        }
        match Store::open(config, Start::Resume).await {
            Ok(store) => {
                assert!(!old, "it must not start");
                assert!(has(&store, 100));
                store.close().await;
            }
            Err(why @ OpenError::Newer(_)) => {
                assert!(old);
                let words = why.to_string();
                assert!(words.contains("start the newer essaim on this machine again"), "{words}");
                assert!(!words.contains("delete"), "{words}");
            }
            Err(why) => panic!("{why}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_whose_program_is_too_old_for_the_level_that_is_raised_stops_and_says_so() {
    let world = World::of(3).await;
    let (leader, old) = (world.leader().await, world.follower().await);
    // Every manager claims to understand the level and none does, as after an operator put back an older program.
    let claims = (1..=3).map(|number| understands(number, NEXT)).collect();
    leader.change(claims, None).await.expect("committed");
    let raised = tokio::time::timeout(Duration::from_secs(20), leader.change(vec![Change::RaiseLevel(NEXT)], None));
    let (why, _) = tokio::join!(old.failed(), raised);
    assert!(why.contains("the level of the cluster is") && why.contains("start the newer essaim"), "{why}");
}
