//! Conversion of the model's events to what `GET /events` sends.

use super::node::reachability;
use super::service::update_state;
use super::task::{desired, step};
use crate::event::{EventActor, EventMessage};
use crate::{Filters, Labels, Time, resolve};
use essaim_model as model;
use essaim_model::{Event, Refusal, State};
use essaim_wire::{Role, Timestamp};

/// Filter keys that `GET /events` accepts. `task` is Essaim's own.
pub(crate) const FILTERS: [&str; 15] = [
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
    "task",
    "type",
    "volume",
];

/// Types of the cluster's events.
const CLUSTER_TYPES: [&str; 6] = ["config", NETWORK, "node", "secret", "service", TASK];

/// Type of the events of networks, which the machine has too.
const NETWORK: &str = "network";

/// Type of the events of tasks, which Docker does not have.
const TASK: &str = "task";

/// The event in Docker's shape; `None` for a change that has no event. `at` is the time of the proposal, `state` one in
/// which the names of services and nodes are looked up.
pub fn show(event: &Event, at: Timestamp, state: &State) -> Option<EventMessage> {
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
        Event::Task { old, new } => return show_task(old.as_deref(), new.as_deref(), at, state),
        Event::Object { old: None, new: None } => return None,
        Event::Node { .. } | Event::Service { .. } | Event::Cluster { .. } => return None,
    };
    Some(message(kind, action, id, attributes(name, changes), at))
}

/// The event that a node has become the leader of the managers, or is it no more.
pub fn show_leader(node: &model::Node, leads: bool, at: Timestamp) -> EventMessage {
    let changes = vec![("leader", Some((!leads).to_string()), leads.to_string())];
    message("node", "update", node.id.to_string(), attributes(hostname(node), changes), at)
}

/// The event that tells a reader that events of the cluster are lost to it.
pub fn lost(node: &str, hostname: &str, at: Timestamp) -> EventMessage {
    let text = "this reader was too slow: the events before the next ones are no longer kept";
    let attributes = Labels::from([("name".into(), hostname.into()), ("message".into(), text.into())]);
    message("daemon", "lost", node.into(), attributes, at)
}

/// The event of a task: a step on its way (`from`, `to`, and the `cause`), or another wish of the managers
/// (`desired.old`, `desired.new`); `None` for any other change.
fn show_task(
    old: Option<&model::Task>,
    new: Option<&model::Task>,
    at: Timestamp,
    state: &State,
) -> Option<EventMessage> {
    let task = new.or(old)?;
    let name = |id: Option<String>, name: Option<String>| (id.unwrap_or_default(), name.unwrap_or_default());
    let service = name(
        Some(task.service.to_string()),
        state.spec(task.service, task.spec_version).map(|spec| spec.name.to_string()),
    );
    let node = name(
        task.node().map(|node| node.to_string()),
        task.node().and_then(|node| state.node(node)).map(|node| node.name()),
    );
    let mut attributes = Labels::from([
        ("name".into(), resolve::name_of_task(state, task)),
        ("service.id".into(), service.0),
        ("service.name".into(), service.1),
        ("node.id".into(), node.0),
        ("node.name".into(), node.1),
    ]);
    attributes.retain(|_, value| !value.is_empty());
    let steps = [old.map(step), new.map(step)];
    let [from, to] = &steps;
    let (a, b) = (from.as_ref().map(|step| step.word), to.as_ref().map(|step| step.word));
    if a != b {
        attributes.extend(a.map(|word| ("from".into(), word.into())));
        attributes.extend(b.map(|word| ("to".into(), word.into())));
        if let Some(step) = to {
            let cause = if step.error.is_empty() { step.message } else { &step.error };
            attributes.insert("cause".into(), cause.into());
        }
    }
    let (a, b) = (old.map(desired), new.map(desired));
    if let (Some(a), Some(b)) = (a, b)
        && a != b
    {
        attributes.insert("desired.old".into(), a.into());
        attributes.insert("desired.new".into(), b.into());
    }
    let action = match (old, new) {
        (None, _) => "create",
        (_, None) => "remove",
        _ if ["from", "desired.old"].iter().any(|key| attributes.contains_key(*key)) => "update",
        _ => return None,
    };
    Some(message(TASK, action, task.id.to_string(), attributes, at))
}

/// Attributes of an object with this name and these changes.
fn attributes(name: String, changes: Vec<Changed>) -> Labels {
    let mut attributes = Labels::from([("name".into(), name)]);
    for (what, old, new) in changes {
        if let Some(old) = old {
            attributes.insert(format!("{what}.old"), old);
        }
        attributes.insert(format!("{what}.new"), new);
    }
    attributes
}

