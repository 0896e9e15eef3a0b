//! Contract with the stock docker CLI: every recorded command, run by the CLI itself against a cluster of the test kit.
//!
//! Compared are the exit code and what the CLI prints: text word for word with ids, times, ages, addresses, digests and
//! versions masked, JSON by its fields and values, events by their kinds and attributes. So are the status of every
//! answer and its JSON. The CLI is a real process, and virtual time never runs ahead of it.
//!
//! Every command belongs to one of three groups: those that are the same; those of a later area; and those that differ,
//! each with its reason. Some commands of a later area are run without its flags. The test prints how many there are of
//! each, and fails when a command differs that is no exception, when an exception is the same, and when it differs in
//! another way than `fixtures/contract.txt` says (`ESSAIM_REFRESH=1` writes that file anew).
//!
//! The texts are those of the CLI that was recorded, so the test needs a CLI of that major version. `CONTRACT=142` runs
//! the commands whose name begins so, and `CONTRACT_CLI=…/essaim` runs them with another program, to see by hand how
//! its words differ.
//!
//! - [`recorded`]: the recorded commands. [`exceptions`]: which are not compared, and which differ.
//! - [`still`]: a command against a cluster at rest. [`living`]: a command whose output depends on what happens.
//! - [`bridge`]: the CLI and its requests.
//! - [`words`]: what was printed, with everything masked that differs from run to run. [`events`]: printed events.

mod bridge;
mod events;
mod exceptions;
mod living;
mod recorded;
mod still;
mod words;

use crate::api::shape::differences;
use crate::stories::within;
use exceptions::{exception, in_any_order, later, without_flags};
use recorded::{Command, commands};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use words::{Said, masked};

/// Wall time after which the test counts as hung. It takes half a minute.
const WALL_MAX: Duration = Duration::from_secs(600);

/// Commands that run at the same time: those that wait, wait for the CLI's own five seconds most of the time.
const AT_ONCE: usize = 8;

/// Major version of the recorded CLI.
const CLI: &str = "28.";

#[test]
fn every_recorded_command_is_answered_as_it_was() {
    let version = std::process::Command::new("docker").arg("--version").stderr(Stdio::null()).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if !version.starts_with(&format!("Docker version {CLI}")) {
        eprintln!("skipped: the contract needs the docker CLI {CLI}x, and this is {:?}", version.trim());
        return;
    }
    within(WALL_MAX, run_all);
}

fn run_all() {
    let all = commands();
    let count = all.len();
    let only = std::env::var("CONTRACT").unwrap_or_default();
    let (mut areas, mut without) = (BTreeMap::new(), 0);
    let mut mine = Vec::new();
    for mut command in all {
        if let Some(argv) = without_flags(&command) {
            command.leave_out(argv);
            without += 1;
        } else if let Some(area) = later(&command) {
            *areas.entry(area).or_insert(0) += 1;
            continue;
        }
        if command.name.starts_with(&only) {
            mine.push(command);
        }
    }
    // Those that take longest begin first.
    mine.sort_by_key(|command| living::of(command).is_none());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(command) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let differs = compare(command);
                    found.lock().expect("no panic").insert(command.name.clone(), differs);
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic");
    let left_out: usize = areas.values().sum();
    let differ = found.values().filter(|found| !found.is_empty()).count();
    let same = found.len() - differ;
    let mut report = format!(
        "{count} recorded commands: {same} are the same ({without} are run without the flags of later areas), {differ} \
         differ, {left_out} belong to later areas\n\n"
    );
    for (area, commands) in areas {
        let _ = writeln!(report, "{area}: {commands}");
    }
    println!("{report}");
    let mut wrong = String::new();
    for (name, found) in &found {
        match (exception(name), found.is_empty()) {
            (None, true) => (),
            (Some(why), false) => {
                println!("  {name}: {why}");
                let _ = write!(report, "\n{name}: {why}\n{found}");
            }
            (None, false) => drop(writeln!(wrong, "{name} differs:\n{found}")),
            (Some(why), true) => drop(writeln!(wrong, "{name} is the same, so it is no exception: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    if only.is_empty() {
        compare_with_file(&report);
    }
}

/// Compares the counts and the differences with those that are known.
fn compare_with_file(report: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/contract.txt");
    if std::env::var_os("ESSAIM_REFRESH").is_some() {
        std::fs::write(path, report).expect("the file can be written");
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    assert!(known == report, "- known, + now:\n{}", words::diff(&known, report));
}

/// Runs a command against a cluster as its recording shows it; returns what differs.
fn compare(command: &Command) -> String {
    let activity = living::of(command);
    let (mut ours, answers) = match activity {
        Some(activity) => living::run(command, activity),
        None => still::run(command),
    };
    let theirs = &command.said;
    let mut found = String::new();
    for answer in answers {
        let _ = writeln!(found, "  {answer}");
    }
    if ours.code != theirs.code {
        let _ = writeln!(found, "  exit code {} became {}: {}", theirs.code, ours.code, ours.error.trim_end());
    }
    if command.terminal {
        ours = Said { out: ours.out + &ours.error, error: String::new(), ..ours };
    }
    if command.argv.first().is_some_and(|word| word == "events") {
        return found + &events::compare(&theirs.out, &ours.out);
    }
    let in_any_order = in_any_order(&command.name);
    for (stream, theirs, ours) in [("stdout", &theirs.out, &ours.out), ("stderr", &theirs.error, &ours.error)] {
        match (json(&words::with_short_ids(theirs)), json(&words::with_short_ids(ours))) {
            (Some(theirs), Some(ours)) => {
                // A cluster that lives has ids of its own.
                let masked = |value: Value| match activity {
                    Some(_) => words::masked_json(&value, &|_| true),
                    None => words::masked_json(&value, &|text| text.ends_with(" ago")),
                };
                for difference in differences(&masked(theirs), &masked(ours)) {
                    let _ = writeln!(found, "  {stream}: {difference}");
                }
            }
            _ => {
                let (theirs, ours) = match in_any_order {
                    true => (words::in_any_order(theirs), words::in_any_order(ours)),
                    false => (masked(theirs), masked(ours)),
                };
                if theirs != ours {
                    let _ =
                        writeln!(found, "  {stream}, - recorded, + ours:\n{}", words::diff(&theirs, &ours).trim_end());
                }
            }
        }
    }
    found
}

/// The JSON that a text is: one value, or one on each line.
fn json(text: &str) -> Option<Value> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let lines = || text.lines().map(|line| serde_json::from_str(line).ok()).collect::<Option<Vec<Value>>>();
    serde_json::from_str(text).ok().or_else(|| lines().map(Value::from))
}
