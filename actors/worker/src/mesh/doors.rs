//! The doors of this node's tasks: the only way for a connection to a published port to reach a task.
//!
//! A task's actor opens the door when the task is watched, and closes it before the task is told to end. Shared by task
//! actors and connections, and owned by neither.

use super::{Ends, proxy};
use crate::engine::{Duplex, Engine, EngineError, Interactive, Packets};
use essaim_model::service::ports::target_of;
use essaim_model::{HostPort, PortConfig, PortKey, PublishMode, ServiceId, TaskId};
use essaim_wire::planted::{Bug, planted};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

/// What a task publishes, by the spec that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) service: ServiceId,
    /// Ports in ingress mode, and those in host mode that the engine does not publish itself.
    pub(crate) ports: Arc<[PortConfig]>,
    /// Ports inside the task, each of whose connections begins with the header of PROXY protocol.
    pub(crate) proxied: BTreeSet<u16>,
}

/// Handle on the doors; clones share them.
#[derive(Clone)]
pub(crate) struct Doors {
    doors: Arc<Mutex<BTreeMap<TaskId, Door>>>,
    /// Ports in host mode that were chosen for tasks whose doors may not be open yet.
    kept: Arc<Mutex<BTreeMap<PortKey, TaskId>>>,
    /// Counter that rises when a door with a port in host mode opens or goes.
    changed: watch::Sender<u64>,
}

impl Default for Doors {
    fn default() -> Self {
        Self { doors: Arc::default(), kept: Arc::default(), changed: watch::Sender::new(0) }
    }
}

struct Door {
    published: Published,
    engine: Arc<dyn Engine>,
    gate: Arc<Gate>,
}

/// What a door shares with those who are inside.
struct Gate {
    is_open: watch::Sender<bool>,
    /// Number of connections inside. Only the last one to leave is told to those who watch.
    inside: watch::Sender<usize>,
}

/// The engine of a task and the port inside it, behind an open door.
pub(super) struct Entered {
    engine: Arc<dyn Engine>,
    task: TaskId,
    port: u16,
    is_proxied: bool,
}

/// The stay of a connection, or of a flow of datagrams, behind a door; dropping it ends the stay.
pub(super) struct Stay(Arc<Gate>);

impl Doors {
    /// Opens the door of a task that was started.
    pub(crate) fn open(&self, task: TaskId, published: Published, engine: Arc<dyn Engine>) {
        let mut doors = self.doors.lock();
        // A task's actor that was restarted finds its door, with the connections that are inside.
        let kept = doors.remove(&task).map(|door| door.gate);
        let fresh = || Arc::new(Gate { is_open: watch::Sender::new(true), inside: watch::Sender::new(0) });
        let gate = kept.unwrap_or_else(fresh);
        gate.is_open.send_replace(true);
        let is_of_host = published.of_host().next().is_some();
        doors.insert(task, Door { published, engine, gate });
        drop(doors);
        if is_of_host {
            self.touch();
        }
    }

