//! Leaders: one leader in a term, one that decides at a time, and no manager that forgets its vote. A node with a
//! worker's certificate has no part in the group of managers.

use crate::testkit::fault::Number;
use essaim_node::Handle;
use essaim_store::{Leadership, Store};
use essaim_wire::{Role, Term};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which a deposed leader may take itself for the leader beside its successor: its lease, one period of its
/// watchdog, and one period of the checks.
const OVERLAP_MAX: Duration = Duration::from_millis(1_000);

/// Time for which a leader's tree may stand after its lease: its actors are stopped in order, with deadlines.
const TREE_MAX: Duration = Duration::from_secs(6);

/// Leaders, trees and votes seen so far.
#[derive(Debug, Default)]
pub struct Leaders {
    of: BTreeMap<Term, Number>,
    /// Since when more than one manager decides.
    two_since: Option<Instant>,
    /// Since when the leader's tree of each manager stands although the manager does not lead.
    trees: BTreeMap<Number, Instant>,
    /// The term of each manager's last vote, by the manager's number in the group.
    voted: BTreeMap<u64, Term>,
}

/// Leadership and vote of one manager at one moment.
#[derive(Debug, Clone)]
pub struct ManagerView {
    number: Number,
    /// The manager's number in the group.
    raft_id: u64,
    leadership: Leadership,
    /// The term of the manager's vote.
    voted: Term,
    /// Whether the leader's tree stands although the manager does not lead.
    tree: bool,
}

impl ManagerView {
    /// Reads leadership, vote and tree of a manager.
    pub fn of(number: Number, handle: &Handle, store: &Store) -> Self {
        let leadership = *store.leadership().borrow();
        // Only a manager that does not lead is searched for a leader's tree: a leader has one.
        let tree = leadership.active().is_none()
            && handle.journal().tree().iter().any(|entry| entry.path.to_string().ends_with("/manager/leader"));
        Self { number, raft_id: store.raft_id(), leadership, voted: store.voted(), tree }
    }
}

/// Returns what is wrong with a node that presents a certificate of this role and has, or has not, its store open.
pub(crate) fn part_without_certificate(number: Number, certificate: Role, has_part: bool) -> Option<String> {
    let wrong = has_part && certificate == Role::Worker;
    wrong.then(|| format!("n{number} has a part in the group of managers, and a worker's certificate"))
}

impl Leaders {
    /// Checks all running managers at one moment, and returns what is wrong.
    pub fn look(&mut self, managers: &[ManagerView]) -> Vec<String> {
        let now = Instant::now();
        let mut wrong = Vec::new();
        let active: Vec<_> = managers.iter().filter_map(|it| Some((it.number, it.leadership.active()?))).collect();
        for (number, term) in &active {
            let first = *self.of.entry(*term).or_insert(*number);
            if first != *number {
                wrong.push(format!("n{first} and n{number} both lead in term {}", term.0));
            }
        }
        self.two_since = if active.len() > 1 { self.two_since.or(Some(now)) } else { None };
        if self.two_since.is_some_and(|since| now - since > OVERLAP_MAX) {
            let all: Vec<_> = active.iter().map(|(number, term)| format!("n{number} in term {}", term.0)).collect();
            wrong.push(format!("for {OVERLAP_MAX:?} more than one has decided: {}", all.join(", ")));
        }
        self.trees.retain(|number, _| managers.iter().any(|it| it.number == *number && it.tree));
        for view in managers.iter().filter(|it| it.tree) {
            let since = *self.trees.entry(view.number).or_insert(now);
            if now - since > TREE_MAX {
                wrong.push(format!("the leader's tree of n{} still stands {TREE_MAX:?} after its lease", view.number));
            }
        }
        for ManagerView { number, raft_id, voted, .. } in managers {
            let before = self.voted.entry(*raft_id).or_insert(*voted);
            if *voted < *before {
                wrong.push(format!(
                    "n{number} knows of a vote in term {} only, and has voted in term {}",
                    voted.0, before.0
                ));
            }
            *before = (*before).max(*voted);
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn view(number: Number, leadership: Leadership) -> ManagerView {
        ManagerView { number, raft_id: u64::from(number), leadership, voted: Term(9), tree: false }
    }

    #[test]
    fn a_part_in_the_group_with_a_workers_certificate_is_seen() {
        assert!(part_without_certificate(3, Role::Worker, true).is_some());
        for (role, has_part) in [(Role::Worker, false), (Role::Manager, true), (Role::Manager, false)] {
            assert_eq!(part_without_certificate(3, role, has_part), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_leaders_of_a_term_are_seen_even_one_after_the_other() {
        let mut leaders = Leaders::default();
        assert_eq!(leaders.look(&[view(1, Leadership::Active(Term(3)))]), [""; 0]);
        assert_eq!(leaders.look(&[view(1, Leadership::Active(Term(4)))]), [""; 0]);
        let wrong = leaders.look(&[view(2, Leadership::Active(Term(3)))]);
        assert_eq!(wrong, ["n1 and n2 both lead in term 3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_decide_for_longer_than_a_lease_are_seen() {
        let mut leaders = Leaders::default();
        let both = [view(1, Leadership::Active(Term(3))), view(2, Leadership::Active(Term(4)))];
        assert_eq!(leaders.look(&both), [""; 0]);
        sleep(OVERLAP_MAX + Duration::from_millis(1)).await;
        assert!(leaders.look(&both).iter().any(|why| why.contains("more than one has decided")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tree_that_outlives_its_lease_is_seen() {
        let mut leaders = Leaders::default();
        let stands = [ManagerView { tree: true, ..view(1, Leadership::Suspended(Term(1))) }];
        assert_eq!(leaders.look(&stands), [""; 0]);
        sleep(TREE_MAX + Duration::from_millis(1)).await;
        assert!(leaders.look(&stands).iter().any(|why| why.contains("still stands")));
        assert_eq!(leaders.look(&[view(1, Leadership::Off)]), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_forgets_its_vote_is_seen() {
        let mut leaders = Leaders::default();
        let voted = |raft_id, term| ManagerView { raft_id, voted: Term(term), ..view(1, Leadership::Off) };
        assert_eq!(leaders.look(&[voted(7, 5)]), [""; 0]);
        assert_eq!(leaders.look(&[voted(8, 2)]), [""; 0], "it was promoted anew");
        assert_eq!(leaders.look(&[voted(7, 4)]), ["n1 knows of a vote in term 4 only, and has voted in term 5"]);
    }
}
