//! What only tests use: a cluster in memory to decide about, and runs of many decisions in a row.

mod simulation;
pub(crate) mod world;
