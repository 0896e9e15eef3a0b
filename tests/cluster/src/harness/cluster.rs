//! A cluster under test: several daemons that have joined, and requests to them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::hosts::{Host, Lab, ipv6_host, loopback_hosts};
use super::sweep::{folder, sweep_abandoned};
use super::{Container, Daemon, Dockerd, Turn, eventually, turn};

/// A cluster under test. Its fields are dropped in order: daemons, engines, folder, hosts, turn.
pub struct Cluster {
    /// The daemons, n1 first.
    pub daemons: Vec<Daemon>,
    /// The Docker Engine of each daemon; empty when tasks are processes of the host.
    pub engines: Vec<Dockerd>,
    folder: TempDir,
    /// The network between the hosts, when the daemons are in namespaces.
    pub lab: Option<Arc<Lab>>,
    _turn: Turn,
}

impl Cluster {
    /// The folder below which daemons and engines keep their files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a cluster on the loopback; the first `managers` daemons are managers.
    pub fn on_loopback(nodes: u8, managers: usize) -> Self {
        let turn = turn();
        Self::of(loopback_hosts(nodes), managers, None, turn)
    }

    /// Starts a cluster of one daemon on the loopback's address of version 6; `None` on a machine without one.
    pub fn on_ipv6_loopback() -> Option<Self> {
        let host = ipv6_host()?;
        let turn = turn();
        Some(Self::of(vec![host], 1, None, turn))
    }

    /// Starts a cluster in network namespaces; the first `managers` daemons are managers.
    pub fn in_namespaces(nodes: u8, managers: usize) -> Self {
        let turn = turn();
        let lab = Lab::new(nodes);
        Self::of(lab.hosts(), managers, Some(lab), turn)
    }

    /// Starts daemons that are in no cluster yet.
    pub fn of_strangers(names: &[&str]) -> Self {
        let turn = turn();
        let folder = folder();
        let hosts = loopback_hosts(names.len() as u8);
        let daemons = names.iter().zip(hosts).map(|(name, host)| Daemon::start(name, host, folder.path())).collect();
        Self { daemons, engines: Vec::new(), folder, lab: None, _turn: turn }
    }

    /// Starts daemons that are in no cluster yet, in network namespaces, each with a Docker Engine of its own that has
    /// the images of the tests.
    pub fn of_strangers_with_engines(names: &[&str]) -> Self {
        let turn = turn();
        // Engines of a test that was killed would keep a processor busy, and their mounts the disk.
        sweep_abandoned();
        let lab = Lab::new(names.len() as u8);
        let folder = folder();
        let engine = |(name, host): (&&str, Host)| Dockerd::spawned(name, host, folder.path());
        let mut engines: Vec<_> = names.iter().zip(lab.hosts()).map(engine).collect();
        for engine in &mut engines {
            engine.wait_ready();
            engine.bring_images(folder.path()).unwrap_or_else(|why| panic!("{why}"));
        }
        let daemon = |(name, engine): (&&str, &Dockerd)| {
            let mut daemon = Daemon::prepared(name, engine.host.clone(), folder.path());
            daemon.engine = Some(engine.socket.clone());
            daemon
        };
        let mut daemons: Vec<_> = names.iter().zip(&engines).map(daemon).collect();
        daemons.iter_mut().for_each(Daemon::spawn);
        daemons.iter_mut().for_each(Daemon::wait_ready);
        Self { daemons, engines, folder, lab: Some(lab), _turn: turn }
    }

    /// Starts a cluster of three daemons with Docker Engines; the first one is its only manager.
    pub fn with_engines() -> Self {
        let cluster = Self::of_strangers_with_engines(&["n1", "n2", "n3"]);
        cluster.init(0);
        cluster.join(1, 0, "Worker");
        cluster.join(2, 0, "Worker");
        cluster.wait_ready(1);
        cluster
    }

    /// Kills everything on a host: the daemon, its engine, and all containers. See [`Self::switch_on`].
    pub fn switch_off(&mut self, at: usize) {
        // The daemon ends first and cannot report the end of the others.
        self.daemons[at].kill();
        self.engines[at].lose_power();
        self.daemons[at].kill_host();
    }

    /// Starts what [`Self::switch_off`] has killed; waits until engine and daemon answer.
    pub fn switch_on(&mut self, at: usize) {
        self.engines[at].spawn();
        self.engines[at].wait_ready();
        self.daemons[at].restart();
    }

