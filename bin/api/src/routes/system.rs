//! The routes `_ping`, `version` and `info`, which answer in every state of the cluster and of the machine's engine.

use crate::face::Face;
use crate::merge;
use crate::reply::json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use essaim_docker::convert::{swarm, task};
use essaim_docker::error::texts::TWO_MANAGERS;
use essaim_docker::info::{LocalNodeState, Peer, Plugins, RegistryConfig, SwarmInfo, SystemInfo};
use essaim_docker::ping::{API_VERSION, HEADERS, MIN_API_VERSION, SwarmHeader};
use essaim_docker::version::{Component, Platform, SystemVersion};
use essaim_model::State as Model;
use essaim_node::Standing;
use essaim_wire::Role;
use serde_json::Value;
use std::time::Duration;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Time that the engine has to answer `info` or `version`. An engine with thousands of containers takes most of a second.
const DEADLINE: Duration = Duration::from_secs(2);

/// Answers the handshake. It waits for the engine a moment at most, and only when the engine was not heard of lately,
/// because clients take the answer as the sign that a daemon runs.
pub(super) async fn ping(State(face): State<Face>) -> Response {
    let engine = match &face.engine {
        Some(engine) => engine.described().await,
        None => Default::default(),
    };
    let mut response = "OK".into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [("Builder-Version", engine.builder), ("Docker-Experimental", engine.experimental)] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    let swarm = swarm_header(&face.node.standing());
    headers.insert("Swarm", HeaderValue::from_static(swarm.as_str()));
    response
}

fn swarm_header(standing: &Standing) -> SwarmHeader {
    match standing {
        Standing::Inactive => SwarmHeader::Inactive,
        Standing::Broken(_) => SwarmHeader::Error,
        Standing::Pending { .. } => SwarmHeader::Pending,
        Standing::Active(part) => match part.role {
            Role::Manager => SwarmHeader::Manager,
            Role::Worker => SwarmHeader::Worker,
        },
    }
}

pub(super) async fn version(State(face): State<Face>, request: Request) -> Response {
    let told = match &face.engine {
        Some(engine) => engine.ask(request.extensions().get(), "/version", DEADLINE).await.ok(),
        None => None,
    };
    // After the engine was asked, its API version is known.
    let own = own_version(&face);
    match told {
        Some(Value::Object(engine)) => json(&merge::version(engine, own)),
        _ => json(&own),
    }
}

fn own_version(face: &Face) -> SystemVersion {
    let host = &face.host;
    let announced = face.engine.as_ref().map(|engine| engine.announced());
    let announced = announced.as_ref().and_then(|version| version.to_str().ok()).unwrap_or(API_VERSION);
    let arch = host.go_architecture().to_owned();
    let details = [
        ("ApiVersion", announced),
        ("Arch", &arch),
        ("BuildTime", ""),
        ("Experimental", "false"),
        ("GitCommit", ""),
        ("GoVersion", ""),
        ("KernelVersion", &host.kernel),
        ("MinAPIVersion", MIN_API_VERSION),
        ("Os", "linux"),
    ];
    SystemVersion {
        platform: Platform { name: "Essaim".into() },
        components: vec![Component {
            name: "Engine".into(),
            version: VERSION.into(),
            details: details.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        }],
        version: VERSION.into(),
        api_version: announced.into(),
        min_api_version: MIN_API_VERSION.into(),
        git_commit: String::new(),
        go_version: String::new(),
        os: "linux".into(),
        arch,
        kernel_version: host.kernel.clone(),
        build_time: String::new(),
    }
}

/// Answers `info` from the engine and from what this node has in memory, so also without a quorum; the state is then the
/// last one known. An engine that does not answer is named among the warnings.
pub(super) async fn info(State(face): State<Face>, request: Request) -> Response {
    let Some(engine) = &face.engine else { return json(&own_info(&face)) };
    match engine.ask(request.extensions().get(), "/info", DEADLINE).await {
        Ok(Value::Object(engine)) => json(&merge::info(engine, &own_info(&face))),
        Ok(_) => json(&warned(own_info(&face), "the Docker Engine's info is no JSON object")),
        Err(trouble) => json(&warned(own_info(&face), &trouble.to_string())),
    }
}

