//! What happens by itself: the tick of the heartbeats, joining, comparing tables, finding lost halves, goodbyes.

use super::entry::{Entry, Phase};
use super::{Detector, Due, SETTLE};
use crate::datagram::Say;
use crate::{Effect, Goodbye, Verdict};
use essaim_wire::{Generation, Moment, NodeId, Role};
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// A node that starts for the first time is known to nobody, and needs no proof to be introduced.
const FIRST_START: Generation = Generation(1);

/// A subject that others told of, and that this node never heard itself, is asked for so long.
const UNMET_MAX: Duration = Duration::from_secs(3);

/// When tables are first compared after a start.
pub(super) const FIRST_COMPARE: Duration = Duration::from_secs(1);

/// How often expected members are called.
const CALL: Duration = Duration::from_secs(1);

/// So many are called at once, and of so many the table is asked.
const CALLS: usize = 8;
const TABLES: usize = 3;

/// A goodbye is told to everybody in clusters up to this size, and in larger ones to so many at random beside the
/// neighbours on the rings; gossip does the rest.
const FAREWELLS: usize = 64;

/// A goodbye is said so often, this far apart: a datagram may be lost, and there is no later.
const FAREWELL_REPEATS: u32 = 2;
const FAREWELL_GAP: Duration = Duration::from_millis(25);

/// In each interval of reconnecting, about so many members call each one that is down, however large the cluster.
const RECONNECTORS: usize = 8;

impl Detector {
    pub(super) fn start(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        // Nodes that start together should not tick together.
        let tick = self.config.tick().mul_f64(self.rng.random_range(0.0..1.0));
        let compare = self.compare_after.mul_f64(self.rng.random_range(0.5..1.5));
        let reconnect = self.config.reconnect.mul_f64(self.rng.random_range(0.5..1.5));
        self.agenda.add(self.now + tick, Due::Tick);
        self.agenda.add(self.now + compare, Due::PushPull);
        self.agenda.add(self.now + reconnect, Due::Reconnect);
        self.agenda.add(self.now + CALL, Due::Join);
        let me = self.gossip.me();
        if me.generation > FIRST_START || me.epoch > 0 {
            // Whoever knows an earlier start of this node takes the new one by its own word only.
            self.tell_all(None);
        }
        self.call();
    }

    /// Every deadline that has passed, in order.
    pub(super) fn run_due(&mut self) {
        while let Some((at, due)) = self.agenda.pop(self.now) {
            if let (Some(_), false) = (self.leaving, matches!(due, Due::Farewell(_))) {
                continue;
            }
            match due {
                Due::Tick => self.tick(at),
                Due::Round => self.round_planned = false,
                Due::Foca(timer) => self.gossip.on_timer(timer),
                Due::Member(node, deadline) => self.on_deadline(node, deadline),
                Due::Join => {
                    self.agenda.add(self.now + CALL, Due::Join);
                    self.call();
                }
                Due::PushPull => self.compare(),
                Due::Reconnect => self.reconnect(),
                Due::Farewell(left) => self.say_farewell(left),
            }
            self.drain_gossip();
        }
    }

    /// This process stood still: everybody is forgiven, and nothing counts before what queued up is read.
    pub(super) fn on_stall(&mut self, lost: Duration) {
        self.agenda.shift(lost + SETTLE);
        let now = self.now;
        self.watches.forgive(now);
    }

    /// The tick that was due at `at`.
    fn tick(&mut self, at: Moment) {
        let now = self.now;
        // The worst of the last ticks, fading by an eighth with each: a machine that is busy now is busy for a while.
        self.lag = now.saturating_since(at).max(self.lag - self.lag / 8);
        self.agenda.add(now + self.config.tick(), Due::Tick);
        if std::mem::take(&mut self.moved) {
            let subjects = self.rings.subjects(self.me_node());
            // Of whom is a subject no longer there is no round trip to show any more.
            self.touched.extend(self.watches.subjects());
            self.watches.retarget(now, &subjects);
            self.reweigh = true;
        }

        self.shun_the_unmet();
        self.watches.advance();
        let present = |node| self.entries.get(&node).is_some_and(|entry| entry.phase == Phase::Present);
        let due = self.watches.due(now, &self.config, self.lag, present);
        for &(node, due) in &due {
            let Some(watch) = self.watches.get_mut(node) else { continue };
            let sentinel = due.sentinel && watch.sentinel(now);
            if due.beat {
                let seq = watch.beat(now);
                self.say(node, Say::Beat { seq });
            }
            if sentinel {
                self.effects.push(Effect::Probe(node));
            }
        }

        // Whoever was in trouble itself has only just begun to hear: what it missed before says nothing of others.
        let is_gated = self.is_gated();
        let was_gated = std::mem::replace(&mut self.gated, is_gated);
        if was_gated && !is_gated {
            self.watches.forgive(now);
        }
        let gated = was_gated || is_gated;
        for (node, due) in due {
            if due.late && (!gated || self.watches.get(node).is_some_and(|watch| watch.is_refused())) {
                self.accuse(node);
            }
        }
        self.judge_self();
        if self.reweigh {
            self.weigh_all();
        }
        if self.gossip.has_news() {
            self.gossip_round();
        }
    }

