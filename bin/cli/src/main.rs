//! `essaim`: the command line, and the daemon.
//!
//! This file is wiring. In reading order: [`args`] (every verb), [`exit`] (how a command ends), [`client`] (the daemon
//! from the other side), [`verbs`] (docker's nouns), [`observe`] (what docker has no words for), [`show`] (tables,
//! templates, units), [`dev`] (a cluster on one machine), [`daemon`], [`whoami`] (what the demo runs).
//!
//! Data goes to stdout, progress and errors to stderr; exit codes are documented in [`exit`].

mod args;
mod client;
mod daemon;
mod dev;
mod exit;
mod observe;
mod show;
mod verbs;
mod whoami;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A task's shim has no runtime and no threads: it must branch off before either exists.
    essaim::maybe_run_shim();
    let cli = args::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::error(format!("cannot start: {error}")).report(),
    };
    let end = runtime.block_on(args::run(cli));
    // A read of a terminal that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
