//! Events: what applying a proposal yields. Each one names an object before and after a change.
//!
//! Both versions of the object are shared with the states they belong to, so an event costs two pointers and a reader
//! needs nothing else. An object without `old` was created, an object without `new` was removed.

use crate::{AnyObject, Cluster, Node, Service, Task};
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
    /// Bytes of payload that the event keeps in memory, beside the few hundred that every event takes.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Object { old, new } => old.iter().chain(new).map(AnyObject::payload_len).sum(),
            _ => 0,
        }
    }
}
