//! Comparison of two JSON answers by shape: the same fields of the same types, and equal values where the value counts.

use serde_json::Value;

/// Fields that are not compared: either side may lack them. The reason stands above each group.
const APART: &[&str] = &[
    // Left out of the recorded fixtures, to keep them small.
    "TLSInfo",
    "Plugins",
    "Runtimes",
    // Networks, secrets, configs of services and volumes come later.
    "Networks",
    "NetworksAttachments",
    "VirtualIPs",
    "Endpoint",
    "Secrets",
    "Configs",
    "Mounts",
    // Ports of tasks come later.
    "PortStatus",
    // Always sent by us, because a client that is in use reads fields of it without checking that it is there.
    "ContainerStatus",
    // We are one component more.
    "Components",
    // The recorded managers; the tests ask one that knows only itself.
    "RemoteManagers",
    // Settings that are refused so far (rotation of the authority, autolock) are part of it.
    "Cluster",
    // Left out by one of the two sides when empty.
    "Message",
    "Err",
    "Addr",
];

/// Fields whose values must be equal; of all others only the type is compared.
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

/// A line for each difference in shape between a recorded answer and ours.
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
            // Objects of a list are paired by id, since their order does not count: Swarm sorts by ids that it draws,
            // as we do.
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
