//! `version` and `info` of a node with a Docker Engine: the engine's facts, and the node's part in its cluster. Pure.
//!
//! The engine's answer is kept as it is, with fields that the face does not know, so that a client sees what this engine
//! says of itself. Replaced is only what is the cluster's or the face's own.

use essaim_docker::info::SystemInfo;
use essaim_docker::version::{Component, SystemVersion};
use serde::Serialize;
use serde_json::{Map, Value};

/// Name of the face's component in `docker version`, beside `Engine`, `containerd` and the others.
const COMPONENT: &str = "Essaim";

/// The engine's version with the platform's name, the API versions that the face announces, and Essaim among the
/// components.
pub(crate) fn version(mut engine: Map<String, Value>, own: SystemVersion) -> Value {
    let component =
        own.components.into_iter().next().map(|component| Component { name: COMPONENT.into(), ..component });
    let components = engine.entry("Components").or_insert_with(|| Value::Array(Vec::new()));
    if let (Value::Array(components), Some(component)) = (components, component) {
        components.push(value(&component));
    }
    engine.insert("Platform".into(), value(&own.platform));
    engine.insert("ApiVersion".into(), value(&own.api_version));
    let oldest = [engine.get("MinAPIVersion").and_then(Value::as_str).unwrap_or_default(), &own.min_api_version];
    let oldest = oldest.into_iter().max_by_key(|text| numbers(text)).unwrap_or_default().to_owned();
    engine.insert("MinAPIVersion".into(), Value::String(oldest));
    Value::Object(engine)
}

/// The engine's info with the node's name, its part in the cluster, and the warnings of both.
pub(crate) fn info(mut engine: Map<String, Value>, own: &SystemInfo) -> Value {
    engine.insert("Name".into(), value(&own.name));
    engine.insert("Swarm".into(), value(&own.swarm));
    if let Some(more) = own.warnings.as_ref().filter(|more| !more.is_empty()) {
        let warnings = engine.entry("Warnings").or_insert(Value::Null);
        if warnings.is_null() {
            *warnings = Value::Array(Vec::new());
        }
        if let Value::Array(warnings) = warnings {
            warnings.extend(more.iter().map(value));
        }
    }
    Value::Object(engine)
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("our types are JSON")
}

/// A version's numbers, by which versions are ordered.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_docker::info::{LocalNodeState, SwarmInfo};
    use essaim_docker::version::Platform;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn info_is_the_engines_with_the_nodes_name_its_cluster_and_all_warnings() {
        let engine = object(json!({
            "ID": "ABCD", "Containers": 3, "Name": "machine", "Swarm": {"LocalNodeState": "inactive"},
            "FieldOfTomorrow": [1], "Warnings": ["no swap limit"]
        }));
        let own = SystemInfo {
            name: "node1".into(),
            swarm: SwarmInfo { local_node_state: LocalNodeState::Active, ..SwarmInfo::default() },
            warnings: Some(vec!["two managers".into()]),
            ..SystemInfo::default()
        };
        let both = info(engine.clone(), &own);
        assert_eq!(
            (&both["ID"], &both["Containers"], &both["FieldOfTomorrow"]),
            (&json!("ABCD"), &json!(3), &json!([1]))
        );
        assert_eq!((&both["Name"], &both["Swarm"]["LocalNodeState"]), (&json!("node1"), &json!("active")));
        assert_eq!(both["Warnings"], json!(["no swap limit", "two managers"]));
        // Without warnings of its own the node changes none, and `null` becomes a list when it has one.
        let quiet = SystemInfo::default();
        assert_eq!(info(engine, &quiet)["Warnings"], json!(["no swap limit"]));
        assert_eq!(info(object(json!({"Warnings": null})), &own)["Warnings"], json!(["two managers"]));
    }

    #[test]
    fn version_is_the_engines_with_essaim_among_its_components() {
        let engine = object(json!({
            "Platform": {"Name": ""}, "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12",
            "Components": [{"Name": "Engine", "Version": "20.10.24"}]
        }));
        let own = SystemVersion {
            platform: Platform { name: "Essaim".into() },
            components: vec![Component { name: "Engine".into(), version: "0.1.0".into(), details: Default::default() }],
            version: "0.1.0".into(),
            api_version: "1.41".into(),
            min_api_version: "1.24".into(),
            git_commit: String::new(),
            go_version: String::new(),
            os: "linux".into(),
            arch: "amd64".into(),
            kernel_version: String::new(),
            build_time: String::new(),
        };
        let both = version(engine, own);
        assert_eq!(both["Version"], "20.10.24");
        assert_eq!((&both["Platform"]["Name"], &both["MinAPIVersion"]), (&json!("Essaim"), &json!("1.24")));
        let names: Vec<_> = both["Components"].as_array().expect("a list").iter().map(|it| &it["Name"]).collect();
        assert_eq!(names, ["Engine", "Essaim"]);
        assert_eq!(both["Components"][1]["Version"], "0.1.0");
    }
}