fn message(kind: &str, action: &str, id: String, attributes: Labels, at: Timestamp) -> EventMessage {
    let (time, time_nano) = Time::from(at).unix();
    EventMessage {
        status: String::new(),
        id: String::new(),
        from: String::new(),
        kind: kind.into(),
        action: action.into(),
        actor: EventActor { id, attributes },
        scope: "swarm".into(),
        time,
        time_nano,
    }
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
    let is_manager = |node: &model::Node| node.role == Role::Manager && node.manager.is_some();
    let reached = |node: &model::Node| reachability(node.reachability).to_owned();
    let manager = (is_manager(old) && is_manager(new)).then(|| ("reachability", reached(old), reached(new)));
    let changed = pairs.into_iter().chain(manager).filter(|(_, a, b)| a != b);
    changed.map(|(what, a, b)| (what, Some(a), b)).collect()
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

/// Whether a client with these filters asks for events of tasks. Without these filters it gets none.
pub fn wants_tasks(filters: &Filters) -> bool {
    filters.has(TASK) || filters.get("type").any(|kind| kind == TASK)
}

/// Whether a client with these filters can get events of the cluster.
pub fn wants_cluster(filters: &Filters) -> bool {
    let of_types = !filters.has("type") || filters.get("type").any(|kind| CLUSTER_TYPES.contains(&kind));
    of_types && (!filters.has("scope") || filters.get("scope").any(|scope| scope == "swarm"))
}

/// Whether a client with these filters can get events of the machine's engine, which does not know the filter `task`.
pub fn wants_engine(filters: &Filters) -> bool {
    let of_types =
        !filters.has("type") || filters.get("type").any(|kind| kind == NETWORK || !CLUSTER_TYPES.contains(&kind));
    let of_scope = !filters.has("scope") || filters.get("scope").any(|scope| scope == "local");
    of_types && of_scope && !filters.has(TASK)
}

/// Whether a stream with these filters contains this event. Ids and names match by their beginning, as in Docker. A
/// task is also found by its service and its node.
pub fn matches(filters: &Filters, event: &EventMessage) -> bool {
    let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
    let object = |kind: &str| {
        let is_it = |value: &str| match (event.kind.as_str(), kind) {
            (TASK, "service") => {
                [attribute("service.id"), attribute("service.name")].iter().any(|it| it.starts_with(value))
            }
            (TASK, "node") => [attribute("node.id"), attribute("node.name")].iter().any(|it| it.starts_with(value)),
            (own, _) if own == kind => event.actor.id.starts_with(value) || attribute("name").starts_with(value),
            _ => false,
        };
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
            let told = show(&Event::Object { old, new }, Timestamp::default(), &State::default())
                .expect("Docker has an event for it");
            assert_eq!((told.kind.as_str(), told.action.as_str()), ("config", action));
            assert_eq!(told.actor.id, "0000000000000000000000007");
            assert_eq!(told.actor.attributes, Labels::from([("name".into(), "site".into())]));
        }
    }

    fn event(kind: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        message(kind, "update", "abc1".into(), attributes, Timestamp::default())
    }

    #[test]
    fn ids_and_names_match_by_their_beginning_and_tasks_also_by_service_and_node() {
        let check = |kind: &str, attributes: &[(&str, &str)], filter: (&str, &str), expected: bool| {
            let filters = Filters::default().with(filter.0, filter.1);
            assert_eq!(matches(&filters, &event(kind, attributes)), expected, "{kind} {attributes:?} {filter:?}");
        };
        check("service", &[("name", "web")], ("service", "abc"), true);
        check("service", &[("name", "web")], ("service", "we"), true);
        check("service", &[("name", "web")], ("service", "eb"), false);
        check("service", &[("name", "web")], ("node", "web"), false);
        check("service", &[("name", "web")], ("scope", "local"), false);
        check("service", &[("name", "web")], ("label", "name=web"), true);
        let task = &[("service.name", "web"), ("node.name", "n1"), ("name", "web.1.abc1")];
        check("task", task, ("service", "web"), true);
        check("task", task, ("node", "n2"), false);
        check("task", task, ("task", "web.1"), true);
        check("task", task, ("event", "create"), false);
    }

    #[test]
    fn filters_tell_which_of_the_two_sources_is_wanted() {
        let check = |filters: &[(&str, &str)], tasks: bool, cluster: bool, engine: bool| {
            let filters = filters.iter().fold(Filters::default(), |all, (key, value)| all.with(key, value));
            let wants = (wants_tasks(&filters), wants_cluster(&filters), wants_engine(&filters));
            assert_eq!(wants, (tasks, cluster, engine), "{filters:?}");
        };
        check(&[], false, true, true);
        check(&[("type", "service")], false, true, false);
        check(&[("type", "task")], true, true, false);
        check(&[("task", "web.1")], true, true, false);
        check(&[("type", "container")], false, false, true);
        check(&[("type", "network")], false, true, true);
        check(&[("type", "container"), ("type", "node")], false, true, true);
        check(&[("scope", "local")], false, false, true);
        check(&[("scope", "swarm")], false, true, false);
    }

    #[test]
    fn lost_events_are_told_in_dockers_shape() {
        let told = lost("abc", "node1", Timestamp::default());
        assert_eq!((told.kind.as_str(), told.action.as_str(), told.actor.id.as_str()), ("daemon", "lost", "abc"));
    }
}
