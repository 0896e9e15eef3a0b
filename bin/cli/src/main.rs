//! `essaim`: the command line, and the daemon.
//!
//! This file is wiring. In suggested reading order: [`args`] (every command), [`exit`] (exit codes), [`client`] (the
//! client of the daemon's API), [`verbs`] (docker's commands), [`observe`] (commands that docker does not have),
//! [`show`] (tables, templates, units), [`dev`] (a cluster on one machine), [`daemon`], [`whoami`] (the program of the
//! demo).
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

fn main() -> ExitCode {
    // A task's shim has no runtime and no threads, so it must branch off before either exists.
    essaim::maybe_run_shim();
    let cli = args::Cli::read();
    if cli.is_daemon() {
        essaim::without_allocator_caches();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::error(format!("cannot start: {error}")).report(),
    };
    let end = runtime.block_on(args::run(cli));
    // A pending read of the terminal must not keep the program from ending.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
