//! Which nodes are lost, when that becomes a fact of the state, and how fast their tasks may be replaced.
//!
//! Tasks move on votes alone that reached a manager authenticated: each observer tells the manager it is linked to whom it
//! misses, and this core counts distinct observers by rings of its own ([`votes`]). From the roster it takes what a node
//! said of itself, proven: which start and incarnation it is in, that it restarts, that its tasks have ended. What else
//! gossip says moves nothing. It asks for the commits that make it known: `Unreachable` at once, `Down` when that has
//! lasted for the grace or the node said that its tasks have ended, `Reachable` when the node is heard of in a later
//! incarnation than the one that was missed, or links again. A node that restarts keeps its tasks and gets no new ones; so
//! does one that was unreachable three times in a minute, until it was steady for thirty seconds.
//!
//! Below a quorum there is a slow way: a node that no manager has had a link with for a while, and of which gossip, or
//! anybody's vote, says that it is gone.
//!
//! A new leader starts from the committed state, and counts every grace anew: it marks nobody down for what it did not see
//! itself, and nobody because leadership changed. Of a node that it hears nothing of at all it waits to hear for a while.
//!
//! It is level-triggered: whatever differs between what is committed and what should be is proposed, one proposal at
//! a time, and again when one was lost. While this node itself is isolated, nothing is concluded at all.
//!
//! The [`brake`] decides which lost nodes' slots may be filled elsewhere.

mod brake;
mod votes;

#[cfg(test)]
mod tests;

use brake::Brake;
use essaim_model::{Change, Node, State};
use essaim_wire::{Generation, Moment, NodeId, Reachability};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use votes::{Accusers, Census, Missed};

pub use votes::Ballots;

/// A node that this leader has not heard of at all counts as lost after this long without a link to any manager: longer
/// than a daemon takes to start again and link.
const ABSENCE_GRACE: Duration = Duration::from_secs(10);

/// A node that gossip or a vote says is gone counts as lost after this long without a link to any manager. The link of a
/// node that fell silent ends after three seconds, so this is the slow way, for what no quorum of observers is left to say.
const UNLINKED_MAX: Duration = Duration::from_secs(5);

/// A link tells that a node lives when it is older than this: that of one that fell silent has ended by then.
const LINK_PROVEN: Duration = Duration::from_secs(4);

/// A vote that no quorum shares, against a node that is linked, is a record after this long.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// Unreachable this often within [`FLAP_WINDOW`]: no new tasks.
const FLAPS: usize = 3;

/// Over how long losses are counted.
const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// How long a node that flapped must be steady before it gets tasks again.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// Changes in one proposal. With messages of [`MESSAGE_MAX`] bytes they take little more than half of the mebibyte that
/// a proposal may have; what is left over follows when the first piece is committed.
pub const PIECE_MAX: usize = 1_000;

/// Bytes of the message that says why a node cannot be reached. Up to nineteen accusers are named in it, each by its host
/// name.
pub const MESSAGE_MAX: usize = 512;

/// What is known of a member by the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It lives.
    Alive,
    /// It said that it will be back by then; its tasks go on meanwhile.
    Restarting {
        /// By then.
        until: Moment,
    },
    /// Gossip says that it cannot be reached, which moves nothing by itself.
    Missing,
    /// It said goodbye: its tasks have ended.
    Stopped {
        /// In words for people.
        why: String,
    },
}

/// The roster's word on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The member.
    pub node: NodeId,
    /// The start and the incarnation that the member itself said it is in, over a session of its own or over its
    /// signature; nothing of one that only others have told of.
    pub said: Option<(Generation, u32)>,
    /// What is known of it.
    pub seen: Seen,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The roster's word on members; at the beginning one for each. They are weighed once, however many there are.
    Seen(Vec<Sight>),
    /// Which nodes are linked to some manager now, and whom each accuses.
    Ballots(Ballots),
    /// Whether this node itself is cut off, and should not judge others.
    Isolated(bool),
    /// The state changed.
    Look,
    /// The proposal came back, made or not.
    Proposed,
    /// A wake-up.
    Elapsed(Wake),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Propose these; then say [`Input::Proposed`], whatever came of it.
    Propose(Vec<Change>),
    /// The nodes whose slots may be filled elsewhere are now these.
    Release(BTreeSet<NodeId>),
    /// An observer alone, or with too few others, says for long that it misses a node which is linked to a manager.
    Doubt {
        /// The observer.
        observer: NodeId,
        /// Whom it says it misses.
        subject: NodeId,
    },
    /// Wake at this moment.
    WakeAt(Moment, Wake),
}

