//! Liveness: which nodes are lost, when that is committed, and how fast their tasks may be replaced.
//!
//! Tasks are moved only by votes that reached a manager authenticated: each observer tells its linked manager which
//! nodes it misses, and this core counts distinct observers on rings that it computes itself ([`votes`]). From the
//! roster it takes only what a node has proven to have said of itself: its generation and incarnation, that it
//! restarts, that its tasks have ended. Anything else from gossip moves nothing. The core asks for these commits:
//! `Unreachable` at once; `Down` when the loss has lasted for the grace or the node said that its tasks have ended;
//! `Reachable` when the node returns. A node that restarts keeps its tasks and gets no new ones. A node that was
//! unreachable three times in a minute gets none until it was steady for thirty seconds.
//!
//! A return takes evidence that is newer than the loss: a later generation or incarnation than the newest one that is
//! known to be missed ([`Lost::era`]), or a new link ([`Track::has_new_link`]). That votes end is no evidence, because
//! the observers of a node that is `Down` watch it no longer. Nor is the first that a new leader hears of the node:
//! a report that it is missing, a report from before its death, a link that another manager has not seen end.
//!
//! Below a quorum of observers there is a slow path: a node is lost when no manager has had a link with it for a while
//! and gossip, or a single vote, says that it is gone.
//!
//! A new leader starts from the committed state and counts every grace anew: it marks no node down for what it did not
//! observe itself, nor because leadership changed. For a node of which it hears nothing at all it waits for a while. A
//! node that is committed as lost stays so until there is evidence of its return.
//!
//! The core is level-triggered: each difference between the committed and the wanted state is proposed, one proposal at
//! a time, and again when a proposal was lost. While this node itself is isolated, it concludes nothing.
//!
//! The [`brake`] decides which lost nodes' slots may be filled elsewhere.

mod brake;
mod votes;

#[cfg(test)]
mod tests;

use brake::Brake;
use essaim_model::{Change, Node, State};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, Moment, NodeId, Reachability};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use votes::{Accusers, Census, Missed};

pub use votes::Ballots;

/// Time without a link to any manager after which a node that this leader has never heard of counts as lost: longer
/// than a daemon takes to restart and link.
const ABSENCE_GRACE: Duration = Duration::from_secs(10);

/// Time without a link to any manager after which a node counts as lost if gossip or a vote says that it is gone. The
/// link of a silent node ends after three seconds, so this is the slow path, for a loss that no quorum of observers can
/// report.
const UNLINKED_MAX: Duration = Duration::from_secs(5);

/// Age from which a link proves that its node lives: the link of a silent node has ended by then.
const LINK_PROVEN: Duration = Duration::from_secs(4);

/// Time after which a vote against a linked node, without a quorum, is written to the journal.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// How long an accusation may be taken back, and count from its beginning when it is made again: an observer that lies
/// also says what its daemon sees, in turn.
const DOUBT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Losses within [`FLAP_WINDOW`] after which a node counts as flapping and gets no new tasks.
const FLAPS: usize = 3;

/// Window in which the losses of a node are counted.
const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// Time for which a flapping node must be steady before it gets tasks again.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// Upper bound in bytes on the message that says why a node cannot be reached. It names up to nineteen accusers by
/// their host names.
pub const MESSAGE_MAX: usize = 512;

/// State of a member according to the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterState {
    /// The member lives.
    Alive,
    /// The member announced a restart; its tasks go on meanwhile.
    Restarting {
        /// Time by which the member said it would be back.
        until: Moment,
    },
    /// Gossip says that the member cannot be reached; that alone moves no task.
    Missing,
    /// The member said goodbye: its tasks have ended.
    Stopped {
        /// Reason of the goodbye, for people.
        why: String,
    },
}

/// The roster's report on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterReport {
    /// Id of the member.
    pub node: NodeId,
    /// Generation and incarnation that the member itself stated, over a session of its own or with its signature; none
    /// for a member of which only others have told.
    pub said: Option<(Generation, u32)>,
    /// State of the member.
    pub seen: RosterState,
}

