//! Events: what applying a proposal yields. Each one names an object before and after a change.
//!
//! Both versions of the object are shared with the states they belong to, so a reader needs nothing else. An object
//! without `old` was created, an object without `new` was removed. An event that is kept keeps the version before the
//! change alive, which no later state contains ([`Event::kept_len`]).

use crate::{AnyObject, Cluster, Node, Service, Task};
use bincode::Encode;
use essaim_wire::encoded_len;
use std::sync::Arc;

/// A change of one object that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The cluster was founded, or its settings changed.
    Cluster {
        /// The cluster before the change; `None` when it was founded.
        old: Option<Arc<Cluster>>,
        /// The cluster after the change.
        new: Arc<Cluster>,
    },
    /// A node was accepted, changed or removed.
    Node {
        /// The node before the change; `None` when it was accepted by this change.
        old: Option<Arc<Node>>,
        /// The node after the change; `None` when it was removed.
        new: Option<Arc<Node>>,
    },
    /// A service was created, changed or removed.
    Service {
        /// The service before the change; `None` when it was created by this change.
        old: Option<Arc<Service>>,
        /// The service after the change; `None` when it was removed.
        new: Option<Arc<Service>>,
    },
    /// A task was created, changed or forgotten.
    Task {
        /// The task before the change; `None` when it was created by this change.
        old: Option<Arc<Task>>,
        /// The task after the change; `None` when it was forgotten.
        new: Option<Arc<Task>>,
    },
    /// An object of a plain noun was created, changed or removed.
    Object {
        /// The object before the change; `None` when it was created by this change.
        old: Option<AnyObject>,
        /// The object after the change; `None` when it was removed.
        new: Option<AnyObject>,
    },
}

impl Event {
    /// Bytes of memory that a kept event takes: its own and those of the version before the change. The version after the
    /// change belongs to the state, and then to the event that replaces it, so a version is counted once.
    pub fn kept_len(&self) -> usize {
        let before = match self {
            Self::Cluster { old, .. } => old.as_deref().map(estimated_len),
            Self::Node { old, .. } => old.as_deref().map(estimated_len),
            Self::Service { old, .. } => old.as_deref().map(estimated_len),
            Self::Task { old, .. } => old.as_deref().map(Task::kept_len),
            Self::Object { old, .. } => old.as_ref().map(AnyObject::kept_len),
        };
        size_of::<Self>() + before.unwrap_or(0)
    }
}

/// Bytes of memory of an object, where its encoded length stands for what the object holds outside of itself.
fn estimated_len<T: Encode>(object: &T) -> usize {
    size_of::<T>() + encoded_len(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServiceId, TaskId, fixtures};
    use essaim_wire::{Index, NodeId};

    #[test]
    fn an_event_keeps_the_version_before_the_change_and_not_the_one_after() {
        let (short, long) = (task(""), task(&"x".repeat(500)));
        let created = Event::Task { old: None, new: Some(Arc::clone(&long)) };
        assert_eq!(created.kept_len(), size_of::<Event>());
        let forgotten = |task: &Arc<Task>| Event::Task { old: Some(Arc::clone(task)), new: None }.kept_len();
        assert!(forgotten(&short) > size_of::<Event>() + size_of::<Task>());
        assert_eq!(forgotten(&long) - forgotten(&short), 500, "its texts are counted");
        let node = Event::Node { old: Some(Arc::new(fixtures::worker(1))), new: None };
        assert!(node.kept_len() > size_of::<Event>() + size_of::<Node>());
    }

    fn task(error: &str) -> Arc<Task> {
        let mut task = fixtures::task(TaskId::from_bits(1), ServiceId::from_bits(1), Index(1), NodeId::from_bits(1));
        task.observed.error = Some(error.into());
        Arc::new(task)
    }
}
