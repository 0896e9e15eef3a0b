//! A cluster that is a state in memory: writes are applied at once, by the same `apply` as everywhere.

use essaim_api::{
    Cluster, EventBatches, Face, Happened, Host, JournalLines, JournalQuery, LocalState, LogLine, LogLines, LogsQuery,
    Rotate, Standing, router,
};
use essaim_docker::Time;
use essaim_docker::convert::swarm::{Init, Join};
use essaim_docker::own::{JournalLine, Members, Trees};
use essaim_docker::swarm::JoinTokens;
use essaim_model::service::support;
use essaim_model::{
    Authority, Change, Cluster as Record, ClusterSpec, EngineKind, Event, Founding, JoinSecrets, ManagerStatus, Meta,
    Node, NodeSpec, Outcome, Position, Proposal, Refusal, RefusalKind, ServiceId, ServiceSpec, State, Task,
};
use essaim_wire::{ClusterId, Generation, Index, Level, Lineage, NodeId, RequestId, Role, Term, Timestamp};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_201_044_000_000);

/// This node, in tests that bring no id of their own.
pub(crate) const SELF: NodeId = NodeId::from_bits(1);

pub(crate) struct Fake {
    inner: Mutex<Inner>,
    happened: watch::Sender<usize>,
}

struct Inner {
    state: State,
    standing: Standing,
    leader: Option<NodeId>,
    events: Vec<Arc<[Event]>>,
    drawn: u128,
    refuse: Option<Refusal>,
    lines: Vec<LogLine>,
    asked: Vec<String>,
    joins_as: NodeId,
}

impl Fake {
    /// A daemon outside of any cluster.
    pub(crate) fn alone() -> Arc<Self> {
        let standing =
            Standing { state: LocalState::Inactive, node: None, role: None, addr: String::new(), managers: Vec::new() };
        let inner = Inner {
            state: State::default(),
            standing,
            leader: None,
            events: Vec::new(),
            drawn: 1 << 100,
            refuse: None,
            lines: Vec::new(),
            asked: Vec::new(),
            joins_as: SELF,
        };
        Arc::new(Self { inner: Mutex::new(inner), happened: watch::Sender::new(0) })
    }

    /// The first manager of a cluster of its own.
    pub(crate) fn manager() -> Arc<Self> {
        let fake = Self::alone();
        fake.found(manager(SELF, "node1"), ClusterSpec::default());
        fake
    }

    /// Makes this node a part of a cluster that it founds.
    pub(crate) fn found(&self, node: Node, spec: ClusterSpec) {
        let id = node.id;
        let addr = node.addr.map(|addr| addr.ip().to_string()).unwrap_or_default();
        let managers = vec![(id, node.addr.map(|addr| addr.to_string()).unwrap_or_default())];
        let cluster = Record {
            id: ClusterId::from_bits(77),
            lineage: Lineage { ordinal: 1, nonce: 1 },
            meta: Meta::default(),
            spec,
            authority: Authority { certificate: "no PEM".into(), key: String::new(), rotations: 0 },
            join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
            default_engine: EngineKind::Process,
            level: Level::NEWEST,
            issued_until: Default::default(),
        };
        self.change(Change::Found(Box::new(Founding { cluster, node })));
        let mut inner = self.inner();
        inner.leader = Some(id);
        inner.standing =
            Standing { state: LocalState::Active, node: Some(id), role: Some(Role::Manager), addr, managers };
    }

    pub(crate) fn stand(&self, state: LocalState, role: Option<Role>) {
        let mut inner = self.inner();
        inner.standing.state = state;
        inner.standing.role = role;
    }

    /// Which node this daemon is, or becomes when it joins.
    pub(crate) fn be(&self, node: NodeId) {
        let mut inner = self.inner();
        inner.joins_as = node;
        if inner.standing.node.is_some() {
            inner.standing.node = Some(node);
        }
    }

    /// Who leads.
    pub(crate) fn lead(&self, node: NodeId) {
        self.inner().leader = Some(node);
    }

