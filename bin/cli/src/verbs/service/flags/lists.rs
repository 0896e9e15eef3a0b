//! How lists and maps of the spec are edited. `service create` keeps the order in which the entries were given;
//! `service update` sorts most lists, so that the same wish in another order changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{CONTAINER, Many, On, PLACEMENT, Path, RESERVATIONS};
use crate::exit::Failure;
use crate::verbs::read::object;

/// Adds entries to a list of the spec, and removes others.
pub(super) fn edit(many: Many, on: On, spec: &mut Value, added: Vec<Value>, removed: &[Value]) -> Result<(), Failure> {
    const DNS: Path = &["TaskTemplate", "ContainerSpec", "DNSConfig"];
    let update = on == On::Update;
    match many {
        Many::Labels => map(spec, &[], "Labels", &added, removed),
        Many::ContainerLabels => map(spec, CONTAINER, "Labels", &added, removed),
        Many::Sysctls => map(spec, CONTAINER, "Sysctls", &added, removed),
        Many::Env => env(spec, &added, removed),
        Many::Constraints => set(spec, PLACEMENT, "Constraints", added, removed, update),
        Many::Groups => set(spec, CONTAINER, "Groups", added, removed, update),
        Many::Dns => set(spec, DNS, "Nameservers", added, removed, update),
        Many::DnsOptions => set(spec, DNS, "Options", added, removed, update),
        Many::DnsSearch => set(spec, DNS, "Search", added, removed, update),
        Many::Preferences => {
            let mut list = values(spec, PLACEMENT, "Preferences");
            list.retain(|have| !removed.contains(have));
            list.extend(added);
            put(spec, PLACEMENT, "Preferences", list);
        }
        Many::Mounts => mounts(spec, added, removed, update)?,
        Many::Ports => ports(spec, added, removed, update),
        Many::Hosts => hosts(spec, &added, removed),
        Many::Ulimits => ulimits(spec, added, removed),
        Many::Capabilities => capabilities(spec, &added, removed, update),
        Many::GenericResources => generic_resources(spec, added, removed)?,
        Many::Networks => networks(spec, added, removed)?,
        Many::Secrets => references(spec, "Secret", added, removed)?,
        Many::Configs => references(spec, "Config", added, removed)?,
    }
    Ok(())
}

/// The list at this place of the spec.
pub(super) fn values(spec: &mut Value, path: Path, field: &str) -> Vec<Value> {
    object(spec, path).get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Writes a list to this place of the spec; an empty list is left out.
pub(super) fn put(spec: &mut Value, path: Path, field: &str, list: Vec<Value>) {
    let holder = object(spec, path);
    if list.is_empty() {
        holder.remove(field);
    } else {
        holder.insert(field.to_owned(), Value::Array(list));
    }
}

/// Key and value of `KEY=VALUE`; a key alone has an empty value.
pub(super) fn key_value(text: &str) -> (String, Value) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), json!(value))
}

