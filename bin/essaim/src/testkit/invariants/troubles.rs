//! Nodes in trouble, by the faults of the run: what a detector may say of a node depends on it.

use crate::testkit::fault::Number;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which a fault is felt after its end: the idle timeout of a session and the grace of a verdict, with a
/// margin.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(8);

/// Time for which rings may contain members that a liar invented: a node finds those beside it on the rings in some
/// seconds, and the others by its slow probes, one every few seconds.
const INVENTED_FOR: Duration = Duration::from_secs(120);

/// The nodes that are in trouble, and when others last were.
#[derive(Debug, Default)]
pub struct Troubles {
    nodes: BTreeMap<Number, Trouble>,
    cut_off: BTreeMap<Number, Instant>,
    /// Nodes whose daemon does not look after its tasks: it is down, or frozen, or its disk makes it fail.
    unattended: BTreeMap<Number, Trouble>,
    lies: Option<Trouble>,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Now,
    Until(Instant),
}

impl Troubles {
    /// Sets whether faults take a node away now.
    pub(crate) fn set(&mut self, number: Number, is: bool) {
        if let Some(trouble) = Trouble::next(self.nodes.get(&number).copied(), is) {
            self.nodes.insert(number, trouble);
        }
    }

    /// Sets whether any node lies now.
    pub(crate) fn set_lies(&mut self, are: bool) {
        self.lies = Trouble::next(self.lies, are);
    }

    /// Whether a node lies, or lied so lately that others may still believe it.
    pub(crate) fn are_lies_felt(&self) -> bool {
        self.lies.is_some_and(|lies| !lies.is_over(AFTERMATH))
    }

    /// Whether the rings of nodes may differ because of members that a liar invented.
    pub(crate) fn may_rings_differ(&self) -> bool {
        self.lies.is_some_and(|lies| !lies.is_over(INVENTED_FOR))
    }

    /// Sets whether a running node is cut off from more than half of all nodes.
    pub(crate) fn set_cut_off(&mut self, number: Number, is: bool) {
        if is {
            self.cut_off.entry(number).or_insert_with(Instant::now);
        } else {
            self.cut_off.remove(&number);
        }
    }

    /// Sets whether a node's daemon does not look after its tasks.
    pub(crate) fn set_unattended(&mut self, number: Number, is: bool) {
        if let Some(trouble) = Trouble::next(self.unattended.get(&number).copied(), is) {
            self.unattended.insert(number, trouble);
        }
    }

    /// Whether a node's daemon has looked after its tasks for this long.
    pub(crate) fn is_attended(&self, number: Number, time: Duration) -> bool {
        self.unattended.get(&number).is_none_or(|trouble| trouble.is_over(time))
    }

    /// Since when a running node is cut off from more than half of all nodes.
    pub(crate) fn cut_off_since(&self, number: Number) -> Option<Instant> {
        self.cut_off.get(&number).copied()
    }

    /// Whether a node has been without trouble for this long.
    pub fn is_calm(&self, number: Number, time: Duration) -> bool {
        self.nodes.get(&number).is_none_or(|trouble| trouble.is_over(time))
    }
}

impl Trouble {
    /// The trouble after `was`, when there is trouble now or not.
    fn next(was: Option<Self>, is: bool) -> Option<Self> {
        match (is, was) {
            (true, _) => Some(Self::Now),
            (false, Some(Self::Now)) => Some(Self::Until(Instant::now())),
            (false, was) => was,
        }
    }

    /// Whether it has been over for so long.
    fn is_over(self, time: Duration) -> bool {
        match self {
            Self::Now => false,
            Self::Until(end) => end.elapsed() >= time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trouble_is_felt_for_a_while_after_its_end() {
        let mut troubles = Troubles::default();
        assert!(troubles.is_calm(1, AFTERMATH));
        troubles.set(1, true);
        assert!(!troubles.is_calm(1, Duration::ZERO) && troubles.is_calm(2, AFTERMATH));
        troubles.set(1, false);
        tokio::time::sleep(AFTERMATH / 2).await;
        assert!(!troubles.is_calm(1, AFTERMATH) && troubles.is_calm(1, AFTERMATH / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn lies_are_felt_for_a_while_after_the_last_one() {
        let mut troubles = Troubles::default();
        troubles.set_lies(false);
        assert!(!troubles.are_lies_felt());
        troubles.set_lies(true);
        troubles.set_lies(false);
        assert!(troubles.are_lies_felt());
        tokio::time::sleep(AFTERMATH).await;
        troubles.set_lies(false);
        assert!(!troubles.are_lies_felt());
    }
}
