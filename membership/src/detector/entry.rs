//! What the detector keeps of one member.

use crate::accusation::Record;
use crate::flap::Flap;
use crate::identity::Id;
use crate::table::Word;
use crate::{Incarnation, State};
use essaim_wire::{Generation, Moment};

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) incarnation: Incarnation,
    pub(super) phase: Phase,
    /// Since when it is in this state.
    pub(super) since: Moment,
    /// Numbers the phases: a deadline of an older one is void.
    pub(super) era: u64,
    /// Who accuses this incarnation.
    pub(super) record: Option<Record>,
    /// Since when a slow prober is among them.
    pub(super) probed_since: Option<Moment>,
    pub(super) flap: Flap,
    /// foca was told to hold it for down.
    pub(super) buried: bool,
    /// It said itself what is known of it, over its own session or its signature. What only others told introduces a
    /// member, and the member's own first word replaces it, whatever it is.
    pub(super) proven: bool,
    /// It was heard over its own session: it exists, and its certificate is the cluster's.
    pub(super) met: bool,
    /// Others told of it, and it did not answer: nobody's word but its own makes it present again.
    pub(super) shunned: bool,
    /// Its signed word for what is known of it.
    pub(super) word: Option<Word>,
}

/// In what condition a member is. Whether it is suspected, its record says.
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
    /// Whether such a member has a place on the rings.
    pub(super) const fn is_on_rings(self) -> bool {
        matches!(self, Self::Present | Self::Unreachable)
    }

    /// Whether such a member has gone, as far as this node knows.
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
            buried: false,
            proven: false,
            met: false,
            shunned: false,
            word: None,
        }
    }

    pub(super) const fn generation(&self) -> Generation {
        self.id.generation
    }

    pub(super) fn is_accused(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.voices() > 0)
    }

    /// Accused by so many observers that its own silence as an observer means nothing.
    pub(super) fn is_doubtful(&self) -> bool {
        self.phase == Phase::Unreachable || self.record.as_ref().is_some_and(|record| record.votes() >= 2)
    }

    /// Nothing said of it so far holds any longer.
    pub(super) fn clear(&mut self) {
        (self.record, self.probed_since) = (None, None);
    }

    /// Which incarnation of it to refute, if it hears this node.
    pub(super) fn doubt(&self) -> Option<(Generation, Incarnation)> {
        let doubted = match self.phase {
            Phase::Expected => false,
            Phase::Present => self.is_accused(),
            Phase::Unreachable | Phase::Restarting { .. } | Phase::Down { .. } | Phase::Left => true,
        };
        doubted.then_some((self.generation(), self.incarnation))
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Expected => State::Expected,
            Phase::Present if self.is_accused() => State::Suspected,
            Phase::Present => State::Alive,
            Phase::Unreachable => State::Unreachable,
            Phase::Restarting { until } => State::Restarting { until },
            Phase::Down { .. } => State::Down,
            Phase::Left => State::Left,
        }
    }
}
