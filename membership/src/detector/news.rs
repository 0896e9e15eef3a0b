//! News of members: a member lives, is back in a new generation, or says goodbye; and the datagrams and tables that
//! carry such news.

use super::Detector;
use super::entry::{Entry, Phase};
use crate::accusation::Record;
use crate::datagram::{Datagram, Direct, Item, Say, read};
use crate::gossip::Packet;
use crate::identity::Id;
use crate::proof::Statement;
use crate::table::{self, MAX_MEMBERS, Row, RowState, Word};
use crate::{Downfall, Effect, Goodbye, Incarnation, Lie, MemberState, Verdict};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, NodeId};
use std::time::Duration;

/// Upper bound on the removed nodes that are remembered. Their certificates are refused anyway; the list keeps old
/// gossip from bringing them back into the table.
const MAX_REMOVED: usize = 4096;

/// Upper bound on the duration of a restart, whatever the node announces. Its tasks wait for it, and a node that lies
/// must not keep them for ever.
const RESTART_MAX: Duration = Duration::from_secs(600);

impl Detector {
    /// Handles a datagram. One that is unreadable, or names another sender than the session's peer, is ignored.
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
        // An older generation of the peer is ignored.
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
                // Over the member's own session a goodbye needs no signature; with a valid one, it can be passed on to
                // others.
                let word = statement.is_true(&*self.notary).then(|| Word::of(&statement));
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

    /// Handles an update of foca. No member's word makes another member down: any state other than alive is an
    /// accusation, and travels as a record beside the update.
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

    /// Handles what a peer tells of another member without that member's signature: it introduces an unknown member,
    /// and changes nothing about a known one. Returns whether the identity and incarnation are the ones in force.
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

    /// Handles the identity that a member states over its own session. Returns whether it is the start in force.
    fn hear_itself(&mut self, id: Id, incarnation: Incarnation) -> bool {
        let current = self.learn_of(id, incarnation, true);
        if current && let Some(entry) = self.entries.get_mut(&id.node) {
            (entry.met, entry.shunned) = (true, false);
        }
        current
    }

    /// Handles the signed statement of a member about itself, passed on by any peer. The signature is verified only if
    /// the statement would change something.
    fn on_statement(&mut self, from: NodeId, statement: Statement) {
        let Statement { id, incarnation, goodbye, .. } = statement;
        let (node, said) = (id.node, (id.generation, incarnation));
        if node == self.me_node() {
            return;
        }
        let changes = match self.entries.get(&node) {
            // This node never knew the member, so its leaving changes nothing.
            None => goodbye != Some(Goodbye::Leaving),
            Some(entry) => {
                let known = (entry.generation(), entry.incarnation);
                let is_older = id.generation < known.0 && planted(Bug::OlderGenerationHeard);
                let is_news = is_older || said > known || said == known && (entry.word.is_none() || goodbye.is_some());
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
        let word = Word::of(&statement);
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
                        return self.add_as_down(id, incarnation, true, Some(word));
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

    /// Handles the news that a member lives in this start and incarnation: by its own word if `proven`, otherwise by
    /// that of others. Returns whether this is the start in force.
    fn learn_of(&mut self, id: Id, incarnation: Incarnation, proven: bool) -> bool {
        let node = id.node;
        if node == self.me_node() || self.removed.contains(&node) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&node) else {
            return self.meet(id, incarnation, proven);
        };
        let (was, old) = (entry.state(), entry.id);
        // The first word of the member itself replaces whatever other members told before.
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
        let first = was == MemberState::Expected;
        let is_older = incarnation < entry.incarnation || incarnation == entry.incarnation && !first;
        if !restarted && is_older && !replaces {
            return true;
        }

        if replaces {
            // The invented identity may look newer to foca than the true one, so foca forgets it first.
            let (old, refuted) = (entry.id, entry.incarnation);
            entry.held_down = false;
            self.gossip.forget(old, refuted);
        }
        let Some(entry) = self.entries.get_mut(&node) else { return false };
        (entry.id, entry.incarnation) = (id, incarnation);
        entry.clear();
        entry.word = None;
        self.ballot.remove(&node);
        let held_down = std::mem::take(&mut entry.held_down);
        self.accused.remove(&node);
        if held_down {
            self.gossip.revive(old);
        }
        // Members that know this one accept only its own word, which it spreads itself.
        let spread = !self.quiet && first;
        self.gossip.alive(id, incarnation, spread);
        if id.addr != old.addr {
            self.effects.push(Effect::Address { node, addr: id.addr });
        }
        self.touch(node);
        // The return of a member ends the reaction to its loss, so it is urgent; a new member can wait for the tick.
        self.eager |= !self.quiet && !first;
        if restarted || was != MemberState::Alive {
            self.enter(node, Phase::Present);
            let now = self.now;
            if restarted {
                self.watches.renew(now, node)
            } else {
                self.watches.pardon(now, node)
            }
            if was == MemberState::Down {
                // Two halves of a healed partition found each other: compare tables.
                self.effects.push(Effect::PushPull(node));
            }
            self.conclude(match was {
                MemberState::Expected | MemberState::Left => Verdict::Joined { member: id.member() },
                _ if restarted => Verdict::Restarted { node, generation: id.generation },
                was => Verdict::Refuted { node, was },
            });
        }
        true
    }

    /// Adds a member that was unknown so far, as present.
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

    /// Adds an entry. In a full table it replaces the oldest member that is gone, or else, if the new member speaks for
    /// itself, the oldest that is known from others only. Returns false when there is no room.
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

    /// Adds members that should exist: they are called until they answer.
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

    /// Handles the goodbye of a member, said over its own session or with its signature.
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

    /// Handles the table of another member: first all identities, then the accusations, because the quorum needs the
    /// rings.
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
            if row.state == RowState::Present && row.record.is_none() {
                continue;
            }
            let me = self.gossip.me();
            if row.id.node == me.node {
                if row.id.generation == me.generation && row.state != RowState::Present {
                    self.refute(row.incarnation, from);
                }
            } else if self.entries.contains_key(&row.id.node) && row.state == RowState::Down {
                // Where this node disagrees that the member is down, the peer counts as one more accuser.
                self.on_record(Record::new(row.id.node, row.id.generation, row.incarnation).by_prober(from));
            }
            if let Some(record) = row.record {
                self.on_foreign_record(from, record.into());
            }
        }
    }

