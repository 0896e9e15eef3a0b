//! What is measured, one file a subject.

mod forming;
pub(crate) mod growth;
mod healing;
mod links;
mod memory;
mod placement;
mod scale;
mod store;

use crate::figure::Figure;
use std::process::ExitCode;

/// A subject that can be named on the command line; it may give several figures.
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it measures, in a few words.
    pub(crate) what: &'static str,
    /// Measures so many rounds, the peer's between ours.
    pub(crate) measure: fn(rounds: u32) -> Vec<Figure>,
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Row] = &[
    healing::WORKER_KILLED,
    healing::LINK_CUT,
    healing::LEADER_KILLED,
    store::WRITES,
    store::READS,
    links::ROW,
    placement::ROW,
    scale::ROW,
    memory::ROW,
    forming::ROW,
    growth::ROW,
];

/// Whether this process was started by a row, as the other end of what it measures; its end if so.
pub(crate) fn maybe_be_helper() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == store::member::MEMBER => Some(store::member::run(rest)),
        Some((first, rest)) if first == links::counter::COUNTER => Some(links::counter::run(rest)),
        Some((first, rest)) if first == growth::crowd::NAME => Some(growth::crowd::run(rest)),
        _ => None,
    }
}
