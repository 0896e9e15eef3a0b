//! News of members: somebody lives, is back in a new generation, says goodbye; datagrams and tables that tell so.

use super::Detector;
use super::entry::{Entry, Phase};
use crate::accusation::Record;
use crate::datagram::{Datagram, Direct, Item, Say, read};
use crate::gossip::Packet;
use crate::identity::Id;
use crate::proof::Statement;
use crate::table::{self, MAX_MEMBERS, Row, Standing, Word};
use crate::{Downfall, Effect, Goodbye, Incarnation, Lie, State, Verdict};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, NodeId};
use std::time::Duration;

/// So many removed nodes are remembered. Their certificates are refused anyway; this keeps old gossip from bringing
/// them back into the table.
const MAX_REMOVED: usize = 4096;

/// How long a restart may take at most, whatever a node says. Its tasks wait for it, and a node that lies must not keep them
/// for ever.
const RESTART_MAX: Duration = Duration::from_secs(600);

impl Detector {
    /// A datagram. What cannot be read, or speaks for somebody else than its session's peer, is ignored.
    pub(super) fn on_datagram(&mut self, from: NodeId, bytes: &[u8]) {
        match read(bytes) {
            Ok(Datagram::Direct(direct)) if direct.id.node == from => self.on_direct(direct),
            Ok(Datagram::Gossip(packet)) => {
                if let Ok(packet) = Packet::open(packet)
                    && packet.sender().0.node == from
                {
                    self.on_packet(&packet);
                }
            }
            _ => (),
        }
    }

    fn on_direct(&mut self, direct: Direct) {
        let Direct { id, incarnation, doubt, say } = direct;
        // An older generation of the peer speaks no more.
        if !self.hear_itself(id, incarnation) {
            return;
        }
        if let Some((generation, doubted)) = doubt
            && generation == self.gossip.me().generation
        {
            self.refute(doubted, id.node);
        }
        match say {
            Say::Beat { seq } => self.say(id.node, Say::Echo { seq }),
            Say::Echo { seq } => {
                let now = self.now;
                self.watches.on_echo(now, id.node, seq);
            }
            Say::Accuse(record) => self.on_foreign_record(id.node, record.into()),
            Say::Alive(signature) => {
                self.on_statement(id.node, Statement { id, incarnation, goodbye: None, signature });
            }
            Say::Farewell(goodbye, signature) => {
                let statement = Statement { id, incarnation, goodbye: Some(goodbye), signature };
                // Over its own session it needs no signature; with a true one, others can be told.
                let word = statement.is_true(&*self.notary).then(|| statement.word());
                self.on_farewell(id.node, id.generation, incarnation, goodbye, word);
            }
        }
    }

    fn on_packet(&mut self, packet: &Packet) {
        let (id, incarnation) = packet.sender();
        if !self.hear_itself(id, incarnation) {
            return;
        }
        for &(member, incarnation, state) in &packet.updates {
            self.on_update(member, incarnation, state);
        }
        for item in &packet.items {
            match item {
                Item::Accused(record) => self.on_foreign_record(id.node, Record::from(record.clone())),
                Item::Stated(statement) => self.on_statement(id.node, statement.clone()),
            }
        }
        self.gossip.answer(packet);
    }

    /// An update of foca's. Nobody's word makes somebody else down: what is said beyond "alive" is an accusation,
    /// and travels as a record beside it.
    fn on_update(&mut self, id: Id, incarnation: Incarnation, state: foca::State) {
        let me = self.gossip.me();
        if id.node == me.node {
            if id.generation == me.generation && state != foca::State::Alive {
                self.refute(incarnation, me.node);
            }
        } else if state != foca::State::Down && self.hear_of(id, incarnation) && state == foca::State::Suspect {
            let current = self.entries.get(&id.node).is_some_and(|entry| entry.phase == Phase::Present);
            if current {
                self.gossip.suspect(id, incarnation);
            }
        }
    }

    /// A peer tells of a member without that member's word: that introduces one that is unknown, and changes nothing about
    /// one that is known. Says whether it is the start and incarnation in force.
    fn hear_of(&mut self, id: Id, incarnation: Incarnation) -> bool {
        let Some(entry) = self.entries.get(&id.node) else {
            return self.learn_of(id, incarnation, false);
        };
        if entry.phase == Phase::Expected && !entry.shunned && !entry.proven {
            return self.learn_of(id, incarnation, false);
        }
        if id.generation < entry.generation() && planted(Bug::OlderGenerationHeard) {
            return self.learn_of(id, incarnation, false);
        }
        (entry.id, entry.incarnation) == (id, incarnation)
    }

