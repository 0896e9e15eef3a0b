//! Visitors of a run: they connect, and send datagrams, to published ports of any node, all the time, and read which task
//! has answered.
//!
//! A visit may fail while faults are under way; what must never happen is that it reaches a task which was told to end, or
//! that a task which asks for the addresses of its clients is told another one. After healing, every published port must lead
//! to a task of its service, on every node, and to one of that node where the service prefers those; and a port in host mode
//! to its task, on the node of the task alone.

use crate::testkit::fault::Number;
use crate::testkit::host::Doorsteps;
use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::nodes::{Running, name};
use crate::testkit::specs::TARGET;
use crate::testkit::world::World;
use essaim_model::{
    EngineKind, Health, Mode, PortConfig, PortKey, PortProtocol, PublishMode, Service, State, Task, TaskId,
};
use essaim_worker::sim::SimSockets;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Pause between two visits.
const PAUSE: Duration = Duration::from_millis(70);

/// Time that a visit takes at most: a connection waits five seconds for a backend.
const VISIT_MAX: Duration = Duration::from_secs(8);

/// Time after which a datagram that was not answered is sent again: the network loses some, and so does a task that ends.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Visits under way at most.
const VISITS_MAX: usize = 128;

/// Addresses from which datagrams come to one machine: few, so that their flows last, and have to move when tasks end.
const SENDERS: u16 = 4;

/// First port of the visitors that connect; each comes from another one than those before it.
const CONNECTING: u16 = 1_000;

/// Bytes that a task repeats at most: the header of PROXY protocol has 52.
const REPEATED_MAX: u64 = 256;

/// The answer to a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// The task that has answered.
    task: TaskId,
    /// What the task was sent before anything from the visitor.
    told: Vec<u8>,
}

/// Visits published ports until `stop` is set. Returns how many visits were answered, and how many were not.
pub(crate) async fn visit_all(
    seed: u64,
    running: Running,
    ledger: SharedLedger,
    doorsteps: Doorsteps,
    stop: Arc<AtomicBool>,
) -> (u64, u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7669_7369);
    let (mut visits, mut answered, mut failed, mut connecting) = (JoinSet::new(), 0, 0, CONNECTING);
    let mut count = |visited: Result<Option<(SocketAddr, PortKey, Answer)>, _>| match visited {
        Ok(Some((client, port, answer))) => {
            answered += 1;
            if let Some(why) = newest(&running).and_then(|state| told_wrongly(&state, client, port, &answer)) {
                lock(&ledger).violated(why);
            }
        }
        Ok(None) | Err(_) => failed += 1,
    };
    while !stop.load(Ordering::Relaxed) {
        sleep(PAUSE).await;
        while let Some(visited) = visits.try_join_next() {
            count(visited);
        }
        let state = newest(&running);
        let ports: Vec<PortKey> = state.iter().flat_map(|state| state.ingress().keys().copied()).collect();
        if ports.is_empty() || visits.len() >= VISITS_MAX {
            continue;
        }
        let port = ports[rng.random_range(0..ports.len())];
        let doorstep = doorsteps.iter().nth(rng.random_range(0..doorsteps.len()));
        let from = match port.protocol {
            PortProtocol::Udp => rng.random_range(1..=SENDERS),
            _ => {
                connecting = connecting.checked_add(1).unwrap_or(CONNECTING);
                connecting
            }
        };
        if let Some((number, doorstep)) = doorstep {
            let (client, doorstep) = (visitor(*number, from), doorstep.clone());
            visits.spawn(async move { Some((client, port, visit(&doorstep, port, client).await?)) });
        }
    }
    while let Some(visited) = visits.join_next().await {
        count(visited);
    }
    (answered, failed)
}

/// The state of some manager.
fn newest(running: &Running) -> Option<Arc<State>> {
    running.lock().values().find_map(|handle| Some(handle.control().ok()?.store().state()))
}

/// The address of a visitor of this machine.
fn visitor(number: Number, port: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(198, 18, high, low), port))
}

