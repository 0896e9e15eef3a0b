//! The describing core decides when what a node says of itself is proposed. Pure.
//!
//! There is one proposal at a time, and one a second, so a node that describes itself without end makes no more work than
//! that. A proposal that was refused, or that changed nothing, mostly fares the same when it is made again (the node was
//! restored from an older copy of its disk, or says a start that cannot be), and each try is an entry of the log: the
//! same proposal is made again after a wait that doubles, another one within a second.

use essaim_model::Change;
use std::time::Duration;

/// Wait before the next look when this manager does not know the node yet, or the proposal came to nothing because there
/// is no leader.
const AGAIN: Duration = Duration::from_millis(250);

/// Wait after a proposal that was answered. A machine looks at itself once a minute. Of the descriptions that come in
/// between, only the last is proposed.
const REST: Duration = Duration::from_secs(1);

/// Upper bound on the wait before the same proposal is made again: whatever made it vain may have changed, and an entry a
/// minute for each such node is no burden.
const VAIN_MAX: Duration = Duration::from_secs(60);

/// Number of a wait. A wake-up that carries an older number is stale and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// These changes would bring the state in line with what the node says; none when it is. They may have changed.
    Look(Vec<Change>),
    /// This manager has not applied the node's enrolment yet.
    Unknown,
    /// The proposal was committed. It may have been refused, or have changed nothing.
    Committed,
    /// Whether the proposal was committed is unknown, or there was no leader to commit it.
    Failed,
    /// The wait with this number is over.
    Elapsed(Wake),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Propose these changes, and report `Committed` or `Failed`.
    Propose(Vec<Change>),
    /// Report `Elapsed` with this number after this time.
    WakeAfter(Duration, Wake),
    /// Report what the node says and the state lacks, as `Look` or `Unknown`.
    Compare,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing is under way.
    Idle,
    /// These changes are being proposed.
    Proposing(Vec<Change>),
    /// Nothing is proposed until the wait is over.
    Resting,
    /// The changes that were proposed last are held back until the wait is over; others are not.
    HoldingBack,
    /// The changes that were proposed last may be proposed again.
    Due,
}

/// State of the describing core.
#[derive(Debug)]
pub(super) struct Describing {
    phase: Phase,
    wake: Wake,
    /// The changes that were proposed last, if they were committed, and how often in a row.
    committed: Option<(Vec<Change>, u32)>,
}

