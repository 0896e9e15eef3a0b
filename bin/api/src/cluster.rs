//! All that the routes ask of a node and its cluster.
//!
//! The trait is the cut between HTTP and the cluster: `node::Handle` stands behind it in a daemon, a state in memory
//! in the tests of the routes. Reads are linearizable; what cannot be known says so.

use essaim_docker::convert::swarm::{Init, Join};
use essaim_docker::own::{JournalLine, Members, Trees};
use essaim_docker::swarm::JoinTokens;
use essaim_model::{ClusterSpec, Event, NodeSpec, Refusal, ServiceId, ServiceSpec, State, Task, TaskId};
use essaim_wire::{Index, NodeId, Role, Timestamp};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A node, and through it its cluster.
pub trait Cluster: Send + Sync + 'static {
    /// This node's part in a cluster. Never waits.
    fn standing(&self) -> Standing;

    /// The time, UTC.
    fn now(&self) -> Timestamp;

    /// 128 bits that nobody has drawn before.
    fn draw(&self) -> u128;

    /// Founds a cluster, or a new history of the one whose other managers are gone; yields this node's id.
    fn init(&self, asked: Init) -> BoxFuture<'_, Result<NodeId, Refusal>>;

    /// Joins a cluster.
    fn join(&self, asked: Join) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Leaves it.
    fn leave(&self, force: bool) -> BoxFuture<'_, Result<(), Refusal>>;

    /// The state as of now: whatever was acknowledged before is in it.
    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Refusal>>;

    /// The state as far as this node has it, if it is a manager. Never waits.
    fn last_known(&self) -> Option<Arc<State>>;

    /// Who leads the managers, as far as this node knows.
    fn leader(&self) -> Option<NodeId>;

    /// The join tokens of a state.
    fn join_tokens(&self, state: &State) -> JoinTokens;

    /// Sets the cluster's settings, as read at `expect`, and replaces join tokens.
    fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Sets what a node shall be, as read at `expect`.
    fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Removes a node; one that is not down only by `force`.
    fn remove_node(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Creates a service.
    fn create_service(&self, spec: ServiceSpec) -> BoxFuture<'_, Result<ServiceId, Refusal>>;

    /// Gives a service a new spec, as read at `expect`.
    fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Gives a service its former spec again.
    fn rollback_service(&self, id: ServiceId, expect: Index) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Removes a service.
    fn remove_service(&self, id: ServiceId) -> BoxFuture<'_, Result<(), Refusal>>;

    /// The lines of these tasks, wherever they ran.
    fn logs(&self, tasks: Vec<Arc<Task>>, query: LogsQuery) -> Result<LogLines, Refusal>;

    /// What happens from now on; with `replay`, what is still kept of what happened before comes first.
    fn events(&self, replay: bool) -> Result<Box<dyn EventBatches>, Refusal>;

    /// The actors of every node.
    fn trees(&self) -> BoxFuture<'_, Trees>;

    /// The journals of every node.
    fn journal(&self, query: JournalQuery) -> BoxFuture<'_, Result<JournalLines, Refusal>>;

    /// Who is alive, as this node sees it.
    fn members(&self) -> BoxFuture<'_, Result<Members, Refusal>>;

    /// Makes an actor fail on purpose: its supervisor sees it and acts.
    fn kill_actor(&self, path: String) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// A node's part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far it is.
    pub state: LocalState,
    /// Its id, once it has one.
    pub node: Option<NodeId>,
    /// Its role, while it has one.
    pub role: Option<Role>,
    /// The address that others know it by, without the port.
    pub addr: String,
    /// The managers that it knows of, and where.
    pub managers: Vec<(NodeId, String)>,
}

/// How far a node is in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalState {
    /// No part in any.
    Inactive,
    /// On its way in, or coming up again.
    Pending,
    /// A part of it.
    Active,
    /// It cannot take its part, and why.
    Error(String),
}

/// Which join tokens to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotate {
    /// That of workers.
    pub worker: bool,
    /// That of managers.
    pub manager: bool,
}

/// Which lines of the tasks asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsQuery {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Only lines after this.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of each task.
    pub tail: Option<u64>,
    /// Go on with what comes.
    pub follow: bool,
}

/// Lines as they arrive; it ends when every task's lines have.
pub type LogLines = BoxStream<'static, Vec<LogLine>>;

/// Records as they arrive.
pub type JournalLines = BoxStream<'static, Vec<JournalLine>>;

/// A line of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The task.
    pub task: TaskId,
    /// Where it ran.
    pub node: NodeId,
    /// When it was written.
    pub at: Timestamp,
    /// Where to.
    pub stream: LogStream,
    /// The line, with its end.
    pub bytes: Vec<u8>,
}

/// Where a line was written; the number is Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// What happened, in order.
pub trait EventBatches: Send {
    /// What happened next at one place of the log; nothing when there will be no more. Safe to cancel.
    fn next(&mut self) -> BoxFuture<'_, Option<Happened>>;
}

/// What happened at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// What, in order.
    pub events: Arc<[Event]>,
    /// It happened before anybody asked: only the objects themselves tell when.
    pub replayed: bool,
}

/// Which records of the journals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalQuery {
    /// Only of this node, by name or id.
    pub node: Option<String>,
    /// Only records after this.
    pub since: Option<Timestamp>,
    /// Go on with what comes.
    pub follow: bool,
}
