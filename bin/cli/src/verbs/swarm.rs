//! `essaim swarm`: the commands that found, join, leave and change a cluster, and that show its join tokens.

use serde_json::{Value, json};

use super::read::{number, object, text};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::units::parse_duration;

/// Subcommands of `essaim swarm`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Initialize a swarm
    Init(Init),
    /// Join a swarm as a node and/or manager
    Join(Join),
    /// Manage join tokens
    JoinToken(JoinToken),
    /// Leave the swarm
    Leave {
        /// Force this node to leave the swarm, ignoring warnings
        #[arg(short, long)]
        force: bool,
    },
    /// Update the swarm
    Update(Settings),
}

/// Whether a node takes and keeps tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Availability {
    /// The node takes new tasks
    Active,
    /// The node keeps its tasks and takes no new ones
    Pause,
    /// The tasks of the node are moved to other nodes
    Drain,
}

impl Availability {
    /// The API's word for the availability.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }
}

/// Arguments of `swarm init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Advertised address (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDR", default_value = "")]
    advertise_addr: String,
    /// Listen address (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Force create a new cluster from current state
    #[arg(long)]
    force_new_cluster: bool,
    /// Availability of the node
    #[arg(long, value_enum)]
    availability: Option<Availability>,
    /// Address pool for subnets of networks (CIDR); 10.0.0.0/8 unless set
    #[arg(long, value_name = "CIDR")]
    default_addr_pool: Vec<String>,
    /// Prefix length of a network's subnet; 20 unless set
    #[arg(long, value_name = "BITS", default_value_t = 0, hide_default_value = true)]
    default_addr_pool_mask_length: u32,
    #[command(flatten)]
    settings: Settings,
}

/// Arguments of `swarm join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// Token for entry into the swarm
    #[arg(long)]
    token: String,
    /// Advertised address (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDR", default_value = "")]
    advertise_addr: String,
    /// Listen address (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Availability of the node
    #[arg(long, value_enum)]
    availability: Option<Availability>,
    /// Address of a node of the swarm, HOST:PORT
    remote: String,
}

/// Arguments of `swarm join-token`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinToken {
    /// Rotate join token
    #[arg(long)]
    rotate: bool,
    /// Only display token
    #[arg(short, long)]
    quiet: bool,
    /// Role that the token grants
    #[arg(value_enum)]
    role: Role,
}

/// Role of a node in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// The node runs tasks
    Worker,
    /// The node keeps the state and takes decisions; it runs tasks too
    Manager,
}

impl Role {
    /// The API's word for the role.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        }
    }
}

/// Settings of the whole cluster.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Settings {
    /// Task history retention limit
    #[arg(long, value_name = "INT")]
    task_history_limit: Option<i64>,
    /// Validity period for node certificates (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    cert_expiry: Option<i64>,
    /// Dispatcher heartbeat period (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    dispatcher_heartbeat: Option<i64>,
    /// Number of log entries between Raft snapshots
    #[arg(long, value_name = "UINT")]
    snapshot_interval: Option<u64>,
    /// Number of additional snapshots to retain
    #[arg(long, value_name = "UINT")]
    max_snapshots: Option<u64>,
    /// Change manager autolocking setting (true|false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    autolock: Option<bool>,
    /// How long the record of a node that left is kept (s|m|h); essaim's own, 24h unless set
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    left_nodes_kept: Option<i64>,
}

/// Label of the cluster that carries [`Settings::left_nodes_kept`], since Docker's spec has no field for it.
const LEFT_NODES_KEPT_LABEL: &str = "essaim.left-nodes-kept";

impl Settings {
    fn apply(&self, spec: &mut Value) {
        let mut set = |section: &str, name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object(spec, &[section]).insert(name.to_owned(), value);
            }
        };
        set("Orchestration", "TaskHistoryRetentionLimit", self.task_history_limit.map(Value::from));
        set("CAConfig", "NodeCertExpiry", self.cert_expiry.map(Value::from));
        set("Dispatcher", "HeartbeatPeriod", self.dispatcher_heartbeat.map(Value::from));
        set("Raft", "SnapshotInterval", self.snapshot_interval.map(Value::from));
        set("Raft", "KeepOldSnapshots", self.max_snapshots.map(Value::from));
        set("EncryptionConfig", "AutoLockManagers", self.autolock.map(Value::from));
        set(
            "Labels",
            LEFT_NODES_KEPT_LABEL,
            self.left_nodes_kept.map(|nanos| Value::from(format!("{}s", nanos / 1_000_000_000))),
        );
    }
}

/// Runs a subcommand of `essaim swarm`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Init(init) => initialise(client, init).await,
        Command::Join(arguments) => join(client, arguments).await,
        Command::JoinToken(arguments) => join_token(client, arguments).await,
        Command::Leave { force } => {
            client.post(if force { "/swarm/leave?force=1" } else { "/swarm/leave" }, None).await?;
            println!("Node left the swarm.");
            Ok(())
        }
        Command::Update(settings) => update(client, &settings).await,
    }
}

