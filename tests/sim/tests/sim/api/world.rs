//! Builds the cluster that a recording shows: the nodes, services, configs, secrets, networks and tasks in its answers, under
//! the same ids.
//!
//! Settings that are refused so far (networks, …) are left out of the services.

use super::stage::{NOW, SELF, Stage, manager, worker};
use essaim_docker::convert::spec;
use essaim_docker::object::Plain;
use essaim_docker::service::ServiceSpec as Asked;
use essaim_model::noun::network::VNI_LIST;
use essaim_model::{
    AddressPools, Allocation, AnyPut, Assigned, Change, ClusterSpec, ConfigSpec, Desired, EngineKind, ManagerStatus,
    Mode, Name, Network, NetworkSpec, NetworkSubnet, Node, Observed, Plugin, Put, SecretSpec, ServiceId, ServiceSpec,
    Slot, State, Subnet, Task, TaskId, TaskState, UpdateState, UpdateStatus, fixtures,
};
use essaim_wire::{Index, NodeId, Reachability, Role};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The plain nouns, as the path of a request has them.
const PLAIN: [&str; 2] = ["configs", "secrets"];

/// Stands for the data of a secret, in base64.
pub(crate) const HIDDEN: &str = "aGlkZGVu";

/// Objects of the recorded cluster so far. The recordings are one session: each continues where the one before it
/// ended.
#[derive(Clone, Default)]
pub(crate) struct Session {
    nodes: BTreeMap<String, Value>,
    services: BTreeMap<String, Value>,
    /// Objects of plain nouns, by the noun's part of the path.
    plain: BTreeMap<String, BTreeMap<String, Value>>,
    /// Networks of the cluster that were given a subnet.
    networks: BTreeMap<String, Value>,
    own: Option<String>,
}

impl Session {
    /// Builds the cluster as it was at the beginning of a recording, from the objects that the recording shows first
    /// and those known from earlier recordings.
    pub(crate) async fn world(&self, recording: &Value) -> Stage {
        let exchanges = recording["exchanges"].as_array().expect("a recording has exchanges");
        let Self { nodes, services, plain, networks, .. } = self.before(recording);
        let own = own(exchanges).or(self.own.clone()).and_then(|id| id.parse().ok());
        match recording["swarm"].as_str() {
            Some("inactive") => return Stage::alone().await,
            Some("active/worker") => return Stage::worker().await,
            _ => (),
        }
        let stage = build(&nodes, &services, &plain, &networks, exchanges).await;
        let first = stage.node().standing().membership().map(|part| part.node);
        if let Some(node) = own.or(first) {
            stage.pass_for(node, Role::Manager);
        }
        stage
    }

    /// The objects as they were at the beginning of a recording.
    fn before(&self, recording: &Value) -> Self {
        let exchanges = recording["exchanges"].as_array().expect("a recording has exchanges");
        let mut before = self.clone();
        for exchange in exchanges.iter().rev() {
            // From the last answer to the first, so that the state that was shown first prevails.
            see(exchange, "nodes", &mut before.nodes);
            see(exchange, "services", &mut before.services);
            see_networks(exchange, &mut before.networks);
            for plural in PLAIN {
                see(exchange, plural, before.plain.entry(plural.to_owned()).or_default());
            }
        }
        for exchange in exchanges {
            let made = exchange["response"]["ID"].as_str().unwrap_or("");
            match exchange["path"].as_str() {
                Some("/services/create") => drop(before.services.remove(made)),
                Some("/configs/create" | "/secrets/create") => {
                    before.plain.values_mut().for_each(|objects| drop(objects.remove(made)))
                }
                Some("/networks/create") => {
                    let made = exchange["response"]["Id"].as_str().unwrap_or("");
                    before.networks.remove(made);
                }
                _ => (),
            }
        }
        before
    }

    /// The service with this name, as Docker shows it, as it was at the beginning of a recording.
    pub(crate) fn service(&self, name: &str, recording: &Value) -> Option<Value> {
        let services = self.before(recording).services;
        services.into_values().find(|service| service["Spec"]["Name"] == name)
    }