    /// Subjects of which others told, and which answer nothing: no node may stand in the way of others on the rings that
    /// nobody has heard. They are called as expected members are, and are present when they answer.
    fn shun_the_unmet(&mut self) {
        let now = self.now;
        let is_unmet = |node: &NodeId| {
            let silent = self.watches.get(*node).is_some_and(|watch| watch.silence(now) > UNMET_MAX);
            silent
                && !self.gated
                && self.entries.get(node).is_some_and(|entry| !entry.met && entry.phase == Phase::Present)
        };
        let unmet: Vec<NodeId> = self.watches.subjects().filter(is_unmet).collect();
        for node in unmet {
            if let Some(entry) = self.entries.get_mut(&node) {
                entry.shunned = true;
            }
            self.enter(node, Phase::Expected);
        }
    }

    /// Whether this node is the one in trouble.
    fn judge_self(&mut self) {
        if !self.isolated && self.misses_most(self.config.miss) {
            self.isolated = true;
            self.version += 1;
            self.conclude(Verdict::Isolated);
        } else if self.isolated && !self.gated {
            self.isolated = false;
            self.version += 1;
            self.conclude(Verdict::Rejoined);
        }
    }

    /// Calls members that should exist; asks some for their table as long as nobody was heard at all.
    pub(super) fn call(&mut self) {
        let expected = self.those(|entry| entry.phase == Phase::Expected);
        if expected.is_empty() {
            return;
        }
        let chosen: Vec<NodeId> = expected.sample(&mut self.rng, CALLS).copied().collect();
        for &node in &chosen {
            self.say(node, Say::Beat { seq: 0 });
        }
        if self.rings.len() == 1 {
            self.effects.extend(chosen.into_iter().take(TABLES).map(Effect::PushPull));
        }
    }

    /// Compares tables with one neighbour: whatever gossip lost is found here.
    fn compare(&mut self) {
        self.compare_after = (self.compare_after * 2).min(self.config.push_pull);
        self.agenda.add(self.now + self.compare_after, Due::PushPull);
        self.ask_table();
    }

    pub(super) fn ask_table(&mut self) {
        let neighbours = self.neighbours();
        self.effects.extend(neighbours.choose(&mut self.rng).copied().map(Effect::PushPull));
    }

    /// Calls one member that is down: a cut may have healed.
    fn reconnect(&mut self) {
        self.agenda.add(self.now + self.config.reconnect, Due::Reconnect);
        let down = self.those(|entry| entry.phase == Phase::Down { stopped: false });
        let callers = RECONNECTORS * down.len();
        if self.rng.random_range(0..self.rings.len()) < callers
            && let Some(&node) = down.choose(&mut self.rng)
        {
            self.say(node, Say::Beat { seq: 0 });
        }
    }

    /// A session is up with somebody who may not know, or not be known, to live.
    pub(super) fn on_session_up(&mut self, node: NodeId) {
        if self.entries.get(&node).is_some_and(|entry| entry.phase != Phase::Present || entry.is_accused()) {
            self.say(node, Say::Beat { seq: 0 });
        }
    }

    /// This node listens elsewhere, or has another role.
    pub(super) fn on_change(&mut self, addr: SocketAddr, role: Role) {
        let before = self.gossip.incarnation();
        self.gossip.change(addr, role);
        if self.gossip.incarnation() != before {
            self.eager = true;
            let me = self.me_node();
            self.tell_alive(me);
        }
    }

    /// This node goes away.
    pub(super) fn leave(&mut self, goodbye: Goodbye) {
        self.leaving = Some(goodbye);
        self.say_farewell(FAREWELL_REPEATS);
    }

    fn say_farewell(&mut self, left: u32) {
        let Some(goodbye) = self.leaving else { return };
        let me = self.me_node();
        let present = self.those(|entry| entry.phase.is_on_rings());
        let mut hearers: BTreeSet<NodeId> = present.sample(&mut self.rng, FAREWELLS).copied().collect();
        hearers.extend(self.rings.observers(me));
        let signature = self.state(Some(goodbye)).signature;
        for hearer in hearers {
            self.say(hearer, Say::Farewell(goodbye, signature.clone()));
        }
        if left > 0 {
            self.agenda.add(self.now + FAREWELL_GAP, Due::Farewell(left - 1));
        }
    }

    fn those(&self, which: impl Fn(&Entry) -> bool) -> Vec<NodeId> {
        self.entries.values().filter(|entry| which(entry)).map(|entry| entry.id.node).collect()
    }
}
