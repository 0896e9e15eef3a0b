//! `service inspect --pretty`: a service in docker's words and columns.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::show::units::{ago, bytes, cpus, duration};
use crate::verbs::read::{list, number, pairs, text, texts};

/// The text of `service inspect --pretty`.
pub(super) fn describe(service: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    head(&mut out, service, now);
    placement(&mut out, &service["Spec"]["TaskTemplate"]["Placement"]);
    flow(&mut out, "UpdateConfig", "Update order:      ", &service["Spec"]["UpdateConfig"]);
    flow(&mut out, "RollbackConfig", "Rollback order:    ", &service["Spec"]["RollbackConfig"]);
    container(&mut out, &service["Spec"]["TaskTemplate"]);
    endpoint(&mut out, service);
    out.push('\n');
    out
}

fn line(out: &mut String, text: impl AsRef<str>) {
    let _ = writeln!(out, "{}", text.as_ref());
}

fn head(out: &mut String, service: &Value, now: Timestamp) {
    line(out, format!("\nID:\t\t{}", text(service, "/ID")));
    line(out, format!("Name:\t\t{}", text(service, "/Spec/Name")));
    let labels = pairs(service, "/Spec/Labels");
    if !labels.is_empty() {
        line(out, "Labels:");
        for (key, value) in labels {
            line(out, format!(" {key}={value}"));
        }
    }
    let mode = &service["Spec"]["Mode"];
    if mode["Global"].is_object() {
        line(out, "Service Mode:\tGlobal");
    } else {
        line(out, "Service Mode:\tReplicated");
        if let Some(replicas) = number(mode, "/Replicated/Replicas") {
            line(out, format!(" Replicas:\t{replicas}"));
        }
    }
    if !text(service, "/UpdateStatus/State").is_empty() {
        line(out, "UpdateStatus:");
        line(out, format!(" State:\t\t{}", text(service, "/UpdateStatus/State")));
        for (label, name) in [("Started", "/UpdateStatus/StartedAt"), ("Completed", "/UpdateStatus/CompletedAt")] {
            if !text(service, name).is_empty() {
                line(out, format!(" {label}:\t{}", ago(text(service, name), now)));
            }
        }
        line(out, format!(" Message:\t{}", text(service, "/UpdateStatus/Message")));
    }
}

fn placement(out: &mut String, placement: &Value) {
    if !placement.is_object() {
        return;
    }
    line(out, "Placement:");
    let constraints = texts(placement, "/Constraints");
    if !constraints.is_empty() {
        line(out, format!(" Constraints:\t[{}]", constraints.join(" ")));
    }
    let preferences: Vec<_> =
        list(placement, "/Preferences").iter().map(|one| text(one, "/Spread/SpreadDescriptor")).collect();
    if !preferences.is_empty() {
        line(
            out,
            format!(
                " Preferences:\t[{}]",
                preferences.iter().map(|one| format!("spread={one}")).collect::<Vec<_>>().join(" ")
            ),
        );
    }
    if let Some(max) = number(placement, "/MaxReplicas").filter(|max| *max > 0) {
        line(out, format!(" Max Replicas Per Node:   {max}"));
    }
}

fn flow(out: &mut String, name: &str, order: &str, flow: &Value) {
    if !flow.is_object() {
        return;
    }
    line(out, format!("{name}:"));
    line(out, format!(" Parallelism:\t{}", number(flow, "/Parallelism").unwrap_or(0)));
    if let Some(delay) = number(flow, "/Delay").filter(|delay| *delay != 0) {
        line(out, format!(" Delay:\t\t{}", duration(delay)));
    }
    line(out, format!(" On failure:\t{}", text(flow, "/FailureAction")));
    if let Some(monitor) = number(flow, "/Monitor").filter(|monitor| *monitor != 0) {
        line(out, format!(" Monitoring Period: {}", duration(monitor)));
    }
    line(out, format!(" Max failure ratio: {}", flow["MaxFailureRatio"].as_f64().unwrap_or(0.0)));
    line(out, format!(" {order}{}", text(flow, "/Order")));
}

