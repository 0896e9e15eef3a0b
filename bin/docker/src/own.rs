//! What Essaim's own routes, `/essaim/v1/…`, say: the tree of actors, the journal and the members, of every node.
//!
//! Each is asked of every node with a deadline, and one that did not answer is named with the reason, so that a
//! missing part is never taken for an empty one.

use crate::Time;
use serde::{Deserialize, Serialize};

/// `GET /essaim/v1/tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    /// One for each node of the cluster, by name.
    pub nodes: Vec<NodeTree>,
}

/// The actors of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTree {
    /// The node's id; empty outside of a cluster.
    pub node: String,
    /// Its host name.
    pub name: String,
    /// Why it did not answer; empty when it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Its actors, parents before their children.
    pub actors: Vec<Actor>,
}

/// An actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Where it stands: `/n3/worker/uplink`.
    pub path: String,
    /// The folder of its source: `actors/worker/src/uplink/`.
    pub source: String,
    /// `starting`, `running`, `waiting` (it failed and will be started again) or `stopping`.
    pub state: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Time,
    /// Why it failed or was started again, last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `GET /essaim/v1/journal`: one of these a line. A line with an `error` and no `path` stands for the records of a
/// node that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// The node's id; empty outside of a cluster.
    pub node: String,
    /// Its host name.
    pub name: String,
    /// Counts the records of this start of the node.
    #[serde(default)]
    pub seq: u64,
    /// When, by the node's clock.
    pub at: Time,
    /// What happened: `started`, `failed`, `restarting`, `restarted`, `verdict`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// To which actor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The number of the record that this one follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    /// Why there are no records of this node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// `GET /essaim/v1/members`: who is alive, as this node's detector sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The node that looks; empty outside of a cluster.
    pub node: String,
    /// Its host name.
    pub name: String,
    /// Whether it believes to be cut off itself, so that what it says of others counts for nothing.
    pub isolated: bool,
    /// Everybody it knows of, itself included, by id.
    pub members: Vec<Member>,
}

/// An identity, as gossip sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's id.
    pub node: String,
    /// Its host name, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `alive`, `suspect`, `unreachable`, `down`, `left`, …
    pub state: String,
    /// How often its daemon has started.
    pub generation: u64,
    /// How often it has refuted a suspicion.
    pub incarnation: u64,
    /// Where it is.
    pub addr: String,
    /// Who accuses it at the moment, by id.
    #[serde(default)]
    pub accusers: Vec<String>,
    /// How long a datagram takes there and back, in microseconds, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_micros: Option<u64>,
}
