//! What a simulated cluster must show.

mod scenarios;
mod stories;
