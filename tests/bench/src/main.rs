//! Benchmarks beside the peers: `cargo run --release -p essaim-bench -- [ROW…] [--rounds N] [--json] [--list]`.
//!
//! Each row does the same work with Essaim and with its peer, in turn in the same run, where the peer is installed
//! (Debian's `docker.io`, `etcd-server`, `erlang-base`), and prints median and worst of several rounds. A round in
//! which processes waited for a processor is thrown away and repeated ([`calm`]). Ratios count; absolute times of a
//! shared machine do not.
//!
//! In suggested reading order:
//!
//! - [`rows`]: what is measured, one file per subject.
//! - [`figure`]: samples of Essaim and its peer, and the goal.
//! - [`calm`]: whether the machine is calm enough to measure.
//! - [`clusters`]: five daemons on hosts of their own, Essaim's or Docker's, for rows that break them.
//! - [`interrupt`]: clean-up of an interrupted run.
//! - [`endpoints`]: real endpoints on loopback.
//! - [`process`]: processes that a row starts, and their cost.
//! - [`table`]: the output.

mod calm;
mod clusters;
mod endpoints;
mod figure;
mod interrupt;
mod process;
mod rows;
mod table;

use clap::Parser;
use std::process::ExitCode;

/// Measures Essaim beside its peers and prints one table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows to measure; all rows when none is named.
    rows: Vec<String>,
    /// Number of rounds of each row.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Lists the rows and measures nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    // Rows that are measured in this process stand for daemons.
    essaim::without_allocator_caches();
    // The helper processes of the rows are this program as well, under a hidden first argument.
    if let Some(end) = rows::maybe_be_helper() {
        return end;
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for row in rows::ALL {
            println!("{:12} {}", row.name, row.what);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(stranger) = arguments.rows.iter().find(|name| rows::ALL.iter().all(|row| row.name != **name)) {
        eprintln!("there is no row \"{stranger}\"; --list says which there are");
        return ExitCode::from(2);
    }
    interrupt::sweep_when_told_to_end();
    let wanted = |name: &str| arguments.rows.is_empty() || arguments.rows.iter().any(|row| row == name);
    let mut figures = Vec::new();
    for row in rows::ALL.iter().filter(|row| wanted(row.name)) {
        eprintln!("{}: {}", row.name, row.what);
        figures.extend((row.measure)(arguments.rounds));
    }
    if arguments.json {
        println!("{}", table::json(&figures));
    } else {
        print!("{}", table::text(&figures));
    }
    ExitCode::SUCCESS
}
