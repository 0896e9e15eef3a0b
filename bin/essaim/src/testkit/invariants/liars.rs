//! Lying nodes: what they may bring about is nothing but their own loss.
//!
//! The check holds while the only faults are lying nodes, fewer than a quorum of observers. Then the leader takes no
//! honest node for unreachable or down, and the committed facts about an honest node are true: the start of its daemon,
//! its address, its role. A node counts as honest when nothing was wrong with it for [`AFTERMATH`]. Whatever the
//! faults, no start of a daemon is committed that has yet to come.

use super::troubles::{AFTERMATH, Troubles};
use crate::testkit::fault::Number;
use crate::testkit::world::World;
use essaim_model::State;
use essaim_wire::{Generation, NodeId, Reachability};
use std::collections::BTreeMap;

/// Checks what the leader has committed of every node, and returns what is wrong.
pub fn look(world: &World, state: &State, numbers: &BTreeMap<NodeId, Number>, troubles: &Troubles) -> Vec<String> {
    let mut wrong = Vec::new();
    let lied_to = world.is_only_lied_to();
    for node in state.nodes() {
        let Some(number) = numbers.get(&node.id).copied() else { continue };
        let runs_in = world.running(number).map(|handle| handle.generation());
        wrong.extend(judge_start(number, node.generation, runs_in));
        let everybody_is_calm = numbers.values().filter(|other| !world.liars().contains(other));
        let calm = everybody_is_calm.into_iter().all(|other| troubles.is_calm(*other, AFTERMATH));
        if lied_to && calm && !world.liars().contains(&number) {
            wrong.extend(judge(number, node.reachability, &node.message));
        }
    }
    wrong
}

fn judge_start(number: Number, committed: Generation, runs_in: Option<Generation>) -> Option<String> {
    let runs_in = runs_in?;
    (committed > runs_in).then(|| {
        let (committed, runs_in) = (committed.0, runs_in.0);
        format!("n{number} is recorded in start {committed}, and runs in start {runs_in}")
    })
}

fn judge(number: Number, reachability: Reachability, message: &str) -> Option<String> {
    let lost = matches!(reachability, Reachability::Unreachable | Reachability::Down);
    lost.then(|| {
        format!("n{number} lives and only liars are at work, and the leader takes it for {reachability:?}: {message}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_node_that_is_taken_for_lost_is_seen() {
        assert!(judge(3, Reachability::Down, "missed by n4").expect("seen").contains("n3 lives and only liars"));
        assert_eq!(judge(3, Reachability::Reachable, ""), None);
    }

    #[test]
    fn a_start_that_has_yet_to_come_is_seen() {
        let start = Some(Generation(2));
        assert!(judge_start(3, Generation(u64::MAX), start).expect("seen").contains("and runs in start 2"));
        assert_eq!(judge_start(3, Generation(2), start), None);
        assert_eq!(judge_start(3, Generation(9), None), None, "it does not run");
    }
}