/// Visits one port of one machine; `None` when no task has answered.
async fn visit(doorstep: &SimSockets, port: PortKey, client: SocketAddr) -> Option<Answer> {
    let bytes = match port.protocol {
        PortProtocol::Udp => timeout(VISIT_MAX, send(doorstep, port.number, client)).await.ok()??,
        _ => timeout(VISIT_MAX, connect(doorstep, port.number, client)).await.ok()??,
    };
    let (id, told) = bytes.split_at_checked(size_of::<u128>())?;
    let task = TaskId::from_bits(u128::from_be_bytes(id.try_into().ok()?));
    Some(Answer { task, told: told.to_vec() })
}

/// Connects, says nothing, and reads what the task says until its end.
async fn connect(doorstep: &SimSockets, port: u16, client: SocketAddr) -> Option<Vec<u8>> {
    let mut stream = doorstep.connect(port, client)?;
    stream.shutdown().await.ok()?;
    let mut bytes = Vec::new();
    stream.take(REPEATED_MAX).read_to_end(&mut bytes).await.ok()?;
    Some(bytes)
}

/// Sends a datagram, again and again, until one is answered.
async fn send(doorstep: &SimSockets, port: u16, client: SocketAddr) -> Option<Vec<u8>> {
    let mut client = doorstep.client(client)?;
    loop {
        client.send(port, b"who is there?");
        if let Ok(answer) = timeout(AGAIN_AFTER, client.recv()).await {
            return Some(answer.to_vec());
        }
    }
}

/// What is wrong with the bytes that came to a task before anything from the visitor: the header of PROXY protocol with the
/// visitor's address, if the task asks for it, and nothing otherwise.
fn told_wrongly(state: &State, client: SocketAddr, port: PortKey, Answer { task, told }: &Answer) -> Option<String> {
    let record = state.task(*task)?;
    let spec = state.spec(record.service, record.spec_version)?;
    let asks = spec.proxied().contains(&TARGET) && port.protocol == PortProtocol::Tcp;
    let expected = asks.then_some(client);
    let named = client_of(told);
    let is_right = named == expected && (asks || told.is_empty());
    (!is_right).then(|| format!("task {task} was told the client {named:?} instead of {expected:?} at port {port}"))
}

/// The address of the client in a header of PROXY protocol, version 2, over version 4 of IP.
fn client_of(header: &[u8]) -> Option<SocketAddr> {
    let rest = header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")?;
    let address = rest.first_chunk::<4>()?;
    let port = rest.get(8..10)?.first_chunk::<2>()?;
    Some(SocketAddr::from((Ipv4Addr::from(*address), u16::from_be_bytes(*port))))
}

