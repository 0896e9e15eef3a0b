//! Tests of the detector: a simulated network, and the scenarios that run on it.

mod network;
mod scenarios;
