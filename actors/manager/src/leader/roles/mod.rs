//! Promotions and demotions, step by step.
//!
//! Two things have to agree with what an operator wished of a node: its record, and the group of managers that votes.
//! They cannot change in one step, so the order is what keeps it safe:
//!
//! - *Promotion*: the record says manager, with a number in the group that was never used. From then on a manager's
//!   certificate is signed, and the node, which hears of it over its link, opens its store. It is taken in as a
//!   learner, and votes when it has caught up. Then the record says so.
//! - *Demotion*: leadership is handed over if it is the leader's own. The voter is let go. Then the record says worker:
//!   its certificate is replaced, and the old one is refused by the table of managers from that commit on.
//!
//! A manager that leaves the cluster says so first, and is demoted in the same way, its wish to be one or not: a voter
//! that is gone would count for ever. It is let go as soon as the others can agree without it.
//!
//! The level of the cluster is raised here too, since it follows from who is in the group: a manager that was upgraded
//! says with its next link what it understands, and when the last one has, the leader commits it.
//!
//! Whatever was interrupted is found half done by the next leader, which goes on from there: what is due is read off
//! record and group (`core`), never remembered.

mod actor;
mod core;

pub(super) use actor::{Msg, RolesActor};
