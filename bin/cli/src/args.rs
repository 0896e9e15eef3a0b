//! The command line: every command and its arguments.

use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::client::{Address, Client, Tls};
use crate::exit::Failure;
use crate::verbs::{config, events, exec, network, node, secret, service, stack, swarm, system, volume};
use crate::{daemon, dev, observe, whoami};

/// Runs your services on many machines and keeps them running.
#[derive(Debug, Parser)]
#[command(
    name = "essaim",
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 --timeout is over, 4 no node can take the tasks,\n\
                  5 the update paused or was rolled back, 6 the managers have no quorum, 130 Ctrl-C."
)]
pub(crate) struct Cli {
    /// Daemon socket to connect to (unix:///path or tcp://host:port; else ESSAIM_HOST, DOCKER_HOST, the default socket,
    /// or the dev cluster that runs)
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Option<Address>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run this machine's daemon in the foreground
    Daemon(daemon::Arguments),
    /// Start a cluster of real daemons on this machine, to try out and to break
    Dev(dev::Arguments),
    /// Manage Swarm
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// Manage Swarm nodes
    #[command(subcommand)]
    Node(node::Command),
    /// Manage Swarm services
    #[command(subcommand)]
    Service(service::Command),
    /// Manage stacks: applications of compose files
    #[command(subcommand)]
    Stack(stack::Command),
    /// Manage Swarm configs
    #[command(subcommand)]
    Config(config::Command),
    /// Manage Swarm secrets
    #[command(subcommand)]
    Secret(secret::Command),
    /// Manage networks of the cluster and of the daemon's machine
    #[command(subcommand)]
    Network(network::Command),
    /// Manage volumes of the daemon's machine
    #[command(subcommand)]
    Volume(volume::Command),
    /// Get real time events from the server
    Events(events::Arguments),
    /// Execute a command in a running task, wherever it runs
    Exec(exec::Arguments),
    /// Display system-wide information
    Info(system::Arguments),
    /// Show the Essaim version information
    Version(system::Arguments),
    /// What happened on every node, and why
    Journal(observe::JournalArguments),
    /// Every actor of every node, under its supervisor
    Tree(observe::TreeArguments),
    /// Who is alive, and who says otherwise
    ///
    /// GENERATION is the number of starts of the member's daemon. INCARNATION is EPOCH.REFUTATIONS: a member begins a new
    /// epoch when it changes its address or its role, and counts the suspicions that it has refuted since then. Both
    /// only grow, and news of an older generation or incarnation is ignored.
    Members(observe::MembersArguments),
    /// What is wrong with this node and its cluster, and what to do
    ///
    /// A manager tells of the whole cluster, a worker of itself. Without a daemon, the machine is looked at. Ends with code 0
    /// when all is well, 6 when the managers have no quorum, and 1 when anything else is wrong.
    Doctor(observe::DoctorArguments),
    /// Verbs for whoever looks into the machine
    #[command(subcommand)]
    Debug(observe::Debug),
    /// A small web server that says where it runs
    Whoami(whoami::Arguments),
    /// Print the completion script for a shell
    ///
    /// For bash: `source <(essaim completion bash)`, for fish: `essaim completion fish | source`.
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Name of the argument `--host` below a subcommand.
const HOST_BELOW: &str = "daemon-host";

/// The whole command line. The flag for the daemon's address may stand before or after a subcommand, except that
/// `--host` after `service create` is docker's flag of that name.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(with_host)
}

fn with_host(command: clap::Command) -> clap::Command {
    let mut arg = Arg::new(HOST_BELOW)
        .short('H')
        .value_name("ADDRESS")
        .help("Daemon socket to connect to")
        .value_parser(clap::value_parser!(Address));
    if command.get_arguments().all(|other| other.get_long() != Some("host")) {
        arg = arg.long("host");
    }
    command.arg(arg).mut_subcommands(with_host)
}

impl Cli {
    /// Reads the command line of this process; ends the process with code 2 when it is wrong.
    pub(crate) fn read() -> Self {
        let matches = command().get_matches();
        Self::of(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Whether this process is to be a daemon, which lives for long.
    pub(crate) const fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Daemon(_))
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        let mut below = matches;
        while let Some((_, matches)) = below.subcommand() {
            below = matches;
            if let Ok(Some(host)) = matches.try_get_one::<Address>(HOST_BELOW) {
                cli.host = Some(host.clone());
            }
        }
        Ok(cli)
    }
}

/// Runs a command: in this process, or by asking a daemon.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let client = || client(cli.host.clone());
    match cli.command {
        Command::Daemon(arguments) => daemon::run(arguments).await,
        Command::Dev(arguments) => dev::run(arguments).await,
        Command::Whoami(arguments) => whoami::run(arguments).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut command(), "essaim", &mut std::io::stdout());
            Ok(())
        }
        Command::Swarm(command) => swarm::run(&client()?, command).await,
        Command::Node(command) => node::run(&client()?, command).await,
        Command::Service(command) => service::run(&client()?, command).await,
        Command::Stack(stack::Command::Config(arguments)) => stack::config(&arguments),
        Command::Stack(command) => stack::run(&client()?, command).await,
        Command::Config(command) => config::run(&client()?, command).await,
        Command::Secret(command) => secret::run(&client()?, command).await,
        Command::Network(command) => network::run(&client()?, command).await,
        Command::Volume(command) => volume::run(&client()?, command).await,
        Command::Events(arguments) => events::run(&client()?, arguments).await,
        Command::Exec(arguments) => exec::run(&client()?, arguments).await,
        Command::Info(arguments) => system::info(&client()?, arguments).await,
        Command::Version(arguments) => system::version(&client()?, arguments).await,
        Command::Journal(arguments) => observe::journal(&client()?, arguments).await,
        Command::Tree(arguments) => observe::tree(&client()?, arguments).await,
        Command::Members(arguments) => observe::members(&client()?, arguments).await,
        Command::Doctor(arguments) => observe::doctor(&client()?, arguments).await,
        Command::Debug(command) => observe::debug(&client()?, command).await,
    }
}

