//! A fixture of machines on a simulated network: the first one leads, the others are in its roster.

use super::{founding, node};
use crate::ballots::BallotBox;
use crate::feed::Feed;
use crate::{ManagerArguments, leader};
use essaim_model::{Change, Desired, NodeSpec, Observed, ServiceId, ServiceSpec, State, Task, TaskState};
use essaim_presence::endpoint::{Endpoint, Keep, Settings};
use essaim_presence::roster::RosterHandle;
use essaim_store::{LogBounds, Peers, Pipe, Start, Store, StoreConfig};
use essaim_system::Scope;
use essaim_system::env::{Env, Seed, SimDisk, VirtualClock};
use essaim_system::journal::RecordKind;
use essaim_system::supervisor::{Supervision, Supervisor, SupervisorArgs, SupervisorMsg};
use essaim_transport::sim::SimNetwork;
use essaim_transport::{Authority, Grant, Identity, Key, Lane, LaneStream, PeerInfo, Serial, Serve, SigningRequest};
use essaim_wire::{Build, ClusterId, Generation, Index, Level, Lineage, NodeId, Reachability, Role, Timestamp};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(super) const LINEAGE: Lineage = Lineage { ordinal: 1, nonce: 5 };
const CLUSTER: ClusterId = ClusterId::from_bits(9);
const UTC_START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

pub(super) fn id(number: u8) -> NodeId {
    NodeId::from_bits(number.into())
}

pub(super) fn ip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

pub(super) fn addr(number: u8) -> SocketAddr {
    (ip(number), 2377).into()
}

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn key_digest(number: u8) -> [u8; 32] {
    SigningRequest::create(&key(number)).key_digest().expect("it is signed by its own key")
}

/// The machines of a test, with their network, clock and root of trust, and the store of the leader.
pub(super) struct Bed {
    pub(super) network: SimNetwork,
    clock: Arc<VirtualClock>,
    pub(super) root: Authority,
    pub(super) leader: Machine,
    pub(super) store: Store,
    pub(super) others: Vec<Machine>,
    /// Machines whose workers carry out their orders.
    at_work: Arc<Mutex<BTreeSet<NodeId>>>,
    /// Ballots of all machines, which links would bring in production.
    ballots: BallotBox,
}

/// One machine of the bed: its port, its roster, its disk and its supervisor.
pub(super) struct Machine {
    pub(super) number: u8,
    pub(super) scope: Scope,
    pub(super) endpoint: Endpoint,
    pub(super) roster: RosterHandle,
    pub(super) disk: SimDisk,
    tree: ActorRef<SupervisorMsg>,
}

impl Bed {
    /// Makes a bed with the leader 1 and workers up to `nodes`, all present in the leader's roster, without the
    /// leader's tree.
    pub(super) async fn of(nodes: u8) -> Self {
        let network = SimNetwork::new(1);
        let clock = Arc::new(VirtualClock::new(UTC_START));
        let serial = Serial { granted: Index(0), nonce: 1 };
        let root = Authority::create(CLUSTER, Key::from_seed([99; 32]), serial, UTC_START);
        let leader = machine(&network, &clock, &root, 1, Role::Manager).await;
        let store = open(&leader, Start::Found { lineage: LINEAGE }).await;
        let mut leadership = store.leadership();
        leadership.wait_for(|it| it.active().is_some()).await.expect("the only manager leads");
        let mut founding = founding(root.certificate().to_pem(), root.key().to_pem());
        founding.node.addr = Some(addr(1));
        founding.node.key_digest = key_digest(1);
        store.change(vec![Change::Found(Box::new(founding))], None).await.expect("founded");
        let mut bed = Self {
            network,
            clock,
            root,
            leader,
            store,
            others: Vec::new(),
            at_work: Arc::default(),
            ballots: BallotBox::new(),
        };
        for number in 2..=nodes {
            let worker = machine(&bed.network, &bed.clock, &bed.root, number, Role::Worker).await;
            worker.roster.learn(vec![bed.leader.roster.current().me]);
            bed.others.push(worker);
            let record =
                essaim_model::Node { addr: Some(addr(number)), key_digest: key_digest(number), ..node(number.into()) };
            bed.store.change(vec![Change::AcceptNode(Box::new(record))], None).await.expect("accepted");
        }
        bed.wait("everybody is heard of", |bed| {
            let roster = bed.leader.roster.current();
            (2..=nodes).all(|number| roster.is_present(id(number)))
        })
        .await;
        bed
    }

    /// Makes a bed with the leader's tree, and with workers that carry out their orders.
    pub(super) async fn led(nodes: u8) -> Self {
        let bed = Self::of(nodes).await;
        bed.lead().await;
        bed.at_work.lock().extend((1..=nodes).map(id));
        tokio::spawn(work(bed.store.clone(), Arc::clone(&bed.at_work)));
        let rosters = bed.others.iter().map(|machine| machine.roster.clone()).chain([bed.leader.roster.clone()]);
        tokio::spawn(vote(bed.ballots.clone(), rosters.collect(), Arc::clone(&bed.at_work)));
        bed
    }