fn key(entry: &Value) -> &str {
    let entry = entry.as_str().unwrap_or("");
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn map(spec: &mut Value, path: Path, field: &str, added: &[Value], removed: &[Value]) {
    let holder = object(spec, path);
    let mut map: Map<_, _> = holder.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    for gone in removed {
        map.remove(gone.as_str().unwrap_or(""));
    }
    map.extend(added.iter().filter_map(Value::as_str).map(key_value));
    holder.insert(field.to_owned(), Value::Object(map));
}

/// Variables: one that is set again takes its new value, at the end of the list.
fn env(spec: &mut Value, added: &[Value], removed: &[Value]) {
    let mut list = values(spec, CONTAINER, "Env");
    list.retain(|have| !removed.iter().any(|gone| gone.as_str() == Some(key(have))));
    for add in added {
        if !list.contains(add) {
            list.retain(|have| key(have) != key(add));
            list.push(add.clone());
        }
    }
    put(spec, CONTAINER, "Env", list);
}

fn set(spec: &mut Value, path: Path, field: &str, added: Vec<Value>, removed: &[Value], sorted: bool) {
    let mut list = values(spec, path, field);
    list.extend(added);
    list.retain(|have| !removed.contains(have));
    if sorted {
        list.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        list.dedup();
    }
    put(spec, path, field, list);
}

fn mounts(spec: &mut Value, added: Vec<Value>, removed: &[Value], update: bool) -> Result<(), Failure> {
    let target = |mount: &Value| mount["Target"].clone();
    let targets: BTreeSet<_> = added.iter().map(|mount| mount["Target"].as_str()).collect();
    if update && targets.len() < added.len() {
        return Err(Failure::usage("duplicate mount target"));
    }
    let mut list = values(spec, CONTAINER, "Mounts");
    list.retain(|have| !added.iter().any(|add| target(add) == target(have)));
    list.extend(added);
    list.retain(|have| !removed.contains(&target(have)));
    if update {
        let place = |mount: &Value| {
            let text = |field: &str| mount[field].as_str().unwrap_or("").to_owned();
            (text("Source"), text("Target"))
        };
        list.sort_by_key(place);
    }
    put(spec, CONTAINER, "Mounts", list);
    Ok(())
}

/// Ports: one that is there already is not added again. Removing takes the target port, its protocol and its mode.
fn ports(spec: &mut Value, added: Vec<Value>, removed: &[Value], update: bool) {
    const ENDPOINT: Path = &["EndpointSpec"];
    let text = |port: &Value, field: &str, default: &str| port[field].as_str().unwrap_or(default).to_owned();
    let target = |port: &Value| {
        (port["TargetPort"].as_u64(), text(port, "Protocol", "tcp"), text(port, "PublishMode", "ingress"))
    };
    let whole = |port: &Value| (port["PublishedPort"].as_u64(), target(port));
    let before = values(spec, ENDPOINT, "Ports");
    let mut list: Vec<_> =
        before.iter().filter(|have| !removed.iter().any(|gone| target(gone) == target(have))).cloned().collect();
    list.extend(added.into_iter().filter(|add| !update || !before.iter().any(|have| whole(have) == whole(add))));
    if update {
        list.sort_by_key(whole);
        list.dedup();
    }
    put(spec, ENDPOINT, "Ports", list);
}

/// Entries of the container's hosts file, each an address and names. A name is removed from every address, or from the
/// one given with it; an address without names is removed.
fn hosts(spec: &mut Value, added: &[Value], removed: &[Value]) {
    let gone: Vec<_> = removed
        .iter()
        .filter_map(Value::as_str)
        .map(|entry| entry.split_once(':').map_or((entry, ""), |(host, address)| (host, address)))
        .collect();
    let mut list: Vec<String> = Vec::new();
    for have in values(spec, CONTAINER, "Hosts") {
        let mut parts = have.as_str().unwrap_or("").split_whitespace();
        let address = parts.next().unwrap_or("");
        let kept: Vec<_> = parts
            .filter(|name| !gone.iter().any(|(host, at)| host == name && (at.is_empty() || *at == address)))
            .collect();
        if !kept.is_empty() {
            list.push(format!("{address} {}", kept.join(" ")));
        }
    }
    let new = added.iter().filter_map(Value::as_str).filter_map(|entry| entry.split_once(':'));
    list.extend(new.map(|(host, address)| format!("{address} {host}")));
    let mut seen = BTreeSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
    put(spec, CONTAINER, "Hosts", list.into_iter().map(Value::from).collect());
}

fn ulimits(spec: &mut Value, added: Vec<Value>, removed: &[Value]) {
    let name = |limit: &Value| limit["Name"].as_str().unwrap_or("").to_owned();
    let mut limits: BTreeMap<_, _> =
        values(spec, CONTAINER, "Ulimits").into_iter().map(|limit| (name(&limit), limit)).collect();
    for gone in removed {
        limits.remove(key(gone));
    }
    limits.extend(added.into_iter().map(|limit| (name(&limit), limit)));
    put(spec, CONTAINER, "Ulimits", limits.into_values().collect());
}

/// Capabilities to add and to drop. Adding comes before dropping the same one. On an update the opposite of what the
/// service has takes that back: adding a dropped capability removes it from the dropped ones and adds nothing.
fn capabilities(spec: &mut Value, added: &[Value], dropped: &[Value], update: bool) {
    const ALL: &str = "ALL";
    const RESET: &str = "RESET";
    let named =
        |list: &[Value]| -> BTreeSet<String> {
            let upper = list.iter().filter_map(Value::as_str).map(|name| name.trim().to_uppercase());
            upper
                .map(|name| {
                    if name == ALL || name == RESET || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
                })
                .collect()
        };
    let (mut add, mut drop) = (named(added), named(dropped));
    let mut has_added = named(&values(spec, CONTAINER, "CapabilityAdd"));
    let mut has_dropped = named(&values(spec, CONTAINER, "CapabilityDrop"));
    if update {
        if add.remove(RESET) {
            has_added.clear();
        }
        if drop.remove(RESET) {
            has_dropped.clear();
        }
    }
    for name in drop.difference(&add) {
        if !has_added.remove(name) {
            has_dropped.insert(name.clone());
        }
    }
    for name in &add {
        if !has_dropped.remove(name) {
            has_added.insert(name.clone());
        }
    }
    let list = |names: BTreeSet<String>| -> Vec<Value> {
        if names.contains(ALL) { vec![json!(ALL)] } else { names.into_iter().map(Value::from).collect() }
    };
    put(spec, CONTAINER, "CapabilityAdd", list(has_added));
    put(spec, CONTAINER, "CapabilityDrop", list(has_dropped));
}

fn generic_resources(spec: &mut Value, added: Vec<Value>, removed: &[Value]) -> Result<(), Failure> {
    let kind = |resource: &Value| {
        let either = [&resource["DiscreteResourceSpec"]["Kind"], &resource["NamedResourceSpec"]["Kind"]];
        either.iter().find_map(|kind| kind.as_str()).unwrap_or("").to_owned()
    };
    let mut list = values(spec, RESERVATIONS, "GenericResources");
    for add in added {
        list.retain(|have| kind(have) != kind(&add));
        list.push(add);
    }
    for gone in removed.iter().filter_map(Value::as_str) {
        let before = list.len();
        list.retain(|have| kind(have) != gone);
        if list.len() == before {
            return Err(Failure::error(format!("could not find generic-resource `{gone}` to remove it")));
        }
    }
    put(spec, RESERVATIONS, "GenericResources", list);
    Ok(())
}

fn networks(spec: &mut Value, added: Vec<Value>, removed: &[Value]) -> Result<(), Failure> {
    let mut list = values(spec, &["TaskTemplate"], "Networks");
    list.retain(|have| !removed.contains(&have["Target"]));
    for add in added {
        if list.iter().any(|have| have["Target"] == add["Target"]) {
            let id = add["Target"].as_str().unwrap_or("");
            return Err(Failure::error(format!("service is already attached to network {id}")));
        }
        list.push(add);
    }
    list.sort_by(|a, b| a["Target"].as_str().cmp(&b["Target"].as_str()));
    put(spec, &["TaskTemplate"], "Networks", list);
    Ok(())
}

fn references(spec: &mut Value, word: &str, added: Vec<Value>, removed: &[Value]) -> Result<(), Failure> {
    let (field, name) = (format!("{word}s"), format!("{word}Name"));
    let mut targets = BTreeSet::new();
    for add in &added {
        if !targets.insert(add["File"]["Name"].as_str().unwrap_or("")) {
            let name = add[&name].as_str().unwrap_or("");
            return Err(Failure::usage(format!("duplicate {} target for {name} not allowed", word.to_lowercase())));
        }
    }
    let mut list = values(spec, CONTAINER, &field);
    list.retain(|have| have["Runtime"].is_object() || !removed.contains(&have[&name]));
    list.extend(added);
    put(spec, CONTAINER, &field, list);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(many: Many, mut spec: Value, added: Value, removed: Value) -> Value {
        let list = |value: Value| value.as_array().expect("a list").clone();
        edit(many, On::Update, &mut spec, list(added), &list(removed)).expect("it can be edited");
        spec
    }

    fn container(fields: Value) -> Value {
        json!({"TaskTemplate": {"ContainerSpec": fields}})
    }

    #[test]
    fn the_opposite_takes_a_capability_back() {
        let spec = container(json!({"CapabilityDrop": ["CAP_CHOWN"]}));
        let once = edited(Many::Capabilities, spec, json!(["chown"]), json!([]));
        assert_eq!(once, container(json!({})));
        let twice = edited(Many::Capabilities, once, json!(["chown"]), json!(["cap_chown", "net_admin"]));
        assert_eq!(twice, container(json!({"CapabilityAdd": ["CAP_CHOWN"], "CapabilityDrop": ["CAP_NET_ADMIN"]})));
    }

    #[test]
    fn a_port_that_is_there_is_not_added_again() {
        let port = json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000, "PublishMode": "ingress"});
        let spec = json!({"EndpointSpec": {"Ports": [port]}});
        assert_eq!(edited(Many::Ports, spec.clone(), json!([port]), json!([])), spec);
        let gone = edited(Many::Ports, spec, json!([]), json!([{"Protocol": "tcp", "TargetPort": 80}]));
        assert_eq!(gone, json!({"EndpointSpec": {}}));
    }

    #[test]
    fn a_host_is_removed_from_one_address_or_from_all() {
        let spec = container(json!({"Hosts": ["127.0.0.2 a b", "127.0.0.1 a"]}));
        let one = edited(Many::Hosts, spec.clone(), json!([]), json!(["a:127.0.0.2"]));
        assert_eq!(one, container(json!({"Hosts": ["127.0.0.2 b", "127.0.0.1 a"]})));
        let all = edited(Many::Hosts, spec, json!(["c:::1"]), json!(["a"]));
        assert_eq!(all, container(json!({"Hosts": ["127.0.0.2 b", "::1 c"]})));
    }

    #[test]
    fn a_resource_that_is_not_there_cannot_be_removed() {
        let failed = edit(Many::GenericResources, On::Update, &mut json!({}), vec![], &[json!("gpu")]).unwrap_err();
        assert!(failed.to_string().contains("gpu"));
    }
}
