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
            line(out, if value.is_empty() { format!(" {key}") } else { format!(" {key}={value}") });
        }
    }
    let mode = &service["Spec"]["Mode"];
    if mode["Global"].is_object() {
        line(out, "Service Mode:\tGlobal");
    } else if mode["GlobalJob"].is_object() {
        line(out, "Service Mode:\tGlobal Job");
        last_run(out, service, now);
    } else if mode["ReplicatedJob"].is_object() {
        line(out, "Service Mode:\tReplicated Job");
        for (label, name) in [("Max Concurrent", "MaxConcurrent"), ("Total Completions", "TotalCompletions")] {
            if let Some(number) = mode["ReplicatedJob"][name].as_u64() {
                line(out, format!(" {label}:\t{number}"));
            }
        }
        last_run(out, service, now);
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

/// When the latest run of a job began. docker shows nothing of a job but its name.
fn last_run(out: &mut String, service: &Value, now: Timestamp) {
    let at = text(service, "/JobStatus/LastExecution");
    if !at.is_empty() {
        line(out, format!(" Last Execution:\t{}", ago(at, now)));
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
                " Preferences:   [{}]",
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
    if let Some(init) = container["Init"].as_bool() {
        line(out, format!(" Init:\t\t{init}"));
    }
    if !text(container, "/User").is_empty() {
        line(out, format!(" User: {}", text(container, "/User")));
    }
    limits(out, container);
    files(out, container);
    let driver = &template["LogDriver"];
    if driver.is_object() {
        line(out, "Log Driver:");
        if !text(driver, "/Name").is_empty() {
            line(out, format!(" Name:\t\t{}", text(driver, "/Name")));
        }
        let options = pairs(driver, "/Options");
        if !options.is_empty() {
            line(out, " LogOpts:");
        }
        for (key, value) in options {
            line(out, if value.is_empty() { format!("  {key}") } else { format!("  {key}:       {value}") });
        }
        line(out, "");
    }
    resources(out, &template["Resources"]);
    let networks: Vec<_> = list(template, "/Networks").iter().map(|network| text(network, "/Target")).collect();
    if !networks.is_empty() {
        line(out, format!("Networks: {} ", networks.join(" ")));
    }
}

/// What the kernel grants the container: capabilities, settings, limits of the process.
fn limits(out: &mut String, container: &Value) {
    let (add, drop) = (texts(container, "/CapabilityAdd"), texts(container, "/CapabilityDrop"));
    if !add.is_empty() || !drop.is_empty() {
        line(out, "Capabilities:");
    }
    for (label, names) in [("Add", add), ("Drop", drop)] {
        if !names.is_empty() {
            line(out, format!(" {label}: {}", names.join(", ")));
        }
    }
    let sysctls = pairs(container, "/Sysctls");
    if !sysctls.is_empty() {
        line(out, "SysCtls:");
    }
    for (key, value) in sysctls {
        line(out, if value.is_empty() { format!(" {key}") } else { format!(" {key}: {value}") });
    }
    let mut ulimits: Vec<_> = list(container, "/Ulimits")
        .iter()
        .map(|one| {
            let of = |field: &str| number(one, field).unwrap_or(0);
            format!(" {}: {}:{}", text(one, "/Name"), of("/Soft"), of("/Hard"))
        })
        .collect();
    ulimits.sort_unstable();
    if !ulimits.is_empty() {
        line(out, format!("Ulimits:\n{}", ulimits.join("\n")));
    }
}

/// What else is in the container's file system: mounts, configs, secrets.
fn files(out: &mut String, container: &Value) {
    let mounts = list(container, "/Mounts");
    if !mounts.is_empty() {
        line(out, "Mounts:");
    }
    for mount in mounts {
        line(out, format!(" Target:\t{}", text(mount, "/Target")));
        line(out, format!("  Source:\t{}", text(mount, "/Source")));
        line(out, format!("  ReadOnly:\t{}", mount["ReadOnly"].as_bool().unwrap_or(false)));
        line(out, format!("  Type:\t\t{}", text(mount, "/Type")));
    }
    for word in ["Config", "Secret"] {
        let references = list(container, &format!("/{word}s"));
        if !references.is_empty() {
            line(out, format!("{word}s:"));
        }
        for reference in references {
            line(out, format!(" Target:\t{}", text(reference, "/File/Name")));
            line(out, format!("  Source:\t{}", text(reference, &format!("/{word}Name"))));
        }
    }
}

fn resources(out: &mut String, resources: &Value) {
    if !resources.is_object() {
        return;
    }
    line(out, "Resources:");
    for kind in ["Reservations", "Limits"] {
        let of = &resources[kind];
        let amount = |field: &str| number(of, field).unwrap_or(0);
        let (nanos, memory) = (amount("/NanoCPUs"), amount("/MemoryBytes"));
        let pids = if kind == "Limits" { amount("/Pids") } else { 0 };
        if nanos == 0 && memory == 0 && pids == 0 {
            continue;
        }
        line(out, format!(" {kind}:"));
        if nanos != 0 {
            line(out, format!("  CPU:\t\t{}", cpus(nanos)));
        }
        if memory != 0 {
            line(out, format!("  Memory:\t{}", bytes(memory)));
        }
        if pids > 0 {
            line(out, format!("  PIDs:\t\t{pids}"));
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
    if !ports.is_empty() {
        line(out, "Ports:");
    }
    for (at, port) in ports.iter().enumerate() {
        line(out, format!(" PublishedPort = {}", number(port, "/PublishedPort").unwrap_or(0)));
        line(out, format!("  Protocol = {}", text(port, "/Protocol")));
        line(out, format!("  TargetPort = {}", number(port, "/TargetPort").unwrap_or(0)));
        // docker ends the last port with a blank.
        let end = if at + 1 == ports.len() { " " } else { "" };
        line(out, format!("  PublishMode = {}{end}", text(port, "/PublishMode")));
    }
    health(out, &service["Spec"]["TaskTemplate"]["ContainerSpec"]["Healthcheck"]);
}

fn health(out: &mut String, check: &Value) {
    if !check.is_object() {
        return;
    }
    let time = |field: &str| duration(number(check, field).unwrap_or(0));
    line(out, " Healthcheck:");
    line(out, format!("  Interval = {}", time("/Interval")));
    line(out, format!("  Retries = {}", number(check, "/Retries").unwrap_or(0)));
    line(out, format!("  StartPeriod =\t{}", time("/StartPeriod")));
    line(out, format!("  Timeout =\t{}", time("/Timeout")));
    let tests = texts(check, "/Test");
    if !tests.is_empty() {
        line(out, "  Tests:");
    }
    for test in tests {
        line(out, format!("\t Test = {test}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_tells_its_numbers_and_its_latest_run() {
        let service = json!({
            "ID": "j", "Spec": {"Name": "job", "Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}}},
            "JobStatus": {"JobIteration": {"Index": 3}, "LastExecution": "2026-11-20T19:01:08Z"},
        });
        let text = describe(&service, "2026-11-20T19:01:25.4Z".parse().unwrap());
        let expected = "Service Mode:\tReplicated Job\n Max Concurrent:\t2\n Total Completions:\t5\n Last Execution:\t17 seconds ago\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn everything_that_a_container_may_have_is_told() {
        let file = |name: &str| json!({"Name": name});
        let service = json!({"ID": "x", "Spec": {"Name": "x", "TaskTemplate": {
            "ContainerSpec": {
                "Image": "a", "User": "1", "CapabilityAdd": ["CAP_CHOWN"], "CapabilityDrop": ["ALL"], "Sysctls": {"a": "1"},
                "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
                "Mounts": [{"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true}],
                "Configs": [{"File": file("/c"), "ConfigName": "site"}], "Secrets": [{"File": file("/k"), "SecretName": "key"}],
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 3},
            },
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}, "Resources": {"Limits": {"Pids": 9}},
        }}});
        let text = describe(&service, Timestamp::UNIX_EPOCH);
        for expected in [
            " User: 1\nCapabilities:\n Add: CAP_CHOWN\n Drop: ALL\nSysCtls:\n a: 1\nUlimits:\n nofile: 1:2\nMounts:\n Target:\t/t\n",
            "  ReadOnly:\ttrue\n  Type:\t\tbind\nConfigs:\n Target:\t/c\n  Source:\tsite\nSecrets:\n Target:\t/k\n  Source:\tkey\n",
            "Log Driver:\n Name:\t\tjson-file\n LogOpts:\n  max-size:       1m\n\nResources:\n Limits:\n  PIDs:\t\t9\n",
            " Healthcheck:\n  Interval = 1s\n  Retries = 3\n  StartPeriod =\t0s\n  Timeout =\t0s\n  Tests:\n\t Test = CMD-SHELL\n\t Test = true\n",
        ] {
            assert!(text.contains(expected), "{expected}\n---\n{text}");
        }
    }

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
