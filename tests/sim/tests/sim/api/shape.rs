//! Whether two answers have the same shape: the same fields of the same types, and the same words where words count.

use serde_json::Value;

/// Fields that we do not have, or have and Docker leaves out; each with its reason beside.
const APART: &[&str] = &[
    // Not recorded into the fixtures, to keep them small.
    "TLSInfo",
    "Plugins",
    "Runtimes",
    // The CLI reads them from a registry, and none is asked yet.
    "Platforms",
    // Networks come later; a task's loopback address stands in their place.
    "Networks",
    "NetworksAttachments",
    "VirtualIPs",
    // Health checks, secrets, configs, mounts and the like are refused in words.
    "Mounts",
    "Secrets",
    "Configs",
    "Healthcheck",
    "Hostname",
    "Privileges",
    "Preferences",
    "ReadOnly",
    "Hosts",
    "Sysctls",
    "CapabilityAdd",
    "CapabilityDrop",
    "Ulimits",
    "LogDriver",
    "JobStatus",
    "JobIteration",
    "ReplicatedJob",
    "GlobalJob",
    // Always sent, because a client in the field reads into it unasked.
    "ContainerStatus",
    // Ports of containers.
    "PortStatus",
    // Of what the managers of the recording did in the meantime.
    "UpdateStatus",
    "PreviousSpec",
    "UpdateConfig",
    "RollbackConfig",
    // Sent by `stack deploy` otherwise than by `service create`; shown in the latter's form always.
    "Init",
    "DNSConfig",
    "Resources",
    // Of the machine and its container engine, and the name of the product.
    "Platform",
    "DriverStatus",
    "SystemStatus",
    "SecurityOptions",
    "CDISpecDirs",
    "RegistryConfig",
    "Containerd",
    "FirewallBackend",
    "KernelMemoryTCP",
    "CgroupVersion",
    "GenericResources",
    "DefaultAddrPool",
    "Components",
    "BuildTime",
    "Warnings",
    "RemoteManagers",
    "Cluster",
    // An empty one is left out on either side.
    "Message",
    "Err",
    "Addr",
    "Endpoint",
];

/// Fields whose values must be equal, not only of the same type.
const EQUAL: &[&str] = &[
    "Role",
    "Availability",
    "State",
    "DesiredState",
    "ServiceID",
    "NodeID",
    "Slot",
    "Replicas",
    "Name",
    "Global",
    "LocalNodeState",
    "ControlAvailable",
    "Leader",
    "Reachability",
    "StopGracePeriod",
    "Args",
    "Env",
    "Constraints",
    "Condition",
];

/// The differences, one a line.
pub(crate) fn differences(recorded: &Value, ours: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", "", recorded, ours, &mut found);
    found
}

fn walk(path: &str, key: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let labels = key == "Labels" || key == "Details";
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                if APART.contains(&name.as_str()) || labels {
                    continue;
                }
                let path = format!("{path}.{name}");
                match (a.get(name), b.get(name)) {
                    (Some(x), Some(y)) => walk(&path, name, x, y, found),
                    (Some(_), None) => found.push(format!("{path}: not in ours")),
                    (None, _) => found.push(format!("{path}: in ours only")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if EQUAL.contains(&key) && a != b {
                found.push(format!("{path}: {recorded} became {ours}"));
            }
            // Lists of objects are in no order that counts: Swarm's follow its ids, as ours do.
            let id = |value: &Value| value["ID"].as_str().map(str::to_owned);
            for x in a {
                let y = match id(x) {
                    Some(own) => b.iter().find(|y| id(y).as_ref() == Some(&own)),
                    None => b.first(),
                };
                if let Some(y) = y {
                    walk(&format!("{path}[]"), "", x, y, found);
                } else if id(x).is_some() {
                    found.push(format!("{path}[]: {} is missing", x["ID"]));
                }
            }
            if a.first().and_then(id).is_some() && a.len() != b.len() {
                found.push(format!("{path}: {} entries became {}", a.len(), b.len()));
            }
        }
        _ if EQUAL.contains(&key) && recorded != ours => found.push(format!("{path}: {recorded} became {ours}")),
        _ if std::mem::discriminant(recorded) != std::mem::discriminant(ours) => {
            found.push(format!("{path}: {recorded} became {ours}"));
        }
        _ => (),
    }
}
