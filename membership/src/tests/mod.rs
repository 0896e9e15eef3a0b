//! What only tests use: detectors on a simulated network, and the scenarios that they are put through.

mod network;
mod scenarios;
