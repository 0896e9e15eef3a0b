//! Answers of Essaim's own routes, `/essaim/v1/…`: the supervision tree, the journal and the members of every node.
//!
//! Each is asked of every node with a deadline. A node that did not answer is named with the reason, so that a missing
//! part cannot be taken for an empty one.

use crate::Time;
use crate::base::{base64_bytes, is_false, is_zero};
use serde::{Deserialize, Serialize};

/// An entry of the answer to `GET /essaim/v1/services/{id}/specs`: a spec that a service can go back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormerSpec {
    /// Version of the spec, for `?rollback=` and `service rollback --to`.
    pub version: u64,
    /// Whether the spec is in force.
    pub in_force: bool,
    /// The spec in Docker's shape.
    pub spec: crate::service::ServiceSpec,
}

/// The body of `POST /essaim/v1/secrets/{id}/rotate`, and of the same for configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Rotation {
    /// The new data. They are a template if the former ones were.
    #[serde(default, with = "base64_bytes")]
    pub data: Vec<u8>,
}

/// The answer to a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rotated {
    /// Id of the new version; that of the present one when nothing was done.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether nothing was done, because the data were the present ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unchanged: bool,
    /// Names of the services that move to the new version by their update policy.
    pub services: Vec<String>,
    /// Names of the jobs that keep the former version until their next iteration.
    pub jobs: Vec<String>,
    /// When nothing was done, the names of the services that were rolled back to a former version and stay there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
}

/// The answer to `GET /essaim/v1/tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    /// One tree for each node of the cluster, ordered by name.
    pub nodes: Vec<NodeTree>,
}

/// The supervision tree of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTree {
    /// Id of the node; empty outside of a cluster.
    pub node: String,
    /// Host name of the node.
    pub name: String,
    /// Reason why the node did not answer; empty when it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Actors of the node, parents before their children.
    pub actors: Vec<Actor>,
}

/// One actor of a supervision tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Path of the actor: `/n3/worker/uplink`.
    pub path: String,
    /// Folder of the actor's source: `actors/worker/src/uplink/`.
    pub source: String,
    /// State of the actor: `starting`, `running`, `waiting` (it failed and will be started again) or `stopping`.
    pub state: String,
    /// Number of restarts of the actor.
    pub restarts: u64,
    /// When the actor entered its present state.
    pub since: Time,
    /// Reason of the actor's last failure or restart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A line of `GET /essaim/v1/journal`: one record. A line with an `error` and no `path` stands for the records of a
/// node that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// Id of the node; empty outside of a cluster.
    pub node: String,
    /// Host name of the node.
    pub name: String,
    /// Number of the record, counted since the node's daemon started.
    #[serde(default)]
    pub seq: u64,
    /// When the record was written, by the node's clock.
    pub at: Time,
    /// Kind of the record: `started`, `failed`, `restarting`, `restarted`, `verdict`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Path of the actor that the record is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Reason, in words for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Number of the record from which this one follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    /// Reason why there are no records of this node; empty on a line that is a record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The answer to `GET /essaim/v1/doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Id of the asked node; empty outside of a cluster.
    pub node: String,
    /// Host name of the asked node.
    pub name: String,
    /// Whether the findings are about the whole cluster: the asked node is a manager.
    pub whole: bool,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Code of the check, which stays the same in later versions: `D102`.
    pub code: String,
    /// Word for what is checked: `disk`.
    pub check: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Name of the node that the finding is about, or the number of nodes when all of them are well; empty for the cluster.
    pub node: String,
    /// What was found, with the measure and the limit.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// The check does not apply, or cannot be made.
    Skip,
    /// Something will go wrong, or is wrong without harm so far.
    Warn,
    /// Something is wrong.
    Fail,
}

impl Verdict {
    /// The word for the verdict.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The answer to `GET /essaim/v1/members`: the members as the asked node's detector sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Id of the asked node; empty outside of a cluster.
    pub node: String,
    /// Host name of the asked node.
    pub name: String,
    /// Whether the asked node believes that it is cut off itself; then its view of the others means nothing.
    pub isolated: bool,
    /// All members that the asked node knows, itself included, ordered by id.
    pub members: Vec<Member>,
}

/// A member, as gossip sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id of the member's node.
    pub node: String,
    /// Host name of the member; empty when it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// State of the member: `alive`, `suspect`, `unreachable`, `down`, `left`, …
    pub state: String,
    /// Number of starts of the member's daemon.
    pub generation: u64,
    /// The epoch, which the member raises when it changes its address or role, and the number of suspicions that it has
    /// refuted since then, with a dot between: `1.0`.
    pub incarnation: String,
    /// Address of the member.
    pub addr: String,
    /// Ids of the members that accuse this one at the moment.
    #[serde(default)]
    pub accusers: Vec<String>,
    /// Round-trip time of a datagram to the member in microseconds, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_micros: Option<u64>,
}

/// The answer to `GET /essaim/v1/services/{id}/why`: why the service runs where it runs, or does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Id of the service.
    pub service: String,
    /// Name of the service.
    pub name: String,
    /// Slots without a running task.
    pub slots: Vec<WhySlot>,
    /// Number of further slots without a running task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// All nodes: those that may have the next task, best first, then the others.
    pub nodes: Vec<WhyNode>,
}

/// A slot without a running task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhySlot {
    /// Number of the slot; the id of the node for a global service.
    pub slot: String,
    /// Id of the task that is to fill the slot, or of the last one that did; empty when there was none yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// What the slot waits for.
    pub reason: String,
}

/// A node as the next task of the service sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyNode {
    /// Id of the node.
    pub node: String,
    /// Host name of the node.
    pub name: String,
    /// Place in the order in which nodes would get the next tasks, from 1; none when the node may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Reason why the node may not have the next task; empty when it may.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refusal: String,
    /// Tasks of this service on the node.
    pub of_service: u32,
    /// Tasks of all services on the node.
    pub tasks: u32,
    /// Recent failures of this spec on the node, if there are so many that the node is avoided.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// How the last task of this spec on the node ended, if it was rejected or failed; otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// Ports of the service that the node does not publish, because another program of its machine holds them or its kernel
    /// refuses them, with the reasons; otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unpublished: String,
}
