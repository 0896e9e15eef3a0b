//! Lying nodes: what they may bring about is nothing but their own loss.
//!
//! The check holds while the only faults are lying nodes, fewer than a quorum of observers. Then the leader takes no
//! honest node for unreachable or down, and the committed facts about an honest node are true: the start of its daemon,
//! its address, its role. A node counts as honest when nothing was wrong with it for [`AFTERMATH`]. Whatever the
//! faults, no start of a daemon is committed that has yet to come. (A daemon on an older copy of its disk runs in an
//! earlier start than the committed one until it has heard of that, so the newest start of each node is remembered.)

use super::Snapshot;
use super::troubles::{AFTERMATH, Troubles};
use crate::testkit::fault::Number;
use essaim_model::State;
use essaim_wire::{Generation, NodeId, Reachability};
use std::collections::BTreeMap;

/// The newest start in which each node has run.
pub type Starts = BTreeMap<NodeId, Generation>;

/// Checks what the leader has committed of every node, and returns what is wrong.
pub fn look(
    seen: &Snapshot,
    state: &State,
    numbers: &BTreeMap<NodeId, Number>,
    troubles: &Troubles,
    starts: &mut Starts,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in state.nodes() {
        let Some(number) = numbers.get(&node.id).copied() else { continue };
        let runs_in = seen.running.get(&number).map(|handle| handle.generation());
        wrong.extend(judge_start(number, node.generation, newest_start(starts, node.id, runs_in)));
        let everybody_is_calm = numbers.values().filter(|other| !seen.liars.contains(other));
        let calm = everybody_is_calm.into_iter().all(|other| troubles.is_calm(*other, AFTERMATH));
        if seen.is_only_lied_to && calm && !seen.liars.contains(&number) {
            wrong.extend(judge(number, node.reachability, &node.message));
        }
    }
    wrong
}

/// The newest start in which a running node has run.
fn newest_start(starts: &mut Starts, node: NodeId, runs_in: Option<Generation>) -> Option<Generation> {
    let newest = starts.entry(node).or_default();
    *newest = (*newest).max(runs_in?);
    Some(*newest)
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

    #[test]
    fn a_node_that_runs_on_an_older_copy_of_its_disk_has_not_run_in_a_start_to_come() {
        let (mut starts, node) = (Starts::new(), NodeId::from_bits(3));
        let mut runs_in = |start| newest_start(&mut starts, node, start);
        assert_eq!(runs_in(Some(Generation(4))), Some(Generation(4)));
        assert_eq!(runs_in(None), None);
        assert_eq!(runs_in(Some(Generation(2))), Some(Generation(4)));
    }
}
