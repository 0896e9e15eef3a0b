//! Joining, leaving, leadership transfer, and recovery without a quorum.

use super::world::{LINEAGE, World, accept, has, id, number, write};
use crate::format::Vote;
use crate::format::lane::{Answer, Hello, Purpose, Question, RequestVote};
use crate::{OpenError, Start, Store};
use essaim_system::env::Disk;
use essaim_transport::Lane;
use essaim_wire::{Lineage, Role};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_manager_that_joins_late_is_filled_up_by_a_snapshot_and_votes() {
    let mut world = World::of(1).await;
    let leader = world.leader().await;
    for place in 100..200 {
        assert!(write(&leader, place).await);
    }
    let upto = leader.status().applied.0;
    leader.raft().trigger().snapshot().await.expect("asked");
    leader.raft().wait(Some(Duration::from_secs(5))).metrics(|m| m.snapshot.is_some(), "built").await.expect("built");
    leader.raft().trigger().purge_log(upto).await.expect("asked");
    leader.raft().wait(Some(Duration::from_secs(5))).metrics(|m| m.purged.is_some(), "purged").await.expect("purged");

    let joined = world.join(2).await;
    assert!(joined.status().snapshot.0 >= upto, "the log before it is gone: {:?}", joined.status());
    world.converge().await;
    assert!((100..200).all(|place| has(&joined, place)));
    assert!(leader.status().members.iter().all(|member| member.voter));
    world.kill(2).await;
    let again = world.start(2, Start::Resume).await.expect("it starts from the snapshot it was sent");
    world.converge().await;
    assert!((100..200).all(|place| has(&again, place)));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_outgrew_its_snapshot_is_cut_by_itself() {
    let mut world = World::of(1).await;
    let leader = world.leader().await;
    // In a test the log may grow to 64 KiB; these entries have about 300 bytes each.
    for place in 100..400 {
        let mut node = super::world::node(place);
        node.message = "x".repeat(250);
        leader.change(vec![essaim_model::Change::AcceptNode(Box::new(node))], None).await.expect("committed");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(leader.status().snapshot.0 > 100, "{:?}", leader.status());
    world.kill(1).await;
    let again = world.start(1, Start::Resume).await.expect("it starts");
    world.leader().await;
    assert!((100..400).all(|place| has(&again, place)));
}

#[tokio::test(start_paused = true)]
async fn a_demotion_is_refused_for_the_last_and_for_a_lost_majority_and_done_otherwise() {
    let mut world = World::of(1).await;
    let first = world.leader().await;
    let refused = first.remove_voter(1).await.expect_err("it is the last");
    assert_eq!(refused.text, "attempting to demote the last manager of the swarm");
    world.join(2).await;
    world.join(3).await;
    world.kill(3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leader = world.leader().await;
    let status = leader.status();
    let of = |node: u128| status.members.iter().find(|member| member.node == id(node)).expect("a member").raft_id;
    let other = if number(&leader) == 1 { 2 } else { 1 };
    let refused = leader.remove_voter(of(other)).await.expect_err("1 of 2 would be left");
    assert!(refused.text.contains("can't remove member from the raft: this would result in a loss of quorum"));
    assert!(refused.text.contains("missing: n3"), "{}", refused.text);
    leader.remove_voter(of(3)).await.expect("the dead one may go");
    assert_eq!(leader.status().members.len(), 2);
    assert!(write(&leader, 100).await);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_demoted_hands_over_first() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let raft_id = leader.raft_id();
    let not_yet = leader.remove_voter(raft_id).await.expect_err("another leads now, and shall do it");
    assert!(not_yet.text.contains("does not lead"), "{}", not_yet.text);
    let next = world.leader().await;
    assert_ne!(next.node(), leader.node());
    next.remove_voter(raft_id).await.expect("removed");
    assert!(next.status().members.iter().all(|member| member.raft_id != raft_id));
    assert!(write(&next, 100).await);
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_in_far_less_than_an_election() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let to = world.follower().await;
    let began = tokio::time::Instant::now();
    leader.transfer(Some(to.node())).await.expect("handed over");
    assert!(began.elapsed() < Duration::from_millis(150), "{:?}", began.elapsed());
    assert_eq!(world.leader().await.node(), to.node());
    assert!(write(&leader, 100).await);
}

#[tokio::test(start_paused = true)]
async fn a_manager_promoted_again_has_another_number_and_begins_empty() {
    let mut world = World::of(3).await;
    let leader = world.leader().await;
    let gone = world.follower().await;
    let (gone_number, old_id) = (number(&gone), gone.raft_id());
    leader.remove_voter(old_id).await.expect("removed");
    world.stop(gone_number).await;
    // The folder of the demoted manager was not wiped: the new number has a folder of its own.
    let raft_id = leader.change(vec![accept(500)], None).await.expect("committed").0;
    let start = Start::Join { lineage: leader.lineage(), raft_id };
    let again = world.start(gone_number, start).await.expect("it starts");
    leader.add_voter(id(gone_number), raft_id, None).await.expect("it votes");
    assert_ne!(again.raft_id(), old_id);
    world.converge().await;
    assert!(has(&again, 500));
    let files = world.disks[&gone_number].files();
    assert!(files.iter().all(|(name, _)| !name.contains(&format!("-{old_id}/"))), "the old folder is gone: {files:?}");
}

#[tokio::test(start_paused = true)]
async fn the_survivor_of_a_lost_majority_begins_a_new_history_with_all_it_has() {
    let mut world = World::of(3).await;
    let survivor = world.follower().await;
    for place in 100..110 {
        assert!(write(&survivor, place).await);
    }
    let (alone, old_lineage) = (number(&survivor), survivor.lineage());
    for lost in 1..=3 {
        if lost != alone {
            world.kill(lost).await;
        }
    }
    assert!(!write(&survivor, 110).await, "there is no majority");
    world.stop(alone).await;
    let config = world.config(alone);
    let forced = Store::force_new_cluster(config).await.expect("a new history begins");
    world.enter(alone, &forced);
    assert!(forced.lineage() > old_lineage);
    assert!((100..110).all(|place| has(&forced, place)), "its state is kept");
    assert!(write(&forced, 200).await);
    let state = forced.state();
    let managers: Vec<_> = state.managers().map(|node| node.id).filter(|node| *node != id(200)).collect();
    assert_eq!(managers, [id(alone)], "beside the one that was let in since");
    assert_eq!(state.cluster().expect("founded").lineage, forced.lineage());

    // Managers that were given up as lost come back, and are refused by the lineage.
    let back = (1..=3).find(|number| *number != alone).expect("two were lost");
    let ghost = world.start(back, Start::Resume).await.expect("it starts, alone in its history");
    assert!(!write(&ghost, 300).await);
    assert!(!has(&forced, 300));
    assert_eq!(state.node(id(back)).map(|node| node.role), Some(Role::Worker));

    world.stop(alone).await;
    let again = world.start(alone, Start::Resume).await.expect("the new history is the one in force");
    world.leader().await;
    assert!(has(&again, 200) && again.lineage() == forced.lineage());
    world.stop(back).await;
    world.join(7).await;
    assert!(write(&world.store(7), 201).await, "it grows again");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_history_or_for_another_number_is_refused() {
    let world = World::of(2).await;
    let (leader, other) = (world.leader().await, world.follower().await);
    let vote = Vote { term: 900, node: leader.raft_id(), committed: false };
    let cases = [
        (Lineage { ordinal: 9, nonce: 9 }, leader.raft_id(), other.raft_id(), "history"),
        (LINEAGE, leader.raft_id(), 999, "not 999"),
        (LINEAGE, other.raft_id(), other.raft_id(), "in the group is"),
    ];
    for (lineage, from, to, why) in cases {
        let mut pipe = leader.peers().open(other.node(), Lane::Raft).await.expect("open");
        let hello = Hello { lineage, from, to, purpose: Purpose::Ask };
        pipe.send.send_value(&hello).await.expect("sent");
        let request = RequestVote { vote, last: None, transfer: false };
        pipe.send.send_value(&Question::Vote(request)).await.expect("sent");
        match pipe.recv.expect_value().await.expect("an answer") {
            Answer::Refused(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(leader.status().term.0 < 900, "no term was moved by it");
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_another_node_and_an_empty_one_are_refused_and_a_wiped_one_is_empty() {
    let mut world = World::of(1).await;
    world.stop(1).await;
    let disk: Arc<dyn Disk> = Arc::new(world.disks[&1].clone());
    let known = Store::known(&disk).expect("readable").expect("it has a group");
    assert_eq!((known.node, known.raft_id, known.lineage), (id(1), 1, LINEAGE));
    world.disks.insert(2, world.disks[&1].clone());
    assert!(matches!(world.start(2, Start::Resume).await, Err(OpenError::OtherNode(node)) if node == id(1)));
    assert!(matches!(world.start(3, Start::Resume).await, Err(OpenError::Nothing)));
    Store::wipe(&disk).expect("wiped");
    assert!(world.disks[&1].files().is_empty(), "{:?}", world.disks[&1].files());
}
