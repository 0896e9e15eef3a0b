//! `essaim info` and `essaim version`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::read::{list, number, pairs, text};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::inspect;
use crate::show::units::{bytes, duration};

/// Arguments of commands that print one object.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Format output using a Go template or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Runs `essaim info`.
pub(crate) async fn info(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let info = client.get_json("/info").await?;
    match arguments.format.as_deref() {
        None | Some("") => print!("{}", info_in_words(&info, client)),
        Some("json") => println!("{info}"),
        Some(format) => print!("{}", inspect(&[info], Some(format))?),
    }
    Ok(())
}

/// Runs `essaim version`: prints the version of this program, and that of the daemon when it answers.
pub(crate) async fn version(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let server = client.get_json("/version").await;
    let own = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
        "Host": client.address().to_string(),
    });
    let both = json!({"Client": own, "Server": server.clone().unwrap_or(Value::Null)});
    match arguments.format.as_deref() {
        None | Some("") => print!("{}", version_in_words(&both)),
        Some("json") => println!("{both}"),
        Some(format) => print!("{}", inspect(&[both], Some(format))?),
    }
    server.map(drop)
}

fn version_in_words(both: &Value) -> String {
    let mut out = String::new();
    let client = &both["Client"];
    let _ = writeln!(out, "Client:\n Version:           {}", text(client, "/Version"));
    let _ = writeln!(out, " OS/Arch:           {}/{}", text(client, "/Os"), text(client, "/Arch"));
    let _ = writeln!(out, " Host:              {}", text(client, "/Host"));
    let server = &both["Server"];
    if server.is_object() {
        let _ = writeln!(out, "\nServer:\n Engine:");
        let _ = writeln!(out, "  Version:          {}", text(server, "/Version"));
        let least = text(server, "/MinAPIVersion");
        let _ = writeln!(out, "  API version:      {} (minimum version {least})", text(server, "/ApiVersion"));
        let _ = writeln!(out, "  OS/Arch:          {}/{}", text(server, "/Os"), text(server, "/Arch"));
        for component in list(server, "/Components").iter().filter(|one| text(one, "/Name") != "Engine") {
            let _ =
                writeln!(out, " {}:\n  Version:          {}", text(component, "/Name"), text(component, "/Version"));
        }
    }
    out
}

fn info_in_words(info: &Value, client: &Client) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "Client:\n Version:    {}\n Host:       {}\n\nServer:",
        env!("CARGO_PKG_VERSION"),
        client.address()
    );
    let _ = writeln!(out, " Server Version: {}", text(info, "/ServerVersion"));
    swarm(&mut out, &info["Swarm"]);
    for (label, name) in [
        ("Kernel Version", "/KernelVersion"),
        ("Operating System", "/OperatingSystem"),
        ("OSType", "/OSType"),
        ("Architecture", "/Architecture"),
    ] {
        let _ = writeln!(out, " {label}: {}", text(info, name));
    }
    let _ = writeln!(out, " CPUs: {}", number(info, "/NCPU").unwrap_or(0));
    let _ = writeln!(out, " Total Memory: {}", bytes(number(info, "/MemTotal").unwrap_or(0)));
    let _ = writeln!(out, " Name: {}\n ID: {}", text(info, "/Name"), text(info, "/ID"));
    for (key, value) in pairs(info, "/Labels") {
        let _ = writeln!(out, " {key}={value}");
    }
    for warning in list(info, "/Warnings").iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "{warning}");
    }
    out
}

fn swarm(out: &mut String, swarm: &Value) {
    let _ = writeln!(out, " Swarm: {}", text(swarm, "/LocalNodeState"));
    if ["", "inactive", "locked"].contains(&text(swarm, "/LocalNodeState")) {
        return;
    }
    let _ = writeln!(out, "  NodeID: {}", text(swarm, "/NodeID"));
    if !text(swarm, "/Error").is_empty() {
        let _ = writeln!(out, "  Error: {}", text(swarm, "/Error"));
    }
    let manager = swarm["ControlAvailable"].as_bool() == Some(true);
    let _ = writeln!(out, "  Is Manager: {manager}");
    let cluster = &swarm["Cluster"];
    if manager && text(swarm, "/Error").is_empty() && cluster.is_object() {
        let _ = writeln!(out, "  ClusterID: {}", text(cluster, "/ID"));
        let _ = writeln!(out, "  Managers: {}", number(swarm, "/Managers").unwrap_or(0));
        let _ = writeln!(out, "  Nodes: {}", number(swarm, "/Nodes").unwrap_or(0));
        let history = number(cluster, "/Spec/Orchestration/TaskHistoryRetentionLimit").unwrap_or(0);
        let _ = writeln!(out, "  Orchestration:\n   Task History Retention Limit: {history}");
        let expiry = number(cluster, "/Spec/CAConfig/NodeCertExpiry").unwrap_or(0);
        let _ = writeln!(out, "  CA Configuration:\n   Expiry Duration: {}", duration(expiry));
        let locked = cluster.pointer("/Spec/EncryptionConfig/AutoLockManagers").and_then(Value::as_bool) == Some(true);
        let _ = writeln!(out, "  Autolock Managers: {locked}");
    }
    let _ = writeln!(out, "  Node Address: {}", text(swarm, "/NodeAddr"));
    let mut managers: Vec<_> = list(swarm, "/RemoteManagers").iter().map(|one| text(one, "/Addr")).collect();
    managers.sort_unstable();
    if !managers.is_empty() {
        let _ = writeln!(out, "  Manager Addresses:");
        for address in managers {
            let _ = writeln!(out, "   {address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of transcript 026-info-worker.
    #[test]
    fn a_worker_says_whom_it_follows() {
        let mut out = String::new();
        let worker = json!({
            "LocalNodeState": "active", "NodeID": "loav", "NodeAddr": "10.77.0.12", "ControlAvailable": false,
            "RemoteManagers": [{"Addr": "10.77.0.11:2377"}],
        });
        swarm(&mut out, &worker);
        let expected = " Swarm: active\n  NodeID: loav\n  Is Manager: false\n  Node Address: 10.77.0.12\n  Manager Addresses:\n   10.77.0.11:2377\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn without_a_daemon_the_version_is_ones_own() {
        let text = version_in_words(&json!({"Client": {"Version": "0.1.0"}, "Server": null}));
        assert!(text.contains("0.1.0") && !text.contains("Server"), "{text}");
    }
}
