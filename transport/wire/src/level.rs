//! What a build of essaim understands: the level of the replicated log, and the wire versions.
//!
//! Several builds run side by side while a cluster is upgraded node by node. Two numbers keep them readable to each
//! other:
//!
//! - The [`Level`] concerns what lies in the replicated log. The cluster has one, committed, and a change that is newer
//!   than it is refused; the leader raises it when every manager understands more. It never goes down.
//! - The [`WireVersion`] concerns what two nodes say to each other. Each session has one, negotiated in its hello: the
//!   newest that both ends speak.
//!
//! A node's [`Build`] says how much it understands of both. What ships has [`Build::NEWEST`]; the simulator gives some
//! nodes an older one, which behave as the program before the newest change would.

use bincode::{Decode, Encode};
use std::fmt;

/// A set of changes of the replicated log that a build understands, as a number: a higher level contains the lower.
///
/// | level | what it brought |
/// |---|---|
/// | 1 | clusters, nodes, services, tasks |
/// | 2 | configs |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Level(pub u16);

impl Level {
    /// The level of a node that has not said what it understands yet: lower than any build's.
    pub const UNKNOWN: Self = Self(0);

    /// The level of the first release.
    pub const FIRST: Self = Self(1);

    /// The highest level that this program understands. Grows by one with each release that adds a change, a variant
    /// or a version of a record that older managers could not read; see `Change::level` in `model`.
    pub const NEWEST: Self = Self(2);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of everything that two nodes say to each other. A higher one contains the lower.
///
/// | version | what it brought |
/// |---|---|
/// | 1 | everything of the first release |
/// | 2 | a list of members (`view` lane) says which version is spoken with each |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct WireVersion(pub u16);

impl WireVersion {
    /// The oldest version that this program still speaks.
    pub const OLDEST: Self = Self(1);

    /// The newest version that this program speaks. Grows with each sentence that older nodes could not read.
    pub const NEWEST: Self = Self(2);
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much a node's program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// The highest level of the replicated log.
    pub level: Level,
    /// The newest version of what nodes say to each other.
    pub wire: WireVersion,
}

impl Build {
    /// What this program understands. A simulated node may be given less, never more.
    pub const NEWEST: Self = Self { level: Level::NEWEST, wire: WireVersion::NEWEST };

    /// The program of the release before the newest level and wire version: what the simulator has some nodes run.
    pub const BEFORE: Self = Self { level: Level::FIRST, wire: WireVersion::OLDEST };
}

impl Default for Build {
    fn default() -> Self {
        Self::NEWEST
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("level": Level, WireVersion);
