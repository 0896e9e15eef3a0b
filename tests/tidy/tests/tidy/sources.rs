//! Rules for the source files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{check, root};

/// Lines of a file at most. A file is one concept; a file that grows beyond this holds two.
const LINES_MAX: usize = 800;

/// Folders of the workspace that hold sources.
const FOLDERS: &[&str] = &["membership", "transport", "actors", "bin", "tests"];

/// Folders of the pure crates, which reach no runtime, no actor and no socket.
const PURE: &[&str] = &["transport/wire", "membership", "actors/model", "actors/policy", "bin/compose"];

/// Words that a core must not contain: a core is given `now`, and its effects are performed by its actor.
const FORBIDDEN_IN_CORES: &[&str] =
    &["tokio", "ractor", "Instant", "SystemTime", "async fn", ".await", "thread_rng", "HashMap"];

/// Words that an actor's module story must contain.
const STORY: &[(&str, &[&str])] = &[
    ("its parent", &["parent"]),
    ("its children", &["child"]),
    ("what it hears", &["hears"]),
    ("what it says", &["says"]),
    ("what happens when it dies", &["dies"]),
];

/// The only places that may ask the machine for the time: the real clock, and processes that have no `Env`.
const CLOCKS: &[&str] = &["actors/system/src/env/", "actors/engines/src/shim/", "bin/cli/", "tests/"];

/// A source file: its path below the root, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Number and text of each line of code, cut off at the first `//`: comments may name what code may not.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line.split_once("//").map_or(line, |(code, _)| code)))
    }

    /// The text of the file's module story.
    fn story(&self) -> String {
        self.text.lines().map_while(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join("\n").to_lowercase()
    }

    /// Whether the file holds only tests that were moved out of another file; the other file's module story covers
    /// them.
    fn is_tests(&self) -> bool {
        self.name().ends_with("tests.rs")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or("")
    }
}

pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let mut open: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.extend((entry.file_name() != "target").then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                let path = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the sources were found");
    found
}

/// A line `path:line: word` for each line of code that contains one of the words.
fn occurrences(sources: &[Source], words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (at, line) in source.code() {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(word.as_str()))
                    .map(|word| format!("{}:{at}: {word}", source.path)),
            );
        }
    }
    found
}

#[test]
fn a_core_knows_no_runtime_and_no_clock() {
    let cores: Vec<_> = sources().into_iter().filter(|source| source.name() == "core.rs").collect();
    let words: Vec<_> = FORBIDDEN_IN_CORES.iter().map(|word| (*word).to_owned()).collect();
    check("a core that is not pure", occurrences(&cores, &words));
}

#[test]
fn every_file_opens_with_its_story() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.is_tests() && !source.text.starts_with("//!"))
        .map(|source| source.path);
    check("a file without a story at its top", silent.collect());
}

#[test]
fn the_source_path_is_the_actor_path() {
    let sources = sources();
    let mut complaints = Vec::new();
    for actor in sources.iter().filter(|source| source.name() == "actor.rs") {
        let folder = Path::new(&actor.path).parent().expect("a file lies in a folder");
        let door = folder.join("mod.rs");
        let lib = folder.join("lib.rs");
        let Some(door) =
            sources.iter().find(|source| Path::new(&source.path) == door || Path::new(&source.path) == lib)
        else {
            complaints.push(format!("{}: there is no mod.rs beside it", actor.path));
            continue;
        };
        let story = actor.story() + &door.story();
        for (what, words) in STORY {
            if !words.iter().any(|word| story.contains(word)) {
                complaints.push(format!("{}: its story does not tell {what}", actor.path));
            }
        }
    }
    check("an actor's folder is its place in the tree, and its story says how it lives there", complaints);
}

#[test]
fn nothing_is_left_to_do() {
    let words = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    check("a promise in place of code", occurrences(&sources(), &words));
}

#[test]
fn a_file_is_one_concept() {
    let long = sources().into_iter().map(|source| (source.text.lines().count(), source.path));
    check(
        "a file that has become two concepts",
        long.filter(|(lines, _)| *lines > LINES_MAX).map(|(lines, path)| format!("{path}: {lines} lines")).collect(),
    );
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // The words are put together at run time, because otherwise this file itself would contain them.
    let words = ["work", "home", "root"].map(|folder| format!("\"/{folder}/"));
    check("a path that exists on one machine only", occurrences(&sources(), &words));
}

#[test]
fn time_comes_from_the_environment() {
    let inside: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.is_tests() && !CLOCKS.iter().any(|clock| source.path.starts_with(clock)))
        .collect();
    let words = ["std::time::Instant::now", "SystemTime::now", "Timestamp::now()"].map(str::to_owned);
    check("a clock that no simulation can turn", occurrences(&inside, &words));
}

#[test]
fn the_codec_alone_encodes() {
    let others: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.path.starts_with("transport/wire/") && !source.path.starts_with("tests/tidy/"))
        .collect();
    let words = ["bincode::encode_to_vec", "bincode::decode_from_slice", "bincode::config"].map(str::to_owned);
    check("bytes made outside of wire::codec", occurrences(&others, &words));
}

#[test]
fn a_pure_crate_forbids_clocks_and_chance_to_clippy() {
    let missing = PURE.iter().filter(|folder| !root().join(folder).join("clippy.toml").exists());
    check("a pure crate without a clippy.toml", missing.map(|folder| (*folder).to_owned()).collect());
}

#[test]
fn a_test_is_named_after_a_fact() {
    let words = [format!("fn {}_", "test")];
    check("a test whose name says only that it is one", occurrences(&sources(), &words));
}
