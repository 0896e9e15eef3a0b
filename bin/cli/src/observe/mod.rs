//! Commands that docker does not have: the journal, the supervision tree, the members, what is wrong,
//! and the debug verbs.
//!
//! They read the daemon's own routes below `/essaim/v1/`, whose answers are the types of `essaim_docker::own`. Nodes
//! that did not answer in time are named on stderr.

mod doctor;
mod journal;
mod members;
mod tree;

pub(crate) use self::doctor::{Arguments as DoctorArguments, run as doctor};
pub(crate) use self::journal::{Arguments as JournalArguments, run as journal};
pub(crate) use self::members::{Arguments as MembersArguments, run as members};
pub(crate) use self::tree::{Arguments as TreeArguments, run as tree};

use serde_json::Value;

use crate::client::{Client, encoded};
use crate::exit::Failure;

/// Verbs for whoever looks into the machine, on purpose and at their own risk.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Debug {
    /// Kill an actor; its supervisor restarts it, and no task notices
    KillActor {
        /// Its path, as `essaim tree` shows it: /n2/worker/uplink
        path: String,
    },
}

/// Runs `essaim debug`.
pub(crate) async fn debug(client: &Client, command: Debug) -> Result<(), Failure> {
    match command {
        Debug::KillActor { path } => {
            client.post(&format!("/essaim/v1/debug/kill-actor?path={}", encoded(&path)), None).await?;
            println!("{path}");
            eprintln!("killed; see `essaim journal` for its failure and its restart");
            Ok(())
        }
    }
}

/// Decodes an answer of the daemon's own routes.
fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::error(format!("the daemon's answer is not what this program expects: {error}"))
            .next("use the `essaim` that the daemon was started with")
    })
}

/// Says on stderr that a node did not answer, and why; without a name, what is missing of all others.
fn report_silent(name: &str, error: &str) {
    if name.is_empty() {
        eprintln!("{error}");
    } else {
        eprintln!("{name} did not answer: {error}");
    }
}
