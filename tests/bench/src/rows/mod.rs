//! The rows of the table: what is measured, one file per subject.

mod containers;
mod cycles;
mod forming;
pub(crate) mod growth;
mod healing;
mod links;
mod memory;
mod placement;
mod ports;
mod scale;
mod scheduler;
mod store;

use crate::figure::Figure;
use std::process::ExitCode;

/// A subject that can be named on the command line. A row may yield several figures.
pub(crate) struct Row {
    /// Name of the row.
    pub(crate) name: &'static str,
    /// What the row measures, in a few words.
    pub(crate) what: &'static str,
    /// Measures this many rounds of Essaim, with the peer's rounds between them.
    pub(crate) measure: fn(rounds: u32) -> Vec<Figure>,
}

/// All rows, in the order of the table.
pub(crate) const ALL: &[Row] = &[
    healing::WORKER_KILLED,
    healing::LINK_CUT,
    healing::LEADER_KILLED,
    containers::LOST,
    containers::STARTED,
    containers::BESIDE_RUN,
    store::WRITES,
    store::READS,
    links::ROW,
    placement::ROW,
    scheduler::ROW,
    scale::ROW,
    memory::ROW,
    cycles::ROW,
    forming::ROW,
    ports::ROW,
    ports::crowd::SERVICES,
    ports::crowd::IDLE,
    growth::ROW,
];

/// Runs this process as a helper of a row if its first argument says so; returns its exit code then.
pub(crate) fn maybe_be_helper() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == store::member::MEMBER => Some(store::member::run(rest)),
        Some((first, rest)) if first == links::counter::COUNTER => Some(links::counter::run(rest)),
        Some((first, rest)) if first == growth::crowd::NAME => Some(growth::crowd::run(rest)),
        Some((first, rest)) if first == ports::client::SERVER => Some(ports::client::serve(rest)),
        Some((first, rest)) if first == ports::client::CLIENT => Some(ports::client::run(rest)),
        _ => None,
    }
}