    /// Starts the leader's tree.
    pub(super) async fn lead(&self) {
        let mut leadership = self.store.leadership();
        // The guard must not outlive the statement, because the store writes through it.
        let active = leadership.wait_for(|it| it.active().is_some()).await.map(|it| it.active());
        let term = active.expect("the store is open").expect("waited for");
        let arguments = ManagerArguments {
            scope: self.leader.scope.clone(),
            store: self.store.clone(),
            endpoint: self.leader.endpoint.clone(),
            roster: self.leader.roster.clone(),
        };
        let feed = Feed::open(&self.store);
        tokio::spawn(feed.clone().pump());
        let spec = leader::spec(&arguments, &self.ballots, &feed, term);
        self.leader.tree.cast(SupervisorMsg::Add(spec)).expect("it runs");
        self.wait("the tree stands", |bed| bed.runs("leader/reaper")).await;
    }

    /// The supervisor of the first machine.
    pub(super) const fn tree(&self) -> &ActorRef<SupervisorMsg> {
        &self.leader.tree
    }

    /// Stops the leader's tree.
    pub(super) async fn depose(&self) {
        self.leader.tree.cast(SupervisorMsg::Remove(leader::NAME.into())).expect("it runs");
        self.wait("the tree is gone", |bed| !bed.runs("leader")).await;
    }

    /// Whether an actor with this path is in the tree of the first machine.
    pub(super) fn runs(&self, path: &str) -> bool {
        let whole = format!("/n1/{path}");
        self.leader.scope.journal.tree().iter().any(|entry| entry.path.to_string() == whole)
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.store.state()
    }

    /// Waits until `is_so` holds; panics after a minute.
    pub(super) async fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let tasks: Vec<_> = self.state().tasks().map(|task| format!("{task:?}")).collect();
        panic!("never: {what}\n{}\n{}", tasks.join("\n"), self.records().join("\n"));
    }

    /// The journal of the first machine, one line per record, without records of sessions.
    pub(super) fn records(&self) -> Vec<String> {
        let page = self.leader.scope.journal.read(0, 10_000).expect("nothing is forgotten");
        let lines = page.records.iter().filter(|record| record.kind != RecordKind::Session);
        lines.map(|record| format!("{} {} {}", record.kind, record.path, record.reason)).collect()
    }

    pub(super) async fn create(&self, name: &str, replicas: u32, edit: impl FnOnce(&mut ServiceSpec)) -> ServiceId {
        let service = ServiceId::from_bits(self.leader.scope.env.seed.draw_id());
        let mut spec = super::spec(name, replicas);
        edit(&mut spec);
        let change = Change::CreateService { id: service, spec: Box::new(spec) };
        self.store.change(vec![change], None).await.expect("created");
        service
    }

    pub(super) async fn update(&self, service: ServiceId, edit: impl FnOnce(&mut ServiceSpec)) {
        let old = Arc::clone(self.state().service(service).expect("there"));
        let mut spec = old.spec.clone();
        edit(&mut spec);
        let change = Change::UpdateService { id: service, expect: old.meta.version, spec: Some(Box::new(spec)) };
        self.store.change(vec![change], None).await.expect("updated");
    }

    pub(super) async fn set_node(&self, number: u8, edit: impl FnOnce(&mut NodeSpec)) {
        let old = Arc::clone(self.state().node(id(number)).expect("there"));
        let mut spec = old.spec.clone();
        edit(&mut spec);
        let change = Change::SetNode { id: id(number), expect: old.meta.version, spec };
        self.store.change(vec![change], None).await.expect("set");
    }

    /// The tasks of a service that run and are wanted.
    pub(super) fn running(&self, service: ServiceId) -> Vec<Arc<Task>> {
        let state = self.state();
        state.tasks_of(service).filter(|task| task.is_running() && task.is_wanted()).cloned().collect()
    }

    /// The nodes of the wanted tasks of a service: sorted, and once per task.
    pub(super) fn nodes_of(&self, service: ServiceId) -> Vec<u128> {
        let state = self.state();
        let wanted = state.tasks_of(service).filter(|task| task.is_wanted());
        let mut nodes: Vec<u128> = wanted.filter_map(|task| task.node()).map(NodeId::bits).collect();
        nodes.sort_unstable();
        nodes
    }

    pub(super) fn reachability(&self, number: u8) -> Reachability {
        self.state().node(id(number)).expect("there").reachability
    }

    /// Cuts a machine off the network; its worker reports nothing until `mend`.
    pub(super) fn cut(&self, number: u8) {
        self.at_work.lock().remove(&id(number));
        self.network.isolate(ip(number));
    }

    pub(super) fn mend(&self, number: u8) {
        self.network.heal_host(ip(number));
        self.at_work.lock().insert(id(number));
    }

    /// The environment of a machine that is not in the cluster yet.
    pub(super) fn stranger(&self, number: u8) -> Env {
        env(&self.network, &self.clock, SimDisk::new(), number)
    }
}