    /// Every read and write is refused from now on.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.inner().refuse = Some(refusal);
    }

    /// What tasks have written.
    pub(crate) fn wrote(&self, lines: Vec<LogLine>) {
        self.inner().lines = lines;
    }

    /// What was asked of the node itself, in words.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner().asked.clone()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Makes one change that must be possible.
    pub(crate) fn change(&self, change: Change) -> Index {
        self.propose(vec![change]).expect("the test's own change is possible")
    }

    pub(crate) fn propose(&self, changes: Vec<Change>) -> Result<Index, Refusal> {
        let mut inner = self.inner();
        if let Some(refusal) = &inner.refuse {
            return Err(refusal.clone());
        }
        let index = Index(inner.state.applied().index.0 + 1);
        let request = RequestId { origin: NodeId::from_bits(u128::MAX), generation: Generation(1), seq: index.0 };
        let proposal = Proposal { request, at: NOW, fence: None, changes };
        let (outcome, events) = inner.state.apply(Position { term: Term(1), index }, &proposal);
        inner.events.push(events.into());
        self.happened.send_replace(inner.events.len());
        match outcome {
            Outcome::Done(index) => Ok(index),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn note(&self, text: String) {
        self.inner().asked.push(text);
    }
}

/// A ready manager.
pub(crate) fn manager(id: NodeId, hostname: &str) -> Node {
    let mut node = worker(id, hostname);
    (node.role, node.spec.role) = (Role::Manager, Role::Manager);
    node.manager = Some(ManagerStatus { raft_id: 1, voter: true });
    node
}

/// A ready worker.
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

fn at_once<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    ready(value).boxed()
}

impl Cluster for Fake {
    fn standing(&self) -> Standing {
        self.inner().standing.clone()
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn draw(&self) -> u128 {
        let mut inner = self.inner();
        inner.drawn += 1;
        inner.drawn
    }

    fn init(&self, asked: Init) -> BoxFuture<'_, Result<NodeId, Refusal>> {
        self.note(format!("init {:?} {:?} {}", asked.listen, asked.advertise, asked.force_new_cluster));
        self.found(manager(SELF, "node1"), asked.spec);
        at_once(Ok(SELF))
    }

