//! Comparison of two JSON answers: the same fields, and equal values where they do not differ from run to run.

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

/// Fields whose values differ from run to run: only their type is compared.
const VARIES: &[&str] = &[
    "Index",
    "Created",
    "CreatedAt",
    "UpdatedAt",
    "Timestamp",
    "StartedAt",
    "CompletedAt",
    "LastExecution",
    "SystemTime",
    "EngineVersion",
    "NodeAddr",
    // The join tokens.
    "Worker",
    "Manager",
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
                let is_id_of_cluster = name == "ID" && a.contains_key("JoinTokens");
                if APART.contains(&name.as_str()) || labels || is_id_of_cluster {
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
            // Objects of a list are paired by id, since their order does not count: Swarm sorts by ids that it draws,
            // as we do.
            let id = |value: &Value| value["ID"].as_str().or(value["Id"].as_str()).map(str::to_owned);
            for (at, x) in a.iter().enumerate() {
                let y = match id(x) {
                    Some(own) => b.iter().find(|y| id(y).as_ref() == Some(&own)),
                    None => b.get(at),
                };
                match y {
                    Some(y) => walk(&format!("{path}[]"), key, x, y, found),
                    None => {
                        let named = ["ID", "Name"].iter().map(|field| &x[*field]).find(|it| it.is_string());
                        found.push(format!("{path}[]: {} is missing", named.unwrap_or(x)));
                    }
                }
            }
            if a.len() != b.len() {
                found.push(format!("{path}: {} entries became {}", a.len(), b.len()));
            }
        }
        _ => {
            let is_of_one_type = std::mem::discriminant(recorded) == std::mem::discriminant(ours);
            if !is_of_one_type || (recorded != ours && !VARIES.contains(&key)) {
                found.push(format!("{path}: {recorded} became {ours}"));
            }
        }
    }
}
