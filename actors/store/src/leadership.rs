//! Leadership: whether this manager may act as leader.
//!
//! openraft deposes a leader only once the leader hears of its successor, so a leader that is cut off believes in its
//! leadership for as long as the cut lasts. Therefore both the vote and the lease are watched: a leader that a majority
//! has not answered for an election timeout is suspended, since the others may have elected another one. A newly
//! elected leader does not know yet that its state is the latest, so a barrier (a linearizable read of its own) comes
//! first.
//!
//! Pure: `watchdog` observes, and passes the barriers.

use essaim_wire::Term;

/// Leadership of this manager. A new term is a change, also from active to active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// This manager does not lead.
    Off,
    /// This manager was elected, and does not know yet that its state is the latest.
    CatchingUp(Term),
    /// This manager leads and may decide what follows from the state, with this term as fence.
    Active(Term),
    /// This manager led, but its lease has expired: another may lead already, so it must decide nothing.
    Suspended(Term),
}

impl Leadership {
    /// The term in which this manager may decide; none if it may not.
    pub const fn active(self) -> Option<Term> {
        match self {
            Self::Active(term) => Some(term),
            Self::Off | Self::CatchingUp(_) | Self::Suspended(_) => None,
        }
    }
}

/// What openraft's metrics show of this manager's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RaftRole {
    Follows,
    /// This manager was elected in this term; `leased` while a majority answered within the lease.
    Leads {
        term: Term,
        leased: bool,
    },
}

/// Derives the leadership from observations; says when a barrier is due.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pub(crate) now: Leadership,
}

impl Watchdog {
    /// Takes an observation. Returns the term for which a barrier is needed, if one is.
    pub(crate) fn observe(&mut self, seen: RaftRole) -> Option<Term> {
        let next = match (self.now, seen) {
            (_, RaftRole::Follows) => Leadership::Off,
            (Leadership::Active(held), RaftRole::Leads { term, leased: true }) if held == term => self.now,
            (Leadership::Active(held) | Leadership::Suspended(held), RaftRole::Leads { term, leased: false })
                if held == term =>
            {
                Leadership::Suspended(term)
            }
            // No majority has answered in this term yet, so nothing was begun that would have to be suspended.
            (_, RaftRole::Leads { term, .. }) => Leadership::CatchingUp(term),
        };
        self.now = next;
        match (next, seen) {
            (Leadership::CatchingUp(term), RaftRole::Leads { leased: true, .. }) => Some(term),
            _ => None,
        }
    }

    /// Notes that the barrier of a term was passed.
    pub(crate) fn on_barrier(&mut self, of: Term) {
        if self.now == Leadership::CatchingUp(of) {
            self.now = Leadership::Active(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Term = Term(1);
    const TWO: Term = Term(2);

    fn leads(term: Term, leased: bool) -> RaftRole {
        RaftRole::Leads { term, leased }
    }

    #[test]
    fn an_elected_leader_is_active_only_after_its_barrier() {
        let mut watchdog = Watchdog { now: Leadership::Off };
        assert_eq!(watchdog.observe(leads(ONE, false)), None, "no majority has answered yet");
        assert_eq!(watchdog.observe(leads(ONE, true)), Some(ONE));
        assert_eq!(watchdog.now, Leadership::CatchingUp(ONE));
        watchdog.on_barrier(ONE);
        assert_eq!(watchdog.now, Leadership::Active(ONE));
        assert_eq!(watchdog.observe(leads(ONE, true)), None);
    }

    #[test]
    fn a_leader_that_is_cut_off_is_suspended_and_returns_by_another_barrier() {
        let mut watchdog = Watchdog { now: Leadership::Active(ONE) };
        watchdog.observe(leads(ONE, false));
        assert_eq!(watchdog.now, Leadership::Suspended(ONE));
        assert_eq!(watchdog.observe(leads(ONE, true)), Some(ONE));
        watchdog.on_barrier(ONE);
        assert_eq!(watchdog.now, Leadership::Active(ONE));
        watchdog.observe(RaftRole::Follows);
        assert_eq!(watchdog.now, Leadership::Off);
    }

    #[test]
    fn a_barrier_of_an_older_term_opens_nothing() {
        let mut watchdog = Watchdog { now: Leadership::Active(ONE) };
        assert_eq!(watchdog.observe(leads(TWO, true)), Some(TWO), "re-elected: the term is another fence");
        watchdog.on_barrier(ONE);
        assert_eq!(watchdog.now, Leadership::CatchingUp(TWO));
    }
}
