//! Writes, reads and watches on a group that loses members.

use super::world::{World, accept, active_term, has, id, node, number, until, write};
use crate::format::Command;
use crate::proposer::effort::{Attempt, Effort};
use crate::{Leadership, ProposeError, ReadError, Start, Store};
use bytes::Bytes;
use essaim_model::{Outcome, Proposal, RefusalKind};
use essaim_system::env::{DiskFault, VirtualClock};
use essaim_wire::{Index, Term, encode};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_write_on_a_follower_is_forwarded_and_read_there_at_once() {
    let world = World::of(3).await;
    let follower = world.follower().await;
    assert!(write(&follower, 100).await);
    assert!(has(&follower, 100), "whoever wrote reads its own write");
    assert!(world.running().iter().all(Store::has_quorum));
    world.converge().await;
    assert!(world.running().iter().all(|store| has(store, 100)));
}

#[tokio::test(start_paused = true)]
async fn a_read_on_a_follower_sees_what_was_acknowledged_to_anybody() {
    let world = World::of(3).await;
    let (leader, follower) = (world.leader().await, world.follower().await);
    for place in 100..120 {
        assert!(write(&leader, place).await);
        let state = follower.read().await.expect("there is a majority");
        assert!(state.node(id(place)).is_some(), "write {place} was acknowledged before the read began");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_leader_is_killed_the_next_write_waits_for_the_next_leader_and_is_accepted() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    assert!(write(&leader, 100).await);
    world.kill(number(&leader)).await;
    let other = world.running().remove(0);
    assert!(write(&other, 101).await);
    world.converge().await;
    assert!(world.running().iter().all(|store| has(store, 100) && has(store, 101)), "nothing acknowledged is lost");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_twice_is_applied_once() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let proposal =
        Proposal { request: leader.next_request(), at: leader.clock().utc(), fence: None, changes: vec![accept(100)] };
    let bytes = Bytes::from(encode(&Command::Proposal(proposal)));
    let before = *leader.applied().borrow();
    let mut events = leader.events(before);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let effort = Effort::begin(&leader, Duration::from_secs(5));
        match leader.commit_here(bytes.clone(), None, &effort).await {
            Attempt::Done((_, outcome)) => outcomes.push(outcome),
            _ => panic!("there is a majority"),
        }
    }
    assert_eq!(outcomes[0], outcomes[1], "the second answer is the first one's");
    assert_eq!(events.try_next().expect("kept").expect("the first had an effect").events.len(), 1);
    assert_eq!(events.try_next(), Ok(None), "the second had none");
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_every_call_answers_within_a_second_and_names_who_is_missing() {
    let mut world = World::of(3).await;
    let leader = world.leader().await;
    for lost in 1..=3 {
        if lost != number(&leader) {
            world.kill(lost).await;
        }
    }
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let refused = leader.propose(vec![accept(100)], None).await.expect_err("there is no majority");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let text = refused.to_string();
        assert!(text.contains("2 cannot be reached: n2") && text.contains("n3"), "{text}");
        assert!(text.contains("The swarm does not have a leader."), "{text}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let began = tokio::time::Instant::now();
    let refused = leader.read().await.expect_err("a read could be stale");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(matches!(refused, ReadError::NoQuorum(why) if why.missing.len() == 2 && why.voters == 3));

    let back = if number(&leader) == 2 { 3 } else { 2 };
    world.start(back, Start::Resume).await.expect("it comes back");
    world.leader().await;
    assert!(write(&leader, 101).await, "and all goes on");
}

#[tokio::test(start_paused = true)]
async fn a_follower_without_a_leader_says_so_and_promises_that_nothing_changed() {
    let world = World::of(3).await;
    let survivor = world.follower().await;
    for lost in 1..=3 {
        if lost != number(&survivor) {
            world.kill(lost).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!survivor.has_quorum() && survivor.leader().is_none(), "it has not heard its leader for long");
    let refused = survivor.propose(vec![accept(100)], None).await;
    assert!(matches!(refused, Err(ProposeError::NoQuorum(_))), "{refused:?}");
    let refused = survivor.change(vec![accept(100)], None).await.expect_err("nor this");
    assert_eq!(refused.kind, RefusalKind::NoQuorum);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_starts_with_a_wrong_clock_does_not_move_the_time_of_the_cluster_even_when_it_leads() {
    let mut world = World::of(3).await;
    let leader = world.leader().await;
    let late = number(&world.follower().await);
    world.stop(late).await;
    let mut config = world.config(late);
    let hour = Duration::from_secs(3600);
    config.clock = Arc::new(VirtualClock::new(leader.now() + hour));
    let store = Store::open(config, Start::Resume).await.expect("it starts");
    world.enter(late, &store);
    assert!(write(&store, 100).await);
    let is_right = |store: &Store| store.state().at().saturating_since(leader.clock().utc()) < hour / 2;
    assert!(is_right(&leader), "{:?}", leader.state().at());

    leader.transfer(Some(id(late))).await.expect("handed over");
    until(&store, |now| now.active().is_some()).await;
    assert!(write(&store, 101).await);
    assert!(is_right(&store), "it goes on from the time it was told: {:?}", store.state().at());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_closes_does_not_call_refused_what_it_has_handed_over() {
    let world = World::of(3).await;
    let (leader, follower) = (world.leader().await, world.follower().await);
    let third = world.running().into_iter().find(|it| ![leader.node(), follower.node()].contains(&it.node()));
    // Long enough that the follower closes meanwhile.
    for store in [&leader, &third.expect("there are three")] {
        world.disks[&number(store)].set_fault(DiskFault::Slow(Duration::from_millis(100)));
    }
    let asker = follower.clone();
    let asking = tokio::spawn(async move { asker.propose(vec![accept(100)], None).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.stop(number(&follower)).await;
    let answer = asking.await.expect("no panic");
    assert!(matches!(answer, Err(ProposeError::Unknown(_))), "{answer:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(has(&leader, 100), "it was made");

    let refused = follower.propose(vec![accept(101)], None).await;
    assert!(matches!(refused, Err(ProposeError::Closed(_))), "that one was never handed over: {refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_suspended_before_it_hears_of_its_successor() {
    let world = World::of(3).await;
    let old = world.leader().await;
    let term = active_term(&old);
    world.cut(&[number(&old)]);
    let began = tokio::time::Instant::now();
    assert_eq!(until(&old, |now| now.active().is_none()).await, Leadership::Suspended(term));
    let suspended_after = began.elapsed();
    let new = world.leader().await;
    assert_ne!(new.node(), old.node());
    assert!(active_term(&new) > term);
    assert!(suspended_after < began.elapsed(), "nobody else led before: {suspended_after:?} of {:?}", began.elapsed());
    assert!(write(&new, 100).await);
    let lost = old.propose(vec![accept(101)], None).await;
    assert!(matches!(lost, Err(ProposeError::NoQuorum(_) | ProposeError::Unknown(_))), "{lost:?}");

    world.cut(&[]);
    until(&old, |now| *now == Leadership::Off).await;
    assert!(write(&old, 102).await, "it forwards now");
    world.converge().await;
    assert!(has(&old, 100));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_term_decided_is_void() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let term = active_term(&leader);
    assert!(matches!(leader.propose(vec![accept(100)], Some(term)).await, Ok(Outcome::Done(_))));
    let older = Term(term.0 - 1);
    for store in world.running() {
        let outcome = store.propose(vec![accept(101)], Some(older)).await.expect("an answer");
        assert!(matches!(outcome, Outcome::Refused(refusal) if refusal.kind == RefusalKind::Precondition));
    }
    assert!(!has(&leader, 101));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_lost_power_as_a_whole_is_the_same_group_again() {
    let mut world = World::of(3).await;
    let follower = world.follower().await;
    let mut acknowledged = Vec::new();
    for place in 100..150 {
        if write(&follower, place).await {
            acknowledged.push(place);
        }
    }
    for lost in 1..=3 {
        world.kill(lost).await;
    }
    for back in 1..=3 {
        world.start(back, Start::Resume).await.expect("it starts with what is on disk");
    }
    let leader = world.leader().await;
    assert_eq!(acknowledged.len(), 50);
    assert!(acknowledged.iter().all(|place| has(&leader, *place)), "nothing acknowledged is lost");
    assert!(write(&world.follower().await, 200).await);
    world.converge().await;
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go_while_writes_go_on_and_none_that_was_acknowledged_is_lost() {
    let mut world = World::of(3).await;
    let mut acknowledged = Vec::new();
    for round in 0..12_u128 {
        let victim = round % 3 + 1;
        world.kill(victim).await;
        for step in 0..5 {
            let place = 1000 + round * 10 + step;
            let store = world.running()[usize::try_from(step % 2).expect("small")].clone();
            if write(&store, place).await {
                acknowledged.push(place);
            }
        }
        world.start(victim, Start::Resume).await.expect("it comes back");
        tokio::time::sleep(Duration::from_millis(u64::try_from(round * 37).expect("small"))).await;
    }
    world.converge().await;
    let leader = world.leader().await;
    assert!(acknowledged.len() > 40, "most writes get through: {}", acknowledged.len());
    assert!(acknowledged.iter().all(|place| has(&leader, *place)));
}

#[tokio::test(start_paused = true)]
async fn a_proposal_over_the_limit_is_refused_before_it_goes_anywhere() {
    let world = World::of(1).await;
    let leader = world.leader().await;
    let mut huge = node(100);
    huge.message = "x".repeat(2 << 20);
    let refused = leader.propose(vec![essaim_model::Change::AcceptNode(Box::new(huge))], None).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_on_a_follower_sees_every_change_at_its_place() {
    let world = World::of(3).await;
    let (leader, follower) = (world.leader().await, world.follower().await);
    world.converge().await;
    let from = follower.state().applied().index;
    let mut cursor = follower.events(from);
    for place in 100..110 {
        assert!(write(&leader, place).await);
    }
    let mut last = from;
    for _ in 0..10 {
        let happened = cursor.next().await.expect("kept");
        assert!(happened.index > last && happened.events.len() == 1);
        last = happened.index;
    }
    assert_eq!(cursor.try_next(), Ok(None));
    assert!(follower.events(Index(0)).try_next().is_ok(), "all of a young group is still kept");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_opened_again_in_the_same_start_of_its_node_repeats_no_request() {
    let mut world = World::of(1).await;
    world.stop(1).await;
    let config = world.config(1);
    for number in [50, 51] {
        let store = Store::open(config.clone(), Start::Resume).await.expect("it starts");
        until(&store, |leadership| leadership.active().is_some()).await;
        assert!(write(&store, number).await);
        assert!(has(&store, number), "what was acknowledged was done");
        store.close().await;
    }
}
