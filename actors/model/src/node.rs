//! A node: the cluster's record of a machine.
//!
//! Operators write `spec`, the machine itself writes `description`, and managers write `reachability` from what gossip
//! tells them. No field has two writers.

use crate::{GenericStock, Labels, Meta, Refusal, UNPUBLISHED_MAX, UNPUBLISHED_WHY_MAX, UnpublishedPort};
use bincode::{Decode, Encode};
use essaim_wire::record;
use essaim_wire::{Generation, Level, NodeId, Reachability, Role, Timestamp};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

/// The cluster's record of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Identity of the node, which its certificate names.
    pub id: NodeId,
    /// Version and dates of the record.
    pub meta: Meta,
    /// Settings made by operators.
    pub spec: NodeSpec,
    /// Role that the node has now; `spec.role` is the role it shall have.
    pub role: Role,
    /// What the machine reports of itself; `None` until its first report.
    pub description: Option<NodeDescription>,
    /// Address at which the node was last seen. It may change: the certificate is what identifies a node.
    pub addr: Option<SocketAddr>,
    /// Latest start of the node's daemon that the managers heard of.
    pub generation: Generation,
    /// Whether the managers can reach the node.
    pub reachability: Reachability,
    /// Reason for `reachability`, in words for people; empty when there is nothing to say.
    pub message: String,
    /// Time at which `reachability` last changed.
    pub since: Timestamp,
    /// Whether the node was unreachable too often lately; it then gets no new tasks until it has been steady for a
    /// while.
    pub unsteady: bool,
    /// Whether the node said that it leaves or has left. A newer start of its daemon is back in the cluster, and clears
    /// this.
    pub departure: Option<Departure>,
    /// The node's place in the Raft group; `None` while it has none.
    pub manager: Option<ManagerStatus>,
    /// Digest of the node's public key, by which a repeated enrolment finds the node's record.
    pub key_digest: [u8; 32],
    /// The node's share of the loopback addresses, for tasks that run as host processes; see `loopback`.
    pub loopback: u16,
    /// Highest level that the node's program understands, as reported with the last start of its daemon.
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
    /// The node's name for people: its host name, or its id while the host name is unknown.
    pub fn name(&self) -> String {
        match &self.description {
            Some(description) if !description.hostname.is_empty() => description.hostname.clone(),
            _ => self.id.to_string(),
        }
    }

    /// Whether the node may be given tasks, as far as its record says.
    pub fn is_ready(&self) -> bool {
        self.reachability == Reachability::Reachable && self.description.is_some() && self.departure.is_none()
    }

    /// Whether the node has left the cluster. Its record is kept for a while.
    pub const fn has_left(&self) -> bool {
        matches!(self.departure, Some(Departure::Left { .. }))
    }
}

/// The departure of a node from the cluster. A node that leaves reports it, unlike a node that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Departure {
    /// The node is about to leave: it gets no new tasks, and the Raft group removes it.
    Announced,
    /// The node has left: its tasks have ended.
    Left {
        /// Time at which the node left, by the state's own time.
        at: Timestamp,
    },
}

/// Settings of a node that operators make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// A name beside the host name. Docker keeps it and shows it nowhere.
    pub name: Option<String>,
    /// Labels chosen by operators; constraints match them as `node.labels.…`.
    pub labels: Labels,
    /// Role that the node shall have.
    pub role: Role,
    /// Whether the node takes and keeps tasks.
    pub availability: Availability,
}
record!(NodeSpec { 1: name, labels, role, availability });

/// Whether a node takes and keeps tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub enum Availability {
    /// The node takes new tasks and keeps those it has.
    #[default]
    Active,
    /// The node keeps the tasks it has and takes no new ones.
    Pause,
    /// The node takes no new tasks, and those it has are moved to other nodes.
    Drain,
}

impl Availability {
    /// Docker's word for the availability.
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

/// Bytes of a host name at most: a DNS name has no more (RFC 1035, section 2.3.4), and Linux allows 64.
const HOSTNAME_MAX: usize = 255;

/// Bytes at most of each other word in a node's description: a processor, an operating system, a version.
const WORD_MAX: usize = 128;

/// Labels that an engine may have.
const ENGINE_LABELS_MAX: usize = 128;

/// Bytes of one label of an engine at most, key and value together.
const ENGINE_LABEL_MAX: usize = 1024;

/// Engines that a machine may report, those that do not answer included; there are three kinds.
const ENGINES_MAX: usize = 16;

/// Bytes at most of the reason why an engine does not answer: one line of an operator's terminal or two.
pub const MISSING_MAX: usize = 256;

/// Plugins that an engine may report. Docker has 15 of its own.
const PLUGINS_MAX: usize = 256;

/// What a machine reports of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeDescription {
    /// Host name of the machine.
    pub hostname: String,
    /// Platform whose programs the machine can run.
    pub platform: Platform,
    /// Processors and memory that the machine has for tasks.
    pub hardware: Hardware,
    /// Version of the engine, Docker's `EngineVersion`.
    pub engine_version: String,
    /// Labels of the engine; constraints match them as `engine.labels.…`.
    pub engine_labels: Labels,
    /// Engines that the machine has and that answer.
    pub engines: Vec<EngineKind>,
    /// Engines of the machine that do not answer, with the reasons. They get no tasks.
    pub missing: Vec<(EngineKind, String)>,
    /// Published ports that the machine cannot listen on, by number.
    pub unpublished: Vec<UnpublishedPort>,
    /// Plugins of the engine.
    pub plugins: BTreeSet<Plugin>,
    /// Generic resources that the machine has for tasks.
    pub generic: GenericStock,
}
record!(NodeDescription {
    1: hostname,
    platform,
    hardware,
    engine_version,
    engine_labels,
    engines,
    missing,
    unpublished,
    plugins,
    generic
});

