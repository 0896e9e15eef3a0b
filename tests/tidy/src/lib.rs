//! Tidiness as a test: each sentence of the architecture that a machine can check is checked here.
//!
//! The tests are in `tests/tidy`: `arrows` (which crate may depend on which, over `cargo metadata`), `circles` (in each
//! folder, no module uses a sibling that uses it), `formats` (every stored or sent type has golden bytes), and `sources`
//! (rules for the files: purity of cores, source path = actor path, module stories, sizes). When a test fails, the
//! architecture and the code disagree: change the one that is wrong, and if it is the architecture, say so in
//! ARCHITECTURE.md.
