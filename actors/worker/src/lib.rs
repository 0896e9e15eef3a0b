//! A machine's part of the cluster: it runs the tasks it was assigned and says what became of them.
//!
//! In suggested reading order:
//!
//! - [`engine`]: what runs a task, as one trait. Engines themselves live in `essaim-engines`.
//! - [`sim`]: a simulated machine for tests (feature `sim`).

pub mod engine;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
