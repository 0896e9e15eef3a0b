//! Who leads: one in a term, one that decides at a time, and no manager that forgets what it voted for.

use crate::testkit::fault::Number;
use essaim_node::Handle;
use essaim_store::{Leadership, Store};
use essaim_wire::{Generation, Term};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a deposed leader may take itself for the leader, beside its successor: the lease it had, a beat of its
/// watchdog, and the grain of the looks.
const OVERLAP_MAX: Duration = Duration::from_millis(1_000);

/// How long a leader's tree may stand after its lease: its actors are stopped in order, with deadlines.
const TREE_MAX: Duration = Duration::from_secs(6);

/// A term that a manager has known for so long is on its disk: a vote is given after it was kept.
const KEPT_AFTER: Duration = Duration::from_millis(500);

/// What was seen of the managers so far.
#[derive(Debug, Default)]
pub struct Leaders {
    of: BTreeMap<Term, Number>,
    /// Since when more than one decides.
    two_since: Option<Instant>,
    /// Since when a manager's tree stands though it does not lead.
    trees: BTreeMap<Number, Instant>,
    terms: BTreeMap<Number, Known>,
}

/// What a manager knew of terms.
#[derive(Debug)]
struct Known {
    life: (Generation, u64),
    term: Term,
    since: Instant,
    kept: Term,
}

/// One manager at one moment.
#[derive(Debug, Clone)]
pub struct Sight {
    number: Number,
    /// Which start of its daemon, and its number in the group.
    life: (Generation, u64),
    leadership: Leadership,
    term: Term,
    /// Whether the leader's tree stands.
    tree: bool,
}

impl Sight {
    /// Looks at a manager.
    pub fn of(number: Number, generation: Generation, handle: &Handle, store: &Store) -> Self {
        let leadership = *store.leadership().borrow();
        // To look at the tree of one that leads would tell nothing.
        let tree = leadership.active().is_none()
            && handle.journal().tree().iter().any(|entry| entry.path.to_string().ends_with("/manager/leader"));
        Self { number, life: (generation, store.raft_id()), leadership, term: store.term(), tree }
    }
}

impl Leaders {
    /// All managers that run, at one moment.
    pub fn look(&mut self, managers: &[Sight]) -> Vec<String> {
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
        for sight in managers.iter().filter(|it| it.tree) {
            let since = *self.trees.entry(sight.number).or_insert(now);
            if now - since > TREE_MAX {
                wrong.push(format!("the leader's tree of n{} still stands {TREE_MAX:?} after its lease", sight.number));
            }
        }
        wrong.extend(managers.iter().filter_map(|sight| self.on_term(now, sight)));
        wrong
    }

    fn on_term(&mut self, now: Instant, sight: &Sight) -> Option<String> {
        let Sight { number, life, term, .. } = *sight;
        let new = Known { life, term, since: now, kept: Term(0) };
        let known = self.terms.entry(number).or_insert(new);
        // Another number in the group is another manager.
        let kept = if known.life.1 == life.1 { known.kept } else { Term(0) };
        if known.life != life || known.term != term {
            *known = Known { life, term, since: now, kept };
        } else if now - known.since >= KEPT_AFTER {
            known.kept = known.kept.max(term);
        }
        (term < kept).then(|| format!("n{number} knows of term {} only, and has voted in term {}", term.0, kept.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn sight(number: Number, leadership: Leadership) -> Sight {
        let term = leadership.active().unwrap_or(Term(1));
        Sight { number, life: (Generation(1), u64::from(number)), leadership, term, tree: false }
    }

    #[tokio::test(start_paused = true)]
    async fn two_leaders_of_a_term_are_seen_even_one_after_the_other() {
        let mut leaders = Leaders::default();
        assert_eq!(leaders.look(&[sight(1, Leadership::Active(Term(3)))]), [""; 0]);
        assert_eq!(leaders.look(&[sight(1, Leadership::Active(Term(4)))]), [""; 0]);
        let wrong = leaders.look(&[sight(2, Leadership::Active(Term(3)))]);
        assert_eq!(wrong, ["n1 and n2 both lead in term 3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_decide_for_longer_than_a_lease_are_seen() {
        let mut leaders = Leaders::default();
        let both = [sight(1, Leadership::Active(Term(3))), sight(2, Leadership::Active(Term(4)))];
        assert_eq!(leaders.look(&both), [""; 0]);
        sleep(OVERLAP_MAX + Duration::from_millis(1)).await;
        assert!(leaders.look(&both).iter().any(|why| why.contains("more than one has decided")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tree_that_outlives_its_lease_is_seen() {
        let mut leaders = Leaders::default();
        let stands = [Sight { tree: true, ..sight(1, Leadership::Suspended(Term(1))) }];
        assert_eq!(leaders.look(&stands), [""; 0]);
        sleep(TREE_MAX + Duration::from_millis(1)).await;
        assert!(leaders.look(&stands).iter().any(|why| why.contains("still stands")));
        assert_eq!(leaders.look(&[sight(1, Leadership::Off)]), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_forgets_its_term_is_seen() {
        let mut leaders = Leaders::default();
        let in_term =
            |start, term| Sight { life: (Generation(start), 7), term: Term(term), ..sight(1, Leadership::Off) };
        leaders.look(&[in_term(1, 4)]);
        leaders.look(&[in_term(1, 5)]);
        assert_eq!(leaders.look(&[in_term(2, 4)]), [""; 0], "5 may never have been kept");
        leaders.look(&[in_term(2, 5)]);
        sleep(KEPT_AFTER).await;
        leaders.look(&[in_term(2, 5)]);
        assert_eq!(leaders.look(&[in_term(3, 4)]), ["n1 knows of term 4 only, and has voted in term 5"]);
    }
}
