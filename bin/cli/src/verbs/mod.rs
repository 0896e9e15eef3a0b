//! Docker's commands, with docker's words, flags and tables.
//!
//! One file for each noun: [`swarm`], [`node`], [`service`], [`stack`], [`config`], [`secret`], [`network`], [`volume`],
//! [`events`], [`system`] (info, version).
//! [`drain`] waits until a node has no tasks left, [`tasks`] is the table that `service ps` and `node ps` share,
//! [`payload`] what configs and secrets share; [`read`] reads the daemon's JSON. Data goes to stdout and progress to stderr, which is the one difference from
//! docker.

pub(crate) mod config;
mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod network;
pub(crate) mod node;
mod payload;
mod read;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod stack;
pub(crate) mod swarm;
pub(crate) mod system;
mod tasks;
pub(crate) mod volume;

use std::io::{BufRead, Write};

use crate::exit::Failure;

/// Parses `key=value`, the form of `--filter` and of the label flags.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}

/// Parses a label: `key=value`, or `key` alone for an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        Err(format!("{text:?} is not of the form key=value"))
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// Flags of every command that prints a list.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Shown {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) filter: Vec<(String, String)>,
    /// Format output using a Go template, `table`, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Only display IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Calls `act` for each name, reports failures, and continues with the next name.
pub(crate) async fn each<F: AsyncFn(&str) -> Result<(), Failure>>(names: &[String], act: F) -> Result<(), Failure> {
    let mut missing = crate::show::Missing::default();
    for name in names {
        if let Err(failure) = act(name).await {
            missing.push(failure);
        }
    }
    missing.report()
}

/// Asks on stderr whether to go on, and reads one line of stdin.
pub(crate) fn agrees(warning: &str) -> Result<bool, Failure> {
    eprint!("{warning}\nAre you sure you want to continue? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|why| Failure::error(format!("cannot read the answer: {why}")).next("use --force"))?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}