/// Numbers the wake-ups; an older one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake(u64);

/// The core.
#[derive(Debug)]
pub struct Liveness {
    me: NodeId,
    begun: Moment,
    ballots: Ballots,
    census: Census,
    /// Votes that no quorum shares: since when each stands, and whether that was said.
    doubts: BTreeMap<(NodeId, NodeId), (Moment, bool)>,
    tracks: BTreeMap<NodeId, Track>,
    isolated: bool,
    /// A proposal is under way.
    proposing: bool,
    brake: Brake,
    released: BTreeSet<NodeId>,
    wake: Wake,
    armed: Option<Moment>,
}

/// What is known of one node.
#[derive(Debug)]
struct Track {
    /// Nothing as long as the roster does not know it.
    seen: Option<Seen>,
    /// The start and incarnation that it last said it is in.
    said: Option<Era>,
    /// Whether a manager has a link with it, and since when it is so.
    linked: bool,
    linked_since: Moment,
    lost: Option<Lost>,
    /// Why it was lost, in words for people.
    why: String,
    /// It was lost, and found again by this leader.
    found: bool,
    /// When it was lost lately.
    losses: Vec<Moment>,
    flapping: bool,
    steady_since: Moment,
}

/// A start of a node's daemon, and an incarnation in it.
type Era = (Generation, u32);

/// That a node is missing.
#[derive(Debug, Clone, Copy)]
struct Lost {
    since: Moment,
    /// The newest that was known of it then: what it says in a later one ends this.
    era: Era,
    /// Since when for good.
    down: Option<Moment>,
    /// Since when its slots may be filled elsewhere.
    released: Option<Moment>,
}

impl Liveness {
    /// Of a leader that begins now, as the node `me`. Observers stand on so many rings.
    pub fn new(now: Moment, me: NodeId, rings: usize) -> Self {
        Self {
            me,
            begun: now,
            ballots: Ballots::new(),
            census: Census::new(rings),
            doubts: BTreeMap::new(),
            tracks: BTreeMap::new(),
            isolated: false,
            proposing: false,
            brake: Brake::new(now),
            released: BTreeSet::new(),
            wake: Wake(0),
            armed: None,
        }
    }