/// Checks, some time after healing, that every published port of a service with running tasks leads to one of them, on every
/// node, that ports in host mode lead to their tasks, and that no other port is published.
pub(crate) async fn check(world: &World, state: &State) -> Result<(), String> {
    let of_host = of_host(state)?;
    for (number, doorstep) in world.doorsteps() {
        let id = world.node_id(number).ok_or_else(|| format!("{} has no part in the cluster", name(number)))?;
        let here: BTreeMap<PortKey, &Task> =
            of_host.iter().filter(|((node, _), _)| *node == id).map(|((_, port), task)| (*port, *task)).collect();
        let mut published: BTreeSet<PortKey> = state.ingress().keys().copied().collect();
        if world.machine(number).kind() == EngineKind::Docker {
            let by_engine: Vec<(PortKey, TaskId)> = here.iter().map(|(port, task)| (*port, task.id)).collect();
            let mut found = world.machine(number).published();
            found.sort_unstable();
            if found != by_engine {
                let who = name(number);
                return Err(format!("the engine of {who} publishes in host mode {found:?} instead of {by_engine:?}"));
            }
        } else {
            published.extend(here.keys());
            for (port, task) in &here {
                let answered = visit(&doorstep, *port, visitor(number, CONNECTING)).await.map(|answer| answer.task);
                if answered != Some(task.id) {
                    let who = name(number);
                    return Err(format!("port {port} of {who} leads to {answered:?} instead of task {}", task.id));
                }
            }
        }
        let listening = doorstep.listening();
        if listening != published {
            let numbers = |ports: &BTreeSet<PortKey>| ports.iter().map(PortKey::to_string).collect::<Vec<_>>();
            let (listening, published) = (numbers(&listening), numbers(&published));
            return Err(format!("{} publishes the ports {listening:?} instead of {published:?}", name(number)));
        }
        for (port, leads) in state.ingress() {
            let serves = |task: &Task| is_served_by(task) && publishes(state, task, *port, leads.target);
            let is_served = |service: &&Arc<Service>| {
                rests_with_tasks(service) && state.tasks_of(service.id).any(|task| serves(task))
            };
            let Some(service) = state.service(leads.service).filter(is_served) else { continue };
            // No visitor came from this address before.
            let client = visitor(number, SENDERS + 1);
            let answer = visit(&doorstep, *port, client).await;
            let task = answer.as_ref().and_then(|answer| state.task(answer.task));
            let Some((answer, task)) = answer.as_ref().zip(task).filter(|(_, task)| task.service == service.id) else {
                return Err(format!("port {port} of {} does not lead to its service: {answer:?}", name(number)));
            };
            if let Some(why) = told_wrongly(state, client, *port, answer) {
                return Err(why);
            }
            let mut local = state.tasks_of(service.id).filter(|task| serves(task) && task.node() == Some(id));
            if leads.is_local_first && task.node() != Some(id) && local.next().is_some() {
                let (who, id) = (name(number), task.id);
                return Err(format!("port {port} of {who} leads to task {id} of another node, and has tasks there"));
            }
        }
    }
    Ok(())
}

/// Whether the tasks of a service stay. Those of a job come and go.
fn rests_with_tasks(service: &Service) -> bool {
    !matches!(service.spec.mode, Mode::Replicated { replicas: 0 }) && !service.spec.mode.is_job()
}

/// Whether the spec that a task follows publishes a port. A task of a former spec, whose replacement waits for a node, may not
/// publish what the service does. `target` is where the service leads the port.
fn publishes(state: &State, task: &Task, key: PortKey, target: u16) -> bool {
    let spec = state.spec(task.service, task.spec_version);
    let mut ports = spec.into_iter().flat_map(|spec| spec.ingress());
    ports.any(|port| {
        let is_it = port.published == key.number || port.published == 0 && port.target == target;
        port.protocol == key.protocol && is_it
    })
}

fn is_served_by(task: &Task) -> bool {
    task.is_running() && task.is_wanted() && !matches!(task.observed.health, Some(Health::Starting | Health::Unhealthy))
}

/// The ports in host mode that running tasks publish, by node. `Err` when a number is not shown, or two tasks of a node have
/// the same one.
fn of_host(state: &State) -> Result<BTreeMap<(essaim_wire::NodeId, PortKey), &Task>, String> {
    let mut all = BTreeMap::new();
    for task in state.tasks().filter(|task| task.is_running()) {
        let spec = state.spec(task.service, task.spec_version);
        let ports = spec.and_then(|spec| spec.endpoint.as_ref()).map(|endpoint| &endpoint.ports);
        for port in ports.into_iter().flatten().filter(|port| port.mode == PublishMode::Host) {
            let number = shown(task, port);
            let (Some(number), Some(node)) = (number, task.node()) else {
                let (id, port) = (task.id, port.target);
                return Err(format!("task {id} does not show under which number its port {port} is published"));
            };
            let key = PortKey { protocol: port.protocol, number };
            if let Some(other) = all.insert((node, key), &**task) {
                return Err(format!("tasks {} and {} of one node both publish port {key}", other.id, task.id));
            }
        }
    }
    Ok(all)
}

/// The number under which a task's port in host mode is published, as an operator sees it.
fn shown(task: &Task, port: &PortConfig) -> Option<u16> {
    let number = match port.published {
        0 => {
            let is_it = |it: &&essaim_model::HostPort| (it.protocol, it.target) == (port.protocol, port.target);
            task.observed.ports.iter().find(is_it)?.published
        }
        number => number,
    };
    Some(number).filter(|number| *number != 0)
}
