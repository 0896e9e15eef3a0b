//! Interests: which linked nodes have subscribed to the backends of which services, and what changed for each of them.
//!
//! Shared by the manager's actor, which hears of every applied entry, and by the actors of the linked nodes. So a change of
//! a task costs a look at the service's subscribers, and a node's actor looks only at the services that changed.

use essaim_model::{Event, ServiceId, Task};
use essaim_policy::backend;
use essaim_wire::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The services whose backends changed since a node was told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Any service may have changed.
    All,
    /// These services changed.
    Services(BTreeSet<ServiceId>),
}

impl Default for Changed {
    fn default() -> Self {
        Self::Services(BTreeSet::new())
    }
}

impl Changed {
    /// Whether the backends of this service may have changed.
    pub(crate) fn contains(&self, service: ServiceId) -> bool {
        match self {
            Self::All => true,
            Self::Services(services) => services.contains(&service),
        }
    }
}

/// Handle on the interests; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interests {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    subscribers: BTreeMap<ServiceId, BTreeSet<NodeId>>,
    /// What changed for each node that has subscribed to anything. Never more than its subscriptions.
    changed: BTreeMap<NodeId, Changed>,
}

impl Interests {
    /// Sets the services to which a node has subscribed, in place of earlier ones.
    pub(crate) fn set(&self, node: NodeId, services: impl IntoIterator<Item = ServiceId>) {
        let mut inner = self.inner.lock();
        inner.forget(node);
        let mut has_any = false;
        for service in services {
            inner.subscribers.entry(service).or_default().insert(node);
            has_any = true;
        }
        if has_any {
            inner.changed.insert(node, Changed::All);
        }
    }

    /// Removes a node whose link has ended.
    pub(crate) fn forget(&self, node: NodeId) {
        self.inner.lock().forget(node);
    }

    /// Takes what changed for a node since this was called last.
    pub(crate) fn take(&self, node: NodeId) -> Changed {
        self.inner.lock().changed.get_mut(&node).map(std::mem::take).unwrap_or_default()
    }

    /// Notes that anything may have changed.
    pub(crate) fn on_gap(&self) {
        self.inner.lock().changed.values_mut().for_each(|changed| *changed = Changed::All);
    }

    /// Notes a change, and adds the nodes that have to be told of it.
    pub(crate) fn on_event(&self, event: &Event, concerned: &mut BTreeSet<NodeId>) {
        let Event::Task { old, new } = event else { return };
        let is_backend = |task: &Option<Arc<Task>>| task.as_deref().and_then(backend);
        let Some(service) = old.as_ref().or(new.as_ref()).map(|task| task.service) else { return };
        if is_backend(old) == is_backend(new) {
            return;
        }
        let Inner { subscribers, changed } = &mut *self.inner.lock();
        for node in subscribers.get(&service).into_iter().flatten() {
            if let Changed::Services(services) = changed.entry(*node).or_default() {
                services.insert(service);
            }
            concerned.insert(*node);
        }
    }
}

impl Inner {
    fn forget(&mut self, node: NodeId) {
        self.changed.remove(&node);
        self.subscribers.retain(|_, nodes| {
            nodes.remove(&node);
            !nodes.is_empty()
        });
    }
}