    /// A member speaks over its own session. Says whether that is the start in force.
    fn hear_itself(&mut self, id: Id, incarnation: Incarnation) -> bool {
        let current = self.learn_of(id, incarnation, true);
        if current && let Some(entry) = self.entries.get_mut(&id.node) {
            (entry.met, entry.shunned) = (true, false);
        }
        current
    }

    /// What a member said of itself, signed, by way of whomever. It is verified only if it would change something.
    fn on_statement(&mut self, from: NodeId, statement: Statement) {
        let Statement { id, incarnation, goodbye, .. } = statement;
        let (node, said) = (id.node, (id.generation, incarnation));
        if node == self.me_node() {
            return;
        }
        let changes = match self.entries.get(&node) {
            // That somebody whom it never knew has left says nothing to this node.
            None => goodbye != Some(Goodbye::Leaving),
            Some(entry) => {
                let known = (entry.generation(), entry.incarnation);
                let is_news = said > known || said == known && (entry.word.is_none() || goodbye.is_some());
                let is_said = entry.word.as_ref().is_some_and(|word| said == known && word.goodbye == goodbye);
                !entry.proven || is_news && !is_said
            }
        };
        if !changes || self.removed.contains(&node) {
            return;
        }
        let is_believed = goodbye.is_some() && planted(Bug::FarewellFromAnybody);
        if !is_believed && !statement.is_true(&*self.notary) {
            return self.on_lie(from, node, Lie::Unsigned);
        }
        let word = statement.word();
        match goodbye {
            None => {
                if !self.learn_of(id, incarnation, true) {
                    return;
                }
                let Some(entry) = self.entries.get_mut(&node) else { return };
                if (entry.generation(), entry.incarnation) == said {
                    entry.word = Some(word);
                }
            }
            Some(goodbye) => {
                let known = self.entries.get(&node).map(|entry| (entry.generation(), entry.proven));
                match (known, goodbye) {
                    (None, Goodbye::Stopped | Goodbye::Leaving) => {
                        return self.bury_untold(id, incarnation, true, Some(word));
                    }
                    (Some((generation, true)), _) if generation == id.generation => (),
                    _ => {
                        if !self.learn_of(id, incarnation, true) {
                            return;
                        }
                    }
                }
                self.on_farewell(node, id.generation, incarnation, goodbye, Some(word));
                return;
            }
        }
        if !self.quiet {
            self.gossip.spread(&Item::Stated(statement));
        }
    }

    /// Somebody lives, in this start and incarnation: as it says itself if that is `proven`, or as others tell. Says
    /// whether that is the start in force.
    fn learn_of(&mut self, id: Id, incarnation: Incarnation, proven: bool) -> bool {
        let node = id.node;
        if node == self.me_node() || self.removed.contains(&node) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&node) else {
            return self.meet(id, incarnation, proven);
        };
        let (was, old) = (entry.state(), entry.id);
        // The first that a member says itself counts whatever others told of it before.
        let replaces = proven && !entry.proven && (id, incarnation) != (old, entry.incarnation);
        if id.generation < old.generation && !replaces && !planted(Bug::OlderGenerationHeard) {
            return false;
        }
        if entry.proven && id.generation.0.saturating_sub(old.generation.0) > Generation::JUMP_MAX {
            self.on_lie(node, node, Lie::Generation);
            return false;
        }
        entry.proven |= proven;
        let restarted = id.generation != old.generation;
        let first = was == State::Expected;
        let is_older = incarnation < entry.incarnation || incarnation == entry.incarnation && !first;
        if !restarted && is_older && !replaces {
            return true;
        }

