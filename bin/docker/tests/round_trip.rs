//! Round trips of recorded bodies: everything that a real engine sent survives parse and serialise, field by field.
//!
//! The fixtures are recorded bodies, one of each shape. If the full recordings are beside the checkout
//! (`../shared/docker-api/transcripts`), every body in them is tested as well.

use essaim_docker::convert::spec;
use essaim_docker::{config, distribution, error, event, info, network, node, object, service, swarm, task, version};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn round_trip<T: Serialize + DeserializeOwned>(body: &Value) -> Result<(), String> {
    let parsed: T = serde_json::from_value(body.clone()).map_err(|why| format!("does not parse: {why}\n{body}"))?;
    let written = serde_json::to_value(&parsed).map_err(|why| format!("does not serialise: {why}"))?;
    if written == *body { Ok(()) } else { Err(format!("was\n{body}\nbecame\n{written}")) }
}

/// Generates one test for each fixture file, whose bodies make a round trip as the given type.
macro_rules! survives {
    ($($fact:ident: $file:literal as $type:ty;)*) => {$(
        #[test]
        fn $fact() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(concat!($file, ".json"));
            let text = std::fs::read_to_string(&path).expect("the fixture is part of the crate");
            let bodies: Vec<Value> = serde_json::from_str(&text).expect("a list of bodies");
            assert!(!bodies.is_empty());
            for body in &bodies {
                round_trip::<$type>(body).expect($file);
            }
        }
    )*};
}

survives! {
    a_version_survives: "version" as version::SystemVersion;
    an_info_survives: "info" as info::SystemInfo;
    a_swarm_survives: "swarm" as swarm::Swarm;
    a_request_to_init_survives: "swarm_init" as swarm::InitRequest;
    a_request_to_join_survives: "swarm_join" as swarm::JoinRequest;
    a_swarm_spec_survives: "swarm_spec" as swarm::SwarmSpec;
    an_unlock_key_survives: "unlock_key" as swarm::UnlockKey;
    a_node_survives: "node" as node::Node;
    a_node_spec_survives: "node_spec" as node::NodeSpec;
    a_service_survives: "service" as service::Service;
    a_service_spec_survives: "service_spec" as service::ServiceSpec;
    an_answer_to_a_creation_survives: "service_create" as service::CreateResponse;
    an_answer_to_an_update_survives: "service_update" as service::UpdateResponse;
    a_task_survives: "task" as task::Task;
    an_event_survives: "event" as event::EventMessage;
    a_distribution_survives: "distribution" as distribution::DistributionInspect;
    a_config_survives: "config" as object::Object<config::ConfigSpec>;
    a_config_spec_survives: "config_spec" as config::ConfigSpec;
    an_answer_to_the_creation_of_an_object_survives: "object_create" as object::Created;
    a_network_survives: "network" as network::NetworkResource;
    a_request_for_a_network_survives: "network_create" as network::CreateNetwork;
    an_answer_to_the_creation_of_a_network_survives: "network_created" as network::Created;
    an_answer_to_a_prune_of_networks_survives: "network_prune" as network::Pruned;
    an_error_survives: "error" as error::ErrorBody;
}

/// The bodies of a fixture file.
fn fixture(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(path).expect("the fixture is part of the crate");
    serde_json::from_str(&text).expect("a list of bodies")
}

#[test]
fn a_service_that_was_shown_loses_nothing_in_the_model() {
    for body in fixture("service.json") {
        converts(&body["Spec"]).expect("Swarm's own answer");
    }
}

#[test]
fn a_service_that_was_asked_for_is_shown_as_it_was_asked_for() {
    // Swarm refused some of the fixture's requests, and they are refused here too.
    let bodies = fixture("service_spec.json");
    let valid = |body: &&Value| {
        let parsed = serde_json::from_value(with_ids_of_ours((*body).clone())).expect("a recorded body parses");
        spec::read(parsed, String::new).is_ok()
    };
    let valid: Vec<&Value> = bodies.iter().filter(valid).collect();
    assert!(valid.len() >= bodies.len() - 4, "{} of {}", valid.len(), bodies.len());
    for body in valid {
        converts_with_defaults(body).expect("what Swarm took");
    }
}

