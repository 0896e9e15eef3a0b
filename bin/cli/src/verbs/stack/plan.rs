//! What a deployment would change: `stack deploy --dry-run`.
//!
//! A spec that the daemon shows differs from the one that was sent: defaults are filled in, an image has its digest, a
//! network its id. [`plain`] takes out what means nothing, so that a stack that is deployed already shows no difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use essaim_compose::convert::IMAGE;
use serde_json::{Map, Value};

/// A change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is made.
    Create,
    /// It changes: lines that go, and lines that come.
    Update(Vec<String>),
    /// It stays as it is.
    Keep,
    /// It is removed.
    Remove,
    /// It is in the cluster and not in the files, and stays.
    Left,
}

/// The plan of a deployment: objects by noun and name, in the order in which they are dealt with.
#[derive(Debug, Default)]
pub(super) struct Plan(Vec<(&'static str, String, Change)>);

impl Plan {
    pub(super) fn push(&mut self, noun: &'static str, name: impl Into<String>, change: Change) {
        self.0.push((noun, name.into(), change));
    }

    /// The plan in words.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut counts = BTreeMap::new();
        for (noun, name, change) in &self.0 {
            let (sign, what) = match change {
                Change::Create => ("+", "to create"),
                Change::Update(_) => ("~", "to change"),
                Change::Keep => ("=", "unchanged"),
                Change::Remove => ("-", "to remove"),
                Change::Left => ("!", "not in the files (--prune removes services)"),
            };
            *counts.entry(what).or_insert(0_usize) += 1;
            let _ = writeln!(out, "{sign} {noun} {name}");
            if let Change::Update(lines) = change {
                for line in lines {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let _ = writeln!(out, "{}; nothing was done", counts.join(", "));
        out
    }
}

/// Differences of two specs, line by line.
pub(super) fn differences(now: &Value, wanted: &Value) -> Vec<String> {
    let (now, wanted) = (leaves(now), leaves(wanted));
    let gone = now.difference(&wanted).map(|(path, text)| (path, '-', text));
    let come = wanted.difference(&now).map(|(path, text)| (path, '+', text));
    let mut lines: Vec<_> = gone.chain(come).collect();
    // What goes stands before what comes: a minus is greater than a plus.
    lines.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
    lines.into_iter().map(|(path, sign, text)| format!("{sign} {path}: {text}")).collect()
}

/// The single values of a spec, each with its path.
fn leaves(value: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

fn walk(value: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(value, &path, found);
            }
        }
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_number()) => {
            // The position of a text in a list says little; two lists of texts are compared by what is in them.
            for item in items {
                found.insert((path.to_owned(), item.as_str().map_or_else(|| item.to_string(), str::to_owned)));
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{at}]"), found);
            }
        }
        Value::String(text) => drop(found.insert((path.to_owned(), text.clone()))),
        other => drop(found.insert((path.to_owned(), other.to_string()))),
    }
}

/// A service's spec without what means nothing. `networks` has the names of networks by id; The digest of an image and
/// the platforms that it is made for come from its registry, and are left out.
pub(super) fn plain(spec: &Value, networks: &BTreeMap<String, String>) -> Value {
    let mut spec = spec.clone();
    let named = spec["Labels"][IMAGE].as_str().map(str::to_owned);
    if let Some(image) = spec.pointer_mut("/TaskTemplate/ContainerSpec/Image") {
        let text = image.as_str().unwrap_or_default();
        let bare = text.split('@').next().unwrap_or_default().to_owned();
        // The label has the image as the file names it; the spec has its tag as well.
        *image = match named {
            Some(named) if bare == named || bare == format!("{named}:latest") => named.into(),
            _ => bare.into(),
        };
    }
    for pointer in ["/TaskTemplate/Networks", "/Networks"] {
        for network in spec.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(name) = network["Target"].as_str().and_then(|id| networks.get(id)) {
                network["Target"] = name.clone().into();
            }
        }
    }
    for (pointer, key, default) in DEFAULTS {
        let parent = spec.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let Some(map) = parent
            && map.get(*key).map(Value::to_string).as_deref() == Some(default)
        {
            map.remove(*key);
        }
    }
    if let Some(placement) = spec.pointer_mut("/TaskTemplate/Placement").and_then(Value::as_object_mut) {
        placement.remove("Platforms");
    }
    // A mode is the name of a mapping that may be empty.
    if let Some(mode) = spec["Mode"].as_object_mut()
        && let Some(kind) = mode.keys().next().cloned()
    {
        mode.insert("Kind".to_owned(), kind.into());
    }
    without_empty(&mut spec);
    spec
}

