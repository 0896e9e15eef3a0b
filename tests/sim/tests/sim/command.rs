//! Tests of the simulator's command line: the same seeds print the same lines, whatever the environment of the process.

use std::process::{Command, Output};

/// Number of seeds that must hold for a change to land. A run takes ten times as long without optimization, so a debug
/// build, as used while a change is being tried out, runs fewer.
const SEEDS: u32 = if cfg!(debug_assertions) { 20 } else { 200 };

/// Runs the simulator in an environment that depends on `place`: working folder, home, host name and time zone.
fn run(words: &str, place: &str) -> Output {
    let folder = std::env::temp_dir().join(format!("essaim-sim-{}-{place}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let output = Command::new(env!("CARGO_BIN_EXE_essaim-sim"))
        .args(words.split_whitespace())
        .env_clear()
        .env("HOME", &folder)
        .env("TMPDIR", &folder)
        .env("HOSTNAME", place)
        .env("TZ", if place == "here" { "Asia/Tokyo" } else { "America/Lima" })
        .current_dir(&folder)
        .output()
        .expect("it runs");
    std::fs::remove_dir_all(&folder).expect("nothing holds it");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints text")
}

#[test]
fn as_many_seeds_hold_as_ci_asks_for() {
    let output = run(&format!("--seeds {SEEDS}"), "here");
    let text = text(&output);
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(output.status.success() && failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("seed ")).count(), SEEDS as usize);
}

#[test]
fn two_processes_print_the_same_trace_for_the_same_seed() {
    let [first, second] = ["here", "there"].map(|place| text(&run("--seed 5 --trace", place)));
    assert!(first.lines().count() > 500, "it says what happens");
    let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(first.len(), second.len());
}

#[test]
fn one_at_a_time_and_two_at_a_time_print_the_same() {
    let [alone, together] = ["--seeds 6 --jobs 1", "--seeds 6 --jobs 2"].map(|words| text(&run(words, "here")));
    assert_eq!(alone, together);
    assert_eq!(alone.lines().filter(|line| line.starts_with("seed ")).count(), 6);
    assert!(alone.lines().last().is_some_and(|line| line.starts_with("6 runs, ")), "{alone}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_usage() {
    let refused = run("--seed five", "here");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("usage: essaim-sim"));
}
