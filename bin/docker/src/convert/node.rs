//! Conversion of nodes. Both Unreachable and Down read `down`; the message tells which.

use super::Context;
use crate::node::{
    DiscreteResource, EngineDescription, GenericResource, ManagerStatus, NamedResource, Node, NodeDescription,
    NodeSpec, NodeStatus, Platform, PluginDescription, Resources,
};
use crate::{Filters, ObjectVersion};
use essaim_model as model;
use essaim_model::{Availability, Refusal};
use essaim_wire::{Reachability, Role};

/// Filter keys that a list of nodes accepts.
pub(crate) const FILTERS: [&str; 6] = ["id", "label", "membership", "name", "node.label", "role"];

/// The node in Docker's shape.
pub fn show(node: &model::Node, context: &Context<'_>) -> Node {
    Node {
        id: node.id.to_string(),
        version: ObjectVersion { index: node.meta.version.0 },
        created_at: node.meta.created_at.into(),
        updated_at: node.meta.updated_at.into(),
        spec: show_spec(&node.spec),
        description: show_description(node, context),
        status: NodeStatus {
            state: state(node.reachability).into(),
            message: message(node),
            addr: node.addr.map(|addr| addr.ip().to_string()).unwrap_or_default(),
        },
        manager_status: show_manager(node, context),
    }
}

/// What is to be said of the node: why it cannot be reached, which of its engines do not answer, and which published
/// ports it cannot listen on.
fn message(node: &model::Node) -> String {
    let silent = node.description.as_ref().and_then(model::NodeDescription::silent_engines);
    let ports = node.description.iter().flat_map(|description| &description.unpublished);
    let ports = ports.map(|it| format!("port {} is not published: {}", it.port, it.why));
    [node.message.clone(), silent.unwrap_or_default()]
        .into_iter()
        .chain(ports)
        .filter(|it| !it.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Docker's word for whether a node can be reached.
pub const fn state(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Unknown => "unknown",
        Reachability::Reachable => "ready",
        Reachability::Unreachable | Reachability::Down => "down",
    }
}

fn show_spec(spec: &model::NodeSpec) -> NodeSpec {
    NodeSpec {
        name: spec.name.clone().unwrap_or_default(),
        labels: spec.labels.clone(),
        role: spec.role.to_string(),
        availability: spec.availability.to_string(),
    }
}

fn show_description(node: &model::Node, context: &Context<'_>) -> NodeDescription {
    let description = node.description.clone().unwrap_or_default();
    NodeDescription {
        hostname: description.hostname,
        platform: Platform { architecture: description.platform.architecture, os: description.platform.os },
        resources: Resources {
            nano_cpus: i64::try_from(description.hardware.nano_cpus).unwrap_or(i64::MAX),
            memory_bytes: i64::try_from(description.hardware.memory_bytes).unwrap_or(i64::MAX),
            generic_resources: show_generic(&description.generic),
        },
        engine: EngineDescription {
            engine_version: description.engine_version,
            labels: description.engine_labels,
            plugins: description.plugins.into_iter().map(show_plugin).collect(),
        },
        tls_info: context.tls.clone(),
    }
}

fn show_plugin(plugin: model::Plugin) -> PluginDescription {
    PluginDescription { kind: plugin.kind, name: plugin.name }
}

/// Generic resources in Docker's shape: one entry for a number of a kind, and one for each thing with a name.
pub(crate) fn show_generic(stock: &model::GenericStock) -> Vec<GenericResource> {
    let of_kind = |(kind, stock): (&String, &model::Stock)| match stock {
        model::Stock::Counted(count) => vec![GenericResource {
            discrete_resource_spec: Some(DiscreteResource {
                kind: kind.clone(),
                value: i64::try_from(*count).unwrap_or(i64::MAX),
            }),
            named_resource_spec: None,
        }],
        model::Stock::Named(names) => {
            let named = |name: &String| GenericResource {
                discrete_resource_spec: None,
                named_resource_spec: Some(NamedResource { kind: kind.clone(), value: name.clone() }),
            };
            names.iter().map(named).collect()
        }
    };
    stock.iter().flat_map(of_kind).collect()
}

fn show_manager(node: &model::Node, context: &Context<'_>) -> Option<ManagerStatus> {
    node.manager.filter(|_| node.role == Role::Manager)?;
    Some(ManagerStatus {
        leader: context.leader == Some(node.id),
        reachability: reachability(node.reachability).into(),
        addr: node.addr.map(|addr| addr.to_string()).unwrap_or_default(),
    })
}

/// Docker's word for whether a manager can be reached.
pub(super) const fn reachability(of: Reachability) -> &'static str {
    match of {
        Reachability::Unknown => "unknown",
        Reachability::Reachable => "reachable",
        Reachability::Unreachable | Reachability::Down => "unreachable",
    }
}