    /// The specs of the secrets and configs at the beginning of a recording, each with the noun's plural.
    pub(crate) fn payloads(&self, recording: &Value) -> Vec<(String, Value)> {
        let plain = self.before(recording).plain;
        let specs = |(plural, objects): (String, BTreeMap<String, Value>)| {
            objects.into_values().map(move |shown| (plural.clone(), shown["Spec"].clone())).collect::<Vec<_>>()
        };
        plain.into_iter().flat_map(specs).collect()
    }

    /// Labels of the node with this host name, if it is known.
    pub(crate) fn labels(&self, hostname: &str) -> Option<Value> {
        let named = |node: &&Value| node["Description"]["Hostname"] == hostname;
        self.nodes.values().rfind(named).map(|node| node["Spec"]["Labels"].clone())
    }

    /// Adds what a recording shows and changes to the objects known so far.
    pub(crate) fn learn(&mut self, recording: &Value) {
        if recording["swarm"] == "inactive" {
            *self = Self::default();
        }
        let exchanges = recording["exchanges"].as_array().expect("a recording has exchanges");
        for exchange in exchanges {
            see(exchange, "nodes", &mut self.nodes);
            see(exchange, "services", &mut self.services);
            see_networks(exchange, &mut self.networks);
            for plural in PLAIN {
                see(exchange, plural, self.plain.entry(plural.to_owned()).or_default());
            }
            let done = exchange["status"].as_u64().is_some_and(|status| status < 300);
            let path = exchange["path"].as_str().unwrap_or("").split('?').next().unwrap_or("");
            let parts: Vec<_> = path.split('/').skip(1).collect();
            let named = |objects: &BTreeMap<String, Value>, text: &str| {
                let is = |value: &Value| {
                    [&value["ID"], &value["Id"], &value["Name"], &value["Spec"]["Name"]]
                        .into_iter()
                        .any(|it| it == text)
                        || value["Description"]["Hostname"] == text
                };
                objects.iter().find(|(_, value)| is(value)).map(|(id, _)| id.clone())
            };
            match (exchange["method"].as_str(), parts.as_slice()) {
                (Some("POST"), ["services", "create"]) if done => {
                    let id = exchange["response"]["ID"].as_str().expect("an id").to_owned();
                    let spec = exchange["request"].clone();
                    self.services.insert(id.clone(), serde_json::json!({"ID": id, "Spec": spec}));
                }
                (Some("POST"), ["services", text, "update"]) if done => {
                    let found = named(&self.services, text).and_then(|id| self.services.get_mut(&id));
                    let asked = &exchange["request"]["TaskTemplate"]["ContainerSpec"];
                    // What decides whether a secret or config may be removed; later answers show the rest.
                    if let Some(service) = found {
                        for field in ["Secrets", "Configs"] {
                            service["Spec"]["TaskTemplate"]["ContainerSpec"][field] = asked[field].clone();
                        }
                    }
                }
                (Some("POST"), ["networks", "create"]) if done => self.learn_network(exchange),
                (Some("POST"), [plural, "create"]) if done && self.plain.contains_key(*plural) => {
                    let id = exchange["response"]["ID"].as_str().expect("an id").to_owned();
                    let spec = exchange["request"].clone();
                    let objects = self.plain.get_mut(*plural).expect("it is there");
                    objects.insert(id.clone(), serde_json::json!({"ID": id, "Spec": spec}));
                }
                (Some("DELETE"), [plural, text]) if done && self.plain.contains_key(*plural) => {
                    let objects = self.plain.get_mut(*plural).expect("it is there");
                    named(objects, text).and_then(|id| objects.remove(&id));
                }
                (Some("POST"), ["nodes", id, "update"]) if done => {
                    if let Some(node) = self.nodes.get_mut(*id) {
                        node["Spec"] = exchange["request"].clone();
                    }
                }
                (Some("DELETE"), ["networks", text]) if done => {
                    named(&self.networks, text).and_then(|id| self.networks.remove(&id));
                }
                (Some("DELETE"), ["services", text]) if done => {
                    named(&self.services, text).and_then(|id| self.services.remove(&id));
                }
                (Some("DELETE"), ["nodes", text]) if done => {
                    named(&self.nodes, text).and_then(|id| self.nodes.remove(&id));
                }
                _ => (),
            }
        }
        if recording["swarm"] == "active/manager" {
            self.own = own(exchanges).or(self.own.take());
        }
    }
}

