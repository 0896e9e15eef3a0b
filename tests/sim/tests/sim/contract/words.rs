//! Masks and comparisons that the contract of every recorded command needs beside those of the real daemons' tests.

pub(super) use essaim_cluster_tests::harness::Said;
pub(super) use essaim_cluster_tests::words::masked;

use essaim_cluster_tests::words::{line, word};
use serde_json::Value;
use std::collections::BTreeSet;

/// The different lines, masked, in order of their text, for output whose order means nothing: completions, and logs of
/// several nodes. The numbers that `ping` writes and the nodes of tasks are masked, too.
pub(super) fn in_any_order(text: &str) -> String {
    let mut lines = BTreeSet::new();
    for line in masked(text).lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            let number = ["seq=", "time="].iter().find(|start| word.starts_with(**start));
            let node = word.split_once("@node").map(|(task, _)| format!("{task}@<node>"));
            words.push(number.map(|start| format!("{start}<number>")).or(node).unwrap_or_else(|| word.to_owned()));
        }
        lines.insert(words.join(" ") + "\n");
    }
    lines.into_iter().collect()
}

/// The lines of two texts that are in one of them only, by a longest common subsequence.
pub(super) fn diff(theirs: &str, ours: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (theirs.lines().collect(), ours.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines += &format!("    - {}\n", a[i]);
            i += 1;
        } else {
            lines += &format!("    + {}\n", b[j]);
            j += 1;
        }
    }
    lines
}

/// The path of a request with ids and versions masked, so that the same request of two runs has the same path.
pub(super) fn path(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match after {
            [high, low, ..] if *first == b'%' => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|it| u8::from_str_radix(it, 16).ok())
            }
            _ => None,
        };
        decoded.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    let decoded = String::from_utf8_lossy(&decoded);
    let masked: Vec<_> = decoded
        .split('&')
        .map(|part| part.split_once("version=").map_or(word(part), |(before, _)| word(before) + "version=<version>"))
        .collect();
    masked.join("&")
}

/// JSON with those strings masked that are chosen.
pub(super) fn masked_json(value: &Value, is_chosen: &impl Fn(&str) -> bool) -> Value {
    let inner = |value: &Value| masked_json(value, is_chosen);
    match value {
        Value::String(text) if is_chosen(text) => Value::String(line(text)),
        Value::Array(all) => all.iter().map(inner).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), inner(value))).collect(),
        other => other.clone(),
    }
}

/// The text with ids as the recordings of requests have them: they begin with a 0.
pub(super) fn with_short_ids(text: &str) -> String {
    let mut short = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_id(word) {
            short.push('0');
            short.push_str(&piece[1..]);
        } else {
            short.push_str(piece);
        }
    }
    short
}

/// Whether a word is an id, whole or cut to twelve characters.
pub(super) fn is_id(word: &str) -> bool {
    let of_id = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    matches!(word.len(), 12 | 25) && word.chars().all(of_id)
}

#[test]
fn ids_and_versions_in_a_path_are_masked() {
    assert_eq!(path("/tasks?filters=%7B%22id%22%3Atrue%7D"), "/tasks?filters={\"id\":true}");
    assert_eq!(path("/nodes/jy1kz05t1k9mlex5t6ni0quci/update?version=284"), "/nodes/<id>/update?version=<version>");
}
