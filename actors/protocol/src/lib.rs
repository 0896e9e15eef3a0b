//! The sentences: what nodes say to each other.
//!
//! Between a worker and the manager it is linked to, two actors talk: the worker's uplink says [`ToNode`], the
//! manager's actor for that node says [`ToUplink`]. Both are ordinary ractor messages, carried by a link of `system`,
//! on which nothing else can be addressed; so the actor that hears a message knows who said it.
//!
//! Every argument is a [`Packed`] value: ractor's trait for remote arguments cannot fail, and bytes from another
//! node can be anything. Whoever hears it opens it, and answers bad bytes with an error instead of a panic.
//!
//! In suggested reading order:
//!
//! - [`packed`]: values that travel as bytes.
//! - [`link`]: the two message enums of a worker's link.
//! - [`assignment`]: what a manager tells a node to do.
//! - [`report`]: what a node says of itself and of its tasks.
//! - [`logs`]: the frames of the lane that carries log lines.

pub mod assignment;
pub mod link;
pub mod logs;
pub mod packed;
pub mod report;

pub use assignment::{Assembled, Assembly, Assignment, AssignmentVersion, TaskOrder};
pub use link::{Detach, Managers, Pace, Standing, ToNode, ToUplink};
pub use logs::{LogEnd, LogFrame, LogLine, LogRequest, LogStream};
pub use packed::Packed;
pub use report::{Ballot, Depart, DepartReply, Describe, Hello, Report, ReportReply};

/// The name under which a manager exports its actor for the node at the other end of the link.
pub const NODE_EXPORT: &str = "node";

/// The name under which a worker exports its uplink.
pub const UPLINK_EXPORT: &str = "uplink";