        if replaces {
            // To foca the made-up identity may be the newer one.
            let (old, refuted) = (entry.id, entry.incarnation);
            entry.buried = false;
            self.gossip.forget(old, refuted);
        }
        let Some(entry) = self.entries.get_mut(&node) else { return false };
        (entry.id, entry.incarnation) = (id, incarnation);
        entry.clear();
        entry.word = None;
        self.ballot.remove(&node);
        let buried = std::mem::take(&mut entry.buried);
        self.accused.remove(&node);
        if buried {
            self.gossip.exhume(old);
        }
        // Those who know the member take nothing but its own word, which it spreads itself.
        let spread = !self.quiet && first;
        self.gossip.alive(id, incarnation, spread);
        if id.addr != old.addr {
            self.effects.push(Effect::Address { node, addr: id.addr });
        }
        self.touch(node);
        // That somebody is back ends what is done about its loss; that somebody is new can wait for the tick.
        self.eager |= !self.quiet && !first;
        if restarted || was != State::Alive {
            self.enter(node, Phase::Present);
            let now = self.now;
            if restarted {
                self.watches.renew(now, node)
            } else {
                self.watches.pardon(now, node)
            }
            if was == State::Down {
                // Two halves of a cut found each other: compare notes.
                self.effects.push(Effect::PushPull(node));
            }
            self.conclude(match was {
                State::Expected | State::Left => Verdict::Joined { member: id.member() },
                _ if restarted => Verdict::Restarted { node, generation: id.generation },
                was => Verdict::Refuted { node, was },
            });
        }
        true
    }

    /// Somebody unknown lives.
    fn meet(&mut self, id: Id, incarnation: Incarnation, proven: bool) -> bool {
        if !self.admit(id, incarnation, proven) {
            return false;
        }
        let spread = !self.quiet;
        self.gossip.alive(id, incarnation, spread);
        self.enter(id.node, Phase::Present);
        self.conclude(Verdict::Joined { member: id.member() });
        true
    }

    /// Makes room for a member, at the cost of one that is gone if there is none, or for one that speaks for itself at the
    /// cost of one that only others told of.
    fn admit(&mut self, id: Id, incarnation: Incarnation, proven: bool) -> bool {
        if self.entries.len() >= MAX_MEMBERS && !self.entries.contains_key(&id.node) {
            let oldest = |which: &dyn Fn(&Entry) -> bool| {
                let found = self.entries.values().filter(|entry| which(entry)).min_by_key(|entry| entry.since);
                found.map(|entry| entry.id.node)
            };
            let gone = oldest(&|entry| entry.phase.is_gone());
            let told = || oldest(&|entry| proven && !entry.proven && !entry.met);
            let Some(node) = gone.or_else(told) else { return false };
            self.forget(node);
        }
        self.entries.insert(id.node, Entry { proven, ..Entry::new(id, incarnation, self.now) });
        self.effects.push(Effect::Address { node: id.node, addr: id.addr });
        true
    }

    /// Members that should exist: they are called until they answer.
    pub(super) fn learn(&mut self, members: Vec<crate::Member>) {
        let mut unknown = false;
        for member in members {
            let known = self.entries.contains_key(&member.node) || self.removed.contains(&member.node);
            if !known && member.node != self.me_node() && self.admit(Id::of(member), Incarnation(0), false) {
                self.enter(member.node, Phase::Expected);
                unknown = true;
            }
        }
        if unknown && self.started {
            self.call();
        }
    }

    /// A member goes away and says what it means by that, over its own session or with its signed word.
    pub(super) fn on_farewell(
        &mut self,
        node: NodeId,
        generation: Generation,
        incarnation: Incarnation,
        goodbye: Goodbye,
        word: Option<Word>,
    ) {
        let Some(entry) = self.entries.get_mut(&node) else { return };
        if generation != entry.generation() || incarnation < entry.incarnation {
            return;
        }
        let phase = match (goodbye, entry.phase) {
            (_, Phase::Left) => return,
            (Goodbye::Leaving, _) => Phase::Left,
            (Goodbye::Stopped, Phase::Down { stopped: true }) => return,
            (Goodbye::Stopped, _) => Phase::Down { stopped: true },
            (Goodbye::Restarting { .. }, Phase::Restarting { .. } | Phase::Down { .. }) => return,
            (Goodbye::Restarting { within }, _) => Phase::Restarting { until: self.now + within.min(RESTART_MAX) },
        };
        let was = entry.phase;
        (entry.incarnation, entry.proven) = (incarnation, true);
        entry.word.clone_from(&word);
        let id = entry.id;
        self.enter(node, phase);
        if let Some(Word { signature, .. }) = word {
            self.gossip.spread(&Item::Stated(Statement { id, incarnation, goodbye: Some(goodbye), signature }));
        }
        self.eager = true;
        match phase {
            Phase::Left => self.conclude(Verdict::Left { node }),
            Phase::Restarting { until } => self.conclude(Verdict::Restarting { node, until }),
            _ if was.is_gone() => (),
            _ => self.conclude(Verdict::Down { node, cause: Downfall::Stopped }),
        }
    }

    /// The table of another member. First who is there, then what is said of them: the quorum needs the rings.
    pub(super) fn on_table(&mut self, from: NodeId, bytes: &[u8]) {
        let Ok(rows) = table::read(bytes) else { return };
        self.quiet = self.rings.len() == 1;
        for row in &rows {
            if row.id.node != self.me_node() {
                self.on_row(from, row);
            }
        }
        self.quiet = false;
        for row in rows {
            if row.standing == Standing::Present && row.record.is_none() {
                continue;
            }
            let me = self.gossip.me();
            if row.id.node == me.node {
                if row.id.generation == me.generation && row.standing != Standing::Present {
                    self.refute(row.incarnation, from);
                }
            } else if self.entries.contains_key(&row.id.node) && row.standing == Standing::Down {
                // Where this node thinks otherwise, it is one voice more.
                self.on_record(Record::new(row.id.node, row.id.generation, row.incarnation).by_prober(from));
            }
            if let Some(record) = row.record {
                self.on_foreign_record(from, record.into());
            }
        }
    }

    fn on_row(&mut self, from: NodeId, row: &Row) {
        let Row { id, incarnation, standing, ref word, .. } = *row;
        if id.node == from {
            // A sender speaks for itself, and cannot be gone.
            if standing == Standing::Present {
                self.hear_itself(id, incarnation);
            }
            return;
        }
        if let Some(Word { goodbye, signature }) = word.clone() {
            self.on_statement(from, Statement { id, incarnation, goodbye, signature });
        }
        let known = self.entries.get(&id.node).filter(|entry| entry.phase != Phase::Expected || entry.proven);
        let is_proven = known.is_some_and(|entry| entry.word == *word && entry.word.is_some());
        match standing {
            _ if is_proven => (),
            Standing::Present | Standing::Restarting { .. } => drop(self.hear_of(id, incarnation)),
            Standing::Stopped | Standing::Left if known.is_some_and(|entry| !entry.phase.is_gone()) => {
                if planted(Bug::FarewellFromAnybody) {
                    let goodbye = if standing == Standing::Left { Goodbye::Leaving } else { Goodbye::Stopped };
                    return self.on_farewell(id.node, id.generation, incarnation, goodbye, None);
                }
                if word.is_none() {
                    self.on_lie(from, id.node, Lie::Farewell);
                }
            }
            Standing::Down | Standing::Stopped if known.is_none() => {
                self.bury_untold(id, incarnation, standing == Standing::Stopped, None);
            }
            Standing::Down | Standing::Stopped | Standing::Left => (),
        }
    }

    /// Somebody whom this node never met is gone, says another, or it said so itself.
    fn bury_untold(&mut self, id: Id, incarnation: Incarnation, stopped: bool, word: Option<Word>) {
        let node = id.node;
        let older = self.entries.get(&node).is_some_and(|entry| entry.generation() > id.generation);
        if older || self.removed.contains(&node) || !self.admit(id, incarnation, word.is_some()) {
            return;
        }
        // That its tasks have ended is believed from itself only.
        self.enter(node, Phase::Down { stopped: stopped && word.is_some() });
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.word = word;
        }
        self.conclude(Verdict::Down { node, cause: Downfall::Told });
    }

    /// Takes back what is said of this node, if it is news, and tells those who need to hear it first.
    pub(super) fn refute(&mut self, said: Incarnation, to: NodeId) {
        let before = self.gossip.incarnation();
        self.gossip.refute(said);
        if self.gossip.incarnation() != before {
            self.tell_alive(to);
        }
    }

    /// Tells everybody what this node is, by gossip and over its signature.
    pub(super) fn tell_all(&mut self, goodbye: Option<Goodbye>) {
        let statement = self.state(goodbye);
        self.gossip.spread(&Item::Stated(statement));
    }

    /// Tells the observers of this node, and one more, in which incarnation it lives; everybody else hears it by gossip.
    pub(super) fn tell_alive(&mut self, to: NodeId) {
        self.tell_all(None);
        let signature = self.state(None).signature;
        let me = self.me_node();
        let mut hearers = self.rings.observers(me);
        if to != me && !hearers.contains(&to) {
            hearers.push(to);
        }
        for hearer in hearers {
            self.say(hearer, Say::Alive(signature.clone()));
        }
    }

    /// A node that is no longer part of the cluster.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.forget(node);
        self.removed.insert(node);
        if self.removed.len() > MAX_REMOVED {
            self.removed.pop_first();
        }
    }

    /// Drops whatever is known of a member.
    pub(super) fn forget(&mut self, node: NodeId) {
        let Some(entry) = self.entries.remove(&node) else { return };
        self.accused.remove(&node);
        self.ballot.remove(&node);
        self.moved |= self.rings.remove(node);
        self.gossip.forget(entry.id, entry.incarnation);
        self.touch(node);
    }
}