impl Session {
    /// Adds a network that was created, with what Swarm gives it, until a later answer shows it. Swarm gives nothing to one
    /// whose subnet another network has.
    fn learn_network(&mut self, exchange: &Value) {
        let (mut network, id) = (exchange["request"].clone(), exchange["response"]["Id"].clone());
        let number = self.networks.len() + 1;
        if network["IPAM"]["Config"].as_array().is_none_or(Vec::is_empty) {
            let (subnet, gateway) = (format!("10.0.{number}.0/24"), format!("10.0.{number}.1"));
            network["IPAM"]["Config"] = serde_json::json!([{"Subnet": subnet, "Gateway": gateway}]);
        }
        let subnet = |network: &Value| network["IPAM"]["Config"][0]["Subnet"].clone();
        if self.networks.values().all(|other| subnet(other) != subnet(&network)) {
            network["Options"][VNI_LIST] = (4096 + number).to_string().into();
            (network["Id"], network["Scope"]) = (id.clone(), "swarm".into());
            self.networks.insert(id.as_str().expect("an id").to_owned(), network);
        }
    }
}

/// Adds the objects in an answer about `noun` to `kept`; an unfiltered list replaces all of them.
fn see(exchange: &Value, noun: &str, kept: &mut BTreeMap<String, Value>) {
    let path = exchange["path"].as_str().unwrap_or("");
    let ok = exchange["status"].as_u64().is_some_and(|status| status < 300);
    if !ok || exchange["method"] != "GET" || path.split(['/', '?']).nth(1) != Some(noun) {
        return;
    }
    let response = &exchange["response"];
    if response.is_array() && !path.contains("filters=") {
        kept.clear();
    }
    for object in response.as_array().map_or(std::slice::from_ref(response), Vec::as_slice) {
        // With `insertDefaults` the answer holds a spec with defaults that is not the stored one.
        let as_it_is = !path.contains("insertDefaults=true");
        if let Some(id) = object["ID"].as_str().filter(|id| as_it_is || !kept.contains_key(*id)) {
            kept.insert(id.to_owned(), object.clone());
        }
    }
}

/// Adds the networks of the cluster in an answer to `kept`, without those that Swarm could not give a subnet. The cluster
/// gives a network that was created what the next list shows of it.
fn see_networks(exchange: &Value, kept: &mut BTreeMap<String, Value>) {
    let path = exchange["path"].as_str().unwrap_or("");
    if exchange["method"] != "GET" || exchange["status"] != 200 || path.split(['/', '?']).nth(1) != Some("networks") {
        return;
    }
    let response = &exchange["response"];
    for network in response.as_array().map_or(std::slice::from_ref(response), Vec::as_slice) {
        if network["Scope"] == "swarm" && network["Options"].is_object() {
            kept.insert(network["Id"].as_str().expect("an id").to_owned(), network.clone());
        }
    }
}

/// The creation of a network that the engine showed.
fn network(shown: &Value) -> AnyPut {
    let pool = &shown["IPAM"]["Config"][0];
    let subnet = Subnet::parse(pool["Subnet"].as_str().expect("a subnet")).expect("a subnet");
    let gateway = pool["Gateway"].as_str().and_then(|text| text.parse().ok()).expect("a gateway");
    let mut asked = NetworkSpec::named(Name::parse(shown["Name"].as_str().expect("a name")).expect("a name"));
    asked.attachable = shown["Attachable"] == true;
    asked.ingress = shown["Ingress"] == true;
    asked.labels = serde_json::from_value(shown["Labels"].clone()).unwrap_or_default();
    asked.options = serde_json::from_value(shown["Options"].clone()).unwrap_or_default();
    let vni = asked.options.remove(VNI_LIST).and_then(|vni| vni.parse().ok()).expect("a VNI");
    let subnets = vec![NetworkSubnet { subnet, range: None, gateway, auxiliary: BTreeMap::new() }];
    let id = shown["Id"].as_str().expect("an id").parse().expect("25 characters of base 36");
    AnyPut::Network(Put { id, expect: None, spec: Network { asked, allocation: Allocation { vni, subnets } } })
}

