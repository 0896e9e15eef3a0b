//! Beliefs of the failure detectors: what nodes may conclude about each other.
//!
//! - A node that lives and can be reached is never taken for `Down`. A node counts as in trouble while a fault takes it
//!   away and for [`AFTERMATH`] more; the verdicts of a node that is itself in trouble do not count here.
//! - No node is taken for unreachable on the word of fewer observers than a quorum: the node that first says so has
//!   counted
//!   them, each once. Other nodes take its verdict over, with the votes that have reached them by then. While nodes come and
//!   go this is not checked, because observers are counted by their places on rings, and nodes see different rings then.
//! - A node that is cut off from more than half of all nodes accuses no other as an observer, and counts no quorum,
//!   unless
//!   it knew of other nodes that are gone: it may then reach the larger part of what it takes for the cluster. (The slow
//!   probes go on, one every few seconds: when most of a cluster is gone at once, only they are left to find it out.)
//! - What is believed of a node only goes forward: its starts, and its incarnations within each start.
//!
//! Accusations in gossip are bits that any node can set, and a node that lies invents observers too. While lies are felt,
//! a quorum that gossip counts and the end of the grace after it are not checked here; [`liars`](super::liars) checks what
//! the leader commits meanwhile, which is what moves tasks. An invented member also has a place on rings for a while after
//! the lies: nodes count observers by different rings, and a node that is cut off has some subjects of which it has heard
//! for a moment only, so that it notices later that it misses most of them.

