//! The operator of a story does what the story says: one thing after the other, through any manager that answers, until
//! it is done.
//!
//! Without a quorum no manager answers, so each thing is tried again for as long as it takes; a run is not at rest
//! before its operator is. The [client](crate::testkit::client) of a run works differently: it draws its requests,
//! accepts refusals, and remembers the answers. The two do not know of each other, so a story that gives the operator
//! work lets the client rest.

use crate::testkit::fault::Number;
use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::nodes::{Ids, Running, name, place};
use crate::testkit::trace::Trace;
use essaim_manager::Control;
use essaim_model::{Availability, NodeSpec, Refusal, RefusalKind, State};
use essaim_node::{Handle, JoinRequest, Standing};
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{NodeId, Role};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Wait before a failed act is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Ready managers that must remain when one leaves, so that the group can agree and one of them may fail.
const OTHER_MANAGERS_MIN: usize = 2;

/// Acts that may wait: a story has a dozen.
const ACTS_MAX: usize = 1_000;

/// One act of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Set a node's availability.
    Available(Number, Availability),
    /// Set a node's role.
    Role(Number, Role),
    /// Have a node leave the cluster in its present role.
    Leave(Number),
    /// Have a node that left join again, in its former role.
    Join(Number),
}

/// Handle that queues acts for the operator. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Operator {
    acts: mpsc::Sender<Act>,
    open: Arc<AtomicUsize>,
}

struct Shared {
    running: Running,
    ids: Ids,
    /// The roles of the nodes that left.
    left: Mutex<BTreeMap<Number, Role>>,
    ledger: SharedLedger,
    trace: Trace,
}

impl Operator {
    /// Starts the operator. Must be called inside the runtime.
    pub(crate) fn start(running: Running, ids: Ids, ledger: SharedLedger, trace: Trace) -> Self {
        let (acts, queue) = mpsc::channel(ACTS_MAX);
        let open = Arc::new(AtomicUsize::new(0));
        let shared = Shared { running, ids, left: Mutex::default(), ledger, trace };
        tokio::spawn(shared.work(queue, Arc::clone(&open)));
        Self { acts, open }
    }

