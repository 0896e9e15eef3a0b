//! Which verdicts about nodes become facts, and how fast lost tasks may be replaced.
//!
//! The roster on the leader's machine says what gossip concluded of each member. This core weighs it and asks for the
//! commits that make it known: `Unreachable` at once, `Down` when that has lasted for the grace or the node said that
//! its tasks have ended, `Reachable` as soon as it is heard of again. A node that restarts keeps its tasks and gets no
//! new ones; so does one that was unreachable three times in a minute, until it was steady for thirty seconds.
//!
//! A new leader starts from the committed state and its own roster, and counts every grace anew: it marks nobody down
//! for what it did not see itself, and nobody because leadership changed. Of a node that its roster does not know at
//! all it waits to hear for a while.
//!
//! It is level-triggered: whatever differs between what is committed and what should be is proposed, one proposal at
//! a time, and again when one was lost. While this node itself is isolated, nothing is concluded at all.
//!
//! The [`brake`] decides which lost nodes' slots may be filled elsewhere.

mod brake;

#[cfg(test)]
mod tests;

use brake::Brake;
use essaim_model::{Change, Node, State};
use essaim_wire::{Generation, Moment, NodeId, Reachability};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A node that this leader's roster does not know counts as unreachable after this long: longer than a daemon takes
/// to start again and be heard of.
const ABSENCE_GRACE: Duration = Duration::from_secs(10);

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

/// What the roster says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It lives.
    Alive,
    /// It said that it will be back by then; its tasks go on meanwhile.
    Restarting {
        /// By then.
        until: Moment,
    },
    /// A quorum of observers misses it, and why.
    Unreachable {
        /// In words for people.
        why: String,
    },
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
    /// The start of its daemon that this is about.
    pub generation: Generation,
    /// The word.
    pub seen: Seen,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The roster's word on members; at the beginning one for each. They are weighed once, however many there are.
    Seen(Vec<Sight>),
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
    /// Wake at this moment.
    WakeAt(Moment, Wake),
}

/// Numbers the wake-ups; an older one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake(u64);

/// The core.
#[derive(Debug)]
pub struct Liveness {
    begun: Moment,
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
    heard: Option<(Generation, Seen)>,
    lost: Option<Lost>,
    /// When it was lost lately.
    losses: Vec<Moment>,
    flapping: bool,
    steady_since: Moment,
}

/// That a node is missing.
#[derive(Debug, Clone, Copy)]
struct Lost {
    since: Moment,
    /// Since when for good.
    down: Option<Moment>,
    /// Since when its slots may be filled elsewhere.
    released: Option<Moment>,
}

impl Liveness {
    /// Of a leader that begins now.
    pub const fn new(now: Moment) -> Self {
        Self {
            begun: now,
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
            Input::Seen(sights) => {
                for Sight { node, generation, seen } in sights {
                    self.hear(now, state, node, generation, seen);
                }
            }
            Input::Isolated(isolated) => self.on_isolated(now, isolated),
            Input::Look => (),
            Input::Proposed => self.proposing = false,
            Input::Elapsed(wake) if wake == self.wake => self.armed = None,
            Input::Elapsed(_) => return,
        }
        self.weigh(now, state, effects);
    }