use super::troubles::{AFTERMATH, Troubles};
use crate::testkit::fault::Number;
use essaim_membership::{Downfall, Evidence, Incarnation, Verdict};
use essaim_presence::roster::{Heard, Roster};
use essaim_wire::{Generation, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Time after one node has counted a quorum during which other nodes may believe it.
const BELIEVED_FOR: Duration = Duration::from_secs(20);

/// Time after a node was in trouble during which nodes may still have different rings. An accusation means an observer
/// by its place there, so one accusation may count for two observers (and is refuted).
const VIEWS_DIFFER: Duration = Duration::from_secs(12);

/// In this first time of a cut at most one slow probe can have failed, so two accusations come from an observer.
const CUT_OFF_LATELY: Duration = Duration::from_secs(4);

/// Upper bound on the time until an actor that failed runs again.
const RESTARTED_WITHIN: Duration = Duration::from_secs(5);

/// The verdicts and rosters seen so far.
#[derive(Debug, Default)]
pub struct Rosters {
    /// When any node last counted a quorum against each node.
    counted: BTreeMap<NodeId, Instant>,
    believed: BTreeMap<Number, Believed>,
    /// The nodes that each node has accused since it was cut off.
    accused: BTreeMap<Number, (Instant, BTreeSet<Number>)>,
    /// The nodes that each node takes for gone.
    gone: BTreeMap<Number, BTreeSet<Number>>,
    /// When the roster of each node began its present life.
    began: BTreeMap<Number, Instant>,
    /// When an actor of each node was last made to fail.
    failed: BTreeMap<Number, Instant>,
}

/// What one node believed of the other nodes, in one life of its roster.
#[derive(Debug, Default)]
struct Believed {
    life: Generation,
    version: u64,
    of: BTreeMap<NodeId, (Generation, Incarnation)>,
}

impl Rosters {
    /// Checks a verdict that a node has reached, and returns what is wrong.
    pub(crate) fn on_verdict(
        &mut self,
        number: Number,
        heard: &Heard,
        numbers: &BTreeMap<NodeId, Number>,
        troubles: &Troubles,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(subject) = heard.verdict.node().and_then(|node| numbers.get(&node)).copied() else { return wrong };
        let lives = troubles.is_calm(subject, AFTERMATH);
        let lied_to = troubles.are_lies_felt();
        let me = |accusers: &[NodeId]| accusers.iter().any(|accuser| numbers.get(accuser) == Some(&number));
        let counts = matches!(&heard.verdict, Verdict::Unreachable { evidence: Evidence::Quorum { .. }, .. });
        let accuses = matches!(&heard.verdict, Verdict::Suspected { accusers, .. } if me(accusers));
        // A node that was started while it was cut off hears the old accusations that its part of the cluster remembers.
        let knew = |since: Instant| self.began.get(&number).is_none_or(|began| *began < since);
        if let Some(since) = troubles.cut_off_since(number).filter(|since| knew(*since))
            && lives
            && (counts || accuses)
            && !troubles.may_rings_differ()
        {
            let (of, accused) = self.accused.entry(number).or_insert_with(|| (since, BTreeSet::new()));
            if *of != since {
                (*of, *accused) = (since, BTreeSet::new());
            }
            accused.insert(subject);
            let is_smaller = self.gone.get(&number).is_some_and(|gone| gone.iter().any(|other| *other != subject));
            if counts && !is_smaller || accused.len() > 1 && since.elapsed() < CUT_OFF_LATELY {
                wrong.push(format!("n{number} is cut off, and accuses n{subject}: {:?}", heard.verdict));
            }
        }
        let gone = self.gone.entry(number).or_default();
        match &heard.verdict {
            Verdict::Unreachable { .. } | Verdict::Down { .. } | Verdict::Left { .. } => drop(gone.insert(subject)),
            Verdict::Suspected { .. } => (),
            _ => drop(gone.remove(&subject)),
        }
        match &heard.verdict {
            Verdict::Down { cause: Downfall::Grace, .. } if lied_to => (),
            Verdict::Down { cause, .. } if lives && troubles.is_calm(number, AFTERMATH) => {
                wrong.push(format!("n{number} takes n{subject} for down ({cause:?}), which lives and can be reached"));
            }
            Verdict::Unreachable { node, evidence: Evidence::Quorum { accusers, implicit, needed } } => {
                let voices: BTreeSet<_> = accusers.iter().chain(implicit).collect();
                if voices.len() >= *needed {
                    self.counted.insert(*node, Instant::now());
                } else if !troubles.may_rings_differ()
                    && self.counted.get(node).is_none_or(|at| at.elapsed() > BELIEVED_FOR)
                    && numbers.values().all(|other| *other == subject || troubles.is_calm(*other, VIEWS_DIFFER))
                {
                    let (voices, by) = (voices.len(), accusers.len());
                    wrong.push(format!(
                        "n{number} takes n{subject} for unreachable on the word of {voices} ({by} accuse), and {needed} \
                         are needed"
                    ));
                }
            }
            _ => (),
        }
        wrong
    }

    /// An actor of a node is made to fail. If it is the roster's actor, its successor begins without beliefs.
    pub(crate) fn on_actor_failed(&mut self, number: Number) {
        self.failed.insert(number, Instant::now());
    }

    /// Checks what a node's roster shows now, and returns what is wrong.
    pub(crate) fn on_roster(&mut self, number: Number, generation: Generation, roster: &Roster) -> Vec<String> {
        // Members that are known by hearsay are left out: a member's own first word replaces hearsay, whatever it is.
        let said = roster.members.values().filter(|it| it.proven);
        let members = said.map(|it| (it.member.node, it.member.generation, it.incarnation));
        self.on_members(number, generation, roster.version, members)
    }

    fn on_members(
        &mut self,
        number: Number,
        life: Generation,
        version: u64,
        members: impl Iterator<Item = (NodeId, Generation, Incarnation)>,
    ) -> Vec<String> {
        let believed = self.believed.entry(number).or_default();
        let anew = self.failed.get(&number).is_some_and(|at| at.elapsed() < RESTARTED_WITHIN);
        if believed.life != life {
            self.began.insert(number, Instant::now());
        }
        if believed.life != life || version < believed.version || anew {
            believed.of.clear();
            self.gone.remove(&number);
        }
        (believed.life, believed.version) = (life, version);
        let mut wrong = Vec::new();
        let mut now = BTreeMap::new();
        for (node, start, incarnation) in members {
            let is = (start, incarnation);
            if let Some(was) = believed.of.get(&node).filter(|was| **was > is) {
                wrong.push(format!(
                    "n{number} believed of {node} that it was in start {} ({:?}), and believes {} ({incarnation:?})",
                    was.0.0, was.1, start.0
                ));
            }
            now.insert(node, is);
        }
        // A member that was forgotten begins anew.
        believed.of = now;
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::Moment;

    fn id(number: Number) -> NodeId {
        NodeId::from_bits(u128::from(number))
    }

    fn hear(rosters: &mut Rosters, number: Number, troubles: &Troubles, verdict: Verdict) -> Vec<String> {
        let numbers = (1..=5).map(|number| (id(number), number)).collect();
        rosters.on_verdict(number, &Heard { at: Moment::START, verdict }, &numbers, troubles)
    }

    fn missed(by: &[Number]) -> Verdict {
        let accusers = by.iter().map(|number| id(*number)).collect();
        Verdict::Unreachable { node: id(5), evidence: Evidence::Quorum { accusers, implicit: vec![], needed: 3 } }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lives_and_is_taken_for_down_is_seen() {
        let (mut rosters, mut troubles) = (Rosters::default(), Troubles::default());
        let down = || Verdict::Down { node: id(5), cause: Downfall::Grace };
        assert!(hear(&mut rosters, 1, &troubles, down())[0].contains("n1 takes n5 for down (Grace), which lives"));
        troubles.set(5, true);
        assert_eq!(hear(&mut rosters, 1, &troubles, down()), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quorum_that_nobody_counted_is_seen() {
        let (mut rosters, troubles) = (Rosters::default(), Troubles::default());
        let wrong = hear(&mut rosters, 1, &troubles, missed(&[1, 2, 2]));
        assert!(wrong[0].contains("on the word of 2 (3 accuse), and 3 are needed"), "{wrong:?}");
        let mut other = Troubles::default();
        other.set(4, true);
        assert_eq!(hear(&mut rosters, 1, &other, missed(&[1, 2])), [""; 0], "n4 may be on some rings only");
        assert_eq!(hear(&mut rosters, 1, &troubles, missed(&[1, 2, 3])), [""; 0]);
        assert_eq!(hear(&mut rosters, 2, &troubles, missed(&[1])), [""; 0], "it believes n1");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_cut_off_and_accuses_as_an_observer_is_seen() {
        let (mut rosters, mut troubles) = (Rosters::default(), Troubles::default());
        let suspected = |node, by| Verdict::Suspected { node: id(node), accusers: vec![id(by)] };
        troubles.set(1, true);
        troubles.set_cut_off(1, true);
        assert_eq!(hear(&mut rosters, 1, &troubles, suspected(5, 2)), [""; 0], "another one accused");
        assert_eq!(hear(&mut rosters, 1, &troubles, suspected(5, 1)), [""; 0], "a slow probe failed");
        assert!(hear(&mut rosters, 1, &troubles, suspected(4, 1))[0].contains("n1 is cut off, and accuses n4"));
        assert!(hear(&mut rosters, 1, &troubles, missed(&[1, 2, 3]))[0].contains("n1 is cut off, and accuses n5"));
        assert_eq!(hear(&mut rosters, 2, &troubles, suspected(4, 2)), [""; 0], "it is not cut off");
        let mut rosters = Rosters::default();
        let down = Verdict::Down { node: id(3), cause: Downfall::Grace };
        assert_eq!(hear(&mut rosters, 1, &troubles, down), [""; 0]);
        assert_eq!(hear(&mut rosters, 1, &troubles, missed(&[1, 2, 4])), [""; 0], "three of the four it knew of");
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_in_the_name_of_another_is_seen_while_somebody_lies_and_accusations_are_not() {
        let (mut rosters, mut troubles) = (Rosters::default(), Troubles::default());
        troubles.set_lies(true);
        let down = |cause| Verdict::Down { node: id(5), cause };
        assert!(
            hear(&mut rosters, 1, &troubles, down(Downfall::Stopped))[0].contains("n1 takes n5 for down (Stopped)")
        );
        assert_eq!(hear(&mut rosters, 1, &troubles, down(Downfall::Grace)), [""; 0]);
        let mut rosters = Rosters::default();
        troubles.set_cut_off(1, true);
        assert_eq!(hear(&mut rosters, 1, &troubles, missed(&[7, 8, 9])), [""; 0], "no such observers exist");
        troubles.set_lies(false);
        tokio::time::sleep(AFTERMATH * 2).await;
        let accused = [4, 5].map(|node| Verdict::Suspected { node: id(node), accusers: vec![id(1)] });
        for verdict in accused {
            assert_eq!(hear(&mut rosters, 1, &troubles, verdict), [""; 0], "its rings still have invented members");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_believes_something_older_is_seen() {
        let mut rosters = Rosters::default();
        let believe = |rosters: &mut Rosters, life, version, start, incarnation| {
            let member = (id(5), Generation(start), Incarnation(incarnation));
            rosters.on_members(1, Generation(life), version, [member].into_iter()).len()
        };
        assert_eq!(believe(&mut rosters, 1, 1, 2, 3), 0);
        assert_eq!(believe(&mut rosters, 1, 2, 3, 0), 0);
        assert_eq!(believe(&mut rosters, 1, 3, 2, 4), 1);
        assert_eq!(believe(&mut rosters, 1, 4, 2, 3), 1);
        assert_eq!(believe(&mut rosters, 1, 1, 1, 0), 0, "another roster follows");
        assert_eq!(believe(&mut rosters, 2, 2, 0, 0), 0, "it was started again");
        rosters.on_actor_failed(1);
        assert_eq!(believe(&mut rosters, 2, 3, 0, 0), 0);
    }
}
