//! `essaim dev`: a cluster of real daemons on one machine, to try out and to break.
//!
//! Every node is the same daemon that runs in production, as a child process with its own loopback address, data folder
//! and socket; nothing needs root or Docker. The command stays in the foreground: it starts the daemons, joins them
//! into one cluster through their own API, runs the demo if asked, and prints what to try. On Ctrl-C it ends
//! everything, tasks included.
//!
//! `essaim dev kill` and `restart`, from another terminal, ask the running command over its control socket, because
//! only the parent of a process can signal it without the risk that the process id was reused. In suggested reading
//! order: [`cluster`] (the daemons and their life), [`node`] (one of them), [`place`] (folders, and finding a running
//! cluster), [`process`] (killing the right process), [`addresses`], [`control`] (the socket), [`demo`].

mod addresses;
mod cluster;
mod control;
mod demo;
mod node;
mod place;
mod process;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use self::cluster::Cluster;
pub(crate) use self::place::socket_of_the_only_cluster;
use crate::exit::Failure;

/// Largest number of daemons: each has an address in one /24.
const NODES_MAX: u8 = 250;

/// `dev`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, clap::Args)]
struct Start {
    /// How many daemons
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(NODES_MAX)))]
    nodes: u8,
    /// How many of them are managers (three, or one when there are fewer than three nodes)
    #[arg(long)]
    managers: Option<u8>,
    /// Run a demo service and wait until its tasks answer
    #[arg(long)]
    demo: bool,
    /// Where to make the folder of the nodes' data (in a temporary place by default); that folder is removed at the end
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Kill a node of the running dev cluster: its daemon and all its tasks, with SIGKILL
    Kill {
        /// Its name: n1, n2, …
        node: String,
        /// Kill the daemon alone; its tasks run on, and are adopted when it is started again
        #[arg(long)]
        daemon: bool,
    },
    /// Start the daemon of a node again; one that runs is killed first, and its tasks run on
    Restart {
        /// Its name: n1, n2, …
        node: String,
    },
}

/// Runs `essaim dev` or one of its subcommands.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        None => start(arguments.start).await,
        Some(Command::Kill { node, daemon: false }) => ask(&control::ControlRequest::Kill { node }).await,
        Some(Command::Kill { node, daemon: true }) => ask(&control::ControlRequest::KillDaemon { node }).await,
        Some(Command::Restart { node }) => ask(&control::ControlRequest::Restart { node }).await,
    }
}

async fn ask(request: &control::ControlRequest) -> Result<(), Failure> {
    println!("{}", control::ask(&place::running()?, request).await?);
    Ok(())
}

async fn start(arguments: Start) -> Result<(), Failure> {
    let managers = arguments.managers.unwrap_or(if arguments.nodes < 3 { 1 } else { 3 });
    if managers == 0 || managers > arguments.nodes {
        return Err(Failure::usage(format!("{managers} managers do not fit {} nodes", arguments.nodes)));
    }
    let no_signals = |error| Failure::error(format!("cannot hear signals: {error}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut cluster = Cluster::prepare(arguments.nodes, managers, arguments.dir.as_deref())?;
    // From here on the daemons are ended, whatever happens.
    let end = tokio::select! {
        end = live(&mut cluster, arguments.demo) => end,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminated.recv() => Ok(()),
        _ = hung_up.recv() => Ok(()),
    };
    cluster.shut_down(end.is_err()).await;
    end
}

/// Starts the cluster, and returns when a signal ends it.
async fn live(cluster: &mut Cluster, with_demo: bool) -> Result<(), Failure> {
    cluster.start().await?;
    let tasks = if with_demo { demo::run(&cluster.client()).await? } else { Vec::new() };
    print!("{}", demo::what_to_try(cluster, &tasks));
    cluster.watch().await
}