/// Id of the node that answered the last `/info` of a recording.
pub(crate) fn own(exchanges: &[Value]) -> Option<String> {
    let mut ids =
        exchanges.iter().filter(|it| it["path"] == "/info").filter_map(|it| it["response"]["Swarm"]["NodeID"].as_str());
    ids.rfind(|id| !id.is_empty()).map(str::to_owned)
}

/// The creation of an object of a plain noun that the engine showed.
fn put<N: Plain>(shown: &Value) -> AnyPut {
    let id = shown["ID"].as_str().expect("an id").parse().expect("25 characters of base 36");
    let mut spec = shown["Spec"].clone();
    if spec["Data"].is_null() {
        // No answer shows the data of a secret.
        spec["Data"] = HIDDEN.into();
    }
    let spec = N::read(serde_json::from_value(spec).expect("Docker's shape")).expect("a good object");
    N::any_put(Put { id, expect: None, spec })
}

async fn build(
    shown: &BTreeMap<String, Value>,
    services: &BTreeMap<String, Value>,
    plain: &BTreeMap<String, BTreeMap<String, Value>>,
    networks: &BTreeMap<String, Value>,
    exchanges: &[Value],
) -> Stage {
    let mut nodes: Vec<_> = shown.values().map(node).collect();
    let leads = |node: &Node| shown[&node.id.to_string()]["ManagerStatus"]["Leader"] == true;
    // The recorded leader comes first and founds the cluster.
    nodes.sort_by_key(|node| (!leads(node), node.role != Role::Manager));
    let mut nodes = nodes.into_iter();
    let first = nodes.next().unwrap_or_else(|| manager(NodeId::from_bits(1), "node1"));
    let mut settings = ClusterSpec::default();
    if let Some(swarm) = exchanges.iter().find(|it| it["path"] == "/swarm").map(|it| &it["response"]) {
        let limit = swarm["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"].as_i64();
        settings.task_history = limit.unwrap_or(settings.task_history);
        let expiry = swarm["Spec"]["CAConfig"]["NodeCertExpiry"].as_u64();
        settings.certificate_expiry = expiry.map_or(settings.certificate_expiry, Duration::from_nanos);
    }
    // The recorded clusters were founded by the CLI, with its prefix length.
    let pools = AddressPools { subnets: Vec::new(), prefix: 24 };
    let stage = Stage::led_by(first, settings, pools, engine_of(exchanges)).await;
    for node in nodes {
        stage.change(Change::AcceptNode(Box::new(node))).await;
    }
    let mut tasks = BTreeMap::new();
    exchanges.iter().rev().for_each(|exchange| see(exchange, "tasks", &mut tasks));
    let mut tasks: Vec<_> = tasks.into_values().collect();
    tasks.sort_by_key(|task| task["CreatedAt"].as_str().map(str::to_owned));
    for (plural, objects) in plain {
        for shown in objects.values() {
            let put = if plural == "configs" { put::<ConfigSpec>(shown) } else { put::<SecretSpec>(shown) };
            stage.change(Change::PutObject(Box::new(put))).await;
        }
    }
    for shown in networks.values() {
        stage.change(Change::PutObject(Box::new(network(shown)))).await;
    }
    for service in services.values() {
        let first = tasks.iter().find(|task| task["ServiceID"] == service["ID"]).map(|task| &task["Spec"]);
        follow(&stage, service, first.unwrap_or(&service["Spec"]["TaskTemplate"])).await;
    }
    for shown in &tasks {
        let Some(service) = shown["ServiceID"].as_str().and_then(|id| services.get(id)) else { continue };
        // A task is created while its spec is the service's.
        follow(&stage, service, &shown["Spec"]).await;
        task(&stage, shown).await;
        // The docker CLI shows the tasks of a slot in the order of their creation.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for service in services.values() {
        finish(&stage, service).await;
    }
    for node in shown.values() {
        settle(&stage, node).await;
    }
    for exchange in exchanges {
        for service in exchange["response"].as_array().into_iter().flatten() {
            count(&stage, service).await;
        }
    }
    stage
}