/// Parses the settings of a node.
pub fn read_spec(spec: NodeSpec) -> Result<model::NodeSpec, Refusal> {
    let role = spec.role.to_ascii_lowercase();
    let role = role.parse().map_err(|_| Refusal::invalid(format!("invalid Role: {:?}", spec.role)))?;
    let availability = match spec.availability.as_str() {
        "" => return Err(Refusal::invalid("invalid Availability: \"\"")),
        given => read_availability(given)?,
    };
    let name = (!spec.name.is_empty()).then_some(spec.name);
    Ok(model::NodeSpec { name, labels: spec.labels, role, availability })
}

/// Parses `active`, `pause` or `drain`; an empty text means active.
pub(crate) fn read_availability(text: &str) -> Result<Availability, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(Refusal::invalid(format!("invalid Availability: {text:?}"))),
    }
}

/// Whether a list with these filters contains this node.
pub fn matches(filters: &Filters, node: &model::Node) -> bool {
    let description = node.description.as_ref();
    let no_labels = model::Labels::new();
    filters.begins("id", &node.id.to_string())
        && filters.begins("name", description.map_or("", |it| it.hostname.as_str()))
        && filters.labels("label", description.map_or(&no_labels, |it| &it.engine_labels))
        && filters.labels("node.label", &node.spec.labels)
        && filters.equals("role", &node.role.to_string())
        && filters.equals("membership", "accepted")
}

/// Refuses filters with keys that a list of nodes does not know.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)?;
    let wrong = |key, known: [&str; 2]| {
        let value = filters.get(key).find(|value| !known.contains(value))?;
        Some(Refusal::invalid(format!("invalid {key} filter: '{value}'")))
    };
    match wrong("role", ["worker", "manager"]).or_else(|| wrong("membership", ["accepted", "pending"])) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_engine_that_does_not_answer_and_a_port_that_is_held_are_in_the_message_of_their_node() {
        let mut node = model::fixtures::worker(1);
        assert_eq!(message(&node), "");
        let description = node.description.as_mut().expect("described");
        description.missing = vec![(model::EngineKind::Docker, "nobody listens at /run/docker.sock".into())];
        assert_eq!(message(&node), "docker engine: nobody listens at /run/docker.sock");
        node.message = "no heartbeat".into();
        assert_eq!(message(&node), "no heartbeat; docker engine: nobody listens at /run/docker.sock");
        let port = model::PortKey { protocol: model::PortProtocol::Tcp, number: 80 };
        let description = node.description.as_mut().expect("described");
        description.missing.clear();
        description.unpublished = vec![model::UnpublishedPort { port, why: "held by nginx (pid 7)".into() }];
        assert_eq!(message(&node), "no heartbeat; port 80/tcp is not published: held by nginx (pid 7)");
    }

    #[test]
    fn generic_resources_and_plugins_have_the_shape_of_docker() {
        let stock = model::GenericStock::parse(["ssd=3", "gpu=UUID2,gpu=UUID1"]).expect("generic resources");
        let shown = serde_json::to_value(show_generic(&stock)).expect("JSON");
        let named = |value: &str| json!({"NamedResourceSpec": {"Kind": "gpu", "Value": value}});
        let counted = json!({"DiscreteResourceSpec": {"Kind": "ssd", "Value": 3}});
        assert_eq!(shown, json!([named("UUID1"), named("UUID2"), counted]));
        let plugin = model::Plugin { kind: "Log".into(), name: "json-file".into() };
        let shown = serde_json::to_value(show_plugin(plugin)).expect("JSON");
        assert_eq!(shown, json!({"Type": "Log", "Name": "json-file"}));
    }
}
