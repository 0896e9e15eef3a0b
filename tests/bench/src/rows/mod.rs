//! What is measured, one file a subject.

use crate::figure::Figure;

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
pub(crate) const ALL: &[Row] = &[];
