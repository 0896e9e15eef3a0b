//! Accusations and what becomes of them: the quorum, the two tiers, and the slow way below the quorum.

use super::entry::Phase;
use super::{BALLOT_MAX, Deadline, Detector, Due};
use crate::accusation::Record;
use crate::datagram::{Item, Say};
use crate::health::suspicion;
use crate::identity::Id;
use crate::{Downfall, Effect, Evidence, Incarnation, Lie, Loss, Verdict};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Accusation, Moment, NodeId, quorum};
use std::cmp::Ordering;
use std::time::Duration;

/// An accusation that is open for so long is asked about, and no table is asked for more often than that.
const INQUIRY: Duration = Duration::from_secs(1);

impl Detector {
    /// This node, as an observer, misses a subject. It tells the other observers, so that they look at once, and the
    /// subject itself, so that it can refute.
    pub(super) fn accuse(&mut self, subject: NodeId) {
        let (now, me) = (self.now, self.me_node());
        let observers = self.rings.observers(subject);
        let Some(place) = observers.iter().position(|&observer| observer == me) else { return };
        let Some(entry) = self.entries.get(&subject) else { return };
        let Some(watch) = self.watches.get_mut(subject) else { return };
        let (id, incarnation) = (entry.id, entry.incarnation);
        let voted = self
            .ballot
            .get(&subject)
            .is_some_and(|vote| (vote.generation, vote.incarnation) == (id.generation, incarnation.0));
        let said = entry.phase != Phase::Present || entry.record.as_ref().is_some_and(|record| record.is_by(place));
        if !entry.met || !entry.phase.is_on_rings() || voted && said || !watch.may_accuse(now) {
            return;
        }
        watch.on_accused(now, &self.config);
        // Of one that others have found unreachable, or that somebody said this of in this node's place, it still has to
        // say so itself.
        self.vote(id, incarnation);
        if !said && self.on_record(Record::new(subject, id.generation, incarnation).by_observer(place)) {
            self.tell_record(subject, &observers);
        }
    }

    /// This node misses a member: that is its vote, until the member takes it back or is gone with a word.
    fn vote(&mut self, id: Id, incarnation: Incarnation) {
        if self.ballot.len() < BALLOT_MAX || self.ballot.contains_key(&id.node) {
            let Id { node, generation, .. } = id;
            self.ballot.insert(node, Accusation { node, generation, incarnation: incarnation.0 });
            self.touch(node);
        }
    }

    /// This node's slow probe of a member failed.
    pub(super) fn on_probe_failed(&mut self, id: Id, incarnation: Incarnation) {
        // A probe may have begun before a cut healed; an echo since then is newer.
        let echoed = self.watches.get(id.node).is_some_and(|watch| watch.silence(self.now) < self.config.miss);
        if echoed {
            return;
        }
        let known = self.entries.get(&id.node);
        if known.is_some_and(|it| it.phase.is_on_rings() && (it.id, it.incarnation) == (id, incarnation)) {
            self.vote(id, incarnation);
        }
        let record = Record::new(id.node, id.generation, incarnation).by_prober(self.me_node());
        if self.on_record(record) {
            self.tell_record(id.node, &[]);
        }
    }

    fn tell_record(&mut self, subject: NodeId, observers: &[NodeId]) {
        let Some(record) = self.entries.get(&subject).and_then(|entry| entry.record.as_ref()) else { return };
        let record = crate::accusation::WireRecord::from(record);
        let me = self.me_node();
        for &hearer in observers.iter().filter(|&&observer| observer != me).chain([&subject]) {
            self.say(hearer, Say::Accuse(record.clone()));
        }
    }

    /// Accusations that a peer passed on. They steer what this node shows and whom it asks at once; a task moves by votes
    /// that reach a manager, and not by these.
    pub(super) fn on_foreign_record(&mut self, from: NodeId, record: Record) {
        if !record.is_possible(self.config.ring_count()) {
            return self.on_lie(from, record.node, Lie::Observers);
        }
        self.on_record(record);
    }

