//! Fixtures of this crate's tests: a cluster in memory, and runs of many decisions in a row.

mod simulation;
pub(crate) mod world;