/// The recorded node as it was when it took its tasks; [`settle`] then sets the availability and reachability that the
/// recording shows.
fn node(shown: &Value) -> Node {
    let id = shown["ID"].as_str().expect("an id").parse().expect("25 characters of base 36");
    let hostname = shown["Description"]["Hostname"].as_str().unwrap_or("");
    let mut node = worker(id, hostname);
    if shown["Spec"]["Role"] == "manager" {
        node = manager(id, hostname);
    }
    if shown["ManagerStatus"].is_null() {
        node.manager = None;
    } else {
        node.manager = Some(ManagerStatus { raft_id: 1, voter: true });
        node.role = Role::Manager;
    }
    if let Some(description) = &mut node.description {
        description.plugins = PLUGINS
            .iter()
            .flat_map(|(kind, names)| {
                let plugin = |name: &&str| Plugin { kind: (*kind).into(), name: (*name).into() };
                names.iter().map(plugin)
            })
            .collect();
    }
    node.spec.labels = serde_json::from_value(shown["Spec"]["Labels"].clone()).unwrap_or_default();
    node
}

/// Plugins of every recorded engine, by kind; the recordings leave them out.
const PLUGINS: &[(&str, &[&str])] = &[
    ("Log", &["awslogs", "fluentd", "gelf", "journald", "json-file", "local", "splunk", "syslog"]),
    ("Network", &["bridge", "host", "ipvlan", "macvlan", "null", "overlay"]),
    ("Volume", &["local"]),
];

async fn settle(stage: &Stage, shown: &Value) {
    let id: NodeId = shown["ID"].as_str().expect("an id").parse().expect("an id");
    let state = stage.state();
    let node = state.node(id).expect("accepted above");
    let availability = match shown["Spec"]["Availability"].as_str() {
        Some("drain") => essaim_model::Availability::Drain,
        Some("pause") => essaim_model::Availability::Pause,
        _ => essaim_model::Availability::Active,
    };
    let spec = essaim_model::NodeSpec { availability, ..node.spec.clone() };
    stage.change(Change::SetNode { id, expect: node.meta.version, spec }).await;
    let reachability = match shown["Status"]["State"].as_str() {
        Some("down") => Reachability::Down,
        Some("unknown") => Reachability::Unknown,
        _ => return,
    };
    let message = shown["Status"]["Message"].as_str().unwrap_or("").to_owned();
    stage.change(Change::SetReachability { id, generation: node.generation, reachability, message }).await;
}

/// The engine of a recording's cluster: Docker Engines publish no ports yet, and the process engine does.
pub(crate) fn engine_of(exchanges: &[Value]) -> EngineKind {
    let publishes = |exchange: &Value| {
        exchange["method"] == "POST"
            && exchange["request"]["EndpointSpec"]["Ports"].as_array().is_some_and(|it| !it.is_empty())
    };
    if exchanges.iter().any(publishes) { EngineKind::Process } else { EngineKind::Docker }
}

/// A recorded service spec without the settings that are refused so far: by every engine, or by this one.
pub(crate) fn possible(spec: &Value, engine: EngineKind) -> Value {
    let mut spec = spec.clone();
    let take = |value: &mut Value, names: &[&str]| {
        if let Some(object) = value.as_object_mut() {
            names.iter().for_each(|name| drop(object.remove(*name)));
        }
    };
    take(&mut spec["TaskTemplate"], &["Networks"]);
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    take(container, &["Secrets", "Configs"]);
    if spec["EndpointSpec"]["Mode"] == "dnsrr" {
        spec["EndpointSpec"]["Mode"] = "vip".into();
    }
    if engine == EngineKind::Docker {
        take(&mut spec["EndpointSpec"], &["Ports"]);
        return spec;
    }
    take(&mut spec["TaskTemplate"], &["LogDriver"]);
    take(
        &mut spec["TaskTemplate"]["ContainerSpec"],
        &[
            "Mounts",
            "Healthcheck",
            "Hostname",
            "Privileges",
            "ReadOnly",
            "Hosts",
            "Sysctls",
            "CapabilityAdd",
            "CapabilityDrop",
            "Ulimits",
            "DNSConfig",
            "Init",
        ],
    );
    spec
}

