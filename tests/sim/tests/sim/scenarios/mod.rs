//! Scenarios as text: what an operator does, what goes wrong, and what is seen, in files that are reviewed as a diff.
//!
//! A file in `scenarios/` is a script with what was to be seen below each command. It is played in virtual time by
//! the seed that it names, and every invariant of the test kit is looked at meanwhile. What differs from the file fails
//! the test, with the difference and how to take it over: `ESSAIM_REFRESH=1`. A violated invariant fails it in any case.
//!
//! - [`script`]: the language.
//! - [`stage`]: who does what a command says, through the routes of the API.
//! - [`tables`], [`records`] and [`words`]: what was seen, so that it stays the same as long as the story does.
//! - [`difference`]: two texts beside each other.

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

/// Set, the files are written instead of compared.
const REFRESH: &str = "ESSAIM_REFRESH";

/// A scenario takes a second or two with optimization, and ten times as long without.
const WALL_MAX: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Does it on a thread of its own: virtual time can stand still for ever when something spins.
fn in_time(story: impl FnOnce() + Send + 'static) {
    let (done, ends) = mpsc::channel();
    let story = thread::spawn(move || {
        story();
        // Nobody listens any more when it took too long.
        let _ = done.send(());
    });
    if ends.recv_timeout(WALL_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the scenario is not through after {WALL_MAX:?}");
    }
    if let Err(panic) = story.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Plays a scenario; yields its text as it should be, and what ended it if it did not come to its end.
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

/// Plays the scenario of this name and compares, or writes.
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
