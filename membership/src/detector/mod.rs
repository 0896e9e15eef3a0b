//! The detector: every input enters through [`Detector::handle`], every decision leaves as an effect.
//!
//! Its decisions are in three files: [`news`] (a member lives, is back, says goodbye), [`trial`] (accusations, the
//! quorum, the two tiers) and [`rounds`] (periodic work: ticks, joining, reconnecting). `entry` is the state of one
//! member. The table of entries is the truth of this node; foca is told what to spread.

mod entry;
mod news;
mod rounds;
mod trial;

use crate::agenda::Agenda;
use crate::datagram::{Direct, Say};
use crate::gossip::{FANOUT, Gossip};
use crate::identity::Id;
use crate::proof::Statement;
use crate::table::{Row, RowState, Table, Word};
use crate::watch::Watches;
use crate::{Config, Effect, Goodbye, Incarnation, Input, Lie, Member, MemberView, Notary, Verdict};
use entry::{Entry, Phase};
use essaim_wire::{Accusation, Moment, NodeId, Rings};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Minimum time between urgent rounds of gossip, so that many losses at once share their packets.
const ROUND_GAP: Duration = Duration::from_millis(20);

/// Upper bound on the members that a node accuses: eight on its rings, those that it took over from lost neighbours,
/// and those that its slow probes found in an outage. Above it, a further accusation is not added.
pub const BALLOT_MAX: usize = 64;

/// Minimum time between two [`Verdict::Lied`] about the same peer.
const LIE_GAP: Duration = Duration::from_secs(10);

/// Time after a stall in which no deadline counts: what queued up in sockets is read first.
const SETTLE: Duration = Duration::from_millis(100);

/// Decides which members are alive. The crate's documentation describes the algorithm.
pub struct Detector {
    config: Config,
    entries: BTreeMap<NodeId, Entry>,
    /// Accused members, so that their accusations can be weighed again without a walk through all entries.
    accused: BTreeSet<NodeId>,
    /// This node's own accusations: members that it missed or failed to reach, and nothing that other members told it.
    ballot: BTreeMap<NodeId, Accusation>,
    rings: Rings,
    /// Whether the rings changed since the subjects were chosen.
    moved: bool,
    /// Whether a fact changed that other verdicts depend on: an observer is accused, or the rings moved.
    reweigh: bool,
    watches: Watches,
    /// This node's observers, with the moment since which each may have been heard: it became one then, or this node
    /// stood still or was cut off until then.
    watchers: BTreeMap<NodeId, Moment>,
    /// Recent lateness of this node's ticks: the worst one, fading by an eighth with each tick.
    lag: Duration,
    gossip: Gossip,
    notary: Arc<dyn Notary>,
    /// The last signed statement of this node about itself.
    own: Option<Statement>,
    /// Peers that lied, with the moment of their last [`Verdict::Lied`].
    liars: BTreeMap<NodeId, Moment>,
    agenda: Agenda<Due>,
    rng: ChaCha8Rng,
    now: Moment,
    effects: Vec<Effect>,
    started: bool,
    /// Whether this node missed too many subjects at the last tick to accuse any.
    gated: bool,
    /// Whether this node has concluded [`Verdict::Isolated`], and not yet [`Verdict::Rejoined`].
    isolated: bool,
    leaving: Option<Goodbye>,
    /// Nodes that were removed from the cluster.
    removed: BTreeSet<NodeId>,
    /// Whether this node is reading its first table, whose content is no news worth spreading.
    quiet: bool,
    /// Whether there is news to spread before the next tick.
    eager: bool,
    next_round: Moment,
    round_planned: bool,
    /// Interval until tables are compared again: short after the start, since members that join together miss part of
    /// each other's news.
    compare_after: Duration,
    /// Earliest moment of the next table comparison because of an open accusation.
    next_inquiry: Moment,
    /// Number of the last phase of any member. All members share the counter, so that a member that was forgotten and
    /// met again gets no old number.
    era: u64,
    version: u64,
    /// Members whose view changed since the last call of [`Detector::changes`].
    touched: BTreeSet<NodeId>,
}