    /// The nodes whose slots may be filled elsewhere.
    pub const fn released(&self) -> &BTreeSet<NodeId> {
        &self.released
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, state: &State, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Seen(sights) => sights.into_iter().for_each(|sight| self.hear(now, state, sight)),
            Input::Ballots(ballots) => self.ballots = ballots,
            Input::Isolated(isolated) => self.on_isolated(now, isolated),
            Input::Look => (),
            Input::Proposed => self.proposing = false,
            Input::Elapsed(wake) if wake == self.wake => self.armed = None,
            Input::Elapsed(_) => return,
        }
        self.weigh(now, state, effects);
    }

    fn hear(&mut self, now: Moment, state: &State, sight: Sight) {
        let Sight { node, said, seen } = sight;
        let unsteady = state.node(node).is_some_and(|node| node.unsteady);
        let track = self.tracks.entry(node).or_insert_with(|| Track::new(now, unsteady));
        // What nobody but gossip says counts only where it confirms what is known otherwise.
        if said.is_none() && seen != Seen::Missing || track.said > said.or(track.said) {
            return;
        }
        if track.seen.is_none() && matches!(seen, Seen::Restarting { .. }) {
            // That is why the former leader gave it nothing new.
            track.flapping = false;
        }
        if track.said.is_none()
            && said.is_some()
            && let Some(lost) = &mut track.lost
        {
            // It was lost for want of any word of it, and whatever it says now is one.
            lost.era = Era::default();
        }
        (track.said, track.seen) = (said.or(track.said), Some(seen));
    }

    /// What was concluded while nobody could be heard does not count.
    fn on_isolated(&mut self, now: Moment, isolated: bool) {
        if self.isolated && !isolated {
            for lost in self.tracks.values_mut().filter_map(|track| track.lost.as_mut()) {
                lost.since = lost.since.max(now);
            }
            self.begun = now;
        }
        self.isolated = isolated;
    }

    fn weigh(&mut self, now: Moment, state: &State, effects: &mut Vec<Effect>) {
        if self.isolated {
            return;
        }
        let mut next = Next(None);
        let grace = state.cluster().map_or(Duration::from_secs(3), |cluster| cluster.spec.grace);
        self.tracks.retain(|id, _| state.node(*id).is_some());
        for node in state.nodes() {
            let unsteady = node.unsteady;
            let track = self.tracks.entry(node.id).or_insert_with(|| Track::new(now, unsteady));
            track.on_link(now, self.ballots.contains_key(&node.id));
        }
        let accused = self.accused(state);
        let missed = self.count(now, state, &accused);
        let mut changes = Vec::new();
        for node in state.nodes() {
            let Some(track) = self.tracks.get_mut(&node.id) else { continue };
            let missed = missed.get(&node.id).filter(|_| node.id != self.me);
            if let Some(missed) = missed.filter(|_| track.lost.is_none()) {
                track.why = words(missed, state);
            }
            track.advance(now, self.begun, node, missed.is_some(), accused.contains_key(&node.id), &mut next);
            track.mature(now, node, grace, &mut next);
            let alive = track.is_alive(now, node, &mut next);
            track.differences(now, node, alive, &mut changes);
        }
        self.doubt(now, &accused, &mut next, effects);
        self.brake.release(now, &mut self.tracks, &mut next);
        // The fact comes before what follows from it.
        if !changes.is_empty() && !self.proposing {
            changes.truncate(PIECE_MAX);
            self.proposing = true;
            effects.push(Effect::Propose(changes));
        }
        let released: BTreeSet<NodeId> =
            self.tracks.iter().filter(|(_, track)| track.is_released()).map(|(id, _)| *id).collect();
        if released != self.released {
            self.released.clone_from(&released);
            effects.push(Effect::Release(released));
        }
        if let Some(at) = next.0
            && self.armed.is_none_or(|armed| at < armed || armed <= now)
        {
            self.wake.0 += 1;
            self.armed = Some(at);
            effects.push(Effect::WakeAt(at, self.wake));
        }
    }
}

impl Liveness {
    /// Whom the ballots accuse in the incarnation in force, or one that this leader has yet to hear of.
    fn accused(&self, state: &State) -> Accusers {
        let mut accused = Accusers::new();
        for (observer, ballot) in self.ballots.iter().filter(|(observer, _)| state.node(**observer).is_some()) {
            for accusation in ballot.iter() {
                let subject = state.node(accusation.node).zip(self.tracks.get(&accusation.node));
                let Some((node, track)) = subject else { continue };
                if (accusation.generation, accusation.incarnation) >= track.era(node) {
                    accused.entry(node.id).or_default().push(*observer);
                }
            }
        }
        accused
    }

    fn count(&mut self, now: Moment, state: &State, accused: &Accusers) -> BTreeMap<NodeId, Missed> {
        let stands = |node: &&std::sync::Arc<Node>| {
            let is_here = matches!(node.reachability, Reachability::Reachable | Reachability::Unreachable);
            let track = self.tracks.get(&node.id);
            is_here && track.is_none_or(|track| !track.is_away(now, node))
        };
        let on_rings: BTreeSet<NodeId> = state.nodes().filter(stands).map(|node| node.id).collect();
        self.census.retarget(&on_rings);
        let tracks = &self.tracks;
        self.census.count(accused, |node| tracks.get(&node).is_some_and(|track| track.lost.is_some()))
    }

    /// Says which votes no quorum shares for long. Either a way between two nodes is broken, or an observer lies.
    fn doubt(&mut self, now: Moment, accused: &Accusers, next: &mut Next, effects: &mut Vec<Effect>) {
        let mut doubts = BTreeMap::new();
        for (subject, by) in accused {
            if self.tracks.get(subject).is_none_or(|track| track.lost.is_some() || !track.linked) {
                continue;
            }
            let observers: BTreeSet<&NodeId> = by.iter().collect();
            for observer in observers {
                let known = self.doubts.get(&(*observer, *subject)).copied();
                let (since, mut said) = known.unwrap_or((now, false));
                if !said && next.is_due(now, since + DOUBT_AFTER) {
                    said = true;
                    effects.push(Effect::Doubt { observer: *observer, subject: *subject });
                }
                doubts.insert((*observer, *subject), (since, said));
            }
        }
        self.doubts = doubts;
    }
}

