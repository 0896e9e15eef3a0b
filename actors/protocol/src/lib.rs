//! The protocol between nodes: the messages that workers and managers send each other.
//!
//! Two actors talk between a worker and the manager it is linked to: the worker's uplink sends [`ToNode`], the
//! manager's actor for that node sends [`ToUplink`]. Both are ordinary ractor messages, carried by a link of `system`.
//! No other actor can be addressed over that link, so the receiving actor knows which node sent the message.
//!
//! Every argument is a [`Packed`] value, because ractor's trait for remote arguments cannot fail, and bytes from
//! another node can be anything. The receiving actor opens the value, and answers malformed bytes with an error instead
//! of a panic.
//!
//! In suggested reading order:
//!
//! - [`packed`]: values that travel as bytes.
//! - [`link`]: the two message enums of a worker's link.
//! - [`assignment`]: what a manager orders a node to do.
//! - [`report`]: what a node reports of itself and of its tasks.
//! - [`exec`]: the frames of the lane on which programs are executed inside tasks.
//! - [`ports`]: what nodes are told of published ports, and the opening of connections between nodes.
//! - [`logs`]: the frames of the lane that carries log lines.

pub mod assignment;
pub mod exec;
pub mod link;
pub mod logs;
pub mod packed;
pub mod ports;
pub mod report;

pub use assignment::{Assembled, Assembly, Assignment, AssignmentVersion, TaskOrder};
pub use exec::{EXEC_PIECE, ExecEnd, ExecRequest, FromExec, TerminalSize, ToExec};
pub use link::{Detach, KnownManagers, Managers, Pace, RoleStatement, ToNode, ToUplink};
pub use logs::{LogEnd, LogFrame, LogLine, LogPlace, LogRequest, LogStream};
pub use packed::Packed;
pub use ports::{
    Backends, DATAGRAM_MAX, FLOW_FRAME_MAX, FlowFrame, PortReply, PortRequest, PortTable, SUBSCRIPTIONS_MAX, Subscribe,
};
pub use report::{Ballot, Depart, DepartReply, Describe, Hello, RenewReply, Report, ReportReply};

/// Name under which a manager exports its actor for the node at the other end of the link.
pub const NODE_EXPORT: &str = "node";

/// Name under which a worker exports its uplink.
pub const UPLINK_EXPORT: &str = "uplink";
