//! `essaim node`: the commands on nodes.

use std::time::Duration;

use serde_json::{Value, json};

use super::read::{list, number, object, pairs, text};
use super::swarm::{Availability, Role};
use super::{Shown, drain, each, label, tasks};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{bytes, capital, cpus, long_moment, natural_order, parse_duration};
use crate::show::{Field, Inspected, List, inspect_each};

/// Subcommands of `essaim node`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Demote one or more nodes from manager in the swarm
    Demote {
        /// Names or ids of the nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Display detailed information on one or more nodes
    Inspect {
        #[command(flatten)]
        shown: Inspected,
        /// Names or ids of the nodes, or `self`
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// List nodes in the swarm
    #[command(visible_alias = "list")]
    Ls(Shown),
    /// Promote one or more nodes to manager in the swarm
    Promote {
        /// Names or ids of the nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// List tasks running on one or more nodes, defaults to current node
    Ps(tasks::NodePs),
    /// Remove one or more nodes from the swarm
    #[command(visible_alias = "remove")]
    Rm {
        /// Force remove a node from the swarm
        #[arg(short, long)]
        force: bool,
        /// Names or ids of the nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Update a node
    Update(Update),
}

/// Arguments of `node update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Availability of the node
    #[arg(long, value_enum)]
    availability: Option<Availability>,
    /// Role of the node
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Add or update a node label (key=value)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label_add: Vec<(String, String)>,
    /// Remove a node label if exists
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// With `--availability drain`: wait until no task is left on the node, at most this long if a time is given; ends
    /// with exit code 3 when the time is over (ns|us|ms|s|m|h)
    // The value must follow an equals sign, since the node is the next argument.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = FOR_EVER,
          value_parser = parse_duration)]
    wait: Option<i64>,
    /// Name or id of the node
    node: String,
}

/// Value of `--wait` when no time is given: wait until the node is empty, or until Ctrl-C.
const FOR_EVER: &str = "0s";

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("Self", ""),
    ("Hostname", "HOSTNAME"),
    ("Status", "STATUS"),
    ("Availability", "AVAILABILITY"),
    ("ManagerStatus", "MANAGER STATUS"),
    ("EngineVersion", "ENGINE VERSION"),
    ("TLSStatus", "TLS STATUS"),
];

const TABLE: &str = "{{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t\
                     {{.ManagerStatus}}\t{{.EngineVersion}}";

/// Runs a subcommand of `essaim node`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(shown) => ls(client, &shown).await,
        Command::Inspect { shown, nodes } => {
            inspect_each(&nodes, &shown, async |node: &str| fetch(client, node).await, in_words).await
        }
        Command::Promote { nodes } => {
            each(&nodes, |node: &str| change_role(client, node.to_owned(), Role::Manager)).await
        }
        Command::Demote { nodes } => {
            each(&nodes, |node: &str| change_role(client, node.to_owned(), Role::Worker)).await
        }
        Command::Ps(arguments) => tasks::of_nodes(client, arguments).await,
        Command::Rm { force, nodes } => {
            each(&nodes, async |node: &str| {
                client.delete(&format!("/nodes/{}{}", encoded(node), if force { "?force=1" } else { "" })).await?;
                println!("{node}");
                Ok(())
            })
            .await
        }
        Command::Update(update) => {
            if update.wait.is_some() && update.availability != Some(Availability::Drain) {
                return Err(Failure::usage("--wait goes with --availability drain: it waits until the node is empty"));
            }
            change(client, &update.node, |spec| apply(&update, spec)).await?;
            if let Some(nanos) = update.wait {
                let node = fetch(client, &update.node).await?;
                let within = Some(Duration::from_nanos(nanos.unsigned_abs())).filter(|within| !within.is_zero());
                drain::until_empty(client, text(&node, "/ID"), &update.node, within).await?;
            }
            println!("{}", update.node);
            Ok(())
        }
    }
}

async fn ls(client: &Client, shown: &Shown) -> Result<(), Failure> {
    let mut nodes = match client.get_json(&format!("/nodes?{}", filters(&shown.filter))).await? {
        Value::Array(nodes) => nodes,
        _ => Vec::new(),
    };
    nodes.sort_by(|a, b| natural_order(text(a, "/Description/Hostname"), text(b, "/Description/Hostname")));
    if shown.quiet && shown.format.is_none() {
        for node in &nodes {
            println!("{}", text(node, "/ID"));
        }
        return Ok(());
    }
    let info = client.get_json("/info").await?;
    let mut table = List::new(FIELDS, TABLE);
    for node in &nodes {
        table.push([
            text(node, "/ID").into(),
            (text(node, "/ID") == text(&info, "/Swarm/NodeID")).into(),
            text(node, "/Description/Hostname").into(),
            capital(text(node, "/Status/State")).into(),
            capital(text(node, "/Spec/Availability")).into(),
            manager_status(node).into(),
            text(node, "/Description/Engine/EngineVersion").into(),
            tls_status(node, &info).into(),
        ]);
    }
    print!("{}", table.render(shown.format.as_deref())?);
    Ok(())
}