/// The recordings, if they are beside the checkout.
fn recordings() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/docker-api/transcripts");
    let entries = std::fs::read_dir(folder).ok()?;
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Some(files)
}

#[test]
fn every_recorded_body_survives() {
    let Some(files) = recordings() else {
        eprintln!("skipped: no recordings beside the checkout");
        return;
    };
    let mut bodies = 0;
    for file in files {
        let transcript: Value =
            serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("a recording is JSON");
        for exchange in transcript["exchanges"].as_array().expect("a recording has exchanges") {
            bodies += walk(exchange, &file);
        }
    }
    assert!(bodies > 1000, "only {bodies} bodies were found");
}

/// A service that Swarm showed is shown the same after a conversion to the model and back.
fn converts(spec: &Value) -> Result<(), String> {
    let spec = with_ids_of_ours(spec.clone());
    let shown = through_the_model(&spec)?;
    if shown == spec { Ok(()) } else { Err(format!("was\n{spec}\nbecame\n{shown}")) }
}

/// A service is shown as its request asked for it, with Swarm's defaults where the request left settings out.
fn converts_with_defaults(asked: &Value) -> Result<(), String> {
    let mut spec = with_ids_of_ours(asked.clone());
    let shown = through_the_model(&spec)?;
    spec["TaskTemplate"]["Runtime"] = "container".into();
    spec["TaskTemplate"]["ContainerSpec"]["Isolation"] = "default".into();
    if spec["EndpointSpec"]["Mode"].is_null() {
        spec["EndpointSpec"]["Mode"] = "vip".into();
    }
    if let Some(replicated) = spec.pointer_mut("/Mode/Replicated")
        && replicated["Replicas"].is_null()
    {
        replicated["Replicas"] = 1.into();
    }
    if let Some(config) = spec.get_mut("UpdateConfig")
        && config["FailureAction"].is_null()
    {
        config["FailureAction"] = "pause".into();
    }
    if shown == spec { Ok(()) } else { Err(format!("was\n{spec}\nbecame\n{shown}")) }
}

fn through_the_model(spec: &Value) -> Result<Value, String> {
    let parsed: service::ServiceSpec = serde_json::from_value(spec.clone()).map_err(|why| why.to_string())?;
    let read = spec::read(parsed, String::new).map_err(|why| why.to_string())?;
    let shown = spec::show(&read);
    if spec::read(shown.clone(), String::new) != Ok(read) {
        return Err(format!("does not read back from\n{shown:?}"));
    }
    serde_json::to_value(shown).map_err(|why| why.to_string())
}

/// Replaces ids of secrets and configs by ids that Essaim can have: Docker's may be larger than 128 bits.
fn with_ids_of_ours(mut spec: Value) -> Value {
    for (list, field) in [("Secrets", "SecretID"), ("Configs", "ConfigID")] {
        let found = spec.pointer_mut(&format!("/TaskTemplate/ContainerSpec/{list}")).and_then(Value::as_array_mut);
        for reference in found.into_iter().flatten() {
            let id = reference[field].as_str().unwrap_or_default().to_owned();
            reference[field] = format!("0{}", id.get(1..).unwrap_or_default()).into();
        }
    }
    spec
}