/// A client of the daemon that the user means. When none is named and none is installed, it is the running dev
/// cluster's.
fn client(given: Option<Address>) -> Result<Client, Failure> {
    let named = given.is_some();
    let address =
        Address::choose(given, |name| std::env::var(name).ok()).map_err(|error| Failure::usage(error.to_string()))?;
    let default = Address::Unix(crate::client::DEFAULT_SOCKET.into());
    if !named
        && address == default
        && !std::path::Path::new(crate::client::DEFAULT_SOCKET).exists()
        && let Some(dev) = dev::socket_of_the_only_cluster()
    {
        return Ok(Client::new(dev));
    }
    let tls = match &address {
        Address::Tcp(_) => Tls::choose(|name| std::env::var(name).ok())?,
        Address::Unix(_) => None,
    };
    Ok(Client::new(address).with_tls(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    fn read(line: &str) -> Result<Cli, clap::Error> {
        let words = std::iter::once("essaim").chain(line.split(' '));
        command().try_get_matches_from(words).and_then(|matches| Cli::of(&matches))
    }

    #[test]
    fn the_daemons_address_may_stand_anywhere() {
        let address: Address = "unix:///tmp/x.sock".parse().expect("an address");
        for line in [
            "-H unix:///tmp/x.sock service ls",
            "service -H unix:///tmp/x.sock ls",
            "service ls --host unix:///tmp/x.sock",
            "service create -H unix:///tmp/x.sock --host a:10.0.0.1 sleep",
        ] {
            assert_eq!(read(line).expect(line).host, Some(address.clone()), "{line}");
        }
        assert_eq!(read("service create --host a:10.0.0.1 sleep").expect("read").host, None);
    }

    #[test]
    fn every_shell_has_a_completion_script_with_the_flags_of_the_table() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command(), "essaim", &mut script);
            let script = String::from_utf8_lossy(&script);
            assert!(script.contains("update-failure-action") && script.contains("ulimit-rm"), "{shell}");
        }
    }

    #[test]
    fn dockers_lines_are_understood() {
        for line in [
            "swarm init --advertise-addr 10.77.0.11",
            "swarm join --token SWMTKN-1-a-b 10.77.0.11:2377",
            "swarm join-token -q worker",
            "swarm join-token --rotate manager",
            "swarm leave --force",
            "swarm update --autolock=false --task-history-limit 3",
            "node ls --filter role=worker --format {{.ID}}",
            "node inspect self --pretty",
            "node update --availability drain --label-add disk=ssd n3",
            "node rm -f n3",
            "node ps",
            "service create --replicas 3 --name web -d sleep 1000",
            "service create -d=false --name web sleep 1000",
            "service scale --detach=false web=5",
            "service ls -q",
            "service ps web --no-trunc",
            "service scale web=5 api=2",
            "service update --constraint-add node.role==worker web",
            "service logs -f --tail 5 web",
            "service rollback web",
            "stack deploy --compose-file docker-stack.yml vote",
            "stack deploy -d=false -c a.yml -c b.yml --prune --with-registry-auth --resolve-image never vote",
            "stack up -c - vote",
            "stack ls --format json",
            "stack ps --filter desired-state=running --no-trunc vote",
            "stack services -q vote",
            "stack rm -d=false vote rich",
            "stack down vote",
            "stack config -c docker-stack.yml --skip-interpolation",
            "config create --label env=test site -",
            "config create site index.html",
            "config ls --filter name=si -q",
            "config inspect --pretty site",
            "config rm site other",
            "secret create -l env=test tok -",
            "secret ls --filter name=tok",
            "secret inspect --pretty tok",
            "secret rm db_password tok",
            "network create --driver overlay --opt encrypted exquisite",
            "network create -d overlay --attachable --subnet 10.88.0.0/24 --gateway 10.88.0.1 --label a=b att",
            "network ls --filter driver=overlay --no-trunc",
            "network inspect -v exquisite",
            "network rm exquisite att",
            "network prune -f",
            "network connect --ip 10.88.0.7 att web",
            "swarm init --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 24",
            "exec -it -u root -w / -e A=b web.1 -- sh -c ls",
            "exec web ls -l",
            "-H unix:///tmp/x.sock info",
            "info --host unix:///tmp/x.sock",
            "dev --nodes 5 --managers 3 --demo",
            "dev kill n2 --daemon",
            "dev restart n2",
            "journal -f --since 10m",
            "tree --source",
            "doctor --strict --format json",
            "daemon --data-dir /x --socket /y --listen-addr 127.3.0.1 --engine process --hostname n1",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
    }
}