    /// Queues an act after all earlier ones.
    pub(crate) fn ask(&self, act: Act) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.acts.try_send(act).expect("a story asks for fewer things than that");
    }

    /// Whether every queued act is done.
    pub(crate) fn rests(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

impl Shared {
    async fn work(self, mut queue: mpsc::Receiver<Act>, open: Arc<AtomicUsize>) {
        while let Some(act) = queue.recv().await {
            let mut said = String::new();
            while let Err(why) = self.attempt(act).await {
                if why != said {
                    self.trace.note("operator", format_args!("{act:?}: {why}"));
                    said = why;
                }
                sleep(AGAIN).await;
            }
            self.trace.note("operator", format_args!("{act:?}: done"));
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes an act as far as possible; may be called again, and continues from what was done.
    async fn attempt(&self, act: Act) -> Result<(), String> {
        match act {
            Act::Available(number, availability) => {
                self.set(number, |spec| std::mem::replace(&mut spec.availability, availability) != availability).await
            }
            Act::Role(number, role) => self.set(number, |spec| std::mem::replace(&mut spec.role, role) != role).await,
            Act::Leave(number) => self.leave(number).await,
            Act::Join(number) => self.join(number).await,
        }
    }

    async fn set(&self, number: Number, change: impl Fn(&mut NodeSpec) -> bool) -> Result<(), String> {
        let Some(id) = self.id(number) else { return Err(format!("{} is no node", name(number))) };
        let (control, state) = self.manager().await?;
        let node = state.node(id).ok_or_else(|| format!("{} is unknown", name(number)))?;
        let mut spec = node.spec.clone();
        if change(&mut spec) {
            control.update_node(id, node.meta.version, spec).await.map_err(text)?;
        }
        Ok(())
    }

    /// Has a node leave. A manager leaves in its role, unless fewer than two other managers would remain. Its record
    /// stays and says that it left; the record of a node whose departure no manager heard of in time is removed by a
    /// request.
    async fn leave(&self, number: Number) -> Result<(), String> {
        let Some(id) = self.id(number) else { return Ok(()) };
        let handle = self.running(number).ok_or_else(|| format!("{} does not run", name(number)))?;
        if let Standing::Active(_) = handle.standing() {
            let (_, state) = self.manager().await?;
            let role = state.node(id).map_or(Role::Worker, |node| node.spec.role);
            let others = state.managers().filter(|node| node.id != id && node.is_ready()).count();
            if role == Role::Manager && others < OTHER_MANAGERS_MIN {
                return Ok(());
            }
            self.left.lock().insert(number, role);
            lock(&self.ledger).begins_to_leave(id);
            handle.leave(true).await.map_err(text)?;
        }
        // From here on nothing that is said of the former node is about this machine, even if its record cannot be
        // removed yet.
        lock(&self.ledger).part(id);
        let (control, state) = self.manager().await?;
        if state.node(id).is_some_and(|node| !node.has_left()) {
            match control.remove_node(id, true).await {
                Err(refusal) if refusal.kind != RefusalKind::NotFound => return Err(text(refusal)),
                _ => (),
            }
        }
        self.lock_ids().remove(&number);
        Ok(())
    }

    async fn join(&self, number: Number) -> Result<(), String> {
        let handle = self.running(number).ok_or_else(|| format!("{} does not run", name(number)))?;
        if let Standing::Inactive = handle.standing() {
            let (_, state) = self.manager().await?;
            let role = self.left.lock().get(&number).copied().unwrap_or(Role::Worker);
            let others = self.handles().into_iter().map(|(other, _)| other).filter(|other| *other != number);
            let join = JoinRequest {
                listen: place(number),
                advertise: place(number),
                token: token_of(&state, role).ok_or("the cluster has no token")?,
                remotes: others.map(place).collect(),
                ..JoinRequest::default()
            };
            handle.join(join).await.map_err(text)?;
        }
        let part = handle.standing().membership().map(|part| part.node);
        let id = part.ok_or_else(|| format!("{} has no part in the cluster", name(number)))?;
        self.lock_ids().insert(number, id);
        lock(&self.ledger).meet(id, number);
        Ok(())
    }

    /// The first manager that answers, and the state that it read.
    async fn manager(&self) -> Result<(Control, Arc<State>), String> {
        let mut why = "no manager runs".to_owned();
        for (_, handle) in self.handles() {
            let Ok(control) = handle.control() else { continue };
            match control.read().await {
                Ok(state) => return Ok((control, state)),
                Err(refusal) => why = text(refusal),
            }
        }
        Err(why)
    }

    fn handles(&self) -> Vec<(Number, Handle)> {
        let running = self.running.lock();
        running.iter().map(|(number, handle)| (*number, handle.clone())).collect()
    }

    fn running(&self, number: Number) -> Option<Handle> {
        self.running.lock().get(&number).cloned()
    }

    fn id(&self, number: Number) -> Option<NodeId> {
        self.lock_ids().get(&number).copied()
    }

    fn lock_ids(&self) -> parking_lot::MutexGuard<'_, BTreeMap<Number, NodeId>> {
        self.ids.lock()
    }
}

/// The join token of workers.
pub(crate) fn token(state: &State) -> Option<String> {
    token_of(state, Role::Worker)
}

/// The join token of nodes with this role.
fn token_of(state: &State, role: Role) -> Option<String> {
    let cluster = state.cluster()?;
    let roots = Certificate::from_pem(&cluster.authority.certificate).ok()?;
    Some(JoinToken::new(roots.first()?, TokenSecret::from_bytes(*cluster.join.of(role))).to_string())
}

fn text(refusal: Refusal) -> String {
    refusal.text
}