    /// Containers of a service on all engines that run, each with the index of its engine.
    pub fn containers(&self, service: &str) -> Vec<(usize, Container)> {
        let running = self.engines.iter().enumerate().filter(|(_, engine)| engine.pid().is_some());
        let all = running.flat_map(|(at, engine)| engine.containers().into_iter().map(move |one| (at, one)));
        all.filter(|(_, one)| one.service.as_deref() == Some(service)).collect()
    }

    fn of(hosts: Vec<Host>, managers: usize, lab: Option<Arc<Lab>>, turn: Turn) -> Self {
        let folder = folder();
        let number = |at: usize| format!("n{}", at + 1);
        let mut daemons: Vec<_> = hosts
            .into_iter()
            .enumerate()
            .map(|(at, host)| Daemon::prepared(&number(at), host, folder.path()))
            .collect();
        daemons.iter_mut().for_each(Daemon::spawn);
        daemons.iter_mut().for_each(Daemon::wait_ready);
        let cluster = Self { daemons, engines: Vec::new(), folder, lab, _turn: turn };
        cluster.init(0);
        for at in 1..cluster.daemons.len() {
            cluster.join(at, 0, if at < managers { "Manager" } else { "Worker" });
        }
        cluster.wait_ready(managers);
        cluster
    }

    /// Has a daemon begin a cluster.
    pub fn init(&self, at: usize) {
        self.daemons[at].post("/swarm/init", Some(&init_request(self.daemons[at].host.address)));
    }

    /// The request by which a daemon joins another daemon's cluster.
    pub fn join_request(&self, at: usize, to: usize, token: &str) -> Value {
        join_request(self.daemons[at].host.address, self.daemons[to].host.address, token)
    }

    /// Has a daemon join another daemon's cluster; the role is `Worker` or `Manager`.
    pub fn join(&self, at: usize, to: usize, role: &str) {
        let request = self.join_request(at, to, &self.token(to, role));
        // The request is repeated: a leader that waits for a processor loses its lease for a moment, and refuses
        // requests then.
        eventually(&format!("{} joins", self.daemons[at].name), || {
            let answer =
                self.daemons[at].try_ask("POST", "/swarm/join", Some(&request)).map_err(|error| error.to_string())?;
            let already = answer.message().contains("already part of a swarm");
            if answer.status == 200 || already { Ok(()) } else { Err(answer.message()) }
        });
    }

    /// The join token for a role, as a daemon gives it.
    pub fn token(&self, at: usize, role: &str) -> String {
        self.daemons[at].get("/swarm")["JoinTokens"][role].as_str().expect("a manager knows the tokens").to_owned()
    }

    /// Waits until every daemon is ready and this many managers are reachable.
    pub fn wait_ready(&self, managers: usize) {
        eventually("every node is ready", || {
            let nodes = self.nodes()?;
            // A node that has joined gets no tasks before it has described itself, some milliseconds later.
            let has_described = |node: &&Value| node["Description"]["Resources"]["NanoCPUs"].as_u64().unwrap_or(0) > 0;
            let is_ready = |node: &&Value| node["Status"]["State"] == "ready";
            let ready = nodes.iter().filter(is_ready).filter(has_described).count();
            let reachable = nodes.iter().filter(|node| node["ManagerStatus"]["Reachability"] == "reachable").count();
            let enough = ready == self.daemons.len() && reachable == managers;
            if enough { Ok(()) } else { Err(format!("{ready} are ready, {reachable} managers are reachable")) }
        });
    }

    /// The first running manager that answers, except the daemons with an index in `not`.
    pub fn manager(&self, not: &[usize]) -> Result<&Daemon, String> {
        let usable = self.daemons.iter().enumerate().filter(|(at, daemon)| !not.contains(at) && daemon.pid().is_some());
        let mut why = "no manager runs".to_owned();
        for (_, daemon) in usable {
            match daemon.try_ask("GET", "/nodes", None) {
                Ok(answer) if answer.status == 200 => return Ok(daemon),
                Ok(answer) => why = format!("{}: {}", daemon.name, answer.message()),
                Err(error) => why = format!("{}: {error}", daemon.name),
            }
        }
        Err(why)
    }

    /// The nodes, as the first manager that answers lists them.
    pub fn nodes(&self) -> Result<Vec<Value>, String> {
        self.nodes_without(&[])
    }

    /// The nodes, as the first manager that answers lists them, without asking the daemons in `not`.
    pub fn nodes_without(&self, not: &[usize]) -> Result<Vec<Value>, String> {
        listed(&self.manager(not)?.try_ask("GET", "/nodes", None).map_err(|error| error.to_string())?)
    }

