//! Scenarios as text files, reviewed as a diff: what an operator does, what goes wrong, and what the operator sees.
//!
//! A file in `scenarios/` is a script with the recorded output below each command. The test plays it in virtual time
//! with the seed that the file names, and checks every invariant of the test kit meanwhile. Output that differs from
//! the file fails the test, which prints the difference and how to accept it: `ESSAIM_REFRESH=1`. A violated invariant
//! fails the test in any case.
//!
//! - [`script`]: the language.
//! - [`stage`]: performs each command, through the routes of the API.
//! - [`tables`], [`records`] and [`words`]: the output, in a form that stays the same as long as the story does.
//! - [`difference`]: the line-by-line difference between two texts.

mod difference;
mod records;
mod script;
mod stage;
mod tables;
mod words;

use essaim::testkit::run::in_virtual_time;
use script::{Command, Line, Script};
use stage::Stage;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Environment variable that makes the tests write the files instead of comparing them.
const REFRESH: &str = "ESSAIM_REFRESH";

/// Wall time after which a scenario counts as hung. A scenario takes a second or two with optimization, and ten times
/// as long without.
const WALL_MAX: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Runs a story on a thread of its own and panics when it takes too long: virtual time stands still for ever when an
/// actor spins.
fn in_time(story: impl FnOnce() + Send + 'static) {
    let (done, ends) = mpsc::channel();
    let story = thread::spawn(move || {
        story();
        // The receiver is gone when the story took too long.
        let _ = done.send(());
    });
    if ends.recv_timeout(WALL_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the scenario is not through after {WALL_MAX:?}");
    }
    if let Err(panic) = story.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Plays a scenario; returns its text with the output of this run, and the error if one ended it early.
fn play(text: &str) -> (String, Option<String>) {
    let script = match Script::read(text) {
        Ok(script) => script,
        Err(why) => return (String::new(), Some(why.to_string())),
    };
    let seed = script.lines.iter().find_map(|line| match line {
        Line::Command { command: Command::Cluster { seed, .. }, .. } => Some(*seed),
        _ => None,
    });
    in_virtual_time(seed.unwrap_or_default(), async {
        let (mut told, mut stage) = (String::new(), None);
        for line in &script.lines {
            let (text, number, command) = match line {
                Line::Prose(prose) => {
                    told.push_str(&format!("{prose}\n"));
                    continue;
                }
                Line::Command { text, number, command } => (text, number, command),
            };
            let seen = match (command, &mut stage) {
                (Command::Cluster { nodes, managers, seed }, _) => {
                    Stage::open(*nodes, *managers, *seed).await.map(|(opened, seen)| {
                        stage = Some(opened);
                        seen
                    })
                }
                (_, Some(stage)) => stage.play(text, command).await,
                (_, None) => Err("there is no cluster yet".into()),
            };
            told.push_str(&format!("> {text}\n"));
            match seen {
                Ok(seen) => seen.iter().for_each(|line| told.push_str(&format!("    {line}\n"))),
                Err(why) => return (told, Some(format!("line {number}, `{text}`: {why}"))),
            }
        }
        (told, None)
    })
}

/// Plays the scenario with this name and compares its output with the file, or writes the file when [`REFRESH`] is set.
fn check(name: &'static str) {
    in_time(move || {
        let path = folder().join(format!("{name}.txt"));
        let recorded = fs::read_to_string(&path).expect("the scenario's file can be read");
        let (told, ended) = play(&recorded);
        if let Some(why) = ended {
            panic!("{}: {why}\n\nso far:\n{told}", path.display());
        }
        if told == recorded {
            return;
        }
        if std::env::var_os(REFRESH).is_some() {
            fs::write(&path, told).expect("the scenario's file can be written");
            return;
        }
        panic!(
            "{} is told otherwise now (- as recorded, + as seen):\n\n{}\nIf that is right: {REFRESH}=1 cargo nextest \
             run --release -p essaim-sim scenarios\n",
            path.display(),
            difference::show(&recorded, &told)
        );
    });
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_file_is_played() {
            let mut known = vec![$(concat!(stringify!($name), ".txt")),*];
            known.sort_unstable();
            let mut there: Vec<String> = fs::read_dir(folder())
                .expect("the folder is there")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            there.sort_unstable();
            assert_eq!(there, known, "the files, and the names in scenarios/mod.rs");
        }
    };
}

scenarios! {
    actor_fails
    constraint_that_nobody_meets
    drain_moves_before_it_stops
    drain_of_the_last_eligible_node
    frozen_node
    leader_cut_off_and_back
    leadership_handed_over
    most_machines_lost_at_once
    node_flaps
    node_leaves_and_is_removed
    one_way_loss
    power_cut_of_everybody
    program_that_ends
    promotion_and_demotion
    restart_within_the_grace
    rolling_update
    two_of_three_managers_lost
    update_that_fails
    worker_killed
}

#[test]
fn a_scenario_is_told_twice_in_the_same_words() {
    in_time(|| {
        let text = fs::read_to_string(folder().join("leader_cut_off_and_back.txt")).expect("it can be read");
        assert_eq!(play(&text), play(&text));
    });
}
