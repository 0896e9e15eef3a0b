//! Nodes in trouble, by the faults of the run: what a detector may say of a node depends on it.

use crate::testkit::fault::Number;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Time for which a fault is felt after its end: the idle timeout of a session and the grace of a verdict, with a
/// margin.
pub const AFTERMATH: Duration = Duration::from_secs(8);

/// The nodes that are in trouble, and when others last were.
#[derive(Debug, Default)]
pub struct Troubles {
    nodes: BTreeMap<Number, Trouble>,
    cut_off: BTreeMap<Number, Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Now,
    Until(Instant),
}

impl Troubles {
    /// Sets whether faults take a node away now.
    pub fn set(&mut self, number: Number, is: bool) {
        match (is, self.nodes.get(&number)) {
            (true, _) => drop(self.nodes.insert(number, Trouble::Now)),
            (false, Some(Trouble::Now)) => drop(self.nodes.insert(number, Trouble::Until(Instant::now()))),
            (false, _) => (),
        }
    }

    /// Sets whether a running node is cut off from more than half of all nodes.
    pub fn set_cut_off(&mut self, number: Number, is: bool) {
        if is {
            self.cut_off.entry(number).or_insert_with(Instant::now);
        } else {
            self.cut_off.remove(&number);
        }
    }

    /// Since when a running node is cut off from more than half of all nodes.
    pub fn cut_off_since(&self, number: Number) -> Option<Instant> {
        self.cut_off.get(&number).copied()
    }

    /// Whether a node has been without trouble for this long.
    pub fn is_calm(&self, number: Number, time: Duration) -> bool {
        match self.nodes.get(&number) {
            Some(Trouble::Now) => false,
            Some(Trouble::Until(end)) => end.elapsed() >= time,
            None => true,
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
}
