//! `essaim service`: the commands on services.
//!
//! [`flags`] has the flags of `create` and `update`; [`create`] and [`change`] (update, scale, rollback) make requests of
//! them, with [`names`] (ids by name) and [`image`] (digest and credentials); [`wait`] waits until the tasks are as the
//! spec wants them; [`deployed`] is what
//! `stack deploy` needs of these; [`list`], [`words`] (`inspect --pretty`) and [`logs`] print.

mod change;
mod create;
pub(crate) mod deployed;
mod flags;
mod image;
mod list;
mod logs;
mod names;
mod wait;
mod why;
mod words;

use serde_json::Value;

use super::tasks::{self, ServicePs};
use super::{Shown, each};
use crate::client::{Client, encoded};
use crate::exit::Failure;
use crate::show::units::now;
use crate::show::{Inspected, inspect_each};

/// Subcommands of `essaim service`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a new service
    Create(Box<create::Arguments>),
    /// Display detailed information on one or more services
    Inspect {
        #[command(flatten)]
        shown: Inspected,
        /// Names or ids of the services
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Fetch the logs of a service or task
    Logs(logs::Arguments),
    /// List services
    #[command(visible_alias = "list")]
    Ls(Shown),
    /// List the tasks of one or more services
    Ps(ServicePs),
    /// Remove one or more services
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids of the services
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Revert changes to a service's configuration
    Rollback(change::Rollback),
    /// Scale one or multiple replicated services
    Scale(change::Scale),
    /// Update a service
    Update(Box<change::Arguments>),
    /// Explain where the tasks of a service can run, and why some do not
    Why(why::Arguments),
}

/// Runs a subcommand of `essaim service`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(client, *arguments).await,
        Command::Inspect { shown, services } => {
            let fetch = async |service: &str| {
                // With the defaults of what the spec leaves open, as docker shows a service.
                let path = format!("/services/{}?insertDefaults=true", encoded(service));
                let found = client.find(&path).await?;
                found.ok_or_else(|| Failure::error(format!("Error: no such service: {service}")))
            };
            inspect_each(&services, &shown, fetch, |service| words::describe(service, now())).await
        }
        Command::Logs(arguments) => logs::run(client, arguments).await,
        Command::Ls(shown) => list::run(client, &shown).await,
        Command::Ps(arguments) => tasks::of_services(client, arguments).await,
        Command::Rm { services } => {
            each(&services, async |service: &str| {
                client.delete(&format!("/services/{}", encoded(service))).await?;
                println!("{service}");
                Ok(())
            })
            .await
        }
        Command::Rollback(arguments) => change::rollback(client, arguments).await,
        Command::Scale(arguments) => change::scale(client, arguments).await,
        Command::Update(arguments) => change::update(client, *arguments).await,
        Command::Why(arguments) => why::run(client, arguments).await,
    }
}

/// Prints services as `service ls` does; says whether there were any.
pub(crate) async fn print_list(client: &Client, shown: &Shown) -> Result<bool, Failure> {
    list::print(client, shown, false).await
}

/// The service of this name or id, as the daemon has it now.
async fn fetch(client: &Client, name: &str) -> Result<Value, Failure> {
    client.get_json(&format!("/services/{}", encoded(name))).await
}