    /// Closes the door of a task: from now on no connection comes in. Returns a future that ends when none is inside.
    pub(crate) fn close(&self, task: TaskId) -> impl Future<Output = ()> + Send + 'static {
        let inside = self.doors.lock().get(&task).map(|door| {
            door.gate.is_open.send_replace(planted(Bug::DoorStaysOpen));
            door.gate.inside.subscribe()
        });
        async move {
            if let Some(mut inside) = inside {
                // It fails when the door is gone and nobody is inside.
                let _ = inside.wait_for(|inside| *inside == 0).await;
            }
        }
    }

    /// Keeps a port in host mode for a task. Returns whether no other task has it.
    pub(super) fn keep(&self, task: TaskId, key: PortKey) -> bool {
        let is_open = self.of_host().contains(&key);
        let mut kept = self.kept.lock();
        let is_free = !is_open && !kept.contains_key(&key);
        if is_free {
            kept.insert(key, task);
        }
        is_free
    }

    /// Forgets the door of a task that has ended, and the ports that were chosen for it.
    pub(crate) fn remove(&self, task: TaskId) {
        self.kept.lock().retain(|_, of| *of != task);
        let gone = self.doors.lock().remove(&task);
        if let Some(door) = &gone {
            // The connections have ended with the task, whether or not they have noticed.
            door.gate.is_open.send_replace(false);
            door.gate.inside.send_replace(0);
        }
        if gone.is_some_and(|door| door.published.of_host().next().is_some()) {
            self.touch();
        }
    }

    /// The ports in host mode that tasks of this node publish.
    pub(super) fn of_host(&self) -> Vec<PortKey> {
        let doors = self.doors.lock();
        doors.values().flat_map(|door| door.published.of_host().map(|(key, _)| key)).collect()
    }

    /// Watches for changes of [`of_host`](Self::of_host).
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Lets a connection to a port in host mode in. Two tasks have the same port while one replaces the other.
    pub(super) fn enter_of_host(&self, key: PortKey) -> Option<(Entered, Stay)> {
        let doors = self.doors.lock();
        let open = doors.iter().filter(|(_, door)| *door.gate.is_open.borrow());
        let mut ways = open.flat_map(|(task, door)| door.published.of_host().map(move |port| (*task, door, port)));
        let (task, door, (_, port)) = ways.find(|(_, _, (of, _))| *of == key)?;
        Some(Self::step_in(task, door, port))
    }

    fn step_in(task: TaskId, door: &Door, port: u16) -> (Entered, Stay) {
        door.gate.inside.send_if_modified(|inside| {
            *inside += 1;
            false
        });
        let is_proxied = door.published.proxied.contains(&port);
        let entered = Entered { engine: Arc::clone(&door.engine), task, port, is_proxied };
        (entered, Stay(Arc::clone(&door.gate)))
    }

    fn touch(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Lets a connection to a published port of a task in. `target` is where the service's spec in force leads the port.
    pub(super) fn enter(
        &self,
        service: ServiceId,
        task: TaskId,
        key: PortKey,
        target: u16,
    ) -> Result<(Entered, Stay), &'static str> {
        let doors = self.doors.lock();
        let door = doors.get(&task).ok_or("the task does not run on this node")?;
        if door.published.service != service {
            return Err("the task belongs to another service");
        }
        if !*door.gate.is_open.borrow() {
            return Err("the task is about to end");
        }
        let port = target_of(&door.published.ports, key, target).ok_or("the task does not publish the port")?;
        Ok(Self::step_in(task, door, port))
    }
}

impl Published {
    /// The same ports, those in host mode for which the service names no number with the numbers that `chosen` has for them.
    pub(crate) fn numbered(self, chosen: &[HostPort]) -> Self {
        let (mut chosen, mut ports) = (chosen.to_vec(), self.ports.to_vec());
        for port in ports.iter_mut().filter(|port| port.mode == PublishMode::Host) {
            // Two ports may lead to one port of the task.
            let is_it = |it: &HostPort| {
                (it.protocol, it.target) == (port.protocol, port.target) && [0, it.published].contains(&port.published)
            };
            if let Some(at) = chosen.iter().position(is_it) {
                port.published = chosen.remove(at).published;
            }
        }
        Self { ports: ports.into(), ..self }
    }

    /// The ports in host mode, each with the port inside the task.
    fn of_host(&self) -> impl Iterator<Item = (PortKey, u16)> + '_ {
        let of_host = self.ports.iter().filter(|port| port.mode == PublishMode::Host);
        of_host.filter_map(|port| Some((port.key()?, port.target)))
    }
}

impl Entered {
    /// Connects to the task, and tells it the address of the client if it asks for that.
    pub(super) fn dial(&self, ends: Ends) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        async move {
            let mut stream = self.interactive()?.dial(self.task, self.port).await?;
            if self.is_proxied {
                let told = stream.write_all(&proxy::header(ends)).await;
                told.map_err(|why| EngineError::Failed(format!("the connection to the task broke: {why}")))?;
            }
            Ok(stream)
        }
        .boxed()
    }

    /// Makes a socket for datagrams to and from the task.
    pub(super) fn dial_udp(&self, _: Ends) -> BoxFuture<'_, Result<Box<dyn Packets>, EngineError>> {
        match self.interactive() {
            Ok(engine) => engine.dial_udp(self.task, self.port),
            Err(why) => std::future::ready(Err(why)).boxed(),
        }
    }

    fn interactive(&self) -> Result<&dyn Interactive, EngineError> {
        let why = "its engine cannot connect to a port of a task";
        self.engine.interactive().ok_or_else(|| EngineError::Rejected(why.into()))
    }
}

impl Stay {
    /// Waits until the door is closed, because the task is about to end, or gone with the task.
    pub(super) async fn is_to_leave(&self) {
        let _ = self.0.is_open.subscribe().wait_for(|is_open| !is_open).await;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.inside.send_if_modified(|inside| {
            *inside = inside.saturating_sub(1);
            *inside == 0
        });
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doors({})", self.doors.lock().len())
    }
}
