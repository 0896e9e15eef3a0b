//! Heartbeats: what this node hears of its subjects, and whether it may accuse those that it does not hear.
//!
//! Each subject gets one heartbeat per interval, the subjects of a node in turn. A subject that has not answered after
//! a quarter of the interval is asked again with every tick, which tells silence from loss, and its port is tried by
//! the sentinel. Only an echo counts as life: it proves both directions, while gossip from a subject that cannot hear
//! proves one.
//!
//! The bound on silence allows for the present lateness of this node and the round trip: a node whose own ticks come
//! late, or that gets slow answers, waits a few times that much longer (Lifeguard's local health; at most twice as long
//! in all).
//!
//! The gate: a node that misses more than half of its subjects accuses no member, since it is more likely cut off
//! itself. Subjects that a quorum has already found unreachable do not count, nor do those whose host refuses the
//! sentinel, which proves that the path works.

use crate::config::{Config, TICKS_PER_HEARTBEAT};
use essaim_wire::{Moment, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Silence after a lost session that is an accusation: three ticks, in which a peer that only redials has answered.
const HINT: Duration = Duration::from_millis(150);

/// Minimum time between two sentinels to the same subject.
const SENTINEL: Duration = Duration::from_millis(100);

/// Factor by which this node's lateness and the subject's round trip extend the bound on silence: the way there and
/// back is queued four times, in two kernels and two processes.
const SLACK: u32 = 4;

/// Upper bound on the back-off between accusations of the same subject that no other observer confirms.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// State of one subject: echoes, heartbeats, sentinels, accusations.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    last_echo: Moment,
    /// Moment at which the oldest unanswered heartbeat was sent.
    unanswered: Option<Moment>,
    seq: u32,
    sent: Moment,
    rtt: Option<Duration>,
    refused: bool,
    /// Moment at which the session was lost, until the next echo.
    hint: Option<Moment>,
    sentinel: Option<Moment>,
    /// Earliest moment of the next accusation (back-off): the subject refuted one, so another observer can reach it.
    patient_until: Moment,
    accusations: u32,
}

/// Actions that a tick requires for one subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) beat: bool,
    pub(crate) sentinel: bool,
    pub(crate) late: bool,
}

impl Watch {
    const fn new(now: Moment) -> Self {
        Self {
            last_echo: now,
            unanswered: None,
            seq: 0,
            sent: now,
            rtt: None,
            refused: false,
            hint: None,
            sentinel: None,
            patient_until: now,
            accusations: 0,
        }
    }

    /// Counts a heartbeat that is sent now. Returns its number.
    pub(crate) fn beat(&mut self, now: Moment) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.sent = now;
        self.unanswered.get_or_insert(now);
        self.seq
    }

    /// Whether a sentinel may be sent now; if so, counts it as sent.
    pub(crate) fn sentinel(&mut self, now: Moment) -> bool {
        let due = self.sentinel.is_none_or(|last| now.saturating_since(last) >= SENTINEL);
        if due {
            self.sentinel = Some(now);
        }
        due
    }

    /// Records that the host refused the sentinel. Returns whether that is news: an echo since the sentinel was sent is
    /// newer.
    pub(crate) fn on_refused(&mut self, now: Moment) -> bool {
        let news = !self.refused && self.sentinel.is_some_and(|sent| sent >= self.last_echo && sent <= now);
        self.refused |= news;
        news
    }

    pub(crate) const fn is_refused(&self) -> bool {
        self.refused
    }

    /// Records that the session was lost.
    pub(crate) fn on_hint(&mut self, now: Moment) {
        self.hint.get_or_insert(now);
    }

    /// Whether this node may accuse the subject now.
    pub(crate) fn may_accuse(&self, now: Moment) -> bool {
        now >= self.patient_until
    }

    /// Records an accusation of the subject. The wait before the next one doubles each time, until the subject answers.
    pub(crate) fn on_accused(&mut self, now: Moment, config: &Config) {
        self.patient_until = now + (config.miss * 2u32.pow(self.accusations.min(8))).min(PATIENCE_MAX);
        self.accusations = self.accusations.saturating_add(1);
    }

    const fn pardon(&mut self, now: Moment) {
        (self.last_echo, self.unanswered, self.hint, self.refused) = (now, None, None, false);
    }

    pub(crate) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Time since the last echo.
    pub(crate) fn silence(&self, now: Moment) -> Duration {
        now.saturating_since(self.last_echo)
    }
}

/// All subjects of this node.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    subjects: BTreeMap<NodeId, Watch>,
    tick: u32,
}