/// Inputs of the liveness core: reports of the roster, ballots, and events of its own actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Reports of the roster on members, at first one for each member. All of them are taken in before losses are
    /// counted.
    Roster(Vec<RosterReport>),
    /// The nodes that are linked to any manager, and the nodes that each of them accuses.
    Ballots(Ballots),
    /// Whether this node itself is isolated and must not judge others.
    Isolated(bool),
    /// The state has changed.
    Look,
    /// The proposal under way has ended, committed or not.
    Proposed,
    /// A wake-up that the core asked for by `WakeAt` is due.
    Elapsed(Wake),
}

/// Effects that the core asks its actor to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Propose as many of these changes as one proposal takes, from the first on, then send [`Input::Proposed`],
    /// whatever the outcome. The core decides anew about the others.
    Propose(Vec<Change>),
    /// The complete set of nodes whose slots may be filled elsewhere from now on.
    Release(BTreeSet<NodeId>),
    /// Fewer observers than a quorum have accused, for ten seconds, a node that is linked to a manager: record the
    /// doubt.
    Doubt {
        /// Node that accuses.
        observer: NodeId,
        /// Node that is accused.
        subject: NodeId,
    },
    /// Send `Elapsed` with this number at this moment.
    WakeAt(Moment, Wake),
}

/// Number of a wake-up; a wake-up with an older number is stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake(u64);

/// The core of liveness, on the leader.
#[derive(Debug)]
pub struct Liveness {
    me: NodeId,
    begun: Moment,
    ballots: Ballots,
    census: Census,
    /// Votes against linked nodes without a quorum, by observer and subject.
    doubts: BTreeMap<(NodeId, NodeId), Doubt>,
    tracks: BTreeMap<NodeId, Track>,
    isolated: bool,
    /// Whether a proposal is under way.
    proposing: bool,
    brake: Brake,
    released: BTreeSet<NodeId>,
    wake: Wake,
    armed: Option<Moment>,
}

/// What this leader knows of one node.
#[derive(Debug)]
struct Track {
    /// State of the node according to the roster; none while the roster does not know it.
    seen: Option<RosterState>,
    /// Generation and incarnation that the node itself stated last.
    said: Option<Era>,
    /// Whether a manager has a link with the node; `linked_since` is when that last changed.
    linked: bool,
    linked_since: Moment,
    /// Number of times that the node was linked when it had not been linked before.
    links: u64,
    lost: Option<Lost>,
    /// Why the node was lost, for people.
    why: String,
    /// Whether this leader saw the node lost and found again.
    found: bool,
    /// Moments of the node's recent losses.
    losses: Vec<Moment>,
    flapping: bool,
    steady_since: Moment,
}

/// Generation of a node's daemon, and incarnation within it.
type Era = (Generation, u32);

/// The loss of a node.
#[derive(Debug, Clone, Copy)]
struct Lost {
    since: Moment,
    /// Newest generation and incarnation in which the node is known to be missed; a word of the node from a later one
    /// ends the loss.
    era: Era,
    /// [`Track::links`] at the loss.
    links: u64,
    /// Whether neither the votes of a quorum nor a word of the node had told its incarnation by then. The node's first
    /// word then only says in which incarnation it was lost.
    unheard: bool,
    /// Moment at which the loss became final (`Down`).
    down: Option<Moment>,
    /// Moment from which the node's slots may be filled elsewhere.
    released: Option<Moment>,
}

impl Liveness {
    /// The core of a leader on node `me` that begins now. Observers are the neighbours on this number of rings.
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