    fn hear(&mut self, now: Moment, state: &State, node: NodeId, generation: Generation, seen: Seen) {
        let (begun, unsteady) = (self.begun, state.node(node).is_some_and(|node| node.unsteady));
        let track = self.tracks.entry(node).or_insert_with(|| Track::new(begun, unsteady));
        if track.heard.as_ref().is_some_and(|(known, _)| *known > generation) {
            return;
        }
        if track.heard.is_none() && matches!(seen, Seen::Restarting { .. }) {
            // That is why the former leader gave it nothing new.
            track.flapping = false;
        }
        let lives = matches!(seen, Seen::Alive | Seen::Restarting { .. });
        if lives {
            if track.lost.take().is_some() {
                track.steady_since = now;
            }
        } else if track.lost.is_none() {
            track.lost = Some(Lost { since: now, down: None, released: None });
            track.losses.retain(|at| now.saturating_since(*at) < FLAP_WINDOW);
            track.losses.push(now);
            track.flapping |= track.losses.len() >= FLAPS;
        }
        track.heard = Some((generation, seen));
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
        let mut changes = Vec::new();
        for node in state.nodes() {
            let (begun, unsteady) = (self.begun, node.unsteady);
            let track = self.tracks.entry(node.id).or_insert_with(|| Track::new(begun, unsteady));
            track.advance(now, begun, node, grace, &mut next);
            track.differences(now, node, &mut changes);
        }
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

impl Track {
    const fn new(begun: Moment, unsteady: bool) -> Self {
        Self { heard: None, lost: None, losses: Vec::new(), flapping: unsteady, steady_since: begun }
    }

    const fn is_released(&self) -> bool {
        matches!(self.lost, Some(Lost { released: Some(_), .. }))
    }

    /// What has become of it by now.
    fn advance(&mut self, now: Moment, begun: Moment, node: &Node, grace: Duration, next: &mut Next) {
        match &self.heard {
            Some((_, Seen::Restarting { until })) if self.lost.is_none() && next.is_due(now, *until) => {
                self.lost = Some(Lost { since: *until, down: None, released: None });
            }
            // Never heard of since it was accepted: nobody expects anything of it.
            None if node.reachability != Reachability::Unknown && self.lost.is_none() => {
                let missed = begun + ABSENCE_GRACE;
                if node.reachability == Reachability::Down {
                    self.lost = Some(Lost { since: begun, down: Some(begun), released: None });
                } else if next.is_due(now, missed) {
                    self.lost = Some(Lost { since: missed, down: None, released: None });
                }
            }
            _ => (),
        }
        if node.has_left() && self.lost.is_none() {
            // It said so itself, over its own link, whatever its roster says of it.
            self.lost = Some(Lost { since: now, down: None, released: None });
        }
        let stopped = node.has_left() || matches!(self.heard, Some((_, Seen::Stopped { .. })));
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

    /// What is committed of it and should not be so.
    fn differences(&self, now: Moment, node: &Node, changes: &mut Vec<Change>) {
        let generation = self.heard.as_ref().map_or(node.generation, |(generation, _)| *generation);
        if generation < node.generation {
            // The roster has yet to hear of its newer start.
            return;
        }
        let restarting = matches!(self.heard, Some((_, Seen::Restarting { until })) if now < until);
        let (reachability, message) = match (&self.heard, self.lost) {
            (None, None) => (node.reachability, node.message.clone()),
            (_, None) if restarting => (Reachability::Reachable, "the node is restarting".to_owned()),
            (_, None) if self.flapping => (Reachability::Reachable, unsteady_words()),
            (_, None) => (Reachability::Reachable, String::new()),
            (heard, Some(lost)) => {
                let why = match heard {
                    Some((_, Seen::Unreachable { why } | Seen::Stopped { why })) => why.clone(),
                    Some((_, Seen::Restarting { .. })) => "it did not come back from its restart in time".to_owned(),
                    Some((_, Seen::Alive)) | None => "it was not heard of since this leader began".to_owned(),
                };
                match lost.down {
                    Some(_) if node.has_left() => (Reachability::Down, "the node left the cluster".to_owned()),
                    Some(_) => (Reachability::Down, format!("node is down: {why}")),
                    None => (Reachability::Unreachable, format!("node is unreachable: {why}")),
                }
            }
        };
        let message = cut(message);
        let says_why = (reachability == Reachability::Reachable || node.has_left()) && message != node.message;
        if reachability != node.reachability || generation != node.generation || says_why {
            changes.push(Change::SetReachability { id: node.id, generation, reachability, message });
        }
        let unsteady = self.flapping || restarting;
        if unsteady != node.unsteady {
            changes.push(Change::SetSteadiness { id: node.id, unsteady });
        }
    }
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
