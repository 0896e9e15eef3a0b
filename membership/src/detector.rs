//! The detector's door; the decisions follow.

use crate::{Config, Effect, Input, Member, MemberView};
use essaim_wire::{Moment, NodeId};
use std::time::Duration;

/// Decides who is alive. See the crate's story.
pub struct Detector {
    config: Config,
    me: Member,
}

impl Detector {
    /// How long the endpoint should stay open after [`Input::Goodbye`], so that everybody hears it.
    pub const FAREWELL: Duration = Duration::from_millis(100);

    /// A detector that knows nobody but `me`. The seed decides all its random choices.
    pub fn new(config: Config, me: Member, _seed: u64) -> Self {
        Self { config, me }
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, _now: Moment, _input: Input, _effects: &mut Vec<Effect>) {}

    /// This node, as it presents itself.
    pub fn me(&self) -> Member {
        self.me
    }

    /// The numbers in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everybody but this node, by id.
    pub fn members(&self) -> Vec<MemberView> {
        Vec::new()
    }

    /// What is thought of one member.
    pub fn member(&self, _node: NodeId) -> Option<MemberView> {
        None
    }

    /// Whether this node is in trouble itself.
    pub fn is_isolated(&self) -> bool {
        false
    }

    /// Grows with every change of what [`members`](Self::members) shows (round trips aside).
    pub fn version(&self) -> u64 {
        0
    }

    /// This node's table, for the other side of a push-pull.
    pub fn push_pull(&self) -> Vec<u8> {
        Vec::new()
    }
}