/// This info with one more warning, for people.
fn warned(info: SystemInfo, why: &str) -> SystemInfo {
    let text = format!("WARNING: {why}. The machine's containers and images are not shown");
    let warnings = info.warnings.into_iter().flatten().chain([text]).collect();
    SystemInfo { warnings: Some(warnings), ..info }
}

fn own_info(face: &Face) -> SystemInfo {
    let standing = face.node.standing();
    let node = standing.node();
    let state = face.control().ok().map(|control| control.last_known());
    let own = node.and_then(|id| state.as_ref().map(|state| (id, state)));
    let (mut running, mut stopped) = (0, 0);
    for task in own.iter().flat_map(|(id, state)| state.tasks_on(*id)) {
        running += u64::from(own.as_ref().is_some_and(|(_, state)| task::is_running(task, state)));
        stopped += u64::from(task.has_ended());
    }
    let swarm = swarm_info(&standing, state.as_deref());
    let warnings = (!swarm.warnings.is_empty()).then(|| swarm.warnings.clone());
    let host = &face.host;
    SystemInfo {
        id: node.map(|node| node.to_string()).unwrap_or_default(),
        containers: running + stopped,
        containers_running: running,
        containers_stopped: stopped,
        driver: host.engine.clone(),
        plugins: Plugins { log: vec!["essaim".into()], ..Plugins::default() },
        memory_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        pids_limit: true,
        ipv4_forwarding: true,
        system_time: face.now().into(),
        logging_driver: "essaim".into(),
        cgroup_driver: "none".into(),
        kernel_version: host.kernel.clone(),
        operating_system: host.system.clone(),
        os_version: host.system_version.clone(),
        os_type: "linux".into(),
        architecture: host.architecture.clone(),
        registry_config: Some(RegistryConfig::default()),
        ncpu: host.cpus,
        mem_total: host.memory,
        docker_root_dir: host.data_dir.clone(),
        name: host.name.clone(),
        server_version: VERSION.into(),
        default_runtime: host.engine.clone(),
        swarm,
        live_restore_enabled: true,
        warnings,
        ..SystemInfo::default()
    }
}

fn swarm_info(standing: &Standing, state: Option<&Model>) -> SwarmInfo {
    let (local_node_state, error) = match standing {
        Standing::Inactive => (LocalNodeState::Inactive, ""),
        Standing::Pending { .. } => (LocalNodeState::Pending, ""),
        Standing::Active(_) => (LocalNodeState::Active, ""),
        Standing::Broken(why) => (LocalNodeState::Error, &**why),
    };
    let part = standing.membership();
    let control = part.is_some_and(|part| part.role == Role::Manager);
    let state = state.filter(|_| control);
    let managers = state.map_or(0, |state| state.managers().count());
    let peers = part.into_iter().flat_map(|part| part.endpoint.managers());
    let peers: Vec<_> = peers.map(|(id, addr)| Peer { node_id: id.to_string(), addr: addr.to_string() }).collect();
    SwarmInfo {
        node_id: standing.node().map(|node| node.to_string()).unwrap_or_default(),
        node_addr: part.map(|part| part.advertise.ip().to_string()).unwrap_or_default(),
        local_node_state,
        control_available: control,
        error: error.into(),
        remote_managers: (local_node_state != LocalNodeState::Inactive).then_some(peers),
        nodes: state.map_or(0, |state| state.nodes().filter(|node| !node.has_left()).count() as u64),
        managers: managers as u64,
        cluster: state.map(|state| match state.cluster() {
            Some(cluster) => swarm::show(cluster),
            None => swarm::show_nothing(),
        }),
        warnings: if managers == 2 { vec![TWO_MANAGERS.into()] } else { Vec::new() },
    }
}
