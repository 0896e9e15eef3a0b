//! What a simulated cluster must show.

mod stories;
