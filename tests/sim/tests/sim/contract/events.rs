//! Events that a command printed, compared by what they can say: their types, actions, fields and attributes.
//!
//! Which events come, and how often, depends on what happened. What counts is that every kind of event and attribute of
//! the recording comes when its cause does, and that no other one comes.

use serde_json::Value;
use std::collections::BTreeSet;

/// Types of the events of the machine's own engine, and of later areas.
const APART: &[&str] = &["container", "image", "network", "volume"];

/// What differs between the recorded events and ours; each is a line of JSON.
pub(super) fn compare(recorded: &str, ours: &str) -> String {
    let (recorded, ours) = (kinds(recorded), kinds(ours));
    let missing = recorded.difference(&ours).map(|kind| format!("  not in ours: {kind}\n"));
    let more = ours.difference(&recorded).map(|kind| format!("  in ours only: {kind}\n"));
    missing.chain(more).collect()
}

/// A line for each kind of event with each field and attribute.
fn kinds(text: &str) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            kinds.insert(format!("no JSON: {line}"));
            continue;
        };
        let word = |name: &str| event[name].as_str().unwrap_or("").to_owned();
        if APART.contains(&word("Type").as_str()) {
            continue;
        }
        let kind = format!("{} {} ({})", word("Type"), word("Action"), word("scope"));
        let names =
            |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        kinds.extend(names(&event).into_iter().map(|name| format!("{kind}: field {name}")));
        kinds.extend(names(&event["Actor"]["Attributes"]).into_iter().map(|name| format!("{kind}: attribute {name}")));
    }
    kinds
}
