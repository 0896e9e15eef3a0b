//! The demo service of a dev cluster, and the text with commands to try.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use crate::client::{Address, Client, filters};
use crate::exit::{Exit, Failure};

/// Name of the demo service.
const NAME: &str = "whoami";

/// Number of tasks of the demo service.
const REPLICAS: u64 = 3;

/// Port that each task of the demo service listens on.
const PORT: u16 = 8080;

/// Time within which all tasks must answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Creates the demo service and waits until each of its tasks has answered. Returns their addresses.
pub(super) async fn run(client: &Client) -> Result<Vec<SocketAddr>, Failure> {
    let begun = Instant::now();
    let spec = json!({
        "Name": NAME,
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "essaim", "Args": ["whoami", "--port", PORT.to_string()], "Init": false, "DNSConfig": {}},
            "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": REPLICAS}},
        "EndpointSpec": {"Mode": "vip"},
    });
    client.post("/services/create", Some(&spec)).await?;
    let wanted = [("service".to_owned(), NAME.to_owned()), ("desired-state".to_owned(), "running".to_owned())];
    let path = format!("/tasks?{}", filters(&wanted));
    loop {
        let tasks = client.get_json(&path).await?;
        let tasks = tasks.as_array().map_or(&[][..], Vec::as_slice);
        let mut answering = Vec::new();
        for address in tasks.iter().filter(|task| task["Status"]["State"] == "running").filter_map(address) {
            if answers(address).await {
                answering.push(address);
            }
        }
        if answering.len() as u64 == REPLICAS {
            answering.sort_unstable();
            println!(
                "service {NAME} {REPLICAS}/{REPLICAS} running, every task has answered, after {:.1} s",
                begun.elapsed().as_secs_f64()
            );
            return Ok(answering);
        }
        if begun.elapsed() > ANSWER_DEADLINE {
            return Err(Failure::new(
                Exit::Timeout,
                format!("only {} of {REPLICAS} tasks answer{}", answering.len(), why(tasks)),
            ));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The task's own loopback address.
fn address(task: &Value) -> Option<SocketAddr> {
    let attached = task.pointer("/NetworksAttachments/0/Addresses/0")?.as_str()?;
    let ip: IpAddr = attached.split('/').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, PORT))
}

async fn answers(address: SocketAddr) -> bool {
    let client = Client::new(Address::Tcp(address.to_string()));
    match client.get("/api").await {
        Ok(reply) => reply.json().await.is_ok_and(|who| who["service"] == NAME || who["host"].is_string()),
        Err(_) => false,
    }
}

fn why(tasks: &[Value]) -> String {
    let errors: Vec<_> =
        tasks.iter().filter_map(|task| task["Status"]["Err"].as_str()).filter(|error| !error.is_empty()).collect();
    errors.first().map_or_else(String::new, |error| format!(": {error}"))
}

/// Commands to try next, to copy and paste.
pub(super) fn what_to_try(cluster: &Cluster, tasks: &[SocketAddr]) -> String {
    let Some(first) = cluster.nodes().first() else { return String::new() };
    let last = cluster.nodes().last().unwrap_or(first);
    let mut out = String::from("\ntry, in another terminal:\n");
    let mut line = |command: String, what: &str| {
        let _ = writeln!(out, "  {command:<60} # {what}");
    };
    for address in tasks {
        line(format!("curl http://{address}"), "a task: who it is, and where");
    }
    line(format!("export DOCKER_HOST=unix://{}", first.socket.display()), "for docker and essaim alike");
    line("docker node ls".to_owned(), "the stock docker CLI");
    if !tasks.is_empty() {
        line(format!("docker service ps {NAME}"), "its tasks");
        line(format!("docker service scale {NAME}=5"), "more of them");
    }
    line(format!("essaim dev kill {}", last.name), "kill -9 its daemon and its tasks, and see them elsewhere");
    line(format!("essaim dev restart {}", last.name), "and back");
    line("essaim tree".to_owned(), "every actor of every node");
    line("essaim journal -f".to_owned(), "what happens, and why");
    line("essaim members".to_owned(), "who is alive");
    out.push_str("\nCtrl-C ends everything and removes every trace.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tasks_address_is_in_its_attachment() {
        let task = json!({"NetworksAttachments": [{"Network": {}, "Addresses": ["127.70.3.2/8"]}]});
        assert_eq!(address(&task).unwrap().to_string(), "127.70.3.2:8080");
        assert_eq!(address(&json!({"NetworksAttachments": null})), None);
    }
}