impl Track {
    const fn new(now: Moment, unsteady: bool) -> Self {
        Self {
            seen: None,
            said: None,
            linked: false,
            linked_since: now,
            lost: None,
            why: String::new(),
            found: false,
            losses: Vec::new(),
            flapping: unsteady,
            steady_since: now,
        }
    }

    const fn is_released(&self) -> bool {
        matches!(self.lost, Some(Lost { released: Some(_), .. }))
    }

    fn on_link(&mut self, now: Moment, linked: bool) {
        if self.linked != linked {
            (self.linked, self.linked_since) = (linked, now);
        }
    }

    /// The newest that is known of a node by its own link, its own session or its signature.
    fn era(&self, node: &Node) -> Era {
        self.said.unwrap_or_default().max((node.generation, 0))
    }

    /// What the roster says of the start that is in force.
    fn current(&self, node: &Node) -> Option<&Seen> {
        self.seen.as_ref().filter(|_| self.said.is_none_or(|(generation, _)| generation >= node.generation))
    }

    /// Whether it said that it is away, and so observes nobody.
    fn is_away(&self, now: Moment, node: &Node) -> bool {
        match self.current(node) {
            Some(Seen::Restarting { until }) => now < *until,
            Some(Seen::Stopped { .. }) => true,
            _ => node.has_left(),
        }
    }

    /// Whether it is lost or found by now.
    fn advance(&mut self, now: Moment, begun: Moment, node: &Node, missed: bool, accused: bool, next: &mut Next) {
        let (era, restarts) = (self.era(node), self.is_away(now, node));
        let (stopped, until) = match self.current(node) {
            Some(Seen::Stopped { why }) => (Some(why.clone()), None),
            Some(Seen::Restarting { until }) => (None, Some(*until)),
            _ => (None, None),
        };
        // It said so itself, over its own link, whatever the roster says of it.
        let stopped = stopped.or_else(|| node.has_left().then(|| "it left the cluster".to_owned()));
        if let Some(lost) = self.lost {
            let anew = era > lost.era || self.linked && self.linked_since > lost.since;
            let is_overdue = until.is_some_and(|until| now >= until);
            if anew && !missed && stopped.is_none() && !is_overdue {
                (self.lost, self.found, self.steady_since) = (None, true, now);
            }
        }
        if self.lost.is_some() {
            return;
        }
        let mut since = now;
        if let Some(why) = stopped {
            self.why = why;
        } else if let Some(until) = until.filter(|until| next.is_due(now, *until)) {
            since = until;
            self.why = "it did not come back from its restart in time".into();
        } else if missed && !restarts {
            // Its accusers are named already.
        } else if self.absent_from(begun, node, accused).is_some_and(|at| next.is_due(now, at)) {
            self.why = match self.seen {
                Some(_) => "others miss it, and it is linked to no manager".into(),
                None => "it was not heard of since this leader began".into(),
            };
        } else {
            return;
        }
        let down = (self.seen.is_none() && node.reachability == Reachability::Down).then_some(since);
        self.lost = Some(Lost { since, era, down, released: None });
        self.found = false;
        self.losses.retain(|at| now.saturating_since(*at) < FLAP_WINDOW);
        self.losses.push(now);
        self.flapping |= self.losses.len() >= FLAPS;
    }

    /// From when on a node without a link is lost; never, if nobody says that it is gone.
    fn absent_from(&self, begun: Moment, node: &Node, accused: bool) -> Option<Moment> {
        // Never heard of since it was accepted: nobody expects anything of it.
        if self.linked || node.reachability == Reachability::Unknown {
            return None;
        }
        let unlinked = self.linked_since.max(begun);
        match self.seen {
            None if node.reachability == Reachability::Down => Some(begun),
            None => Some(unlinked + ABSENCE_GRACE),
            Some(Seen::Missing) => Some(unlinked + UNLINKED_MAX),
            Some(_) => accused.then_some(unlinked + UNLINKED_MAX),
        }
    }

