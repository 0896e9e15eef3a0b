//! Tests of the architecture's rules.

mod arrows;
mod circles;
mod formats;
mod rules;
mod sources;

use std::path::PathBuf;

/// The root folder of the workspace.
fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("this crate lies two folders below the root").to_owned()
}

/// Fails with all complaints of a rule at once, since mending one per run is tedious.
fn check(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}\n  {}\n", complaints.join("\n  "));
}
