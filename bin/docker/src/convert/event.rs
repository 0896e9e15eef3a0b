//! Conversion of the model's events to what `GET /events` sends.

use super::service::update_state;
use crate::event::{EventActor, EventMessage};
use crate::{Filters, Labels, Time};
use essaim_model as model;
use essaim_model::{Event, Refusal};
use essaim_wire::Timestamp;

/// Filter keys that `GET /events` accepts.
pub(crate) const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The event in Docker's shape; `None` for a change that Docker has no event for. `at` is the time of the proposal.
pub fn show(event: &Event, at: Timestamp) -> Option<EventMessage> {
    let (kind, id, name, action, changes) = match event {
        Event::Node { old: None, new: Some(new) } => ("node", new.id.to_string(), hostname(new), "create", vec![]),
        Event::Node { old: Some(old), new: Some(new) } => {
            ("node", new.id.to_string(), hostname(new), "update", node_changes(old, new))
        }
        Event::Node { old: Some(old), new: None } => ("node", old.id.to_string(), hostname(old), "remove", vec![]),
        Event::Service { old: None, new: Some(new) } => {
            ("service", new.id.to_string(), new.spec.name.to_string(), "create", vec![])
        }
        Event::Service { old: Some(old), new: Some(new) } => {
            ("service", new.id.to_string(), new.spec.name.to_string(), "update", service_changes(old, new))
        }
        Event::Service { old: Some(old), new: None } => {
            ("service", old.id.to_string(), old.spec.name.to_string(), "remove", vec![])
        }
        Event::Object { old, new: Some(new) } => {
            let action = if old.is_some() { "update" } else { "create" };
            (new.word(), new.id().to_string(), new.name().to_owned(), action, vec![])
        }
        Event::Object { old: Some(old), new: None } => {
            (old.word(), old.id().to_string(), old.name().to_owned(), "remove", vec![])
        }
        Event::Object { old: None, new: None } => return None,
        Event::Node { .. } | Event::Service { .. } | Event::Cluster { .. } | Event::Task { .. } => return None,
    };
    let mut attributes = Labels::from([("name".into(), name)]);
    for (what, old, new) in changes {
        if let Some(old) = old {
            attributes.insert(format!("{what}.old"), old);
        }
        attributes.insert(format!("{what}.new"), new);
    }
    let (time, time_nano) = Time::from(at).unix();
    Some(EventMessage {
        status: String::new(),
        id: String::new(),
        from: String::new(),
        kind: kind.into(),
        action: action.into(),
        actor: EventActor { id, attributes },
        scope: "swarm".into(),
        time,
        time_nano,
    })
}

/// A changed attribute: its name, its old value if there was one, and its new value.
type Changed = (&'static str, Option<String>, String);

fn hostname(node: &model::Node) -> String {
    node.description.as_ref().map(|description| description.hostname.clone()).unwrap_or_default()
}

fn node_changes(old: &model::Node, new: &model::Node) -> Vec<Changed> {
    let state = |node: &model::Node| super::node::state(node.reachability).to_owned();
    let pairs = [
        ("availability", old.spec.availability.to_string(), new.spec.availability.to_string()),
        ("role", old.role.to_string(), new.role.to_string()),
        ("state", state(old), state(new)),
    ];
    pairs.into_iter().filter(|(_, a, b)| a != b).map(|(what, a, b)| (what, Some(a), b)).collect()
}

fn service_changes(old: &model::Service, new: &model::Service) -> Vec<Changed> {
    let mut changes = Vec::new();
    let image = |service: &model::Service| service.spec.task.container.image.to_string();
    if image(old) != image(new) {
        changes.push(("image", Some(image(old)), image(new)));
    }
    if let (Some(a), Some(b)) = (old.spec.replicas(), new.spec.replicas())
        && a != b
    {
        changes.push(("replicas", Some(a.to_string()), b.to_string()));
    }
    let update = |service: &model::Service| service.update.as_ref().map(|it| update_state(it.state).to_owned());
    if let Some(now) = update(new)
        && update(old).as_ref() != Some(&now)
    {
        changes.push(("updatestate", update(old), now));
    }
    changes
}

/// Refuses filters with keys that `GET /events` does not know.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)
}

/// Whether a stream with these filters contains this event.
pub fn matches(filters: &Filters, event: &EventMessage) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    let object = |kind: &str| {
        let is_it = |value: &str| event.kind == kind && (event.actor.id.starts_with(value) || name == value);
        !filters.has(kind) || filters.get(kind).any(is_it)
    };
    filters.equals("type", &event.kind)
        && filters.equals("event", &event.action)
        && filters.equals("scope", &event.scope)
        && filters.labels("label", &event.actor.attributes)
        && FILTERS.iter().filter(|key| !["event", "label", "scope", "type"].contains(key)).all(|kind| object(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{AnyObject, ConfigId, ConfigSpec, Meta, Object};
    use std::sync::Arc;

    #[test]
    fn an_object_of_a_plain_noun_is_told_by_its_word_its_id_and_its_name() {
        let spec = ConfigSpec { name: "site".into(), labels: Labels::new(), data: b"x".as_slice().into() };
        let config = AnyObject::Config(Arc::new(Object { id: ConfigId::from_bits(7), meta: Meta::default(), spec }));
        let there = || Some(config.clone());
        for (old, new, action) in [(None, there(), "create"), (there(), there(), "update"), (there(), None, "remove")] {
            let told = show(&Event::Object { old, new }, Timestamp::default()).expect("Docker has an event for it");
            assert_eq!((told.kind.as_str(), told.action.as_str()), ("config", action));
            assert_eq!(told.actor.id, "0000000000000000000000007");
            assert_eq!(told.actor.attributes, Labels::from([("name".into(), "site".into())]));
        }
    }
}
