//! Integration tests on simulated clusters.

mod api;
mod command;
mod contract;
mod crowd;
mod fixture;
mod kit;
#[cfg(feature = "planted")]
mod planted;
mod scenarios;
mod stories;