/// The spec of a recorded service, without references to objects that do not exist.
fn wish(state: &State, shown: &Value) -> ServiceSpec {
    let mut faithful = possible(shown, EngineKind::Docker);
    faithful["EndpointSpec"] = shown["EndpointSpec"].clone();
    let container = &shown["TaskTemplate"]["ContainerSpec"];
    let references = |field: &str, exists: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        container[field].as_array().into_iter().flatten().filter(|it| exists(it)).cloned().collect()
    };
    fn id<T: std::str::FromStr>(text: &Value) -> Option<T> {
        text.as_str()?.parse().ok()
    }
    let secret = |it: &Value| id(&it["SecretID"]).is_some_and(|id| state.object::<SecretSpec>(id).is_some());
    let config = |it: &Value| id(&it["ConfigID"]).is_some_and(|id| state.object::<ConfigSpec>(id).is_some());
    for (field, found) in [("Secrets", references("Secrets", &secret)), ("Configs", references("Configs", &config))] {
        if !found.is_empty() {
            faithful["TaskTemplate"]["ContainerSpec"][field] = found.into();
        }
    }
    let asked: Asked = serde_json::from_value(faithful).expect("Docker's shape");
    spec::read(asked, String::new).expect("what is refused was taken out")
}

/// Gives a recorded service the spec with these tasks, which it had at some time; creates it if it does not exist.
async fn follow(stage: &Stage, shown: &Value, tasks: &Value) {
    let id: ServiceId = shown["ID"].as_str().expect("an id").parse().expect("25 characters of base 36");
    if stage.state().service(id).is_none() {
        let spec = Box::new(previous(&stage.state(), shown).unwrap_or_else(|| wish(&stage.state(), &shown["Spec"])));
        stage.change(Change::CreateService { id, spec }).await;
    }
    let mut whole = shown["Spec"].clone();
    whole["TaskTemplate"] = tasks.clone();
    update(stage, id, wish(&stage.state(), &whole)).await;
}

/// Gives a service this spec, if it has another one.
async fn update(stage: &Stage, id: ServiceId, spec: ServiceSpec) {
    let state = stage.state();
    let found = state.service(id).expect("it exists");
    if found.spec != spec {
        let change = Change::UpdateService { id, expect: found.meta.version, spec: Some(Box::new(spec)) };
        stage.change(change).await;
    }
}

/// The previous spec of a recorded service.
fn previous(state: &State, shown: &Value) -> Option<ServiceSpec> {
    let mut previous = wish(state, shown.get("PreviousSpec")?);
    if previous == wish(state, &shown["Spec"]) {
        // They differ in what is left out.
        let labels = previous.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        previous.labels = labels.chain([("left".into(), "out".into())]).collect();
    }
    Some(previous)
}

/// Gives a recorded service its final spec, and the status of its update.
async fn finish(stage: &Stage, shown: &Value) {
    let id: ServiceId = shown["ID"].as_str().expect("an id").parse().expect("an id");
    follow(stage, shown, &shown["Spec"]["TaskTemplate"]).await;
    let before = stage.state().service(id).and_then(|service| service.previous.clone());
    let is_before = |spec: &ServiceSpec| before.as_ref().is_some_and(|(_, before)| before == spec);
    if let Some(previous) = previous(&stage.state(), shown).filter(|previous| !is_before(previous)) {
        update(stage, id, previous).await;
        update(stage, id, wish(&stage.state(), &shown["Spec"])).await;
    }
    let status = &shown["UpdateStatus"];
    let state = match status["State"].as_str() {
        Some("updating") => UpdateState::Updating,
        Some("paused") => UpdateState::Paused,
        Some("completed") => UpdateState::Completed,
        Some("rollback_started") => UpdateState::RollbackStarted,
        Some("rollback_paused") => UpdateState::RollbackPaused,
        Some("rollback_completed") => UpdateState::RollbackCompleted,
        _ => return,
    };
    let message = status["Message"].as_str().unwrap_or("").to_owned();
    let completed_at = status["CompletedAt"].is_string().then_some(NOW);
    let status = UpdateStatus { state, started_at: NOW, completed_at, message };
    let spec_version = stage.state().service(id).expect("created above").spec_version;
    stage.change(Change::SetUpdateStatus { id, spec_version, status }).await;
}

