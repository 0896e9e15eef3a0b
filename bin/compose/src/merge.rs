//! Merging of documents in the long form, by the rules of the Compose specification.
//!
//! Mappings are merged key by key, and of single values the later one counts. Lists are appended; an item that means the
//! same place (the target of a volume, the number of a port) takes the place of the earlier one. Commands, and the test of a
//! health check, are replaced as a whole. `!override` replaces whatever it stands at, `!reset` takes it out.

use crate::check::under;
use crate::tree::{Map, Mark, Node, Value};

/// Merges `over` into `base`. `path` is the path of both, names of services and other objects written as `*`.
pub(crate) fn merge(base: &mut Node, over: Node, path: &str) {
    if over.mark == Some(Mark::Override) {
        *base = Node { mark: None, ..over };
        return;
    }
    match (&mut base.value, over.value) {
        (Value::Map(held), Value::Map(more)) if !is_whole(path, held, &more) => merge_maps(held, more, path),
        (Value::List(held), Value::List(more)) if !REPLACED.contains(&path) => {
            for item in more {
                let place = key(path, &item);
                match held.iter_mut().find(|other| place.is_some() && key(path, other) == place) {
                    Some(same) => *same = item,
                    None => held.push(item),
                }
            }
        }
        // A key without a value changes nothing; but a variable without a value is one, and so is a command.
        (_, Value::Null) if !NULL_COUNTS.contains(&path) => (),
        (_, value) => *base = Node { place: over.place, mark: None, value },
    }
}

fn merge_maps(held: &mut Map, more: Map, path: &str) {
    for entry in more.0 {
        let named = NAMED.contains(&path);
        let below = under(path, if named { "*" } else { &entry.key });
        if entry.node.mark == Some(Mark::Reset) {
            held.remove(&entry.key);
            continue;
        }
        match held.0.iter_mut().find(|other| other.key == entry.key) {
            Some(same) => {
                merge(&mut same.node, entry.node, &below);
                same.place = entry.place;
            }
            None => held.0.push(entry),
        }
    }
}

/// Mappings whose keys are names.
const NAMED: &[&str] = &[
    "services",
    "networks",
    "volumes",
    "secrets",
    "configs",
    "models",
    "services.*.environment",
    "services.*.networks",
    "services.*.ulimits",
];

/// Lists that the later file replaces as a whole.
const REPLACED: &[&str] = &["services.*.command", "services.*.entrypoint", "services.*.healthcheck.test"];

/// Keys at which a null is a value.
const NULL_COUNTS: &[&str] = &["services.*.environment.*", "services.*.command", "services.*.entrypoint"];

/// Whether a mapping replaces the earlier one as a whole: the options of one log driver mean nothing to another.
fn is_whole(path: &str, held: &Map, more: &Map) -> bool {
    let driver = |map: &Map| map.get("driver").and_then(Node::as_text);
    path == "services.*.logging" && driver(more).is_some_and(|driver_| driver(held).is_some_and(|held| held != driver_))
}

/// What an item of a list is known by; items that are known by the same replace each other.
fn key(path: &str, item: &Node) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Node::as_text).unwrap_or_default();
    match path {
        "services.*.ports" => {
            Some(format!("{}:{}:{}/{}", text("host_ip"), text("published"), text("target"), text("protocol")))
        }
        "services.*.volumes" => Some(text("target")),
        "services.*.secrets" | "services.*.configs" => {
            Some(if text("target").is_empty() { text("source") } else { text("target") })
        }
        "services.*.env_file" => Some(text("path")),
        "services.*.tmpfs" => item.as_text().map(|line| line.split(':').next().unwrap_or_default().to_owned()),
        "services.*.devices" => match item.as_text() {
            Some(line) => line.split(':').nth(1).or(Some(&line)).map(str::to_owned),
            None => Some(text("target")),
        },
        "networks.*.ipam.config" => Some(text("subnet")),
        _ => item.as_text(),
    }
}

/// Takes out what `!reset` stands at, and the marks.
pub(crate) fn settle(node: &mut Node) {
    node.mark = None;
    match &mut node.value {
        Value::Map(map) => {
            map.0.retain(|entry| entry.node.mark != Some(Mark::Reset));
            map.0.iter_mut().for_each(|entry| settle(&mut entry.node));
        }
        Value::List(items) => {
            items.retain(|item| item.mark != Some(Mark::Reset));
            items.iter_mut().for_each(settle);
        }
        Value::Null | Value::Scalar(_) => (),
    }
}