    /// The node with this host name.
    pub fn node(&self, name: &str, not: &[usize]) -> Result<Value, String> {
        let nodes = self.nodes_without(not)?;
        let found = nodes.into_iter().find(|node| node["Description"]["Hostname"] == name);
        found.ok_or_else(|| format!("there is no node {name}"))
    }

    /// Index of the leader in [`Self::daemons`].
    pub fn leader(&self) -> usize {
        eventually("there is a leader", || {
            let nodes = self.nodes()?;
            let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true).ok_or("nobody leads")?;
            let name = leader["Description"]["Hostname"].as_str().unwrap_or("");
            self.daemons.iter().position(|daemon| daemon.name == name).ok_or_else(|| format!("the leader is {name}"))
        })
    }

    /// Creates a service that runs `sleep`.
    pub fn create(&self, name: &str, replicas: u64) -> String {
        let spec = sleepers(name, replicas);
        let manager = eventually("a manager answers", || self.manager(&[]));
        manager.post("/services/create", Some(&spec))["ID"].as_str().expect("a service has an id").to_owned()
    }

    /// The tasks of a service, as the first manager that answers lists them.
    pub fn tasks(&self, service: &str, not: &[usize]) -> Result<Vec<Value>, String> {
        let path = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        listed(&self.manager(not)?.try_ask("GET", &path, None).map_err(|error| error.to_string())?)
    }

    /// The tasks of a service that are wanted and run, on nodes that are not in `gone`.
    pub fn running(&self, service: &str, gone: &[usize]) -> Result<Vec<Value>, String> {
        let nodes = self.nodes_without(gone)?;
        let lost = |task: &Value| {
            let node = nodes.iter().find(|node| node["ID"] == task["NodeID"]);
            let name = node.map_or("", |node| node["Description"]["Hostname"].as_str().unwrap_or(""));
            node.is_none_or(|node| node["Status"]["State"] != "ready")
                || gone.iter().any(|at| self.daemons[*at].name == name)
        };
        let tasks = self.tasks(service, gone)?.into_iter();
        Ok(tasks
            .filter(|task| task["DesiredState"] == "running" && task["Status"]["State"] == "running" && !lost(task))
            .collect())
    }

    /// Waits until exactly this many tasks run on the nodes that are left, one in each slot.
    pub fn wait_running(&self, service: &str, count: usize, gone: &[usize]) -> Vec<Value> {
        eventually(&format!("{count} tasks of {service} run"), || {
            let running = self.running(service, gone)?;
            let mut slots: Vec<_> = running.iter().map(|task| task["Slot"].as_u64()).collect();
            slots.sort_unstable();
            slots.dedup();
            let exact = running.len() == count && slots.len() == count;
            if exact { Ok(running) } else { Err(format!("{} run in {} slots", running.len(), slots.len())) }
        })
    }
}

/// The request by which a daemon begins a cluster, as the docker CLI writes it.
pub fn init_request(own: SocketAddr) -> Value {
    let spec = json!({
        "Labels": null, "Orchestration": {}, "Raft": {"ElectionTick": 0, "HeartbeatTick": 0}, "Dispatcher": {},
        "CAConfig": {}, "TaskDefaults": {}, "EncryptionConfig": {"AutoLockManagers": false},
    });
    let own = own.to_string();
    json!({
        "ListenAddr": own, "AdvertiseAddr": own, "DataPathAddr": "", "DataPathPort": 0, "ForceNewCluster": false,
        "Spec": spec, "AutoLockManagers": false, "Availability": "", "DefaultAddrPool": [], "SubnetSize": 24,
    })
}

/// The request by which a daemon joins another daemon's cluster.
pub fn join_request(own: SocketAddr, other: SocketAddr, token: &str) -> Value {
    let own = own.to_string();
    json!({
        "ListenAddr": own, "AdvertiseAddr": own, "DataPathAddr": "",
        "RemoteAddrs": [other.to_string()], "JoinToken": token, "Availability": "",
    })
}

/// The spec of a service that runs `sleep`, with everything else as the docker CLI leaves it.
pub fn sleepers(name: &str, replicas: u64) -> Value {
    json!({
        "Name": name, "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "sleep", "Args": ["100000"], "Init": false, "DNSConfig": {}},
            "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": replicas}}, "EndpointSpec": {"Mode": "vip"},
    })
}

fn listed(answer: &super::http::Answer) -> Result<Vec<Value>, String> {
    match (answer.status, answer.json()) {
        (200, Value::Array(items)) => Ok(items),
        _ => Err(answer.message()),
    }
}