    /// Handles one input, on the present state.
    pub fn handle(&mut self, now: Moment, state: &State, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Roster(reports) => reports.into_iter().for_each(|report| self.hear(now, state, report)),
            Input::Ballots(ballots) => self.ballots = ballots,
            Input::Isolated(isolated) => self.on_isolated(now, isolated),
            Input::Look => (),
            Input::Proposed => self.proposing = false,
            Input::Elapsed(wake) if wake == self.wake => self.armed = None,
            Input::Elapsed(_) => return,
        }
        self.weigh(now, state, effects);
    }

    fn hear(&mut self, now: Moment, state: &State, report: RosterReport) {
        let RosterReport { node, said, seen } = report;
        let unsteady = state.node(node).is_some_and(|node| node.unsteady);
        let track = self.tracks.entry(node).or_insert_with(|| Track::new(now, unsteady));
        // A report that rests on gossip alone counts only as `Missing`, and an older generation or incarnation not at
        // all.
        if said.is_none() && seen != RosterState::Missing || track.said > said.or(track.said) {
            return;
        }
        if track.seen.is_none() && matches!(seen, RosterState::Restarting { .. }) {
            // The node is marked unsteady because it announced a restart to the former leader, not because it flaps.
            track.flapping = false;
        }
        if track.said.is_none()
            && let Some(lost) = &mut track.lost
            && let Some(first) = said
        {
            if planted(Bug::FirstReportRevives) {
                lost.era = Era::default();
            } else if lost.unheard && first.0 == lost.era.0 {
                lost.era = lost.era.max(first);
            }
        }
        (track.said, track.seen) = (said.or(track.said), Some(seen));
    }

    /// Sets whether this node is isolated. After an isolation every grace starts anew, because silence meanwhile proves
    /// nothing.
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
            let missed = missed.map(|missed| missed_era(&self.ballots, node.id, missed));
            track.advance(now, self.begun, node, missed, accused.contains_key(&node.id), &mut next);
            track.mature(now, node, grace, &mut next);
            let alive = track.is_alive(now, self.begun, node, &mut next);
            track.differences(now, node, alive, &mut changes);
        }
        self.doubt(now, &accused, &mut next, effects);
        self.brake.release(now, &mut self.tracks, &mut next);
        // Proposed before the release, so that a loss is committed before tasks are moved because of it.
        if !changes.is_empty() && !self.proposing {
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
    /// Accusations that are valid: against the node's newest known generation and incarnation, or a later one.
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

    /// Reports each accusation that stays without a quorum for long. Either the path between two nodes is broken, or an
    /// observer lies.
    fn doubt(&mut self, now: Moment, accused: &Accusers, next: &mut Next, effects: &mut Vec<Effect>) {
        let tracks = &self.tracks;
        let stands = |subject: &NodeId| tracks.get(subject).is_some_and(|track| track.lost.is_none() && track.linked);
        self.doubts.retain(|(observer, subject), doubt| {
            let is_made = accused.get(subject).is_some_and(|by| by.contains(observer));
            let ended = *doubt.ended.get_or_insert(now);
            let goes_on = now.saturating_since(ended) <= DOUBT_PAUSE_MAX;
            if is_made {
                doubt.ended = None;
            }
            stands(subject) && goes_on
        });
        for (subject, by) in accused.iter().filter(|(subject, _)| stands(subject)) {
            let observers: BTreeSet<&NodeId> = by.iter().collect();
            for observer in observers {
                let first = Doubt { since: now, ended: None, said: false };
                let doubt = self.doubts.entry((*observer, *subject)).or_insert(first);
                if !doubt.said && next.is_due(now, doubt.since + DOUBT_AFTER) {
                    doubt.said = true;
                    effects.push(Effect::Doubt { observer: *observer, subject: *subject });
                }
            }
        }
    }
}

/// An accusation without a quorum.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Moment,
    /// When it was taken back, if it is not made now.
    ended: Option<Moment>,
    /// Whether it was reported.
    said: bool,
}

impl Track {
    const fn new(now: Moment, unsteady: bool) -> Self {
        Self {
            seen: None,
            said: None,
            linked: false,
            linked_since: now,
            links: 0,
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
            self.links += u64::from(linked);
        }
    }