fn manager_status(node: &Value) -> String {
    match node.pointer("/ManagerStatus/Leader").and_then(Value::as_bool) {
        Some(true) => "Leader".to_owned(),
        _ => capital(text(node, "/ManagerStatus/Reachability")),
    }
}

/// Docker's word for whether the node's certificate was issued by the cluster's present root.
fn tls_status(node: &Value, info: &Value) -> &'static str {
    match (node.pointer("/Description/TLSInfo"), info.pointer("/Swarm/Cluster/TLSInfo")) {
        (Some(node), Some(cluster)) if node == cluster => "Ready",
        (Some(_), Some(_)) => "Needs Rotation",
        _ => "Unknown",
    }
}

/// The node with this name or id; `self` means the node of the daemon.
async fn fetch(client: &Client, name: &str) -> Result<Value, Failure> {
    if name == "self" {
        let info = client.get_json("/info").await?;
        let id = text(&info, "/Swarm/NodeID");
        if id.is_empty() {
            // Outside of a swarm the daemon refuses this request in its own words.
            return client.get_json("/nodes/self").await;
        }
        return client.get_json(&format!("/nodes/{id}")).await;
    }
    client.get_json(&format!("/nodes/{}", encoded(name))).await
}

async fn change_role(client: &Client, name: String, role: Role) -> Result<(), Failure> {
    let node = fetch(client, &name).await?;
    if text(&node, "/Spec/Role") == role.word() {
        println!("Node {} is already a {}.", text(&node, "/ID"), role.word());
        return Ok(());
    }
    change(client, &name, |spec| spec["Role"] = role.word().into()).await?;
    match role {
        Role::Manager => println!("Node {name} promoted to a manager in the swarm."),
        Role::Worker => println!("Manager {name} demoted in the swarm."),
    }
    Ok(())
}

async fn change(client: &Client, name: &str, edit: impl FnOnce(&mut Value)) -> Result<(), Failure> {
    let mut node = fetch(client, name).await?;
    edit(&mut node["Spec"]);
    let version = number(&node, "/Version/Index").unwrap_or(0);
    client.post(&format!("/nodes/{}/update?version={version}", text(&node, "/ID")), Some(&node["Spec"])).await?;
    Ok(())
}

fn apply(update: &Update, spec: &mut Value) {
    if let Some(availability) = update.availability {
        spec["Availability"] = availability.word().into();
    }
    if let Some(role) = update.role {
        spec["Role"] = role.word().into();
    }
    let labels = object(spec, &["Labels"]);
    for key in &update.label_rm {
        labels.remove(key);
    }
    for (key, value) in &update.label_add {
        labels.insert(key.clone(), json!(value));
    }
}