    fn on_row(&mut self, from: NodeId, row: &Row) {
        let Row { id, incarnation, state, ref word, .. } = *row;
        if id.node == from {
            // The row about the sender itself: it is present, since it has just sent the table.
            if state == RowState::Present {
                self.hear_itself(id, incarnation);
            }
            return;
        }
        if let Some(Word { goodbye, signature }) = word.clone() {
            self.on_statement(from, Statement { id, incarnation, goodbye, signature });
        }
        let known = self.entries.get(&id.node).filter(|entry| entry.phase != Phase::Expected || entry.proven);
        let is_proven = known.is_some_and(|entry| entry.word == *word && entry.word.is_some());
        match state {
            _ if is_proven => (),
            RowState::Present | RowState::Restarting { .. } => drop(self.hear_of(id, incarnation)),
            RowState::Stopped | RowState::Left if known.is_some_and(|entry| !entry.phase.is_gone()) => {
                if planted(Bug::FarewellFromAnybody) {
                    let goodbye = if state == RowState::Left { Goodbye::Leaving } else { Goodbye::Stopped };
                    return self.on_farewell(id.node, id.generation, incarnation, goodbye, None);
                }
                if word.is_none() {
                    self.on_lie(from, id.node, Lie::Farewell);
                }
            }
            RowState::Down | RowState::Stopped if known.is_none() => {
                self.add_as_down(id, incarnation, state == RowState::Stopped, None);
            }
            RowState::Down | RowState::Stopped | RowState::Left => (),
        }
    }

    /// Adds a member that this node never met as down, by another member's word or its own.
    fn add_as_down(&mut self, id: Id, incarnation: Incarnation, stopped: bool, word: Option<Word>) {
        let node = id.node;
        let older = self.entries.get(&node).is_some_and(|entry| entry.generation() > id.generation);
        if older || self.removed.contains(&node) || !self.admit(id, incarnation, word.is_some()) {
            return;
        }
        // Only the member's own word is believed about its tasks having ended.
        self.enter(node, Phase::Down { stopped: stopped && word.is_some() });
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.word = word;
        }
        self.conclude(Verdict::Down { node, cause: Downfall::Told });
    }

    /// Refutes an accusation of this node, if it is of the present incarnation, and first tells the members that need
    /// to hear it.
    pub(super) fn refute(&mut self, said: Incarnation, to: NodeId) {
        let before = self.gossip.incarnation();
        self.gossip.refute(said);
        if self.gossip.incarnation() != before {
            self.version += 1;
            self.tell_alive(to);
        }
    }

    /// Gossips the signed word of a member again, at most once per heartbeat: an accuser of an earlier incarnation has
    /// missed the refutation, and may not hear the accused member at all.
    pub(super) fn remind(&mut self, node: NodeId) {
        let now = self.now;
        let Some(entry) = self.entries.get_mut(&node) else { return };
        let Some(Word { goodbye, signature }) = entry.word.clone().filter(|_| now >= entry.next_reminder) else {
            return;
        };
        entry.next_reminder = now + self.config.heartbeat;
        let Entry { id, incarnation, .. } = *entry;
        self.gossip.spread(&Item::Stated(Statement { id, incarnation, goodbye, signature }));
    }

    /// Spreads this node's signed statement about itself by gossip.
    pub(super) fn tell_all(&mut self, goodbye: Option<Goodbye>) {
        let statement = self.state(goodbye);
        self.gossip.spread(&Item::Stated(statement));
    }

    /// Tells the observers of this node and the member `to` in which incarnation this node lives; the other members
    /// hear it by gossip.
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

    /// Forgets a node that was removed from the cluster, and refuses news of it from now on.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.forget(node);
        self.removed.insert(node);
        if self.removed.len() > MAX_REMOVED {
            self.removed.pop_first();
        }
    }

    /// Drops all state of a member.
    pub(super) fn forget(&mut self, node: NodeId) {
        let Some(entry) = self.entries.remove(&node) else { return };
        self.accused.remove(&node);
        self.ballot.remove(&node);
        self.moved |= self.rings.remove(node);
        self.gossip.forget(entry.id, entry.incarnation);
        self.touch(node);
    }
}