    /// Whether a manager has a link with a lost node that it had not at the loss. A link may seem new because another
    /// manager told of it late, and the node be dead. So it counts when the roster says that the node lives, and
    /// otherwise when it is so old that the link of a dead node would have ended.
    fn has_new_link(&self, now: Moment, node: &Node, lost: Lost, next: &mut Next) -> bool {
        self.linked
            && self.links > lost.links
            && (self.is_seen(node) || next.is_due(now, self.linked_since + LINK_PROVEN))
    }

    /// Whether the roster says that the node lives.
    fn is_seen(&self, node: &Node) -> bool {
        matches!(self.current(node), Some(RosterState::Alive | RosterState::Restarting { .. }))
    }

    /// Newest generation and incarnation of a node, known by its own link, its own session or its signature.
    fn era(&self, node: &Node) -> Era {
        self.said.unwrap_or_default().max((node.generation, 0))
    }

    /// The roster's state of the node, unless it is about an older generation than the committed one.
    fn current(&self, node: &Node) -> Option<&RosterState> {
        self.seen.as_ref().filter(|_| self.said.is_none_or(|(generation, _)| generation >= node.generation))
    }

    /// Whether the node has announced that it is away, and so cannot observe others.
    fn is_away(&self, now: Moment, node: &Node) -> bool {
        match self.current(node) {
            Some(RosterState::Restarting { until }) => now < *until,
            Some(RosterState::Stopped { .. }) => true,
            _ => node.has_left(),
        }
    }