    /// Accusations, from whomever. Says whether they were news.
    pub(super) fn on_record(&mut self, record: Record) -> bool {
        let (node, me) = (record.node, self.gossip.me());
        if record.voices() == 0 {
            return false;
        }
        if node == me.node {
            if record.generation == me.generation {
                self.refute(record.incarnation, me.node);
            }
            return false;
        }
        let Some(entry) = self.entries.get(&node) else { return false };
        if !entry.phase.is_on_rings() || record.generation != entry.generation() {
            return false;
        }
        match record.incarnation.cmp(&entry.incarnation) {
            Ordering::Less => return false,
            // It refuted something in between, of which this node has not heard: only the member itself can tell.
            Ordering::Greater => return false,
            Ordering::Equal => (),
        }

        let Some(entry) = self.entries.get_mut(&node) else { return false };
        if !entry.is_accused() {
            entry.since = if entry.phase == Phase::Present { self.now } else { entry.since };
        }
        let news = match &mut entry.record {
            Some(known) => known.merge(&record),
            none => {
                *none = Some(record);
                true
            }
        };
        if !news {
            return false;
        }
        let merged = entry.record.clone().expect("just merged");
        if !merged.probers().is_empty() {
            entry.probed_since.get_or_insert(self.now);
        }
        let first = self.accused.insert(node);
        self.gossip.spread(&Item::Accused((&merged).into()));
        self.touch(node);
        self.reweigh = true;
        if let Some(end) = self.suspicion_ends(node) {
            self.agenda.add(end, Due::Member(node, Deadline::Suspicion));
        }
        if first {
            self.agenda.add(self.now + INQUIRY, Due::Member(node, Deadline::Inquiry));
        }
        self.look_again(node);
        self.weigh(node);
        if let Some(entry) = self.entries.get(&node)
            && entry.phase == Phase::Present
        {
            let accusers = self.accusers(entry);
            self.conclude(Verdict::Suspected { node, accusers });
        }
        true
    }

    /// Somebody else misses a subject of this node: it is asked at once.
    pub(super) fn look_again(&mut self, node: NodeId) {
        let now = self.now;
        let open = self.entries.get(&node).is_some_and(|entry| entry.phase == Phase::Present);
        if let Some(watch) = self.watches.get_mut(node).filter(|_| open) {
            let (seq, sentinel) = (watch.beat(now), watch.sentinel(now));
            self.say(node, Say::Beat { seq });
            if sentinel {
                self.effects.push(Effect::Probe(node));
            }
        }
    }

    /// Whether enough observers miss a member. One that is itself accused by two or more cannot be expected to
    /// vote, and counts as one who did, provided that anybody accuses at all.
    pub(super) fn weigh(&mut self, node: NodeId) {
        let Some(entry) = self.entries.get(&node) else { return };
        let Some(record) = entry.record.as_ref().filter(|_| entry.phase == Phase::Present) else { return };
        let observers = self.rings.observers(node);
        let needed = quorum(observers.len()).max(1);
        let votes = if planted(Bug::ObserverCountedTwice) { record.votes() * 2 } else { record.votes() };
        if record.votes() == 0 {
            return;
        }
        let doubtful = |observer: &NodeId| self.entries.get(observer).is_some_and(|entry| entry.is_doubtful());
        let implicit: Vec<NodeId> = observers
            .iter()
            .enumerate()
            .filter(|(i, observer)| !record.is_by(*i) && doubtful(observer))
            .map(|(_, &observer)| observer)
            .collect();
        let sealed = record.is_sealed(observers.len());
        if sealed || votes + implicit.len() >= needed {
            let accusers = self.accusers(entry);
            let record = record.clone().sealed(observers.len());
            self.gossip.spread(&Item::Accused((&record).into()));
            self.entries.get_mut(&node).expect("looked up above").record = Some(record);
            self.become_unreachable(node, Evidence::Quorum { accusers, implicit, needed });
        }
    }

    pub(super) fn weigh_all(&mut self) {
        self.reweigh = false;
        for node in self.accused.clone() {
            self.weigh(node);
        }
    }

    /// The first tier.
    fn become_unreachable(&mut self, node: NodeId, evidence: Evidence) {
        let now = self.now;
        self.enter(node, Phase::Unreachable);
        self.conclude(Verdict::Unreachable { node, evidence });
        self.eager = true;
        self.reweigh = true;
        if let Some(entry) = self.entries.get_mut(&node)
            && entry.flap.on_loss(now, &self.config)
        {
            self.conclude(Verdict::Flapping { node });
        }
    }