    /// What has become of its loss or its return by now.
    fn mature(&mut self, now: Moment, node: &Node, grace: Duration, next: &mut Next) {
        let stopped = node.has_left() || matches!(self.seen, Some(Seen::Stopped { .. }));
        if let Some(lost) = &mut self.lost
            && lost.down.is_none()
            && (stopped || next.is_due(now, lost.since + grace))
        {
            lost.down = Some(now);
        }
        if self.flapping && self.lost.is_none() && next.is_due(now, self.steady_since + STEADY_AFTER) {
            self.flapping = false;
        }
    }

    /// Whether the node is known to live, and not only not known to be lost.
    fn is_alive(&self, now: Moment, node: &Node, next: &mut Next) -> bool {
        let was_lost = matches!(node.reachability, Reachability::Unreachable | Reachability::Down);
        let is_linked = self.linked && (!was_lost || next.is_due(now, self.linked_since + LINK_PROVEN));
        let is_seen = matches!(self.current(node), Some(Seen::Alive | Seen::Restarting { .. }));
        self.found || is_linked || is_seen
    }

    /// What is committed of it and should not be so.
    fn differences(&self, now: Moment, node: &Node, alive: bool, changes: &mut Vec<Change>) {
        let restarting = matches!(self.current(node), Some(Seen::Restarting { until }) if now < *until);
        let (reachability, message) = match self.lost {
            None if !alive => (node.reachability, node.message.clone()),
            None if restarting => (Reachability::Reachable, "the node is restarting".to_owned()),
            None if self.flapping => (Reachability::Reachable, unsteady_words()),
            None => (Reachability::Reachable, String::new()),
            Some(Lost { down: Some(_), .. }) if node.has_left() => {
                (Reachability::Down, "the node left the cluster".to_owned())
            }
            Some(Lost { down: Some(_), .. }) => (Reachability::Down, format!("node is down: {}", self.why)),
            Some(_) => (Reachability::Unreachable, format!("node is unreachable: {}", self.why)),
        };
        let message = cut(message);
        let says_why = (reachability == Reachability::Reachable || node.has_left()) && message != node.message;
        if reachability != node.reachability || says_why {
            // Which start of its daemon it is in, a node says over its own link; this is about that one.
            let generation = node.generation;
            changes.push(Change::SetReachability { id: node.id, generation, reachability, message });
        }
        let unsteady = self.flapping || restarting;
        if unsteady != node.unsteady {
            changes.push(Change::SetSteadiness { id: node.id, unsteady });
        }
    }
}

/// Who misses a node.
fn words(missed: &Missed, state: &State) -> String {
    let name = |node: &NodeId| state.node(*node).map_or_else(|| node.to_string(), |node| node.name());
    let mut names: Vec<String> = missed.accusers.iter().map(name).collect();
    names.sort();
    let mut words = format!("missed by {}", names.join(", "));
    if !missed.implicit.is_empty() {
        let mut lost: Vec<String> = missed.implicit.iter().map(name).collect();
        lost.sort();
        words.push_str(&format!("; its observers {} are lost themselves", lost.join(", ")));
    }
    words
}

/// The first [`MESSAGE_MAX`] bytes of a message, or a little less where that would cut a character in two.
fn cut(mut message: String) -> String {
    let end = (0..=MESSAGE_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.truncate(end);
    message
}

/// Why a node that can be reached gets nothing.
fn unsteady_words() -> String {
    let (window, steady) = (FLAP_WINDOW.as_secs(), STEADY_AFTER.as_secs());
    format!("unreachable {FLAPS} times within {window} s: no new tasks until it was steady for {steady} s")
}

/// The earliest moment at which something is due.
pub(crate) struct Next(Option<Moment>);

impl Next {
    /// Whether it is time; otherwise remembers when it will be.
    fn is_due(&mut self, now: Moment, at: Moment) -> bool {
        if now >= at {
            return true;
        }
        self.0 = Some(self.0.map_or(at, |earlier| earlier.min(at)));
        false
    }
}