impl Watches {
    /// Ids of the subjects.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = NodeId> {
        self.subjects.keys().copied()
    }

    /// Replaces the set of subjects. One that stays keeps its state; a new one counts as just heard.
    pub(crate) fn retarget(&mut self, now: Moment, subjects: &BTreeSet<NodeId>) {
        self.subjects.retain(|node, _| subjects.contains(node));
        for &node in subjects {
            self.subjects.entry(node).or_insert_with(|| Watch::new(now));
        }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Watch> {
        self.subjects.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Watch> {
        self.subjects.get_mut(&node)
    }

    /// Resets a subject that runs in a new generation: it counts as just heard.
    pub(crate) fn renew(&mut self, now: Moment, node: NodeId) {
        if let Some(watch) = self.subjects.get_mut(&node) {
            *watch = Watch::new(now);
        }
    }

    /// Counts all subjects as just heard, after a stall of this node.
    pub(crate) fn forgive(&mut self, now: Moment) {
        for watch in self.subjects.values_mut() {
            watch.pardon(now);
        }
    }

    /// Counts a subject that refuted as just heard; the back-off of accusations stays.
    pub(crate) fn pardon(&mut self, now: Moment, node: NodeId) {
        if let Some(watch) = self.subjects.get_mut(&node) {
            watch.pardon(now);
        }
    }

    /// Records an echo of a subject.
    pub(crate) fn on_echo(&mut self, now: Moment, node: NodeId, seq: u32) {
        let Some(watch) = self.subjects.get_mut(&node) else { return };
        if seq == watch.seq {
            let sample = now.saturating_since(watch.sent);
            watch.rtt = Some(watch.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        watch.pardon(now);
        (watch.accusations, watch.patient_until) = (0, now);
    }

    /// Advances to the next tick.
    pub(crate) fn advance(&mut self) {
        self.tick = self.tick.wrapping_add(1);
    }

    /// Subjects that this tick concerns, with the required actions. `lag` is the lateness of this node's own ticks.
    /// `hasty(node)` tells whether the state of a subject is still open, so that an unanswered heartbeat is repeated at
    /// once.
    pub(crate) fn due(
        &self,
        now: Moment,
        config: &Config,
        lag: Duration,
        hasty: impl Fn(NodeId) -> bool,
    ) -> Vec<(NodeId, Due)> {
        let turn = self.tick % TICKS_PER_HEARTBEAT;
        let due = |(i, (&node, watch)): (usize, (&NodeId, &Watch))| {
            let slack = ((lag + watch.rtt.unwrap_or_default()) * SLACK).min(config.miss);
            let patience = config.tick().max(watch.rtt.unwrap_or_default() * 3);
            let slow = watch.unanswered.is_some_and(|since| now.saturating_since(since) >= patience);
            let again = (slow || watch.hint.is_some()) && hasty(node);
            let due = Due {
                beat: again || i as u32 % TICKS_PER_HEARTBEAT == turn,
                sentinel: again,
                late: watch.refused
                    || watch.silence(now) > config.miss + slack
                    || watch.hint.is_some_and(|since| now.saturating_since(since) >= HINT + slack),
            };
            (due != Due::default()).then_some((node, due))
        };
        self.subjects.iter().enumerate().filter_map(due).collect()
    }

    /// Whether more than half of the subjects were silent for longer than `silence`. `settled(node)` excludes a subject
    /// that a quorum has already found unreachable. A single subject (a cluster of two) does not show which side is cut
    /// off.
    pub(crate) fn misses_most(&self, now: Moment, silence: Duration, settled: impl Fn(NodeId) -> bool) -> bool {
        if self.subjects.len() < 2 {
            return false;
        }
        let open: Vec<&Watch> = self.subjects.iter().filter(|(node, _)| !settled(**node)).map(|(_, w)| w).collect();
        let silent = open.iter().filter(|watch| !watch.refused && watch.silence(now) > silence).count();
        silent * 2 > open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn node(n: u128) -> NodeId {
        NodeId::from_bits(n)
    }

    fn watches(count: u128) -> Watches {
        let mut watches = Watches::default();
        watches.retarget(at(0), &(0..count).map(node).collect());
        watches
    }

    fn due(watches: &Watches, now: Moment, n: u128) -> Due {
        let all = watches.due(now, &Config::default(), Duration::ZERO, |_| true);
        all.into_iter().find(|(subject, _)| *subject == node(n)).map(|(_, due)| due).unwrap_or_default()
    }

    fn refuse(watches: &mut Watches, n: u128, now: Moment) {
        let watch = watches.get_mut(node(n)).expect("a subject");
        assert!(watch.sentinel(now) && watch.on_refused(now));
    }

    #[test]
    fn a_refusal_from_before_the_last_answer_says_nothing() {
        let mut watches = watches(1);
        assert!(watches.get_mut(node(0)).expect("a subject").sentinel(at(10)));
        watches.on_echo(at(11), node(0), 0);
        assert!(!watches.get_mut(node(0)).expect("a subject").on_refused(at(12)));
    }

    #[test]
    fn each_subject_is_asked_once_a_heartbeat_and_not_all_at_once() {
        let mut watches = watches(8);
        let mut asked = [0; 8];
        for _ in 0..TICKS_PER_HEARTBEAT {
            watches.advance();
            let due = watches.due(at(1), &Config::default(), Duration::ZERO, |_| true);
            assert_eq!(due.len(), 2);
            for (node, _) in due {
                asked[node.bits() as usize] += 1;
            }
        }
        assert_eq!(asked, [1; 8]);
    }

    #[test]
    fn who_does_not_answer_is_asked_again_with_every_tick_and_late_after_three_heartbeats() {
        let mut watches = watches(1);
        watches.tick = 1;
        watches.get_mut(node(0)).expect("a subject").beat(at(10));
        assert_eq!(due(&watches, at(20), 0), Due::default());
        assert_eq!(due(&watches, at(60), 0), Due { beat: true, sentinel: true, late: false });
        assert_eq!(due(&watches, at(601), 0), Due { beat: true, sentinel: true, late: true });
        watches.on_echo(at(602), node(0), 1);
        assert_eq!(due(&watches, at(603), 0), Due::default());
    }

    #[test]
    fn a_node_that_is_late_itself_waits_longer_and_at_most_twice_as_long() {
        let config = Config::default();
        let late = |now: u64, lag: u64, rtt: u64| {
            let mut watches = watches(1);
            watches.get_mut(node(0)).expect("a subject").rtt = Some(Duration::from_millis(rtt));
            watches.due(at(now), &config, Duration::from_millis(lag), |_| true).iter().any(|(_, due)| due.late)
        };
        assert!(late(605, 1, 0) && !late(603, 1, 0));
        assert!(late(801, 40, 10) && !late(799, 40, 10));
        assert!(late(1201, 3_600_000, 0) && !late(1199, 3_600_000, 0));
    }

    #[test]
    fn a_refusal_is_late_at_once_and_a_lost_session_soon() {
        let mut watches = watches(2);
        refuse(&mut watches, 0, at(5));
        watches.get_mut(node(1)).expect("a subject").on_hint(at(10));
        assert!(due(&watches, at(10), 0).late);
        assert!(!due(&watches, at(100), 1).late);
        assert!(due(&watches, at(160), 1).late);
        watches.on_echo(at(161), node(1), 0);
        assert!(!due(&watches, at(170), 1).late, "it only redialled");
    }

    #[test]
    fn the_gate_closes_when_more_than_half_are_silent() {
        let config = Config::default();
        let closed = |heard: u128, total: u128| {
            let mut watches = watches(total);
            for n in 0..heard {
                watches.on_echo(at(1000), node(n), 0);
            }
            watches.misses_most(at(1000), config.miss, |_| false)
        };
        assert!(!closed(4, 8));
        assert!(closed(3, 8));
        assert!(!closed(1, 2));
        assert!(closed(0, 2));
        assert!(!closed(0, 1), "of two nodes neither knows which is cut off");
    }

    #[test]
    fn a_refusal_proves_the_way_and_keeps_the_gate_open() {
        let mut watches = watches(2);
        refuse(&mut watches, 0, at(990));
        refuse(&mut watches, 1, at(990));
        assert!(!watches.misses_most(at(1000), Config::default().miss, |_| false));
    }

    #[test]
    fn those_found_unreachable_already_do_not_close_the_gate() {
        let mut watches = watches(3);
        watches.on_echo(at(1000), node(2), 0);
        let miss = Config::default().miss;
        assert!(watches.misses_most(at(1000), miss, |_| false));
        assert!(!watches.misses_most(at(1000), miss, |subject| subject == node(0)));
    }

    #[test]
    fn an_accuser_whom_nobody_follows_repeats_itself_more_and_more_rarely() {
        let config = Config::default();
        let mut watch = Watch::new(at(0));
        watch.on_accused(at(1000), &config);
        assert!(!watch.may_accuse(at(1500)) && watch.may_accuse(at(1600)));
        watch.on_accused(at(1600), &config);
        assert!(!watch.may_accuse(at(2700)) && watch.may_accuse(at(2800)));
    }

    #[test]
    fn after_standing_still_nobody_is_late() {
        let mut watches = watches(4);
        watches.forgive(at(5000));
        assert!(!watches.misses_most(at(5001), Config::default().miss, |_| false));
        assert!(!due(&watches, at(5001), 0).late);
    }

    #[test]
    fn who_stays_a_subject_keeps_what_was_heard_of_it() {
        let mut watches = watches(3);
        watches.retarget(at(5000), &[node(1), node(7)].into());
        assert!(due(&watches, at(5000), 1).late);
        assert!(!due(&watches, at(5000), 7).late);
        assert!(watches.get(node(0)).is_none());
    }
}
