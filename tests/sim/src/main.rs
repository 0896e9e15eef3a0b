//! Command line of the simulator: runs the simulated cluster with one seed after the other, on all cores.
//!
//! ```text
//! cargo run --release -p essaim-sim -- --seeds 200 [--from S] [--jobs N]
//! cargo run --release -p essaim-sim -- --seed N --trace
//! cargo run --release -p essaim-sim -- --seeds 200 --nodes 9 --managers 5
//! ```
//!
//! The lines on stdout are in the order of the seeds and the same for the same seeds, whatever `--jobs` says; the
//! duration, which differs, goes to stderr. A run that violates an invariant, panics or hangs has failed, and its last
//! line is the command that repeats it; the other runs continue.
//!
//! With `--no-containers` the runs draw nothing of what containers do: no faults of engines, broken images, jobs or
//! generic resources, no volumes, and the plain kinds of updates only.
//!
//! With `--no-ports` no service publishes a port, and with `--no-failing` clients seldom update services to images that
//! fail.
//!
//! With the feature `planted`, `--bug NAME` switches on a bug of `essaim_wire::planted` in every run.

use essaim::testkit::fault::Number;
use essaim::testkit::{Draws, Options, Outcome, run};
#[cfg(feature = "planted")]
use essaim_wire::planted::{Bug, plant};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Wall time after which a run counts as hung. A run takes about a second, and virtual time waits for no real clock, so
/// a run that takes this long spins.
const WALL_MAX: Duration = Duration::from_secs(120);

const USAGE: &str = "usage: essaim-sim [--seeds N] [--from SEED] [--seed SEED] [--trace] [--jobs N] [--nodes N] [--managers N] [--no-containers] [--no-ports] [--no-failing]";

#[derive(Debug, Clone)]
struct Wanted {
    from: u64,
    seeds: u64,
    jobs: usize,
    trace: bool,
    nodes: Number,
    managers: Number,
    draws: Draws,
    #[cfg(feature = "planted")]
    bug: Option<Bug>,
}

impl Wanted {
    fn options(&self, seed: u64) -> Options {
        Options {
            trace: self.trace,
            nodes: self.nodes,
            managers: self.managers,
            draws: self.draws,
            ..Options::of(seed)
        }
    }
}

/// Result of one run: its outcome, or the reason why there is none (a panic or a hang).
type Came = Result<Outcome, String>;

fn main() -> ExitCode {
    let Some(wanted) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let mut total = Total::default();
    for (seed, came) in in_order(run_all(&wanted), wanted.from) {
        match &came {
            Ok(outcome) => println!("{outcome}"),
            Err(why) => println!("seed {seed}: FAILED: {why}\n{}", wanted.options(seed).again()),
        }
        total.add(&came);
    }
    println!("{}", total.text());
    eprintln!("{:.1} s on {} cores", begun.elapsed().as_secs_f64(), wanted.jobs);
    // A run that hangs holds its thread for ever, so the process exits without joining threads.
    std::process::exit(i32::from(total.failed > 0))
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Wanted> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let usual = Options::of(1);
    let mut wanted = Wanted {
        from: 1,
        seeds: 1,
        jobs,
        trace: false,
        nodes: usual.nodes,
        managers: usual.managers,
        draws: usual.draws,
        #[cfg(feature = "planted")]
        bug: None,
    };
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--from" => wanted.from = number()?,
            "--seed" => (wanted.from, wanted.seeds) = (number()?, 1),
            "--jobs" => wanted.jobs = usize::try_from(number()?).ok().filter(|jobs| *jobs > 0)?,
            "--trace" => wanted.trace = true,
            "--nodes" => wanted.nodes = Number::try_from(number()?).ok()?,
            "--managers" => wanted.managers = Number::try_from(number()?).ok()?,
            "--no-containers" => wanted.draws.containers = false,
            "--no-ports" => wanted.draws.ports = false,
            "--no-failing" => wanted.draws.failing = false,
            #[cfg(feature = "planted")]
            "--bug" => wanted.bug = Some(Bug::named(&words.next()?)?),
            _ => return None,
        }
    }
    if !(1..=wanted.nodes).contains(&wanted.managers) {
        return None;
    }
    // Traces of two runs at a time would be interleaved on stdout.
    if wanted.trace {
        wanted.jobs = 1;
    }
    Some(wanted)
}

