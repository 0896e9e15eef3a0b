//! Liveness turns the roster's verdicts into facts of the state, and applies the brake.
//!
//! `policy::liveness` decides. This module translates the roster of this machine into the core's inputs, proposes the
//! changes that the core asks for, and shows the services the nodes whose slots the core releases.

mod actor;

pub(super) use actor::{LivenessActor, Msg};
