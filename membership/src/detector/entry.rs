//! The detector's record of one member.

use crate::accusation::Record;
use crate::flap::Flap;
use crate::identity::Id;
use crate::table::Word;
use crate::{Incarnation, MemberState};
use essaim_wire::{Generation, Moment};

/// State that the detector keeps of one member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) incarnation: Incarnation,
    pub(super) phase: Phase,
    /// Moment at which the member's present state began.
    pub(super) since: Moment,
    /// Number of the present phase; a deadline of an older phase is void.
    pub(super) era: u64,
    /// Accusations of this incarnation.
    pub(super) record: Option<Record>,
    /// Moment at which a slow prober first accused this incarnation.
    pub(super) probed_since: Option<Moment>,
    pub(super) flap: Flap,
    /// Whether foca was told to hold the member for down.
    pub(super) held_down: bool,
    /// Whether identity and incarnation come from the member itself, over its own session or with its signature. What
    /// only other members told introduces a member, and the member's own first word replaces it, whatever it says.
    pub(super) proven: bool,
    /// Whether the member was heard over its own session: it exists, and its certificate is the cluster's.
    pub(super) met: bool,
    /// Whether the member is known from others only and did not answer: only its own word makes it present again.
    pub(super) shunned: bool,
    /// The member's own signed word for identity, incarnation and goodbye.
    pub(super) word: Option<Word>,
    /// Earliest moment at which this node gossips the member's word again to those that accuse an earlier incarnation.
    pub(super) next_reminder: Moment,
}

/// Phase of a member. Suspicion is no phase: the member's record of accusations tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Expected,
    Present,
    Unreachable,
    Restarting { until: Moment },
    Down { stopped: bool },
    Left,
}

impl Phase {
    /// Whether a member in this phase has a place on the rings.
    pub(super) const fn is_on_rings(self) -> bool {
        matches!(self, Self::Present | Self::Unreachable)
    }

    /// Whether a member in this phase is gone, as far as this node knows.
    pub(super) const fn is_gone(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Left)
    }
}

impl Entry {
    pub(super) fn new(id: Id, incarnation: Incarnation, now: Moment) -> Self {
        Self {
            id,
            incarnation,
            phase: Phase::Expected,
            since: now,
            era: 0,
            record: None,
            probed_since: None,
            flap: Flap::default(),
            held_down: false,
            proven: false,
            met: false,
            shunned: false,
            word: None,
            next_reminder: now,
        }
    }

    pub(super) const fn generation(&self) -> Generation {
        self.id.generation
    }

    pub(super) fn is_accused(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.voices() > 0)
    }

    /// Whether so many observers accuse the member (two or more) that its own silence as an observer means nothing.
    pub(super) fn is_doubtful(&self) -> bool {
        self.phase == Phase::Unreachable || self.record.as_ref().is_some_and(|record| record.votes() >= 2)
    }

    /// Drops all accusations of the member.
    pub(super) fn clear(&mut self) {
        (self.record, self.probed_since) = (None, None);
    }

    /// Start and incarnation that the member has to refute, told to it with each direct datagram; `None` if it is in
    /// good standing.
    pub(super) fn doubt(&self) -> Option<(Generation, Incarnation)> {
        let doubted = match self.phase {
            Phase::Expected => false,
            Phase::Present => self.is_accused(),
            Phase::Unreachable | Phase::Restarting { .. } | Phase::Down { .. } | Phase::Left => true,
        };
        doubted.then_some((self.generation(), self.incarnation))
    }

    pub(super) fn state(&self) -> MemberState {
        match self.phase {
            Phase::Expected => MemberState::Expected,
            Phase::Present if self.is_accused() => MemberState::Suspected,
            Phase::Present => MemberState::Alive,
            Phase::Unreachable => MemberState::Unreachable,
            Phase::Restarting { until } => MemberState::Restarting { until },
            Phase::Down { .. } => MemberState::Down,
            Phase::Left => MemberState::Left,
        }
    }
}
