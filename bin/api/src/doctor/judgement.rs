//! The judgement of one check on one node.

use essaim_docker::own::Verdict;

/// A check: its code and its word.
pub(super) type Check = (&'static str, &'static str);

/// A judgement on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// What was found, with the measure and the limit.
    pub(super) found: String,
    /// What to do; empty when nothing is to be done.
    pub(super) next: String,
    /// How far it is from the limit, for what is well: the smallest one speaks for all nodes.
    pub(super) room: u64,
}

impl Judgement {
    pub(super) fn well(found: impl Into<String>, room: u64) -> Self {
        Self { verdict: Verdict::Ok, found: found.into(), next: String::new(), room }
    }

    pub(super) fn of(verdict: Verdict, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { verdict, found: found.into(), next: next.into(), room: 0 }
    }
}