/// Values that are filled in when a spec says nothing.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("/Mode/Replicated", "Replicas", "1"),
    ("/EndpointSpec", "Mode", "\"vip\""),
    ("/TaskTemplate", "ForceUpdate", "0"),
    ("/TaskTemplate", "Runtime", "\"container\""),
    ("/TaskTemplate/ContainerSpec", "Isolation", "\"default\""),
];

/// Takes out nulls, empty texts, lists and mappings, zeros and falses.
fn without_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(without_empty);
            let kept: Map<String, Value> =
                std::mem::take(map).into_iter().filter(|(_, value)| !is_empty(value)).collect();
            *map = kept;
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => (),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stack_that_is_deployed_already_shows_no_difference() {
        let wanted = json!({
            "Name": "vote_web", "Labels": {IMAGE: "web"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "web", "Env": ["A=1"], "Privileges": {"CredentialSpec": null, "NoNewPrivileges": false}},
                "Resources": {}, "Placement": {}, "Networks": [{"Target": "vote_default", "Aliases": ["web"]}], "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {}}, "EndpointSpec": {},
        });
        let shown = json!({
            "Name": "vote_web", "Labels": {IMAGE: "web"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "web:latest@sha256:0dad", "Env": ["A=1"], "Isolation": "default"},
                "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
                "Networks": [{"Target": "n1", "Aliases": ["web"]}], "ForceUpdate": 0, "Runtime": "container",
            },
            "Mode": {"Replicated": {"Replicas": 1}}, "EndpointSpec": {"Mode": "vip"},
        });
        let networks = BTreeMap::from([("n1".to_owned(), "vote_default".to_owned())]);
        assert_eq!(differences(&plain(&shown, &networks), &plain(&wanted, &networks)), Vec::<String>::new());
        let mut other = wanted;
        other["TaskTemplate"]["ContainerSpec"]["Image"] = "web:2".into();
        other["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["B=2", "A=1"]);
        other["Mode"]["Replicated"]["Replicas"] = 3.into();
        let mut global = other.clone();
        global["Mode"] = json!({"Global": {}});
        let lines = differences(&plain(&other, &networks), &plain(&global, &networks));
        assert_eq!(lines, ["- Mode.Kind: Replicated", "+ Mode.Kind: Global", "- Mode.Replicated.Replicas: 3"]);
        let lines = differences(&plain(&shown, &networks), &plain(&other, &networks));
        let expected = [
            "+ Mode.Replicated.Replicas: 3",
            "+ TaskTemplate.ContainerSpec.Env: B=2",
            "- TaskTemplate.ContainerSpec.Image: web",
            "+ TaskTemplate.ContainerSpec.Image: web:2",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_plan_is_read_line_by_line() {
        let mut plan = Plan::default();
        plan.push("network", "vote_back", Change::Create);
        plan.push("service", "vote_web", Change::Update(vec!["- a: 1".into(), "+ a: 2".into()]));
        plan.push("service", "vote_db", Change::Keep);
        plan.push("service", "vote_old", Change::Remove);
        let text = "+ network vote_back\n~ service vote_web\n    - a: 1\n    + a: 2\n= service vote_db\n- service vote_old\n\
                    1 to change, 1 to create, 1 to remove, 1 unchanged; nothing was done\n";
        assert_eq!(plan.text(), text);
    }
}