/// Creates the tasks that a recorded list of services counts, when no recorded answer shows them.
async fn count(stage: &Stage, shown: &Value) {
    let Some(service) = shown["ID"].as_str().and_then(|id| id.parse::<ServiceId>().ok()) else { return };
    let state = stage.state();
    let Some(found) = state.service(service) else { return };
    if state.tasks().any(|task| task.service == service) {
        return;
    }
    let mut nodes: Vec<_> = state.nodes().collect();
    let is_global = matches!(found.spec.mode, Mode::Global | Mode::GlobalJob);
    nodes.retain(|node| is_global || node.reachability != Reachability::Down);
    let counts = [("RunningTasks", TaskState::Running), ("CompletedTasks", TaskState::Complete)];
    let mut number = 0;
    for (field, reached) in counts {
        for _ in 0..shown["ServiceStatus"][field].as_u64().unwrap_or(0) {
            let Node { id: node, reachability, .. } = **nodes[number % nodes.len()];
            number += 1;
            let slot = if is_global { Slot::Node(node) } else { Slot::Number(number as u32) };
            let id = TaskId::from_bits(service.bits() ^ (0xACED << 32) ^ number as u128);
            let task = Task {
                slot,
                desired: if reachability == Reachability::Down { Desired::Shutdown } else { Desired::Running },
                observed: Observed { state: reached, ..Observed::nothing(NOW) },
                ..fixtures::task(id, service, found.spec_version, node)
            };
            stage.change(Change::CreateTask(Box::new(task))).await;
        }
    }
}

async fn task(stage: &Stage, shown: &Value) {
    let parse = |name: &str| shown[name].as_str().and_then(|text| text.parse().ok());
    let service: ServiceId = shown["ServiceID"].as_str().expect("an id").parse().expect("an id");
    let state = stage.state();
    let Some(found) = state.service(service) else { return };
    let node: Option<NodeId> = parse("NodeID").filter(|node| state.node(*node).is_some());
    let word = shown["Status"]["State"].as_str().unwrap_or("new");
    let reached = match word {
        "pending" | "assigned" => TaskState::New,
        other => TaskState::ALL.into_iter().find(|state| state.as_str() == other).unwrap_or(TaskState::Shutdown),
    };
    let desired = match shown["DesiredState"].as_str() {
        Some("ready") => Desired::Ready,
        Some("shutdown") => Desired::Shutdown,
        Some("remove") => Desired::Remove,
        _ => Desired::Running,
    };
    let observed = Observed {
        state: reached,
        message: shown["Status"]["Message"].as_str().unwrap_or("").into(),
        error: shown["Status"]["Err"].as_str().map(Into::into),
        ..Observed::nothing(NOW)
    };
    let assigned = match node {
        Some(node) => Assigned::Node(node),
        None => Assigned::Pending { reason: observed.error.clone().unwrap_or_default() },
    };
    // Slot 0 of a job is left out.
    let job = found.spec.mode.of_replicated_job().is_some();
    let slot = match (shown["Slot"].as_u64(), node) {
        (slot, _) if job => Slot::Number(slot.unwrap_or(0) as u32),
        (None | Some(0), Some(node)) => Slot::Node(node),
        (slot, _) => Slot::Number(slot.unwrap_or(1) as u32),
    };
    let id = shown["ID"].as_str().expect("an id").parse().expect("an id");
    let born = fixtures::task(id, service, found.spec_version, SELF);
    let born = Task { slot, assigned, desired, observed, ..born };
    // Recordings keep more tasks per slot than are wanted at a time, so each is created in its final state, in any
    // order.
    stage.change(Change::CreateTask(Box::new(born))).await;
}

/// The present version of the object in the path of an update; of the cluster when the path names no object.
pub(crate) fn version(stage: &Stage, path: &str) -> Index {
    let state = stage.state();
    let id = path.split('/').nth(2).unwrap_or("").split('?').next().unwrap_or("");
    if path.starts_with("/nodes/") {
        return essaim_docker::resolve::node(&state, id).map_or(Index(0), |node| node.meta.version);
    }
    if path.starts_with("/secrets/") {
        return essaim_docker::resolve::object::<SecretSpec>(&state, id).map_or(Index(0), |secret| secret.meta.version);
    }
    if path.starts_with("/configs/") {
        return essaim_docker::resolve::object::<ConfigSpec>(&state, id).map_or(Index(0), |config| config.meta.version);
    }
    if path.starts_with("/services/") {
        return essaim_docker::resolve::service(&state, id).map_or(Index(0), |service| service.meta.version);
    }
    state.cluster().map_or(Index(0), |cluster| cluster.meta.version)
}
