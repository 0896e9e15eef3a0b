//! News of members: somebody lives, is back in a new generation, says goodbye; datagrams and tables that tell so.

use super::Detector;
use super::entry::{Entry, Phase};
use crate::accusation::Record;
use crate::datagram::{Datagram, Direct, Farewell, Item, Say, read};
use crate::gossip::Packet;
use crate::identity::Id;
use crate::table::{self, MAX_MEMBERS, Row, Standing};
use crate::{Downfall, Effect, Goodbye, Incarnation, State, Verdict};
use essaim_wire::NodeId;
use essaim_wire::planted::{Bug, planted};

/// So many removed nodes are remembered. Their certificates are refused anyway; this keeps old gossip from bringing
/// them back into the table.
const MAX_REMOVED: usize = 4096;

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
        if !self.hear(id, incarnation) {
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
            Say::Accuse(record) => {
                self.on_record(record.into());
            }
            Say::Alive => (),
            Say::Farewell(goodbye) => {
                self.on_farewell(Farewell { node: id.node, generation: id.generation, incarnation, goodbye });
            }
        }
    }

    fn on_packet(&mut self, packet: &Packet) {
        let (id, incarnation) = packet.sender();
        if !self.hear(id, incarnation) {
            return;
        }
        for &(id, incarnation, state) in &packet.updates {
            self.on_update(id, incarnation, state);
        }
        for item in &packet.items {
            match item {
                Item::Accused(record) => {
                    self.on_record(Record::from(record.clone()));
                }
                Item::Farewell(farewell) => self.on_farewell(*farewell),
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
        } else if state != foca::State::Down && self.hear(id, incarnation) && state == foca::State::Suspect {
            let current = self.entries.get(&id.node).is_some_and(|entry| entry.phase == Phase::Present);
            if current {
                self.gossip.suspect(id, incarnation);
            }
        }
    }

    /// Somebody is said to live, in this generation and incarnation. Says whether that is the generation in force.
    pub(super) fn hear(&mut self, id: Id, incarnation: Incarnation) -> bool {
        let node = id.node;
        if node == self.me_node() || self.removed.contains(&node) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&node) else {
            return self.meet(id, incarnation);
        };
        let (was, old) = (entry.state(), entry.id);
        if id.generation < old.generation && !planted(Bug::OlderGenerationHeard) {
            return false;
        }
        let restarted = id.generation != old.generation;
        let first = was == State::Expected;
        if !restarted && incarnation < entry.incarnation || !restarted && incarnation == entry.incarnation && !first {
            return true;
        }

        (entry.id, entry.incarnation) = (id, incarnation);
        entry.clear();
        let buried = std::mem::take(&mut entry.buried);
        self.accused.remove(&node);
        if buried {
            self.gossip.exhume(old);
        }
        let spread = !self.quiet;
        self.gossip.alive(id, incarnation, spread);
        if id.addr != old.addr {
            self.effects.push(Effect::Address { node, addr: id.addr });
        }
        self.touch(node);
        // That somebody is back ends what is done about its loss; that somebody is new can wait for the tick.
        self.eager |= spread && !first;
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
    fn meet(&mut self, id: Id, incarnation: Incarnation) -> bool {
        if !self.admit(id, incarnation) {
            return false;
        }
        let spread = !self.quiet;
        self.gossip.alive(id, incarnation, spread);
        self.enter(id.node, Phase::Present);
        self.conclude(Verdict::Joined { member: id.member() });
        true
    }

    /// Makes room for a member, at the cost of one that is gone if there is none.
    fn admit(&mut self, id: Id, incarnation: Incarnation) -> bool {
        if self.entries.len() >= MAX_MEMBERS {
            let gone = self.entries.values().filter(|entry| entry.phase.is_gone()).min_by_key(|entry| entry.since);
            let Some(node) = gone.map(|entry| entry.id.node) else { return false };
            self.forget(node);
        }
        self.entries.insert(id.node, Entry::new(id, incarnation, self.now));
        self.effects.push(Effect::Address { node: id.node, addr: id.addr });
        true
    }

    /// Members that should exist: they are called until they answer.
    pub(super) fn learn(&mut self, members: Vec<crate::Member>) {
        let mut unknown = false;
        for member in members {
            let known = self.entries.contains_key(&member.node) || self.removed.contains(&member.node);
            if !known && member.node != self.me_node() && self.admit(Id::of(member), Incarnation(0)) {
                self.enter(member.node, Phase::Expected);
                unknown = true;
            }
        }
        if unknown && self.started {
            self.call();
        }
    }

    /// A member goes away and says what it means by that.
    pub(super) fn on_farewell(&mut self, farewell: Farewell) {
        let Farewell { node, generation, incarnation, goodbye } = farewell;
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
            (Goodbye::Restarting { within }, _) => Phase::Restarting { until: self.now + within },
        };
        let was = entry.phase;
        entry.incarnation = incarnation;
        self.enter(node, phase);
        self.gossip.spread(&Item::Farewell(farewell));
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
                self.on_record(record.into());
            }
        }
    }

    fn on_row(&mut self, from: NodeId, row: &Row) {
        let Row { id, incarnation, standing, .. } = *row;
        let farewell = |goodbye| Farewell { node: id.node, generation: id.generation, incarnation, goodbye };
        if standing == Standing::Present {
            self.hear(id, incarnation);
            return;
        }
        let known = self.entries.get(&id.node).is_some_and(|entry| entry.phase != Phase::Expected);
        match standing {
            Standing::Present => (),
            Standing::Restarting { within } => {
                if self.hear(id, incarnation) {
                    self.on_farewell(farewell(Goodbye::Restarting { within }));
                }
            }
            // A sender cannot be gone.
            _ if id.node == from => (),
            Standing::Stopped if known => self.on_farewell(farewell(Goodbye::Stopped)),
            Standing::Left if known => self.on_farewell(farewell(Goodbye::Leaving)),
            Standing::Down if known => (),
            Standing::Left => self.forget(id.node),
            Standing::Down | Standing::Stopped => self.bury_untold(id, incarnation, standing == Standing::Stopped),
        }
    }

    /// Somebody whom this node never met is gone, says another.
    fn bury_untold(&mut self, id: Id, incarnation: Incarnation, stopped: bool) {
        let node = id.node;
        let older = self.entries.get(&node).is_some_and(|entry| entry.generation() > id.generation);
        if older || self.removed.contains(&node) || !self.admit(id, incarnation) {
            return;
        }
        self.enter(node, Phase::Down { stopped });
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

    /// Tells the observers of this node, and one more, in which incarnation it lives.
    pub(super) fn tell_alive(&mut self, to: NodeId) {
        let me = self.me_node();
        let mut hearers = self.rings.observers(me);
        if to != me && !hearers.contains(&to) {
            hearers.push(to);
        }
        for hearer in hearers {
            self.say(hearer, Say::Alive);
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
        self.moved |= self.rings.remove(node);
        self.gossip.forget(entry.id, entry.incarnation);
        self.touch(node);
    }
}