/// The text of `node inspect --pretty`, with docker's words and its uneven columns.
fn in_words(node: &Value) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("ID:\t\t\t{}", text(node, "/ID")));
    if !text(node, "/Spec/Name").is_empty() {
        line(format!("Name:\t\t\t{}", text(node, "/Spec/Name")));
    }
    let labels = pairs(node, "/Spec/Labels");
    if !labels.is_empty() {
        line("Labels:".to_owned());
        for (key, value) in labels {
            line(format!(" - {key}={value}"));
        }
    }
    line(format!("Hostname:              \t{}", text(node, "/Description/Hostname")));
    line(format!("Joined at:             \t{}", long_moment(text(node, "/CreatedAt"))));
    line("Status:".to_owned());
    line(format!(" State:\t\t\t{}", capital(text(node, "/Status/State"))));
    if !text(node, "/Status/Message").is_empty() {
        line(format!(" Message:              \t{}", text(node, "/Status/Message")));
    }
    line(format!(" Availability:         \t{}", capital(text(node, "/Spec/Availability"))));
    if !text(node, "/Status/Addr").is_empty() {
        line(format!(" Address:\t\t{}", text(node, "/Status/Addr")));
    }
    if node["ManagerStatus"].is_object() {
        let leader = node["ManagerStatus"]["Leader"].as_bool() == Some(true);
        line("Manager Status:".to_owned());
        line(format!(" Address:\t\t{}", text(node, "/ManagerStatus/Addr")));
        line(format!(" Raft Status:\t\t{}", capital(text(node, "/ManagerStatus/Reachability"))));
        line(format!(" Leader:\t\t{}", if leader { "Yes" } else { "No" }));
    }
    line("Platform:".to_owned());
    line(format!(" Operating System:\t{}", text(node, "/Description/Platform/OS")));
    line(format!(" Architecture:\t\t{}", text(node, "/Description/Platform/Architecture")));
    line("Resources:".to_owned());
    line(format!(" CPUs:\t\t\t{}", cpus(number(node, "/Description/Resources/NanoCPUs").unwrap_or(0))));
    line(format!(" Memory:\t\t{}", bytes(number(node, "/Description/Resources/MemoryBytes").unwrap_or(0))));
    let plugins = list(node, "/Description/Engine/Plugins");
    if !plugins.is_empty() {
        line("Plugins:".to_owned());
        for kind in ["Log", "Network", "Volume"] {
            let names: Vec<_> =
                plugins.iter().filter(|one| text(one, "/Type") == kind).map(|one| text(one, "/Name")).collect();
            if !names.is_empty() {
                line(format!(" {kind}:\t\t{}", names.join(", ")));
            }
        }
    }
    line(format!("Engine Version:\t\t{}", text(node, "/Description/Engine/EngineVersion")));
    let labels = pairs(node, "/Description/Engine/Labels");
    if !labels.is_empty() {
        line("Engine Labels:".to_owned());
        for (key, value) in labels {
            line(format!(" - {key}={value}"));
        }
    }
    if node["Description"]["TLSInfo"].is_object() {
        line("TLS Info:".to_owned());
        line(format!(" TrustRoot:\n{}", text(node, "/Description/TLSInfo/TrustRoot")));
        line(format!(" Issuer Subject:\t{}", text(node, "/Description/TLSInfo/CertIssuerSubject")));
        line(format!(" Issuer Public Key:\t{}", text(node, "/Description/TLSInfo/CertIssuerPublicKey")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Value {
        json!({
            "ID": "loav43dlaswxchtptrh8si9om",
            "CreatedAt": "2026-11-20T18:57:35.345098014Z",
            "Spec": {"Labels": {"zone": "a"}, "Role": "manager", "Availability": "active"},
            "Description": {
                "Hostname": "node2", "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": 2_000_000_000_i64, "MemoryBytes": 25_276_502_016_i64},
                "Engine": {"EngineVersion": "0.1.0", "Plugins": [{"Type": "Log", "Name": "ring"}]},
                "TLSInfo": {"TrustRoot": "PEM\n", "CertIssuerSubject": "S", "CertIssuerPublicKey": "K"},
            },
            "Status": {"State": "ready", "Addr": "10.77.0.12"},
            "ManagerStatus": {"Reachability": "reachable", "Addr": "10.77.0.12:2377"},
        })
    }

    /// The columns are docker's own, tabs included (transcript 035-node-inspect-pretty).
    #[test]
    fn pretty_has_dockers_columns() {
        let text = in_words(&node());
        for line in [
            "ID:\t\t\tloav43dlaswxchtptrh8si9om\n",
            "Labels:\n - zone=a\n",
            "Hostname:              \tnode2\n",
            "Joined at:             \t2026-11-20 18:57:35.345098014 +0000 utc\n",
            "Status:\n State:\t\t\tReady\n Availability:         \tActive\n Address:\t\t10.77.0.12\n",
            "Manager Status:\n Address:\t\t10.77.0.12:2377\n Raft Status:\t\tReachable\n Leader:\t\tNo\n",
            "Resources:\n CPUs:\t\t\t2\n Memory:\t\t23.54GiB\n",
            "Plugins:\n Log:\t\tring\n",
            "TLS Info:\n TrustRoot:\nPEM\n\n Issuer Subject:\tS\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_manager_is_leader_or_reachable_or_not() {
        assert_eq!(manager_status(&node()), "Reachable");
        assert_eq!(manager_status(&json!({"ManagerStatus": {"Leader": true, "Reachability": "reachable"}})), "Leader");
        assert_eq!(manager_status(&json!({})), "");
    }

    #[test]
    fn labels_are_removed_before_they_are_added() {
        let update = Update {
            availability: Some(Availability::Drain),
            role: None,
            label_add: vec![("disk".to_owned(), "ssd".to_owned())],
            label_rm: vec!["zone".to_owned(), "never".to_owned()],
            wait: None,
            node: String::new(),
        };
        let mut spec = json!({"Labels": {"zone": "a"}, "Role": "worker", "Availability": "active"});
        apply(&update, &mut spec);
        assert_eq!(spec, json!({"Labels": {"disk": "ssd"}, "Role": "worker", "Availability": "drain"}));
    }
}
