//! `essaim stack`: applications of compose files.
//!
//! A stack is no object of the cluster: it is the objects that carry its name in the label
//! `com.docker.stack.namespace`. [`files`] reads compose files of this machine; [`config`] shows them in the long form;
//! [`deploy`] makes and changes the objects, and shows before what it would do ([`plan`]); [`start`] keeps the order that
//! `depends_on` asks for; [`list`] and [`remove`] need the labels alone.

mod config;
mod deploy;
mod files;
mod list;
mod plan;
mod remove;
mod start;

use essaim_compose::convert::NAMESPACE;

use super::Shown;
use super::tasks::Options;
use crate::client::Client;
use crate::exit::Failure;

pub(crate) use self::config::run as config;

/// Subcommands of `essaim stack`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show compose files as one file in the long form: variables, merges, `extends` and `include` carried out
    Config(config::Arguments),
    /// Deploy a new stack or update an existing stack
    #[command(visible_alias = "up")]
    Deploy(deploy::Arguments),
    /// List stacks
    #[command(visible_alias = "list")]
    Ls {
        /// Format output using a Go template, `table`, `table TEMPLATE` or `json`
        #[arg(long, value_name = "TEMPLATE")]
        format: Option<String>,
    },
    /// List the tasks in the stack
    Ps {
        #[command(flatten)]
        options: Options,
        /// Name of the stack
        stack: String,
    },
    /// Remove one or more stacks
    #[command(visible_aliases = ["remove", "down"])]
    Rm(remove::Arguments),
    /// List the services in the stack
    Services {
        #[command(flatten)]
        shown: Shown,
        /// Name of the stack
        stack: String,
    },
}

/// Runs a subcommand of `essaim stack`, except `config`, which needs no daemon.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Config(arguments) => config::run(&arguments),
        Command::Deploy(arguments) => deploy::run(client, arguments).await,
        Command::Ls { format } => list::stacks(client, format.as_deref()).await,
        Command::Ps { options, stack } => list::tasks(client, &options, &stack).await,
        Command::Rm(arguments) => remove::run(client, &arguments).await,
        Command::Services { shown, stack } => list::services(client, shown, &stack).await,
    }
}

/// The filter for the objects of a stack.
fn of_stack(stack: &str) -> (String, String) {
    ("label".to_owned(), format!("{NAMESPACE}={stack}"))
}

/// Refuses a name that docker refuses as well.
fn check_name(stack: &str) -> Result<(), Failure> {
    let good = !stack.trim().is_empty() && !stack.contains(char::is_whitespace) && !stack.contains(['\'', '"']);
    if good {
        return Ok(());
    }
    let text = format!("invalid stack name: {stack:?}");
    Err(Failure::usage(text).next("use letters, digits, dashes and underscores"))
}
