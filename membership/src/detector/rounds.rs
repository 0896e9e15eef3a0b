//! Periodic work of the detector: heartbeat ticks, joining, comparing tables, finding lost halves of a partition,
//! goodbyes.

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

/// Generation of a first start. No member knows an earlier one, so the node needs no proof to be introduced.
const FIRST_START: Generation = Generation(1);

/// Time for which this node waits for a first word of a subject or an observer that only other members told of. A
/// subject is asked and an observer asks, so each is heard within a heartbeat if it exists.
const UNMET_MAX: Duration = Duration::from_secs(3);

/// Time between a start and the first comparison of tables.
pub(super) const FIRST_COMPARE: Duration = Duration::from_secs(1);

/// Interval at which expected members are called.
const CALL: Duration = Duration::from_secs(1);

/// Number of expected members called at once (`CALLS`), and of those whose table is requested (`TABLES`).
const CALLS: usize = 8;
const TABLES: usize = 3;

/// Number of random members that hear a goodbye directly, beside the neighbours on the rings: all members in clusters
/// up to this size; in larger ones gossip does the rest.
const FAREWELLS: usize = 64;

/// Number of repetitions of a goodbye, and the time between them (`FAREWELL_GAP`): a datagram may be lost, and the
/// process is gone afterwards.
const FAREWELL_REPEATS: u32 = 2;
const FAREWELL_GAP: Duration = Duration::from_millis(25);

/// Expected number of members that call each `Down` member in one interval of reconnecting, whatever the size of the
/// cluster.
const RECONNECTORS: usize = 8;

impl Detector {
    pub(super) fn start(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        // A random first tick, so that nodes that start together do not tick together.
        let tick = self.config.tick().mul_f64(self.rng.random_range(0.0..1.0));
        let compare = self.compare_after.mul_f64(self.rng.random_range(0.5..1.5));
        let reconnect = self.config.reconnect.mul_f64(self.rng.random_range(0.5..1.5));
        self.agenda.add(self.now + tick, Due::Tick);
        self.agenda.add(self.now + compare, Due::PushPull);
        self.agenda.add(self.now + reconnect, Due::Reconnect);
        self.agenda.add(self.now + CALL, Due::Join);
        let me = self.gossip.me();
        if me.generation > FIRST_START || me.epoch > 0 {
            // A member that knows an earlier start of this node accepts the new one only by this node's own word.
            self.tell_all(None);
        }
        self.call();
    }

    /// Handles every deadline that has passed, in order.
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

    /// Handles a stall of this process: all subjects are forgiven, and no deadline counts before the queued input is
    /// read.
    pub(super) fn on_stall(&mut self, lost: Duration) {
        self.agenda.shift(lost + SETTLE);
        self.forgive();
    }

    /// Counts all subjects and observers as just heard.
    fn forgive(&mut self) {
        let now = self.now;
        self.watches.forgive(now);
        self.watchers.values_mut().for_each(|since| *since = now);
    }

    /// Handles the tick that was due at `at`: heartbeats, accusations, the gate, and a round of gossip.
    fn tick(&mut self, at: Moment) {
        let now = self.now;
        // The worst of the last ticks, fading by an eighth with each: a machine that is busy now stays busy for a
        // while.
        self.lag = now.saturating_since(at).max(self.lag - self.lag / 8);
        self.agenda.add(now + self.config.tick(), Due::Tick);
        if std::mem::take(&mut self.moved) {
            let subjects = self.rings.subjects(self.me_node());
            // A member that is no longer a subject loses its round trip, so its view changes.
            self.touched.extend(self.watches.subjects());
            self.watches.retarget(now, &subjects);
            let observers = self.rings.observers(self.me_node());
            self.watchers.retain(|node, _| observers.contains(node));
            for node in observers {
                self.watchers.entry(node).or_insert(now);
            }
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

        // A node that was cut off has only just begun to hear its subjects: silence before that proves nothing about
        // them.
        let is_gated = self.is_gated();
        let was_gated = std::mem::replace(&mut self.gated, is_gated);
        if was_gated && !is_gated {
            self.forgive();
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

    /// Makes subjects and observers that only other members told of, and that say nothing, `Expected`: an identity that
    /// this node never heard must not take the place of a real one on the rings. Such members are called like expected
    /// ones, and are present once they answer.
    fn shun_the_unmet(&mut self) {
        if self.gated {
            return;
        }
        let now = self.now;
        let subjects = self.watches.subjects().filter_map(|node| Some((node, self.watches.get(node)?.silence(now))));
        let observers = self.watchers.iter().map(|(&node, &since)| (node, now.saturating_since(since)));
        let is_unmet =
            |node: &NodeId| self.entries.get(node).is_some_and(|entry| !entry.met && entry.phase == Phase::Present);
        let unmet: BTreeSet<NodeId> = subjects
            .chain(observers)
            .filter(|(node, silence)| *silence > UNMET_MAX && is_unmet(node))
            .map(|(node, _)| node)
            .collect();
        for node in unmet {
            if let Some(entry) = self.entries.get_mut(&node) {
                entry.shunned = true;
            }
            self.enter(node, Phase::Expected);
        }
    }

    /// Concludes that this node is isolated, or that it has rejoined.
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

    /// Calls some expected members, and asks a few for their table as long as this node has heard no member at all.
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

    /// Compares tables with one neighbour, which recovers what gossip lost.
    fn compare(&mut self) {
        self.compare_after = (self.compare_after * 2).min(self.config.push_pull);
        self.agenda.add(self.now + self.compare_after, Due::PushPull);
        self.ask_table();
    }

    pub(super) fn ask_table(&mut self) {
        let neighbours = self.neighbours();
        self.effects.extend(neighbours.choose(&mut self.rng).copied().map(Effect::PushPull));
    }

    /// Calls one `Down` member, in case a partition has healed.
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

    /// Sends a heartbeat over a new session whose peer is accused or not present, so that both sides learn that the
    /// other lives.
    pub(super) fn on_session_up(&mut self, node: NodeId) {
        if self.entries.get(&node).is_some_and(|entry| entry.phase != Phase::Present || entry.is_accused()) {
            self.say(node, Say::Beat { seq: 0 });
        }
    }

    /// Tells other members that this node has another address or role.
    pub(super) fn on_change(&mut self, addr: SocketAddr, role: Role) {
        let before = self.gossip.incarnation();
        self.gossip.change(addr, role);
        if self.gossip.incarnation() != before {
            self.eager = true;
            self.version += 1;
            let me = self.me_node();
            self.tell_alive(me);
        }
    }

    /// Begins this node's goodbye.
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
