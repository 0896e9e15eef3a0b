//! Promotions and demotions of managers, step by step.
//!
//! A node's record and its membership in the group of managers that votes must both come to agree with the role that an
//! operator wished. They cannot change in one step, so they change in a safe order:
//!
//! - *Promotion*: the record says manager, with a number in the group that was never used. From then on a manager's
//!   certificate is signed. The node hears of its promotion over its link and opens its store. The group admits it as a
//!   learner, and it votes when it has caught up. Then the record says so.
//! - *Demotion*: a leader hands over leadership first. The voter is released from the group. Then the record says
//!   worker, and the admission table refuses the node's old certificate from that commit on; a new one replaces it.
//!
//! A manager that leaves the cluster announces it first, and is demoted in the same way, even where it is wished to be
//! a manager: a voter that is gone would count towards the quorum for ever. It is released as soon as the other
//! managers can agree without it.
//!
//! The level of the cluster is raised here too, since it follows from the members of the group: a manager that was
//! upgraded says with its next link what it understands, and when the last one has, the leader commits it.
//!
//! A new leader finds interrupted steps half done and continues: the due steps are derived from record and group
//! (`core`), never remembered.

mod actor;
mod core;

pub(super) use actor::{Msg, RolesActor};