    /// Updates whether the node is lost. `missed` is the generation and incarnation in which a quorum misses the node.
    fn advance(
        &mut self,
        now: Moment,
        begun: Moment,
        node: &Node,
        missed: Option<Era>,
        accused: bool,
        next: &mut Next,
    ) {
        let (era, restarts) = (self.era(node), self.is_away(now, node));
        let (stopped, until) = match self.current(node) {
            Some(RosterState::Stopped { why }) => (Some(why.clone()), None),
            Some(RosterState::Restarting { until }) => (None, Some(*until)),
            _ => (None, None),
        };
        // A departure was announced over the node's own link, so it counts whatever the roster says.
        let stopped = stopped.or_else(|| node.has_left().then(|| "it left the cluster".to_owned()));
        let is_missing = matches!(self.current(node), Some(RosterState::Missing | RosterState::Stopped { .. }));
        if let Some(lost) = &mut self.lost
            && (missed.is_some() || is_missing)
            && !planted(Bug::FirstReportRevives)
        {
            // Votes and reports that count are about the newest incarnation, so the node is missed in that one too.
            lost.era = lost.era.max(era).max(missed.unwrap_or_default());
        }
        if let Some(lost) = self.lost {
            let anew = era > lost.era || self.has_new_link(now, node, lost, next);
            let is_overdue = until.is_some_and(|until| now >= until);
            if anew && missed.is_none() && stopped.is_none() && !is_overdue {
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
        } else if missed.is_some() && !restarts {
            // `why` names the accusers already.
        } else if self.absent_from(begun, node, accused).is_some_and(|at| next.is_due(now, at)) {
            self.why = match self.seen {
                Some(_) => "others miss it, and it is linked to no manager".into(),
                None => "it was not heard of since this leader began".into(),
            };
        } else {
            return;
        }
        // A node that was down when this leader began stays so. A node that was found has its whole grace again, also
        // while that is not committed yet.
        let down = (node.reachability == Reachability::Down && !self.found).then_some(since);
        let unheard = missed.is_none() && self.said.is_none();
        let era = era.max(missed.unwrap_or_default());
        self.lost = Some(Lost { since, era, links: self.links, unheard, down, released: None });
        self.found = false;
        self.losses.retain(|at| now.saturating_since(*at) < FLAP_WINDOW);
        self.losses.push(now);
        self.flapping |= self.losses.len() >= FLAPS;
    }

    /// Moment from which a node without a link counts as lost; none if it is linked or nothing says that it is gone.
    fn absent_from(&self, begun: Moment, node: &Node, accused: bool) -> Option<Moment> {
        // A node that was never heard of since it was accepted cannot be missed.
        if self.linked || node.reachability == Reachability::Unknown {
            return None;
        }
        let unlinked = self.linked_since.max(begun);
        match self.seen {
            // It was down when this leader began.
            _ if node.reachability == Reachability::Down && !self.found => Some(begun),
            None => Some(unlinked + ABSENCE_GRACE),
            Some(RosterState::Missing) => Some(unlinked + UNLINKED_MAX),
            Some(_) => accused.then_some(unlinked + UNLINKED_MAX),
        }
    }

    /// Turns a loss into a final one once its grace is over, and ends flapping once the node has been steady.
    fn mature(&mut self, now: Moment, node: &Node, grace: Duration, next: &mut Next) {
        let stopped = node.has_left() || matches!(self.seen, Some(RosterState::Stopped { .. }));
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

    /// Whether there is proof that the node lives, beyond the absence of a loss.
    fn is_alive(&self, now: Moment, begun: Moment, node: &Node, next: &mut Next) -> bool {
        let was_lost = matches!(node.reachability, Reachability::Unreachable | Reachability::Down);
        let is_linked = self.linked && (!was_lost || next.is_due(now, self.linked_since + LINK_PROVEN));
        // When this leader begins, the roster may not know yet that the node is dead.
        let is_seen = self.is_seen(node) && (!was_lost || self.linked || next.is_due(now, begun + LINK_PROVEN));
        self.found || is_linked || is_seen
    }

    /// Adds the changes by which the committed record of the node differs from what it should be.
    fn differences(&self, now: Moment, node: &Node, alive: bool, changes: &mut Vec<Change>) {
        let restarting = matches!(self.current(node), Some(RosterState::Restarting { until }) if now < *until);
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
            // The change is about the committed generation: a node states its generation over its own link only.
            let generation = node.generation;
            changes.push(Change::SetReachability { id: node.id, generation, reachability, message });
        }
        let unsteady = self.flapping || restarting;
        if unsteady != node.unsteady {
            changes.push(Change::SetSteadiness { id: node.id, unsteady });
        }
    }
}

/// The newest generation and incarnation in which all of these accusers miss a node. A liar among them may name a later
/// one, and so cannot keep a node lost that has refuted the others. A single accuser, whose fellows are lost themselves,
/// is not believed in this: a liar would name an incarnation that the node never reaches.
fn missed_era(ballots: &Ballots, node: NodeId, missed: &Missed) -> Era {
    if missed.accusers.len() < 2 {
        return Era::default();
    }
    let newest = |accuser: &NodeId| {
        let accusations = ballots.get(accuser)?.iter().filter(|accusation| accusation.node == node);
        accusations.map(|accusation| (accusation.generation, accusation.incarnation)).max()
    };
    missed.accusers.iter().filter_map(newest).min().unwrap_or_default()
}

/// The message that names the accusers of a node, and its observers that are lost themselves.
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

/// The first [`MESSAGE_MAX`] bytes of a message, or slightly fewer, so that no character is cut.
fn cut(mut message: String) -> String {
    let end = (0..=MESSAGE_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.truncate(end);
    message
}

/// The message that says why a reachable node gets no new tasks.
fn unsteady_words() -> String {
    let (window, steady) = (FLAP_WINDOW.as_secs(), STEADY_AFTER.as_secs());
    format!("unreachable {FLAPS} times within {window} s: no new tasks until it was steady for {steady} s")
}

/// The earliest moment at which something is due.
pub(crate) struct Next(Option<Moment>);

impl Next {
    /// Whether `at` has come. If not, keeps it as a candidate for the next wake-up.
    fn is_due(&mut self, now: Moment, at: Moment) -> bool {
        if now >= at {
            return true;
        }
        self.0 = Some(self.0.map_or(at, |earlier| earlier.min(at)));
        false
    }
}
