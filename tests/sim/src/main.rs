//! Runs the simulated cluster: `cargo run --release -p essaim-sim -- --seeds 20 [--from S]`, or one seed with
//! `--seed N --trace`. With `--roles` managers are promoted and demoted meanwhile. A run that fails prints the line that runs it again.
//!
//! Built with the feature `planted`, `--bug NAME` has every run suffer from a bug of `essaim_wire::planted`.

use essaim::testkit::{Options, run};
#[cfg(feature = "planted")]
use essaim_wire::planted::{Bug, plant};
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut from, mut seeds, mut trace, mut roles) = (1, 1, false, false);
    #[cfg(feature = "planted")]
    let mut bug = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match word.as_str() {
            "--seeds" => seeds = number().unwrap_or(1),
            "--from" => from = number().unwrap_or(1),
            "--seed" => (from, seeds) = (number().unwrap_or(1), 1),
            "--trace" => trace = true,
            "--roles" => roles = true,
            #[cfg(feature = "planted")]
            "--bug" => bug = words.next().and_then(|name| Bug::named(&name)),
            _ => {
                eprintln!("usage: essaim-sim [--seeds N] [--from SEED] [--seed SEED] [--roles] [--trace]");
                return ExitCode::from(2);
            }
        }
    }
    #[cfg(feature = "planted")]
    let _planted = bug.map(plant);
    let failed = (from..from + seeds).filter(|seed| !holds(*seed, roles, trace)).count();
    println!("{seeds} runs, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn holds(seed: u64, roles: bool, trace: bool) -> bool {
    let outcome = run(Options { roles, trace, ..Options::of(seed) });
    println!("{outcome}");
    outcome.violations.is_empty()
}
