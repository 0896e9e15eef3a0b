//! The model: the objects of a cluster, and how they change.
//!
//! A [`State`] is everything the managers agree on, held in persistent maps, so that a copy costs nothing and every
//! reader looks at a frozen one. It changes in one way only: [`State::apply`] takes a [`Proposal`] at its position in
//! the replicated log, and yields an [`Outcome`] and the [`Event`]s that follow. `apply` is pure: no clock, no
//! randomness, no IO, no iteration order that differs between two machines. So every manager that applied the same log
//! holds the same state, byte for byte.
//!
//! The crate `policy` decides *which* changes to propose; the crate `store` replicates and stores them.
//!
//! In suggested reading order:
//!
//! - [`id`], [`meta`]: ids of services, tasks and plain nouns; versions, labels and names. [`subnet`]: ranges of addresses.
//! - [`cluster`], [`node`], [`service`], [`task`]: the objects. `task` has the table of legal steps.
//! - [`noun`]: what all plain nouns share; beside it one file for each (`config`, `secret`, `network`). [`payload`]: bytes of
//!   configs and secrets. [`pool`]: where the subnets of networks come from. [`quarantine`]: what removed networks had.
//! - [`signal`]: the one table of signals. [`port`]: protocols and numbers of ports.
//! - [`placement`]: constraints, as they are written and as they match. [`generic`]: generic resources.
//! - [`change`], [`event`], [`refusal`]: what goes into `apply` and what comes out.
//! - [`unpublished`]: published ports that nodes cannot listen on.
//! - [`state`] and [`apply`]: the whole state, and how it changes. [`level`]: which changes every manager can read.
//! - [`snapshot`]: the state as a stream of pieces, and its hash.

pub mod apply;
pub mod change;
pub mod cluster;
pub mod cron;
pub mod event;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod generic;
pub mod id;
pub mod level;
pub mod loopback;
pub mod meta;
pub mod node;
pub mod noun;
pub mod payload;
pub mod placement;
pub mod pool;
pub mod port;
pub mod quarantine;
pub mod refusal;
pub mod requests;
pub mod service;
pub mod signal;
pub mod snapshot;
pub mod state;
pub mod subnet;
pub mod task;
pub mod unpublished;

pub use apply::fit::too_many_replicas;
pub use change::{Change, Founding, Outcome, Position, Proposal, RollbackCause};
pub use cluster::{Cluster, ClusterSpec, JoinSecrets, RootCa, TASK_HISTORY_MAX};
pub use event::Event;
pub use generic::{GenericStock, Stock};
pub use id::{ConfigId, NetworkId, PayloadId, SecretId, ServiceId, TaskId};
pub use meta::{InvalidName, Labels, Meta, Name};
pub use node::{
    Availability, Departure, EngineKind, Hardware, MISSING_MAX, ManagerStatus, Node, NodeDescription, NodeSpec,
    Platform, Plugin,
};
pub use noun::config::ConfigSpec;
pub use noun::network::{Allocation, IpamConfig, Network, NetworkSpec, NetworkSubnet};
pub use noun::payload::PayloadNoun;
pub use noun::secret::SecretSpec;
pub use noun::{AnyId, AnyObject, AnyPut, Noun, Object, Put};
pub use payload::Payload;
pub use placement::{Constraint, ConstraintKey, ConstraintOp, InvalidConstraint, Placement, SpreadOver};
pub use pool::AddressPools;
pub use port::{HostPort, PortKey, PortProtocol, UNPUBLISHED_MAX, UNPUBLISHED_WHY_MAX, UnpublishedPort};
pub use quarantine::Quarantined;
pub use refusal::{Refusal, RefusalKind};
pub use service::{
    ContainerSpec, EndpointSpec, FailureAction, Image, IngressPort, JobStatus, LogDriver, Mode, PortConfig,
    PublishMode, Resources, RestartCondition, RestartPolicy, Service, ServiceSpec, Share, TaskSpec, UpdateConfig,
    UpdateOrder, UpdateState, UpdateStatus,
};
pub use signal::{Signal, UnknownSignal};
pub use state::State;
pub use subnet::Subnet;
pub use task::{Assigned, ContainerId, Desired, Health, Observed, Slot, Task, TaskState, WrittenOff};
pub use unpublished::{THIS_DAEMON, Unpublished};