/// Tests the bodies of one exchange and returns how many there were.
fn walk(exchange: &Value, file: &Path) -> usize {
    let (method, path) = (exchange["method"].as_str().unwrap_or(""), exchange["path"].as_str().unwrap_or(""));
    let path = path.split('?').next().unwrap_or("");
    let path = path.strip_prefix("/v1.50").or(path.strip_prefix("/v1.45")).unwrap_or(path);
    let ok = exchange["status"].as_u64().is_some_and(|status| status < 300);
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let mut found = 0;
    let mut check = |body: &Value, walk: fn(&Value) -> Result<(), String>| {
        if body.is_object() {
            found += 1;
            if let Err(why) = walk(body) {
                panic!("{}: {method} {path}: {why}", file.display());
            }
        }
    };
    let request = &exchange["request"]["json"];
    let response = &exchange["response"]["json"];
    let list = response.as_array().map_or(&[][..], Vec::as_slice);
    match (method, parts.as_slice()) {
        ("GET", ["networks"]) if ok => list.iter().for_each(|it| check(it, round_trip::<network::NetworkResource>)),
        ("GET", ["networks", _]) if ok => check(response, round_trip::<network::NetworkResource>),
        ("POST", ["networks", "create"]) => {
            check(request, round_trip::<network::CreateNetwork>);
            if ok {
                check(response, round_trip::<network::Created>);
            }
        }
        ("POST", ["networks", "prune"]) if ok => check(response, round_trip::<network::Pruned>),
        ("POST", ["swarm", "init"]) => check(request, round_trip::<swarm::InitRequest>),
        ("POST", ["swarm", "join"]) => check(request, round_trip::<swarm::JoinRequest>),
        ("POST", ["swarm", "update"]) => check(request, round_trip::<swarm::SwarmSpec>),
        ("POST", ["nodes", _, "update"]) => check(request, round_trip::<node::NodeSpec>),
        ("POST", ["services", ..]) => {
            check(request, round_trip::<service::ServiceSpec>);
            if ok {
                check(request, converts_with_defaults);
            }
        }
        ("POST", ["configs", ..]) => check(request, round_trip::<config::ConfigSpec>),
        _ => (),
    }
    match (method, parts.as_slice()) {
        _ if !ok => check(response, round_trip::<error::ErrorBody>),
        (_, ["version"]) => check(response, round_trip::<version::SystemVersion>),
        (_, ["info"]) => check(response, round_trip::<info::SystemInfo>),
        ("GET", ["swarm"]) => check(response, round_trip::<swarm::Swarm>),
        ("GET", ["swarm", "unlockkey"]) => check(response, round_trip::<swarm::UnlockKey>),
        ("GET", ["nodes"]) => list.iter().for_each(|it| check(it, round_trip::<node::Node>)),
        ("GET", ["nodes", _]) => check(response, round_trip::<node::Node>),
        ("GET", ["services"]) => list.iter().for_each(|it| {
            check(it, round_trip::<service::Service>);
            check(&it["Spec"], converts);
        }),
        ("GET", ["services", _]) => {
            check(response, round_trip::<service::Service>);
            check(&response["Spec"], converts);
            check(&response["PreviousSpec"], converts);
        }
        ("POST", ["services", "create"]) => check(response, round_trip::<service::CreateResponse>),
        ("POST", ["services", _, "update"]) => check(response, round_trip::<service::UpdateResponse>),
        ("GET", ["configs"]) => list.iter().for_each(|it| check(it, round_trip::<object::Object<config::ConfigSpec>>)),
        ("GET", ["configs", _]) => check(response, round_trip::<object::Object<config::ConfigSpec>>),
        ("POST", ["configs", "create"]) => check(response, round_trip::<object::Created>),
        ("GET", ["tasks"]) => list.iter().for_each(|it| check(it, round_trip::<task::Task>)),
        ("GET", ["tasks", _]) => check(response, round_trip::<task::Task>),
        ("GET", ["distribution", ..]) => check(response, round_trip::<distribution::DistributionInspect>),
        ("GET", ["events"]) => {
            let lines = exchange["response"]["ndjson"].as_array().map_or(&[][..], Vec::as_slice);
            lines.iter().for_each(|it| check(it, round_trip::<event::EventMessage>));
        }
        _ => (),
    }
    found
}
