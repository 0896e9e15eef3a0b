//! Versions of a build of essaim: the level of the replicated log, and the wire versions.
//!
//! Several builds run side by side while a cluster is upgraded node by node. Two numbers keep them readable to each
//! other:
//!
//! - The [`Level`] concerns the content of the replicated log. The cluster has one committed level, and a change that
//!   is newer is refused; the leader raises the level when every manager understands more. It never goes down.
//! - The [`WireVersion`] concerns the messages between two nodes. Each session has one, negotiated in its hello: the
//!   newest version that both ends speak.
//!
//! A node's [`Build`] tells how much it understands of both. Released programs have [`Build::NEWEST`]; the simulator
//! gives some nodes an older one, which behave as the program before the newest change would.

use bincode::{Decode, Encode};
use std::fmt;

/// Level of the replicated log: the set of changes that a build understands. A higher level contains the lower ones.
///
/// | level | what it brought |
/// |---|---|
/// | 1 | clusters, nodes, services, tasks |
/// | 2 | configs |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Level(pub u16);

impl Level {
    /// Level of a node that has not reported one yet: lower than that of any build.
    pub const UNKNOWN: Self = Self(0);

    /// Level of the first release.
    pub const FIRST: Self = Self(1);

    /// Highest level that this program understands. Grows by one with each release that adds a change, a variant or a
    /// version of a record that older managers could not read; see `Change::level` in `model`.
    pub const NEWEST: Self = Self(2);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Version of all messages between two nodes. A higher version contains the lower ones.
///
/// | version | what it brought |
/// |---|---|
/// | 1 | everything of the first release |
/// | 2 | a list of members (`view` lane) says which version is spoken with each; a node tells facts of itself and its clock |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct WireVersion(pub u16);

impl WireVersion {
    /// Oldest wire version that this program still speaks.
    pub const OLDEST: Self = Self(1);

    /// Newest wire version that this program speaks. Grows with each message that older nodes could not read.
    pub const NEWEST: Self = Self(2);
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Versions that a node's program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Highest level of the replicated log.
    pub level: Level,
    /// Newest wire version.
    pub wire: WireVersion,
}

impl Build {
    /// Versions that this program understands. A simulated node may be given less, never more.
    pub const NEWEST: Self = Self { level: Level::NEWEST, wire: WireVersion::NEWEST };

    /// Versions of the release before the newest level and wire version, which the simulator gives to some nodes.
    pub const BEFORE: Self = Self { level: Level::FIRST, wire: WireVersion::OLDEST };
}

impl Default for Build {
    fn default() -> Self {
        Self::NEWEST
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("level": Level, WireVersion);
