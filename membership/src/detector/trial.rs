//! Accusations and their consequences: the quorum, the two tiers (`Unreachable`, `Down`), and the slow suspicion below
//! the quorum.

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

/// Time for which an accusation may stay open before this node asks a neighbour for its table, and minimum time between
/// two such requests.
const INQUIRY: Duration = Duration::from_secs(1);

impl Detector {
    /// Accuses a subject that this node, as its observer, misses. The other observers are told so that they look at
    /// once, and the subject so that it can refute.
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
        // This node votes even when others have already found the subject unreachable, or have set this node's bit in
        // the record: a vote counts only when it comes from its own node.
        self.vote(id, incarnation);
        if !said && self.on_record(Record::new(subject, id.generation, incarnation).by_observer(place)) {
            self.tell_record(subject, &observers);
        }
    }

    /// Adds a member to this node's ballot, where it stays until the member refutes or says goodbye.
    fn vote(&mut self, id: Id, incarnation: Incarnation) {
        if self.ballot.len() < BALLOT_MAX || self.ballot.contains_key(&id.node) {
            let Id { node, generation, .. } = id;
            self.ballot.insert(node, Accusation { node, generation, incarnation: incarnation.0 });
            self.touch(node);
        }
    }

    /// Accuses a member that this node's slow probe failed to reach.
    pub(super) fn on_probe_failed(&mut self, id: Id, incarnation: Incarnation) {
        // The probe may have begun before a partition healed; an echo since then is newer.
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

    /// Handles accusations that a peer passed on. They affect what this node shows and which subject it asks at once;
    /// tasks are moved by votes that reach a manager, and not by these.
    pub(super) fn on_foreign_record(&mut self, from: NodeId, record: Record) {
        if !record.is_possible(self.config.ring_count()) {
            return self.on_lie(from, record.node, Lie::Observers);
        }
        self.on_record(record);
    }

    /// Merges accusations from any source. Returns whether they were news.
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
            // The accuser has missed the refutation.
            Ordering::Less => {
                self.remind(node);
                return false;
            }
            // The member has refuted an accusation that this node has not heard of: the member itself must tell this
            // node.
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

    /// Sends a heartbeat at once to a subject that another member misses.
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

    /// Finds a member unreachable when a quorum of its observers misses it. An observer that two or more accuse itself
    /// cannot be expected to vote, and counts as one that did (an implicit vote), provided that at least one observer
    /// votes.
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

    /// Makes a member unreachable: the first tier, which is reversible.
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

    /// Makes a member down: the second tier, which is final for the member's tasks.
    fn become_down(&mut self, node: NodeId, cause: Downfall) {
        self.enter(node, Phase::Down { stopped: false });
        self.conclude(Verdict::Down { node, cause });
    }

    /// Handles a deadline of a member. A deadline of an earlier era is void.
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

    /// Asks a neighbour for its table because an accusation is open for long, neither refuted nor confirmed by a
    /// quorum.
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

    /// Moment at which the slow suspicion of a member ends, by what is known now: it began with the first slow prober,
    /// and every further accuser shortens it.
    fn suspicion_ends(&self, node: NodeId) -> Option<Moment> {
        let entry = self.entries.get(&node)?;
        let voices = entry.record.as_ref().map_or(0, Record::voices);
        Some(entry.probed_since? + suspicion(self.config.suspicion, self.rings.len(), voices))
    }

    /// Handles an expected member that stayed unheard. When most expected members do, this node is more likely cut off
    /// itself, so the wait begins again.
    fn on_impatience(&mut self, node: NodeId) {
        if self.entries.get(&node).is_some_and(|entry| entry.shunned) {
            // Only other members have told of this member, so it is forgotten without a verdict.
            return self.forget(node);
        }
        let unheard = self.entries.values().filter(|entry| entry.phase == Phase::Expected && !entry.shunned).count();
        if self.entries.len() > 1 && unheard * 2 > self.entries.len() {
            self.enter(node, Phase::Expected);
        } else {
            self.become_down(node, Downfall::Unheard);
        }
    }

    /// Accuses a node whose host refused the sentinel: the host lives, and no process listens on the port.
    pub(super) fn on_refused(&mut self, node: NodeId) {
        let now = self.now;
        if self.watches.get_mut(node).is_some_and(|watch| watch.on_refused(now)) {
            self.accuse(node);
        }
    }

    /// Handles the end of a session. The peer may be redialling, so it is asked at once, and accused only if a
    /// heartbeat is missing too.
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

    /// Whether this node should accuse no member at present: it has heard nothing from most of its subjects for half of
    /// the time that makes a subject late.
    pub(super) fn is_gated(&self) -> bool {
        !planted(Bug::IsolatedNodeAccuses) && self.misses_most(self.config.miss / 2)
    }

    pub(super) fn misses_most(&self, silence: Duration) -> bool {
        let settled =
            |node| self.entries.get(&node).is_some_and(|entry| entry.phase == Phase::Unreachable || !entry.met);
        self.watches.misses_most(self.now, silence, settled)
    }
}