    /// The real tokens are transport's; what is refused here stands for its refusals.
    fn join(&self, asked: Join) -> BoxFuture<'_, Result<(), Refusal>> {
        self.note(format!("join {:?}", asked.remotes));
        let refused = match asked.token.as_str() {
            "nonsense" => Some(Refusal::new(RefusalKind::Denied, "invalid join token")),
            "rotated" => {
                Some(Refusal::new(RefusalKind::Denied, "A valid join token is necessary to join this cluster"))
            }
            _ => None,
        };
        if refused.is_none() {
            let mut inner = self.inner();
            inner.standing.state = LocalState::Active;
            inner.standing.node = Some(inner.joins_as);
            inner.standing.role = Some(Role::Worker);
        }
        at_once(refused.map_or(Ok(()), Err))
    }

    fn leave(&self, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        self.note(format!("leave {force}"));
        self.stand(LocalState::Inactive, None);
        at_once(Ok(()))
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Refusal>> {
        let inner = self.inner();
        at_once(match &inner.refuse {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Arc::new(inner.state.clone())),
        })
    }

    fn last_known(&self) -> Option<Arc<State>> {
        Some(Arc::new(self.state()))
    }

    fn leader(&self) -> Option<NodeId> {
        self.inner().leader
    }

    fn join_tokens(&self, state: &State) -> JoinTokens {
        let secrets = state.cluster().expect("asked with a cluster only").join;
        let token = |secret: [u8; 16]| format!("SWMTKN-1-x-{:025}", secret[0]);
        JoinTokens { worker: token(secrets.worker), manager: token(secrets.manager) }
    }

    fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> BoxFuture<'_, Result<(), Refusal>> {
        let mut changes = vec![Change::SetCluster { expect, spec }];
        for (role, wanted) in [(Role::Worker, rotate.worker), (Role::Manager, rotate.manager)] {
            if wanted {
                changes.push(Change::RotateJoinSecret { role, secret: [9; 16] });
            }
        }
        at_once(self.propose(changes).map(|_| ()))
    }

    fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        at_once(self.propose(vec![Change::SetNode { id, expect, spec }]).map(|_| ()))
    }

    fn remove_node(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        at_once(self.propose(vec![Change::RemoveNode { id, until: NOW, force }]).map(|_| ()))
    }

    fn create_service(&self, spec: ServiceSpec) -> BoxFuture<'_, Result<ServiceId, Refusal>> {
        if let Some(refusal) = support::refusal(&spec, EngineKind::Process) {
            return at_once(Err(refusal));
        }
        let id = ServiceId::from_bits(self.draw());
        at_once(self.propose(vec![Change::CreateService { id, spec: Box::new(spec) }]).map(|_| id))
    }

    fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        if let Some(refusal) = support::refusal(&spec, EngineKind::Process) {
            return at_once(Err(refusal));
        }
        at_once(self.propose(vec![Change::UpdateService { id, expect, spec: Some(Box::new(spec)) }]).map(|_| ()))
    }

    fn rollback_service(&self, id: ServiceId, expect: Index) -> BoxFuture<'_, Result<(), Refusal>> {
        at_once(self.propose(vec![Change::UpdateService { id, expect, spec: None }]).map(|_| ()))
    }

    fn remove_service(&self, id: ServiceId) -> BoxFuture<'_, Result<(), Refusal>> {
        at_once(self.propose(vec![Change::RemoveService { id }]).map(|_| ()))
    }

    fn logs(&self, tasks: Vec<Arc<Task>>, query: LogsQuery) -> Result<LogLines, Refusal> {
        let wanted = |line: &&LogLine| {
            tasks.iter().any(|task| task.id == line.task) && query.since.is_none_or(|since| line.at > since)
        };
        let lines: Vec<_> = self.inner().lines.iter().filter(wanted).cloned().collect();
        let keep = query.tail.map_or(lines.len(), |tail| tail as usize).min(lines.len());
        let last = lines[lines.len() - keep..].to_vec();
        Ok(stream::iter([last]).boxed())
    }

    fn events(&self, replay: bool) -> Result<Box<dyn EventBatches>, Refusal> {
        let events = self.happened.subscribe();
        let next = if replay { 0 } else { *events.borrow() };
        let all = self.inner().events.clone();
        Ok(Box::new(Batches { all, next, closed: true }))
    }

    fn trees(&self) -> BoxFuture<'_, Trees> {
        at_once(Trees { nodes: Vec::new() })
    }

    fn journal(&self, query: JournalQuery) -> BoxFuture<'_, Result<JournalLines, Refusal>> {
        let line = JournalLine {
            node: SELF.to_string(),
            name: query.node.unwrap_or_else(|| "node1".into()),
            seq: 1,
            at: Time::from(NOW),
            kind: "started".into(),
            path: "/node1/api".into(),
            reason: String::new(),
            cause: None,
            error: String::new(),
        };
        at_once(Ok(stream::iter([vec![line]]).boxed()))
    }

    fn members(&self) -> BoxFuture<'_, Result<Members, Refusal>> {
        at_once(Ok(Members { node: SELF.to_string(), name: "node1".into(), isolated: false, members: Vec::new() }))
    }

    fn kill_actor(&self, path: String) -> BoxFuture<'_, Result<(), Refusal>> {
        at_once(match path.as_str() {
            "/node1/worker/uplink" => Ok(()),
            other => Err(Refusal::new(RefusalKind::NotFound, format!("no actor at {other}"))),
        })
    }
}

/// What happened so far, and then the end.
struct Batches {
    all: Vec<Arc<[Event]>>,
    next: usize,
    closed: bool,
}

impl EventBatches for Batches {
    fn next(&mut self) -> BoxFuture<'_, Option<Happened>> {
        let batch = self.all.get(self.next).cloned().map(|events| Happened { events, replayed: true });
        self.next += 1;
        if batch.is_none() && !self.closed {
            return futures::future::pending().boxed();
        }
        at_once(batch)
    }
}

/// A client without a socket.
pub(crate) struct Client {
    service: TowerToHyperService<axum::Router>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: bytes::Bytes,
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
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Client {
    pub(crate) fn of(fake: &Arc<Fake>) -> Self {
        Self::on("node1", fake)
    }

    /// Of a daemon on a machine of this name.
    pub(crate) fn on(hostname: &str, fake: &Arc<Fake>) -> Self {
        let host = Host::read(hostname.into(), "/data".into(), "process".into());
        let cluster: Arc<dyn Cluster> = Arc::<Fake>::clone(fake);
        Self { service: TowerToHyperService::new(router(Face::new(cluster, host))) }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let path = path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let bytes = body.map(|body| serde_json::to_vec(body).expect("JSON")).unwrap_or_default();
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", if body.is_some() { "application/json" } else { "" })
            .body(axum::body::Body::from(bytes))
            .expect("a request");
        let response = self.service.call(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body)).await
    }
}