/// Timers of the detector.
#[derive(Debug)]
enum Due {
    Tick,
    /// An urgent round of gossip that had to wait for [`ROUND_GAP`].
    Round,
    Foca(foca::Timer<Id>),
    Member(NodeId, Deadline),
    Join,
    PushPull,
    Reconnect,
    /// Repeats the goodbye; the number counts the repetitions left after this one.
    Farewell(u32),
}

/// Deadlines of one member; the number is the era of the phase in which the deadline was set.
#[derive(Debug, Clone, Copy)]
enum Deadline {
    Grace(u64),
    Overdue(u64),
    Patience(u64),
    Steady(u64),
    Forget(u64),
    Suspicion,
    Inquiry,
}

impl Detector {
    /// Time for which the endpoint should stay open after [`Input::Goodbye`], so that all members hear it.
    pub const FAREWELL: Duration = Duration::from_millis(100);

    /// A detector that knows only `me`. The seed decides all its random choices. `last` is the incarnation that an
    /// earlier detector had reached in the same start of the node.
    pub fn new(config: Config, me: Member, last: Option<Incarnation>, notary: Arc<dyn Notary>, seed: u64) -> Self {
        let mut rings = Rings::new(config.ring_count());
        rings.insert(me.node);
        Self {
            gossip: Gossip::new(&config, Id::after(me, last), seed ^ 0x666f_6361),
            notary,
            own: None,
            liars: BTreeMap::new(),
            config,
            entries: BTreeMap::new(),
            accused: BTreeSet::new(),
            ballot: BTreeMap::new(),
            rings,
            moved: true,
            reweigh: false,
            watches: Watches::default(),
            watchers: BTreeMap::new(),
            lag: Duration::ZERO,
            agenda: Agenda::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Moment::START,
            effects: Vec::new(),
            started: false,
            gated: false,
            isolated: false,
            leaving: None,
            removed: BTreeSet::new(),
            quiet: false,
            eager: false,
            next_round: Moment::START,
            round_planned: false,
            compare_after: rounds::FIRST_COMPARE,
            next_inquiry: Moment::START,
            era: 0,
            version: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Handles one input at the moment `now` and appends the resulting effects.
    pub fn handle(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if let Some(lost) = self.agenda.stall(self.now, &self.config) {
            self.on_stall(lost);
        }
        match input {
            Input::Timer(wake) => {
                if self.agenda.take(wake) {
                    self.run_due();
                }
            }
            // After its goodbye a node handles nothing but timers: a refutation would take the goodbye back.
            _ if self.leaving.is_some() => (),
            Input::Start => self.start(),
            Input::Datagram { from, bytes } => self.on_datagram(from, &bytes),
            Input::SessionUp { node } => self.on_session_up(node),
            Input::SessionLost { node, how } => self.on_session_lost(node, how),
            Input::Refused(node) => self.on_refused(node),
            Input::Members { from, bytes } => self.on_table(from, &bytes),
            Input::Learn(members) => self.learn(members),
            Input::Changed { addr, role } => self.on_change(addr, role),
            Input::Removed(node) => self.remove(node),
            Input::Goodbye(goodbye) => self.leave(goodbye),
            Input::Stalled => self.on_stall(Duration::ZERO),
        }
        self.settle();
        effects.append(&mut self.effects);
    }

    /// This node's identity as other members see it.
    pub fn me(&self) -> Member {
        self.gossip.me().member()
    }

    /// This node's incarnation.
    pub const fn incarnation(&self) -> Incarnation {
        self.gossip.incarnation()
    }

    /// Timing and sizes in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Views of all members except this node, sorted by id.
    pub fn members(&self) -> Vec<MemberView> {
        self.entries.values().map(|entry| self.view(entry)).collect()
    }

    /// Members whose view changed since the last call, with the present view; `None` for a forgotten member. A copy of
    /// the table that is maintained from this costs what changes, and not the size of the cluster.
    pub fn changes(&mut self) -> Vec<(NodeId, Option<MemberView>)> {
        let mut touched = std::mem::take(&mut self.touched);
        // Round trips change with every heartbeat and accusers with the rings; neither is recorded in `touched`.
        touched.extend(self.watches.subjects());
        touched.extend(&self.accused);
        touched.into_iter().map(|node| (node, self.member(node))).collect()
    }

    /// View of one member.
    pub fn member(&self, node: NodeId) -> Option<MemberView> {
        self.entries.get(&node).map(|entry| self.view(entry))
    }

    /// Whether this node misses most of its subjects, and so is probably cut off itself.
    pub const fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Version of [`members`](Self::members), [`me`](Self::me) and [`incarnation`](Self::incarnation): grows with every
    /// change, except of round trips.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Members that this node accuses by its own observation, at most [`BALLOT_MAX`]. The ballot is this node's vote,
    /// which moves tasks when it reaches a manager over this node's own link. [`version`](Self::version) also counts
    /// its changes.
    pub fn ballot(&self) -> Vec<Accusation> {
        self.ballot.values().copied().collect()
    }

    /// Observers of a node, by this node's view of the rings.
    #[cfg(test)]
    pub(crate) fn observers(&self, node: NodeId) -> Vec<NodeId> {
        self.rings.observers(node)
    }

    /// This node's table, to send to the other side of a push-pull.
    pub fn push_pull(&self) -> Table {
        let me = Row {
            id: self.gossip.me(),
            incarnation: self.gossip.incarnation(),
            state: RowState::Present,
            record: None,
            word: self.own.as_ref().filter(|own| own.goodbye.is_none()).map(Word::of),
        };
        let row = |entry: &Entry| {
            let state = match entry.phase {
                // An expected member was never heard: there is nothing to tell about it.
                Phase::Expected => return None,
                Phase::Present | Phase::Unreachable => RowState::Present,
                Phase::Restarting { until } => RowState::Restarting { within: until.saturating_since(self.now) },
                Phase::Down { stopped: false } => RowState::Down,
                Phase::Down { stopped: true } => RowState::Stopped,
                Phase::Left => RowState::Left,
            };
            let record = entry.record.as_ref().map(Into::into);
            let word = entry.word.clone();
            Some(Row { id: entry.id, incarnation: entry.incarnation, state, record, word })
        };
        Table::write(std::iter::once(me).chain(self.entries.values().filter_map(row)).collect())
    }

    fn view(&self, entry: &Entry) -> MemberView {
        MemberView {
            member: entry.id.member(),
            incarnation: entry.incarnation,
            proven: entry.proven,
            state: entry.state(),
            since: entry.since,
            accusers: self.accusers(entry),
            flapping: entry.flap.is_flapping(),
            rtt: self.watches.get(entry.id.node).and_then(|watch| watch.rtt()),
        }
    }

    /// Accusers of a member, by this node's view of the rings.
    fn accusers(&self, entry: &Entry) -> Vec<NodeId> {
        let Some(record) = &entry.record else { return Vec::new() };
        let observers = self.rings.observers(entry.id.node);
        let mut accusers: Vec<NodeId> =
            observers.iter().enumerate().filter(|(i, _)| record.is_by(*i)).map(|(_, &node)| node).collect();
        for prober in record.probers() {
            if !accusers.contains(prober) {
                accusers.push(*prober);
            }
        }
        accusers
    }

    fn me_node(&self) -> NodeId {
        self.gossip.me().node
    }

    /// This node's statement about itself; signed once for each distinct content.
    fn state(&mut self, goodbye: Option<Goodbye>) -> Statement {
        let (id, incarnation) = (self.gossip.me(), self.gossip.incarnation());
        let said = |own: &&Statement| (own.id, own.incarnation, own.goodbye) == (id, incarnation, goodbye);
        if let Some(own) = self.own.as_ref().filter(said) {
            return own.clone();
        }
        let statement = Statement::sign(&*self.notary, id, incarnation, goodbye);
        self.own = Some(statement.clone());
        statement
    }

    /// Concludes that a peer lied, at most once per [`LIE_GAP`].
    fn on_lie(&mut self, node: NodeId, about: NodeId, lie: Lie) {
        let now = self.now;
        self.liars.retain(|_, at| now.saturating_since(*at) < LIE_GAP);
        if self.entries.contains_key(&node) && !self.liars.contains_key(&node) {
            self.liars.insert(node, now);
            self.conclude(Verdict::Lied { node, about, lie });
        }
    }

    fn conclude(&mut self, verdict: Verdict) {
        self.effects.push(Effect::Verdict(verdict));
    }

    /// Sends a direct datagram to one member; it also tells the member whether it is doubted.
    fn say(&mut self, to: NodeId, say: Say) {
        let direct = Direct {
            id: self.gossip.me(),
            incarnation: self.gossip.incarnation(),
            doubt: self.entries.get(&to).and_then(Entry::doubt),
            say,
        };
        self.effects.push(Effect::Send { to, bytes: direct.write() });
    }

    /// Moves a member to another phase: rings, accusations, foca, and the deadline of the new phase.
    fn enter(&mut self, node: NodeId, phase: Phase) {
        let Some(entry) = self.entries.get_mut(&node) else { return };
        self.era += 1;
        entry.era = self.era;
        (entry.phase, entry.since) = (phase, self.now);
        let (id, incarnation, era) = (entry.id, entry.incarnation, entry.era);
        if phase.is_on_rings() {
            self.moved |= self.rings.insert(node);
        } else {
            self.moved |= self.rings.remove(node);
            self.accused.remove(&node);
            if phase != (Phase::Down { stopped: false }) {
                entry.clear();
                self.ballot.remove(&node);
            }
        }
        // Gossip and slow probes go only to members that can hear them. Observers still send heartbeats to unreachable
        // members.
        if !matches!(phase, Phase::Expected | Phase::Present) && !std::mem::replace(&mut entry.held_down, true) {
            self.gossip.hold_down(id, incarnation);
        }
        self.gossip.fit(self.rings.len());
        let deadline = match phase {
            Phase::Expected => Some((self.now + self.config.patience, Deadline::Patience(era))),
            Phase::Present if entry.flap.is_flapping() => {
                Some((self.now + self.config.flap_pause, Deadline::Steady(era)))
            }
            Phase::Present => None,
            Phase::Unreachable => Some((self.now + self.config.grace, Deadline::Grace(era))),
            Phase::Restarting { until } => Some((until, Deadline::Overdue(era))),
            Phase::Down { .. } | Phase::Left => Some((self.now + self.config.forget, Deadline::Forget(era))),
        };
        if let Some((at, deadline)) = deadline {
            self.agenda.add(at, Due::Member(node, deadline));
        }
        self.touch(node);
    }

    /// Records that the view of a member changed.
    fn touch(&mut self, node: NodeId) {
        self.version += 1;
        self.touched.insert(node);
    }

    /// Ends the handling of an input: drains foca's requests, spreads urgent news, arms the next wake-up.
    fn settle(&mut self) {
        self.drain_gossip();
        if self.eager && self.leaving.is_none() {
            if self.now >= self.next_round {
                self.eager = false;
                self.next_round = self.now + ROUND_GAP;
                self.gossip_round();
                self.drain_gossip();
            } else if !self.round_planned {
                self.round_planned = true;
                self.agenda.add(self.next_round, Due::Round);
            }
        }
        self.agenda.arm(self.now, &mut self.effects);
    }

    /// Sends one round of gossip to neighbours on the rings.
    fn gossip_round(&mut self) {
        let hearers: Vec<NodeId> = self.neighbours().sample(&mut self.rng, FANOUT.get()).copied().collect();
        self.gossip.round(&hearers);
    }

    /// Present members that this node observes or is observed by. Sessions with them exist anyway, and the rings
    /// together are as good as chance for spreading and for comparing.
    fn neighbours(&self) -> Vec<NodeId> {
        let observers = self.rings.observers(self.me_node());
        let all: BTreeSet<NodeId> = self.watches.subjects().chain(observers).collect();
        let heard = |node: &NodeId| self.entries.get(node).is_some_and(|entry| entry.phase == Phase::Present);
        all.into_iter().filter(heard).collect()
    }

    fn drain_gossip(&mut self) {
        loop {
            let out = self.gossip.take();
            if out.sends.is_empty() && out.timers.is_empty() && out.suspects.is_empty() {
                return;
            }
            for (to, bytes) in out.sends {
                self.effects.push(Effect::Send { to, bytes });
            }
            for (after, timer) in out.timers {
                self.agenda.add(self.now + after, Due::Foca(timer));
            }
            for (id, incarnation) in out.suspects {
                self.on_probe_failed(id, incarnation);
            }
        }
    }
}
