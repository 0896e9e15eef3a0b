//! The stage of an API test: a node that is asked, and a client that asks it without a socket.

use crate::stories::within;
use essaim::testkit::run::{Run, in_virtual_time};
use essaim::testkit::still::Still;
use essaim::testkit::{Draws, Options};
use essaim_api::{Direct, EngineInside, Host, StreamedReply};
use essaim_model::{AddressPools, Change, ClusterSpec, EngineKind, ManagerStatus, Node, State};
use essaim_node::{Handle, InitRequest, JoinRequest};
use essaim_wire::{Index, NodeId, Role, Timestamp};
use serde_json::Value;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// Wall time after which a story counts as hung. A story takes a second or two with optimization.
const WALL_MAX: Duration = Duration::from_secs(300);

/// Time at which tasks were observed, in tests to which the time does not matter.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// Id of the node that is asked, in tests that do not choose an id.
pub(crate) const SELF: NodeId = NodeId::from_bits(1);

/// Address at which the first machine can be reached.
pub(crate) const FIRST: &str = "10.0.0.1:2377";

/// Plays a story in virtual time, on a thread of its own; panics when it takes too much wall time.
pub(crate) fn play(story: impl AsyncFnOnce() + Send + 'static) {
    within(WALL_MAX, move || in_virtual_time(7, story()));
}

/// The node that a test asks, with the simulated machines of its cluster.
pub(crate) struct Stage {
    run: Run,
    node: Handle,
    still: Option<Still>,
}

impl Stage {
    /// A daemon outside of any cluster. It runs on the second machine; the first machine has a cluster that it could
    /// join.
    pub(crate) async fn alone() -> Self {
        let mut run = Run::new(Options { nodes: 2, managers: 1, checks: false, draws: Draws::NONE, ..Options::of(1) });
        for number in [1, 2] {
            run.world.start(number).await.expect("it starts");
        }
        let node = run.world.running(2).expect("started above");
        let stage = Self { run, node, still: None };
        stage.other().init(InitRequest::default()).await.expect("a cluster begins");
        stage
    }

    /// A daemon on the second machine that has joined the first machine's cluster as a worker.
    pub(crate) async fn worker() -> Self {
        let stage = Self::alone().await;
        let swarm = Client::on("node1", &stage.other()).get("/swarm").await.json();
        let token = swarm["JoinTokens"]["Worker"].as_str().expect("a token").to_owned();
        let remotes = vec![FIRST.to_owned()];
        stage.node.join(JoinRequest { token, remotes, ..JoinRequest::default() }).await.expect("it joins");
        stage
    }

    /// The manager [`SELF`] that has founded a cluster whose state only the test changes.
    pub(crate) async fn manager() -> Self {
        let (settings, pools) = (ClusterSpec::default(), AddressPools::default());
        Self::led_by(manager(SELF, "node1"), settings, pools, EngineKind::Process).await
    }

    /// A manager of a cluster that `first` founded with these settings, address pools and this engine, and whose state only
    /// the test changes.
    pub(crate) async fn led_by(first: Node, spec: ClusterSpec, pools: AddressPools, engine: EngineKind) -> Self {
        let mut run = Run::new(Options { nodes: 1, managers: 1, checks: false, draws: Draws::NONE, ..Options::of(1) });
        run.world.start(1).await.expect("it starts");
        let real = run.world.running(1).expect("started above");
        real.init(InitRequest::default()).await.expect("a cluster begins");
        let still = Still::of(&real, first, (spec, pools), engine).await.expect("a manager at rest");
        Self { run, node: still.handle().clone(), still: Some(still) }
    }

    /// Handle of the node that is asked.
    pub(crate) const fn node(&self) -> &Handle {
        &self.node
    }

    /// Handle of the daemon on the first machine, which has a cluster of its own.
    pub(crate) fn other(&self) -> Handle {
        self.run.world.running(1).expect("it runs")
    }

    /// The manager whose state only the test changes; panics in a test about another kind of node.
    pub(crate) const fn still(&self) -> &Still {
        self.still.as_ref().expect("the test is about a manager at rest")
    }

    /// Shows the node that is asked as `node` in this role from now on; does nothing unless the test controls its
    /// state.
    pub(crate) fn pass_for(&self, node: NodeId, role: Role) {
        if let Some(still) = &self.still {
            still.pass_for(node, role);
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        match &self.still {
            Some(still) => still.state(),
            None => self.node.control().map(|control| control.last_known()).unwrap_or_default(),
        }
    }

    /// Proposes one change, which must be possible; returns its index in the log.
    pub(crate) async fn change(&self, change: Change) -> Index {
        self.still().change(vec![change]).await.expect("the test's own change is possible")
    }

    pub(crate) fn client(&self) -> Client {
        Client::on("node1", &self.node)
    }
}

/// Record of a manager that is ready.
pub(crate) fn manager(id: NodeId, hostname: &str) -> Node {
    let mut node = worker(id, hostname);
    (node.role, node.spec.role) = (Role::Manager, Role::Manager);
    node.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    node
}

/// Record of a worker that is ready.
pub(crate) fn worker(id: NodeId, hostname: &str) -> Node {
    Node {
        description: Some(essaim_model::NodeDescription {
            hostname: hostname.into(),
            platform: essaim_model::Platform { architecture: "x86_64".into(), os: "linux".into() },
            hardware: essaim_model::Hardware { nano_cpus: 2_000_000_000, memory_bytes: 25_276_502_016 },
            engine_version: "0.1.0".into(),
            ..Default::default()
        }),
        addr: Some("10.77.0.11:2377".parse().expect("an address")),
        ..essaim_model::fixtures::worker(id.bits())
    }
}

/// API client that calls a node's routes directly, without a socket.
pub(crate) struct Client {
    direct: Direct,
}

/// Answer to a request, with helpers to read it.
#[derive(Debug)]
pub(crate) struct Reply(essaim_api::Reply);

impl Deref for Reply {
    type Target = essaim_api::Reply;

    fn deref(&self) -> &essaim_api::Reply {
        &self.0
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {:?}", self.body))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(&name.to_ascii_lowercase()).map_or("", String::as_str)
    }
}

impl Client {
    /// A client of this node, on a machine with this host name.
    pub(crate) fn on(hostname: &str, node: &Handle) -> Self {
        let host = Host::read(hostname.into(), "/data".into(), "process".into());
        Self { direct: Direct::of(node.clone(), host) }
    }

    /// A client of this node, on a machine with this host name and this Docker Engine.
    pub(crate) fn beside(hostname: &str, node: &Handle, engine: EngineInside) -> Self {
        let host = Host::read(hostname.into(), "/data".into(), "docker".into());
        Self { direct: Direct::beside(node.clone(), host, engine) }
    }

    /// Sends a request whose answer is read piece by piece.
    pub(crate) async fn begin(&self, method: &str, path: &str) -> StreamedReply {
        self.direct.begin(method, path, None).await.expect("an answer begins")
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let path = path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let bytes = body.map(|body| serde_json::to_vec(body).expect("JSON"));
        Reply(self.direct.ask(method, &path, bytes).await.expect("a whole answer"))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body)).await
    }
}
