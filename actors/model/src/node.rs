//! A node: the cluster's record of a machine.
//!
//! `spec` is what operators want of it, `description` what the machine says of itself, `reachability` what the
//! managers concluded from gossip. No field has two writers.

use crate::{Labels, Meta, Refusal};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Generation, Level, NodeId, Reachability, Role, Timestamp};
use std::fmt;
use std::net::SocketAddr;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its identity, in its certificate.
    pub id: NodeId,
    /// Version and dates.
    pub meta: Meta,
    /// What operators want of it.
    pub spec: NodeSpec,
    /// The role it has now; `spec.role` is the one it shall have.
    pub role: Role,
    /// What it says of itself; unknown until it first reported.
    pub description: Option<NodeDescription>,
    /// Where it was last seen. Identity is the certificate; this may change.
    pub addr: Option<SocketAddr>,
    /// The start of its daemon that the managers last heard of.
    pub generation: Generation,
    /// Whether it can be reached.
    pub reachability: Reachability,
    /// Why it is not, in words for people; empty when there is nothing to say.
    pub message: String,
    /// When `reachability` last changed.
    pub since: Timestamp,
    /// It was unreachable too often lately: no new tasks until it was steady.
    pub unsteady: bool,
    /// That it leaves or has left, as it said itself. A newer start of its daemon is back after all.
    pub departure: Option<Departure>,
    /// Its place in the group of managers, while it has one.
    pub manager: Option<ManagerStatus>,
    /// The digest of its public key: a repeated enrolment finds its node by it.
    pub key_digest: [u8; 32],
    /// Its share of the loopback addresses for tasks that run as host processes; see `loopback`.
    pub loopback: u16,
    /// The highest level that its program understands, as it said with the last start of its daemon.
    pub level: Level,
}
record!(Node {
    1: id,
    meta,
    spec,
    role,
    description,
    addr,
    generation,
    reachability,
    message,
    since,
    unsteady,
    departure,
    manager,
    key_digest,
    loopback,
    level
});

impl Node {
    /// The name that people call it by: its host name, or its id while that is unknown.
    pub fn name(&self) -> String {
        match &self.description {
            Some(description) if !description.hostname.is_empty() => description.hostname.clone(),
            _ => self.id.to_string(),
        }
    }

    /// Whether it may be given tasks, as far as its record tells.
    pub fn is_ready(&self) -> bool {
        self.reachability == Reachability::Reachable && self.description.is_some() && self.departure.is_none()
    }

    /// Whether it has left the cluster; its record is kept for a while.
    pub const fn has_left(&self) -> bool {
        matches!(self.departure, Some(Departure::Left { .. }))
    }
}

/// That a node leaves the cluster. Unlike a node that is lost it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Departure {
    /// It is about to leave: it gets no new tasks, and the group of managers lets it go.
    Announced,
    /// It has left: its tasks have ended.
    Left {
        /// When.
        at: Timestamp,
    },
}

/// What an operator sets of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// A name beside the host name; Docker keeps it and shows it nowhere.
    pub name: Option<String>,
    /// Free labels; constraints match them as `node.labels.…`.
    pub labels: Labels,
    /// The role it shall have.
    pub role: Role,
    /// Whether it takes and keeps tasks.
    pub availability: Availability,
}
record!(NodeSpec { 1: name, labels, role, availability });

/// Whether a node takes and keeps tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub enum Availability {
    /// Takes tasks and keeps them.
    #[default]
    Active,
    /// Keeps what it has and takes nothing new.
    Pause,
    /// Gives away what it has.
    Drain,
}

impl Availability {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Bytes of a host name: a DNS name has no more (RFC 1035, section 2.3.4), and Linux allows 64.
const HOSTNAME_MAX: usize = 255;

/// Bytes of each other word that a machine says of itself: a processor, an operating system, a version.
const WORD_MAX: usize = 128;

/// Labels of an engine.
const ENGINE_LABELS_MAX: usize = 128;

/// Bytes of an engine's label, its key and its value together.
const ENGINE_LABEL_MAX: usize = 1024;

/// Engines of one machine; there are three kinds.
const ENGINES_MAX: usize = 16;

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeDescription {
    /// Its host name.
    pub hostname: String,
    /// What programs it can run.
    pub platform: Platform,
    /// What it has to give to tasks.
    pub hardware: Hardware,
    /// The version of the engine, as Docker's `EngineVersion`.
    pub engine_version: String,
    /// Labels of the engine; constraints match them as `engine.labels.…`.
    pub engine_labels: Labels,
    /// The engines it has.
    pub engines: Vec<EngineKind>,
}
record!(NodeDescription { 1: hostname, platform, hardware, engine_version, engine_labels, engines });

impl NodeDescription {
    /// Refuses what is longer than any machine's: it lies in every snapshot, and host names stand in the messages of
    /// other nodes.
    pub fn check(&self) -> Result<(), Refusal> {
        let refused = |what: &str, is: usize, most: usize| {
            let text = format!("the machine's {what} has {is} bytes or entries, and may have {most}");
            if is > most { Err(Refusal::invalid(text)) } else { Ok(()) }
        };
        refused("host name", self.hostname.len(), HOSTNAME_MAX)?;
        refused("architecture", self.platform.architecture.len(), WORD_MAX)?;
        refused("operating system", self.platform.os.len(), WORD_MAX)?;
        refused("engine version", self.engine_version.len(), WORD_MAX)?;
        refused("list of engines", self.engines.len(), ENGINES_MAX)?;
        refused("list of engine labels", self.engine_labels.len(), ENGINE_LABELS_MAX)?;
        for (key, value) in &self.engine_labels {
            refused("engine label", key.len() + value.len(), ENGINE_LABEL_MAX)?;
        }
        Ok(())
    }
}

/// What programs a machine can run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Platform {
    /// The processor, in the kernel's word (`x86_64`, `aarch64`).
    pub architecture: String,
    /// The operating system (`linux`).
    pub os: String,
}
record!(Platform { 1: architecture, os });

/// What a machine has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardware {
    /// Processors, in billionths of one.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}
record!(Hardware { 1: nano_cpus, memory_bytes });

/// What runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum EngineKind {
    /// A program of the host, as a process.
    Process,
    /// A container of a Docker Engine.
    Docker,
    /// An actor that the daemon was built with.
    Actor,
}

impl EngineKind {
    /// Whether each of its tasks takes one of the addresses of its node; see [`crate::loopback`].
    pub const fn claims_addresses(self) -> bool {
        matches!(self, Self::Process)
    }

    /// The word in flags and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Actor => "actor",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A node's place in the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagerStatus {
    /// Its number in the group: the index of the commit that promoted it, never used again. A proposal says 0, and
    /// `apply` fills it in.
    pub raft_id: u64,
    /// Whether it votes; a learner catches up first.
    pub voter: bool,
}
record!(ManagerStatus { 1: raft_id, voter });

#[cfg(test)]
essaim_wire::golden_bytes!("node": Departure, Availability, EngineKind, Node, NodeSpec, NodeDescription, Platform, Hardware, ManagerStatus);