async fn initialise(client: &Client, init: Init) -> Result<(), Failure> {
    let mut spec = json!({
        "Labels": null, "Orchestration": {}, "Raft": {"ElectionTick": 0, "HeartbeatTick": 0}, "Dispatcher": {},
        "CAConfig": {}, "TaskDefaults": {}, "EncryptionConfig": {"AutoLockManagers": false},
    });
    init.settings.apply(&mut spec);
    let body = json!({
        "ListenAddr": init.listen_addr,
        "AdvertiseAddr": init.advertise_addr,
        "DataPathAddr": "",
        "DataPathPort": 0,
        "ForceNewCluster": init.force_new_cluster,
        "Spec": spec,
        "AutoLockManagers": init.settings.autolock.unwrap_or(false),
        "Availability": init.availability.map_or("", Availability::word),
        "DefaultAddrPool": init.default_addr_pool,
        "SubnetSize": init.default_addr_pool_mask_length,
    });
    let node = client.post("/swarm/init", Some(&body)).await?.json().await?;
    println!("Swarm initialized: current node ({}) is now a manager.\n", node.as_str().unwrap_or(""));
    how_to_join(client, Role::Worker).await?;
    println!("To add a manager to this swarm, run 'essaim swarm join-token manager' and follow the instructions.");
    Ok(())
}

async fn join(client: &Client, arguments: Join) -> Result<(), Failure> {
    let body = json!({
        "ListenAddr": arguments.listen_addr,
        "AdvertiseAddr": arguments.advertise_addr,
        "DataPathAddr": "",
        "RemoteAddrs": [arguments.remote],
        "JoinToken": arguments.token,
        "Availability": arguments.availability.map_or("", Availability::word),
    });
    client.post("/swarm/join", Some(&body)).await?;
    let info = client.get_json("/info").await?;
    let manager = info["Swarm"]["ControlAvailable"].as_bool() == Some(true);
    println!("This node joined a swarm as a {}.", if manager { Role::Manager } else { Role::Worker }.word());
    Ok(())
}

async fn join_token(client: &Client, arguments: JoinToken) -> Result<(), Failure> {
    let role = arguments.role.word();
    if arguments.rotate {
        let swarm = client.get_json("/swarm").await?;
        let version = number(&swarm, "/Version/Index").unwrap_or(0);
        let worker = arguments.role == Role::Worker;
        let path = format!(
            "/swarm/update?rotateManagerToken={}&rotateManagerUnlockKey=false&rotateWorkerToken={worker}&version={version}",
            !worker,
        );
        client.post(&path, Some(&swarm["Spec"])).await?;
        if !arguments.quiet {
            println!("Successfully rotated {role} join token.\n");
        }
    }
    if arguments.quiet {
        let swarm = client.get_json("/swarm").await?;
        println!("{}", token(&swarm, arguments.role));
        return Ok(());
    }
    how_to_join(client, arguments.role).await
}

/// Prints the command that joins another machine to the swarm, in docker's words except for the program's name.
async fn how_to_join(client: &Client, role: Role) -> Result<(), Failure> {
    let (swarm, info) = (client.get_json("/swarm").await?, client.get_json("/info").await?);
    let id = text(&info, "/Swarm/NodeID");
    let node = client.get_json(&format!("/nodes/{id}")).await?;
    let address = text(&node, "/ManagerStatus/Addr");
    println!("To add a {} to this swarm, run the following command:\n", role.word());
    println!("    essaim swarm join --token {} {address}\n", token(&swarm, role));
    Ok(())
}

fn token(swarm: &Value, role: Role) -> &str {
    text(swarm, if role == Role::Worker { "/JoinTokens/Worker" } else { "/JoinTokens/Manager" })
}

async fn update(client: &Client, settings: &Settings) -> Result<(), Failure> {
    if *settings == Settings::default() {
        return Err(Failure::usage("nothing to update").next("`essaim swarm update --help` lists what can be"));
    }
    let mut swarm = client.get_json("/swarm").await?;
    settings.apply(&mut swarm["Spec"]);
    let version = number(&swarm, "/Version/Index").unwrap_or(0);
    let path = format!(
        "/swarm/update?rotateManagerToken=false&rotateManagerUnlockKey=false&rotateWorkerToken=false&version={version}"
    );
    client.post(&path, Some(&swarm["Spec"])).await?;
    println!("Swarm updated.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_nodes_that_left_are_kept_is_a_label_beside_the_others() {
        let mut spec = json!({"Labels": {"a": "b"}});
        Settings { left_nodes_kept: Some(7_200_000_000_000), ..Settings::default() }.apply(&mut spec);
        assert_eq!(spec, json!({"Labels": {"a": "b", "essaim.left-nodes-kept": "7200s"}}));
    }

    #[test]
    fn a_setting_changes_its_own_field_only() {
        let mut spec =
            json!({"Name": "default", "Orchestration": {"TaskHistoryRetentionLimit": 5}, "Raft": {"ElectionTick": 10}});
        let settings = Settings { task_history_limit: Some(3), snapshot_interval: Some(500), ..Settings::default() };
        settings.apply(&mut spec);
        let expected = json!({
            "Name": "default",
            "Orchestration": {"TaskHistoryRetentionLimit": 3},
            "Raft": {"ElectionTick": 10, "SnapshotInterval": 500},
        });
        assert_eq!(spec, expected);
    }
}
