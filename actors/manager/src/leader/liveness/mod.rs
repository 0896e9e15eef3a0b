//! The roster's verdicts become facts of the state, and the brake is applied.
//!
//! What is concluded is `policy::liveness`'s to say. Here the roster of this machine is turned into its words, what it
//! wants committed is proposed, and the nodes whose slots it releases are shown to the services.

mod actor;

pub(super) use actor::{LivenessActor, Msg};