    /// The second.
    fn become_down(&mut self, node: NodeId, cause: Downfall) {
        self.enter(node, Phase::Down { stopped: false });
        self.conclude(Verdict::Down { node, cause });
    }

    /// A deadline of a member has passed. One of an earlier era is void.
    pub(super) fn on_deadline(&mut self, node: NodeId, deadline: Deadline) {
        let Some(entry) = self.entries.get_mut(&node) else { return };
        let era = entry.era;
        match deadline {
            Deadline::Grace(of) if of == era => self.become_down(node, Downfall::Grace),
            Deadline::Overdue(of) if of == era => self.become_unreachable(node, Evidence::Overdue),
            Deadline::Patience(of) if of == era => self.on_impatience(node),
            Deadline::Steady(of) if of == era && entry.flap.on_steady() => {
                self.touch(node);
                self.conclude(Verdict::Steady { node });
            }
            Deadline::Forget(of) if of == era => self.forget(node),
            Deadline::Inquiry => self.inquire(node),
            Deadline::Suspicion => {
                let open = entry.phase == Phase::Present;
                if open && self.suspicion_ends(node).is_some_and(|end| self.now >= end) {
                    let accusers = self.entries.get(&node).map(|entry| self.accusers(entry)).unwrap_or_default();
                    self.become_unreachable(node, Evidence::Probed { accusers });
                }
            }
            _ => (),
        }
    }

    /// Somebody is accused for long, and neither refuted nor found unreachable: ask what others think.
    fn inquire(&mut self, node: NodeId) {
        if !self.accused.contains(&node) || self.entries.get(&node).is_none_or(|entry| entry.phase != Phase::Present) {
            return;
        }
        self.agenda.add(self.now + INQUIRY, Due::Member(node, Deadline::Inquiry));
        if self.now >= self.next_inquiry {
            self.next_inquiry = self.now + INQUIRY;
            self.ask_table();
        }
    }

    /// When the slow suspicion of a member is over, by what is known now: begun by the first slow prober, shortened
    /// by every voice.
    fn suspicion_ends(&self, node: NodeId) -> Option<Moment> {
        let entry = self.entries.get(&node)?;
        let voices = entry.record.as_ref().map_or(0, Record::voices);
        Some(entry.probed_since? + suspicion(self.config.suspicion, self.rings.len(), voices))
    }

    /// An expected member was not heard of. When most are not, it is more likely this node that is cut off.
    fn on_impatience(&mut self, node: NodeId) {
        if self.entries.get(&node).is_some_and(|entry| entry.shunned) {
            // Nobody but others has ever spoken of it.
            return self.forget(node);
        }
        let unheard = self.entries.values().filter(|entry| entry.phase == Phase::Expected && !entry.shunned).count();
        if self.entries.len() > 1 && unheard * 2 > self.entries.len() {
            self.enter(node, Phase::Expected);
        } else {
            self.become_down(node, Downfall::Unheard);
        }
    }

    /// The host of a node lives, and nothing listens there.
    pub(super) fn on_refused(&mut self, node: NodeId) {
        let now = self.now;
        if self.watches.get_mut(node).is_some_and(|watch| watch.on_refused(now)) {
            self.accuse(node);
        }
    }

    /// A session ended. Its peer may be redialling, so unless a heartbeat is missing too it is only looked at.
    pub(super) fn on_session_lost(&mut self, node: NodeId, how: Loss) {
        let (now, heartbeat) = (self.now, self.config.heartbeat);
        let Some(watch) = self.watches.get_mut(node) else { return };
        watch.on_hint(now);
        let silent = watch.silence(now) > heartbeat + heartbeat / 2;
        if how != Loss::Closed && silent && !self.gated && !self.is_gated() {
            self.accuse(node);
        }
        self.look_again(node);
    }

    /// Whether this node should speak against nobody just now: half of the time that makes a subject late has
    /// passed without most of them.
    pub(super) fn is_gated(&self) -> bool {
        !planted(Bug::IsolatedNodeAccuses) && self.misses_most(self.config.miss / 2)
    }

    pub(super) fn misses_most(&self, silence: Duration) -> bool {
        let settled =
            |node| self.entries.get(&node).is_some_and(|entry| entry.phase == Phase::Unreachable || !entry.met);
        self.watches.misses_most(self.now, silence, settled)
    }
}