impl Describing {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Idle, wake: Wake(0), committed: None }
    }

    pub(super) fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Look(changes) => self.look(changes, effects),
            Input::Unknown if matches!(self.phase, Phase::Proposing(_) | Phase::Resting) => (),
            Input::Unknown => self.wait(Phase::Resting, AGAIN, effects),
            Input::Committed => {
                if let Phase::Proposing(changes) = std::mem::replace(&mut self.phase, Phase::Resting) {
                    let before = self.committed.take().filter(|(committed, _)| *committed == changes);
                    self.committed = Some((changes, before.map_or(0, |(_, times)| times).saturating_add(1)));
                }
                self.wait(Phase::Resting, REST, effects);
            }
            Input::Failed => self.wait(Phase::Resting, AGAIN, effects),
            Input::Elapsed(wake) if wake != self.wake => (),
            Input::Elapsed(_) => {
                self.phase = if self.phase == Phase::HoldingBack { Phase::Due } else { Phase::Idle };
                effects.push(Effect::Compare);
            }
        }
    }

    fn look(&mut self, changes: Vec<Change>, effects: &mut Vec<Effect>) {
        let in_vain = self.committed.as_ref().filter(|(committed, _)| *committed == changes).map(|(_, times)| *times);
        match (&self.phase, in_vain) {
            (Phase::Proposing(_) | Phase::Resting, _) => (),
            _ if changes.is_empty() => (self.phase, self.committed) = (Phase::Idle, None),
            (Phase::Idle, Some(times)) => {
                let wait = REST.saturating_mul(1 << times.min(16)).min(VAIN_MAX);
                self.wait(Phase::HoldingBack, wait, effects);
            }
            (Phase::HoldingBack, Some(_)) => (),
            (Phase::Idle | Phase::HoldingBack, None) | (Phase::Due, _) => {
                // A wait that held other changes back is stale from now on.
                self.wake.0 += 1;
                self.phase = Phase::Proposing(changes.clone());
                effects.push(Effect::Propose(changes));
            }
        }
    }

    fn wait(&mut self, phase: Phase, after: Duration, effects: &mut Vec<Effect>) {
        self.phase = phase;
        self.wake.0 += 1;
        effects.push(Effect::WakeAfter(after, self.wake));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::TaskId;

    /// Changes that a node's description would bring; which they are does not matter to the core.
    fn changes(number: u128) -> Vec<Change> {
        vec![Change::ForgetTask { id: TaskId::from_bits(number) }]
    }

    fn handle(core: &mut Describing, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        core.handle(input, &mut effects);
        effects
    }

    /// Answers a proposal, and returns how long the core then waits.
    fn answer(core: &mut Describing, input: Input) -> (Duration, Wake) {
        match handle(core, input)[..] {
            [Effect::WakeAfter(after, wake)] => (after, wake),
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn there_is_one_proposal_at_a_time_and_one_a_second() {
        let mut core = Describing::new();
        assert_eq!(handle(&mut core, Input::Look(vec![])), [], "there is nothing to say");
        assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
        assert_eq!(handle(&mut core, Input::Look(changes(2))), [], "one is under way");
        let (after, wake) = answer(&mut core, Input::Committed);
        assert_eq!(after, REST);
        assert_eq!(handle(&mut core, Input::Look(changes(3))), [], "it rests");
        assert_eq!(handle(&mut core, Input::Elapsed(wake)), [Effect::Compare]);
        assert_eq!(handle(&mut core, Input::Look(changes(3))), [Effect::Propose(changes(3))], "the last one counts");
        assert_eq!(handle(&mut core, Input::Elapsed(wake)), [], "a stale wake-up");
    }

    #[test]
    fn a_proposal_that_was_refused_or_changed_nothing_is_made_again_ever_more_rarely() {
        let mut core = Describing::new();
        let mut proposed_after = Vec::new();
        let mut waited = Duration::ZERO;
        assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
        while proposed_after.len() < 9 {
            let (after, wake) = answer(&mut core, Input::Committed);
            waited += after;
            assert_eq!(handle(&mut core, Input::Elapsed(wake)), [Effect::Compare]);
            let (after, wake) = answer(&mut core, Input::Look(changes(1)));
            waited += after;
            assert_eq!(handle(&mut core, Input::Look(changes(1))), [], "it is held back");
            assert_eq!(handle(&mut core, Input::Elapsed(wake)), [Effect::Compare]);
            assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
            proposed_after.push(std::mem::take(&mut waited).as_secs());
        }
        assert_eq!(proposed_after, [3, 5, 9, 17, 33, 61, 61, 61, 61]);
    }

    #[test]
    fn another_proposal_does_not_wait_for_one_that_was_in_vain() {
        let mut core = Describing::new();
        handle(&mut core, Input::Look(changes(1)));
        let (_, wake) = answer(&mut core, Input::Committed);
        handle(&mut core, Input::Elapsed(wake));
        let (_, held_back) = answer(&mut core, Input::Look(changes(1)));
        assert_eq!(handle(&mut core, Input::Look(changes(2))), [Effect::Propose(changes(2))]);
        assert_eq!(handle(&mut core, Input::Elapsed(held_back)), [], "the end of that wait is stale");
    }

    #[test]
    fn what_was_made_and_is_undone_later_is_proposed_at_once() {
        let mut core = Describing::new();
        handle(&mut core, Input::Look(changes(1)));
        let (_, wake) = answer(&mut core, Input::Committed);
        handle(&mut core, Input::Elapsed(wake));
        assert_eq!(handle(&mut core, Input::Look(vec![])), [], "the state is as the node says");
        assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
    }

    #[test]
    fn a_node_that_is_not_known_yet_and_a_manager_without_a_leader_are_tried_again_soon() {
        let mut core = Describing::new();
        let (after, wake) = answer(&mut core, Input::Unknown);
        assert_eq!((after, handle(&mut core, Input::Unknown)), (AGAIN, vec![]), "it waits already");
        handle(&mut core, Input::Elapsed(wake));
        assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
        let (after, wake) = answer(&mut core, Input::Failed);
        assert_eq!(after, AGAIN);
        handle(&mut core, Input::Elapsed(wake));
        assert_eq!(handle(&mut core, Input::Look(changes(1))), [Effect::Propose(changes(1))]);
    }
}