/// Runs every seed; the results arrive in the order in which the runs end.
fn run_all(wanted: &Wanted) -> mpsc::Receiver<(u64, Came)> {
    let (done, ends) = mpsc::channel();
    let next = Arc::new(AtomicU64::new(wanted.from));
    let end = wanted.from.saturating_add(wanted.seeds);
    for _ in 0..wanted.jobs {
        let (done, next, wanted) = (done.clone(), Arc::clone(&next), wanted.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // The receiver is gone when the process ends.
                if seed >= end || done.send((seed, run_one(seed, &wanted))).is_err() {
                    return;
                }
            }
        });
    }
    ends
}

/// Runs one seed on a thread of its own, so that a run that hangs can be abandoned.
fn run_one(seed: u64, wanted: &Wanted) -> Came {
    let (done, ends) = mpsc::channel();
    let (options, limit) = (wanted.options(seed), if wanted.trace { WALL_MAX * 10 } else { WALL_MAX });
    #[cfg(feature = "planted")]
    let bug = wanted.bug;
    thread::spawn(move || {
        #[cfg(feature = "planted")]
        let _planted = bug.map(plant);
        let came = catch_unwind(AssertUnwindSafe(|| run(options)));
        // The receiver is gone when this run was already given up as hung.
        let _ = done.send(came.map_err(|_| "it panicked".to_owned()));
    });
    ends.recv_timeout(limit).unwrap_or_else(|_| Err(format!("it has hung for {} s", limit.as_secs())))
}

/// Sorts results that arrive in any order into the order of their seeds, without waiting for all of them.
fn in_order(ends: mpsc::Receiver<(u64, Came)>, from: u64) -> impl Iterator<Item = (u64, Came)> {
    let (mut early, mut due) = (BTreeMap::new(), from);
    std::iter::from_fn(move || {
        while !early.contains_key(&due) {
            let (seed, came) = ends.recv().ok()?;
            early.insert(seed, came);
        }
        let came = early.remove(&due)?;
        due += 1;
        Some((due - 1, came))
    })
}

/// Sum over the results of all runs.
#[derive(Debug, Default)]
struct Total {
    runs: u64,
    failed: u64,
    length: Duration,
    acknowledged: u64,
    worst: Duration,
}

impl Total {
    fn add(&mut self, came: &Came) {
        self.runs += 1;
        self.failed += u64::from(came.as_ref().map_or(true, |outcome| !outcome.violations.is_empty()));
        if let Ok(outcome) = came {
            self.length += outcome.length;
            self.acknowledged += outcome.acknowledged;
            self.worst = self.worst.max(outcome.converged.unwrap_or_default());
        }
    }

    fn text(&self) -> String {
        format!(
            "{} runs, {:.1} virtual hours, {} changes acknowledged, at rest {:.1} s after healing at the latest, {} \
             failed",
            self.runs,
            self.length.as_secs_f64() / 3600.0,
            self.acknowledged,
            self.worst.as_secs_f64(),
            self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> Option<Wanted> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read_or_refused() {
        let all = wanted("--seeds 200 --from 7 --jobs 3").expect("it is right");
        assert_eq!((all.from, all.seeds, all.jobs, all.trace), (7, 200, 3, false));
        let one = wanted("--seed 5 --trace").expect("it is right");
        assert_eq!((one.from, one.seeds, one.jobs, one.trace), (5, 1, 1, true));
        let large = wanted("--seed 5 --nodes 9 --managers 5").expect("it is right").options(5);
        assert_eq!((large.nodes, large.managers, large.draws), (9, 5, Draws::ALL));
        let without = "--seed 5 --no-containers --no-ports --no-failing";
        let again = wanted(without).expect("it is right").options(5).again();
        assert!(again.ends_with(&format!("{without} --trace")), "{again}");
        assert!(large.again().ends_with("--seed 5 --nodes 9 --managers 5 --trace"), "{}", large.again());
        for wrong in ["--seeds", "--seeds many", "--jobs 0", "--managers 6", "--nodes 0", "5", "--roles"] {
            assert!(wanted(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_ends_early_waits_for_its_turn_and_a_failure_is_counted() {
        let (done, ends) = mpsc::channel();
        for seed in [9, 7, 8] {
            done.send((seed, Err(format!("{seed}")))).expect("somebody listens");
        }
        drop(done);
        let all: Vec<_> = in_order(ends, 7).collect();
        assert_eq!(all.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [7, 8, 9]);
        let mut total = Total::default();
        all.iter().for_each(|(_, came)| total.add(came));
        assert!(total.text().starts_with("3 runs,") && total.text().ends_with("3 failed"), "{}", total.text());
    }
}