fn container(out: &mut String, template: &Value) {
    let container = &template["ContainerSpec"];
    line(out, "ContainerSpec:");
    line(out, format!(" Image:\t\t{}", text(container, "/Image")));
    for (label, name) in [("Args", "/Args"), ("Env", "/Env")] {
        let words = texts(container, name);
        if !words.is_empty() {
            line(out, format!(" {label}:\t\t{} ", words.join(" ")));
        }
    }
    if !text(container, "/Dir").is_empty() {
        line(out, format!(" Dir:\t\t{}", text(container, "/Dir")));
    }
    if !text(container, "/User").is_empty() {
        line(out, format!(" User: {}", text(container, "/User")));
    }
    if let Some(init) = container["Init"].as_bool() {
        line(out, format!(" Init:\t\t{init}"));
    }
    line(out, "Resources:");
    for kind in ["Reservations", "Limits"] {
        let of = &template["Resources"][kind];
        let (nanos, memory) = (number(of, "/NanoCPUs").unwrap_or(0), number(of, "/MemoryBytes").unwrap_or(0));
        if nanos == 0 && memory == 0 {
            continue;
        }
        line(out, format!(" {kind}:"));
        if nanos != 0 {
            line(out, format!("  CPU:\t\t{}", cpus(nanos)));
        }
        if memory != 0 {
            line(out, format!("  Memory:\t{}", bytes(memory)));
        }
    }
}

fn endpoint(out: &mut String, service: &Value) {
    let mode = text(service, "/Endpoint/Spec/Mode");
    let mode = if mode.is_empty() { text(service, "/Spec/EndpointSpec/Mode") } else { mode };
    if !mode.is_empty() {
        line(out, format!("Endpoint Mode:\t{mode}"));
    }
    let ports = list(service, "/Endpoint/Ports");
    if ports.is_empty() {
        return;
    }
    line(out, "Ports:");
    for port in ports {
        line(out, format!(" PublishedPort = {}", number(port, "/PublishedPort").unwrap_or(0)));
        line(out, format!("  Protocol = {}", text(port, "/Protocol")));
        line(out, format!("  TargetPort = {}", number(port, "/TargetPort").unwrap_or(0)));
        line(out, format!("  PublishMode = {} ", text(port, "/PublishMode")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Transcript 153-service-inspect-paused-pretty, without its network and health check.
    #[test]
    fn a_service_in_dockers_words() {
        let service = json!({
            "ID": "nxvv67yumq07efk8ag0tmrm4k",
            "Spec": {
                "Name": "front", "Labels": {"l": "1"}, "Mode": {"Replicated": {"Replicas": 2}},
                "TaskTemplate": {"ContainerSpec": {"Image": "buggy:v2", "Env": ["A=1"], "Init": false}, "Resources": {"Limits": {}}, "Placement": {}},
                "UpdateConfig": {"Parallelism": 1, "Delay": 1_000_000_000, "FailureAction": "pause", "Monitor": 8_000_000_000_i64, "MaxFailureRatio": 0, "Order": "stop-first"},
            },
            "UpdateStatus": {"State": "paused", "StartedAt": "2026-11-20T19:01:08Z", "Message": "update paused"},
            "Endpoint": {"Spec": {"Mode": "vip"}, "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000, "PublishMode": "ingress"}]},
        });
        let now = "2026-11-20T19:01:25.4Z".parse().unwrap();
        let expected = "
ID:\t\tnxvv67yumq07efk8ag0tmrm4k
Name:\t\tfront
Labels:
 l=1
Service Mode:\tReplicated
 Replicas:\t2
UpdateStatus:
 State:\t\tpaused
 Started:\t17 seconds ago
 Message:\tupdate paused
Placement:
UpdateConfig:
 Parallelism:\t1
 Delay:\t\t1s
 On failure:\tpause
 Monitoring Period: 8s
 Max failure ratio: 0
 Update order:      stop-first
ContainerSpec:
 Image:\t\tbuggy:v2
 Env:\t\tA=1 
 Init:\t\tfalse
Resources:
Endpoint Mode:\tvip
Ports:
 PublishedPort = 8000
  Protocol = tcp
  TargetPort = 80
  PublishMode = ingress 

";
        assert_eq!(describe(&service, now), expected);
    }
}