impl NodeDescription {
    /// Refuses a description that is longer than that of any real machine: descriptions are part of every snapshot, and
    /// host names are part of messages about other nodes.
    pub fn check(&self) -> Result<(), Refusal> {
        let refused = |what: &str, is: usize, most: usize| {
            let text = format!("the machine's {what} has {is} bytes or entries, and may have {most}");
            if is > most { Err(Refusal::invalid(text)) } else { Ok(()) }
        };
        refused("host name", self.hostname.len(), HOSTNAME_MAX)?;
        refused("architecture", self.platform.architecture.len(), WORD_MAX)?;
        refused("operating system", self.platform.os.len(), WORD_MAX)?;
        refused("engine version", self.engine_version.len(), WORD_MAX)?;
        refused("list of engines", self.engines.len() + self.missing.len(), ENGINES_MAX)?;
        for (_, why) in &self.missing {
            refused("reason why an engine does not answer", why.len(), MISSING_MAX)?;
        }
        refused("list of ports that are not published", self.unpublished.len(), UNPUBLISHED_MAX)?;
        for port in &self.unpublished {
            refused("reason why a port is not published", port.why.len(), UNPUBLISHED_WHY_MAX)?;
        }
        refused("list of engine labels", self.engine_labels.len(), ENGINE_LABELS_MAX)?;
        for (key, value) in &self.engine_labels {
            refused("engine label", key.len() + value.len(), ENGINE_LABEL_MAX)?;
        }
        refused("list of plugins", self.plugins.len(), PLUGINS_MAX)?;
        for plugin in &self.plugins {
            refused("plugin", plugin.kind.len().max(plugin.name.len()), WORD_MAX)?;
        }
        self.generic.check()
    }

    /// The engines that do not answer, in words for people; `None` when all of them do.
    pub fn silent_engines(&self) -> Option<String> {
        let words: Vec<_> = self.missing.iter().map(|(kind, why)| format!("{kind} engine: {why}")).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Whether the engine has a plugin of this kind and name. `name` may leave out the tag `latest`, as operators do.
    pub fn has_plugin(&self, kind: &str, name: &str) -> bool {
        self.plugins_of(kind).any(|has| has == name || has.strip_suffix(":latest") == Some(name))
    }

    /// Names of the engine's plugins of one kind.
    pub fn plugins_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.plugins.iter().filter(move |plugin| plugin.kind == kind).map(|plugin| plugin.name.as_str())
    }
}

/// A plugin of an engine: a driver of networks, of volumes or of logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugin {
    /// Kind of the plugin, in Docker's word (`Network`, `Volume`, `Log`, `Authorization`).
    pub kind: String,
    /// Name of the plugin (`overlay`, `json-file`).
    pub name: String,
}
record!(Plugin { 1: kind, name });

/// A platform: processor architecture and operating system that programs are built for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Platform {
    /// Processor architecture in the kernel's word (`x86_64`, `aarch64`).
    pub architecture: String,
    /// Operating system (`linux`).
    pub os: String,
}
record!(Platform { 1: architecture, os });

/// Processors and memory of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardware {
    /// Processors, in billionths of one.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}
record!(Hardware { 1: nano_cpus, memory_bytes });

/// A kind of engine: what runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum EngineKind {
    /// Runs a program of the host as a process.
    Process,
    /// Runs a container of a Docker Engine.
    Docker,
    /// Runs an actor that the daemon was built with.
    Actor,
}

impl EngineKind {
    /// Whether each task of this engine takes one of the addresses of its node; see [`crate::loopback`].
    pub const fn claims_addresses(self) -> bool {
        matches!(self, Self::Process)
    }

    /// The engine's word in flags and labels.
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
    /// Number of the node in the Raft group: the index of the commit that promoted the node, never reused. A proposal
    /// says 0, and `apply` fills the number in.
    pub raft_id: u64,
    /// Whether the node is a voter. Otherwise it is a learner, which catches up before it votes.
    pub voter: bool,
}
record!(ManagerStatus { 1: raft_id, voter });

#[cfg(test)]
essaim_wire::golden_bytes!("node": Departure, Availability, EngineKind, Node, NodeSpec, NodeDescription, Plugin, Platform, Hardware, ManagerStatus);