/// Gives the leader the ballot of each machine whose link stands, every twenty milliseconds, and ends the others.
async fn vote(ballots: BallotBox, rosters: Vec<RosterHandle>, linked: Arc<Mutex<BTreeSet<NodeId>>>) {
    let source = ballots.source(true);
    loop {
        for roster in &rosters {
            let roster = roster.current();
            if linked.lock().contains(&roster.me.node) {
                ballots.set(source, roster.me.node, &roster.ballot);
            } else {
                ballots.end(source, roster.me.node);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn env(network: &SimNetwork, clock: &Arc<VirtualClock>, disk: SimDisk, number: u8) -> Env {
    Env {
        clock: Arc::clone(clock) as _,
        seed: Seed::from_number(number.into()),
        disk: Arc::new(disk),
        network: network.host(ip(number)),
        build: Build::NEWEST,
    }
}

async fn machine(network: &SimNetwork, clock: &Arc<VirtualClock>, root: &Authority, number: u8, role: Role) -> Machine {
    let disk = SimDisk::new();
    let env = env(network, clock, disk.clone(), number);
    let keep = Keep::new(Arc::clone(&env.disk));
    let key = key(number);
    let grant = Grant {
        cluster: CLUSTER,
        node: id(number),
        role,
        serial: Serial { granted: Index(0), nonce: u64::from(number) + 1 },
        now: UTC_START,
        lifetime: Duration::from_secs(90 * 24 * 3600),
    };
    let certificate = root.sign(&SigningRequest::create(&key), &grant).expect("signed");
    let identity = Identity::new(vec![certificate], key, vec![root.certificate().clone()]).expect("it fits");
    keep.save_identity(&identity).expect("kept");
    let scope = Scope::root(&format!("n{number}"), env.clone());
    let settings = Settings {
        listen: addr(number),
        advertise: addr(number),
        identity,
        generation: Generation(1),
        managers: vec![(id(1), addr(1))],
    };
    let endpoint = Endpoint::open(&env, keep, settings).expect("the port is free");
    let roster = RosterHandle::open(&endpoint, essaim_membership::Config::default());
    let children = vec![endpoint.spec(), roster.spec()];
    let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default(), children };
    let (tree, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    Machine { number, scope, endpoint, roster, disk, tree }
}

/// Opens the store of a machine and serves its lanes, as `node` does.
pub(super) async fn open(machine: &Machine, start: Start) -> Store {
    let env = &machine.scope.env;
    let config = StoreConfig {
        node: machine.endpoint.node(),
        generation: machine.endpoint.generation(),
        addr: Some(addr(machine.number)),
        disk: essaim_system::env::folder(&env.disk, "raft"),
        clock: Arc::clone(&env.clock),
        seed: env.seed.fork(),
        peers: Arc::new(Lanes(machine.endpoint.clone())),
        level: Level::NEWEST,
        log: LogBounds::USUAL,
    };
    let store = Store::open(config, start).await.expect("it opens");
    for lane in Store::LANES {
        machine.endpoint.serve(lane, Arc::new(Served { lane, store: store.clone() }));
    }
    store
}

struct Lanes(Endpoint);

impl Peers for Lanes {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        Box::pin(async move {
            let LaneStream { send, recv, .. } = self.0.lane(node, lane).await.map_err(|why| why.to_string())?;
            Ok(Pipe { send, recv })
        })
    }
}

struct Served {
    lane: Lane,
    store: Store,
}

impl Serve for Served {
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        let LaneStream { send, recv, .. } = stream;
        Box::pin(async move { self.store.serve(self.lane, peer.node, Pipe { send, recv }).await })
    }
}

/// Plays the workers: each carries out its orders, one step every twenty milliseconds.
async fn work(store: Store, at_work: Arc<Mutex<BTreeSet<NodeId>>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let state = store.state();
        let nodes = at_work.lock().clone();
        let changes: Vec<Change> = nodes
            .into_iter()
            .map(|node| (node, reports(&state, node)))
            .filter(|(_, reports)| !reports.is_empty())
            .map(|(node, reports)| Change::Observe { node, reports })
            .collect();
        if !changes.is_empty() && store.change(changes, None).await.is_err() {
            return;
        }
    }
}

fn reports(state: &State, node: NodeId) -> Vec<(essaim_model::TaskId, Observed)> {
    let next = |task: &Task| match (task.desired, task.observed.state) {
        (_, state) if state.is_final() => None,
        (Desired::Ready, state) => (state < TaskState::Ready).then_some(TaskState::Ready),
        (Desired::Running, state) => (state < TaskState::Running).then_some(TaskState::Running),
        (Desired::Shutdown | Desired::Remove, _) => Some(TaskState::Shutdown),
    };
    let told = state.tasks_on(node).filter(|task| task.written_off.is_none());
    told.filter_map(|task| Some((task.id, Observed { state: next(task)?, at: state.at(), ..task.observed.clone() })))
        .collect()
}
