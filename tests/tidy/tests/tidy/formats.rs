//! Golden bytes: every type that is stored or sent has a test of its encoded bytes.
//!
//! Each file that defines encodable types walks them with `golden_bytes!`, and the walk itself checks that every
//! variant and version has its bytes. This test checks that no type was left out of a walk.

use crate::check;
use crate::root;
use crate::sources::{Source, sources};
use std::fs;

/// Folders whose types are stored or sent. The faces speak JSON, and the tests store nothing.
const FOLDERS: &[&str] = &["membership/src/", "transport/src/", "transport/wire/src/", "actors/"];

/// Files that define the mechanism of encoding, whose encodable types exist only for its own tests.
const MECHANISM: &[&str] =
    &["transport/wire/src/record.rs", "transport/wire/src/golden.rs", "transport/wire/src/codec.rs"];

/// The encodable types that a file defines: by bincode's derives, as records, or by hand.
fn encodable(source: &Source) -> Vec<String> {
    let product = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut derived = false;
    for line in product.lines() {
        let word =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
        if line.starts_with("#[derive(") {
            derived = line.contains("Encode");
        } else if let Some(rest) = line
            .split_once("struct ")
            .or_else(|| line.split_once("enum "))
            .filter(|(before, _)| derived && (before.is_empty() || before.starts_with("pub")))
        {
            found.push(word(rest.1));
            derived = false;
        } else if let Some((_, rest)) = line.split_once("record!(").filter(|(before, _)| !before.contains("//")) {
            found.push(word(rest));
        } else if let Some((before, rest)) = line.split_once("Encode for ")
            && before.starts_with("impl")
        {
            found.push(word(rest));
        }
    }
    found
}

/// The types in a file's `golden_bytes!` walks.
fn walked(source: &Source) -> Vec<String> {
    let Some((_, call)) = source.text.split_once("golden_bytes!(") else { return Vec::new() };
    let list = call.split(");").next().unwrap_or_default();
    let end = |name: &str| name.split('<').next().unwrap_or_default().trim().to_owned();
    list.split([',', ':', '\n']).map(end).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_stored_or_sent_type_is_walked_over_its_golden_bytes() {
    let mut complaints = Vec::new();
    for source in sources() {
        let is_product = FOLDERS.iter().any(|folder| source.path.starts_with(folder))
            && source.path.contains("/src/")
            && !source.path.contains("histogram/")
            && !source.path.contains("/tests")
            && !MECHANISM.contains(&source.path.as_str());
        if !is_product {
            continue;
        }
        let walked = walked(&source);
        let missing = encodable(&source).into_iter().filter(|name| !walked.contains(name));
        complaints.extend(missing.map(|name| format!("{}: {name} stands in no golden_bytes!", source.path)));
    }
    check("a stored or sent type without golden bytes", complaints);
}

#[test]
fn the_golden_bytes_are_counted() {
    let (mut files, mut lines) = (0, 0);
    for folder in ["membership", "transport", "transport/wire"].into_iter().map(str::to_owned).chain(actors()) {
        for entry in fs::read_dir(root().join(folder).join("golden")).into_iter().flatten().flatten() {
            files += 1;
            lines += fs::read_to_string(entry.path()).expect("golden bytes are text").lines().count();
        }
    }
    println!("golden bytes: {lines} variants, versions and structs in {files} files");
}

fn actors() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root().join("actors")).into_iter().flatten().flatten();
    entries.map(|entry| format!("actors/{}", entry.file_name().to_string_lossy()))
}
