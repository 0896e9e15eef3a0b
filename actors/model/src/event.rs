//! What applying a proposal yields: which object became which.
//!
//! An event holds the object before and after, both shared with the states they belong to, so it costs two pointers
//! and a reader needs nothing else: not there before means made, not there after means removed.

use crate::{AnyObject, Cluster, Node, Service, Task};
use std::sync::Arc;

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The cluster was founded, or its settings changed.
    Cluster {
        /// Before.
        old: Option<Arc<Cluster>>,
        /// After.
        new: Arc<Cluster>,
    },
    /// A node.
    Node {
        /// Before; `None` when it was accepted just now.
        old: Option<Arc<Node>>,
        /// After; `None` when it was removed.
        new: Option<Arc<Node>>,
    },
    /// A service.
    Service {
        /// Before; `None` when it was created just now.
        old: Option<Arc<Service>>,
        /// After; `None` when it was removed.
        new: Option<Arc<Service>>,
    },
    /// A task.
    Task {
        /// Before; `None` when it was created just now.
        old: Option<Arc<Task>>,
        /// After; `None` when it was forgotten.
        new: Option<Arc<Task>>,
    },
    /// An object of a noun that has nothing but a spec.
    Object {
        /// Before; `None` when it was created just now.
        old: Option<AnyObject>,
        /// After; `None` when it was removed.
        new: Option<AnyObject>,
    },
}

impl Event {
    /// How many bytes of payload the event keeps in memory, beside the few hundred that every event does.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Object { old, new } => old.iter().chain(new).map(AnyObject::payload_len).sum(),
            _ => 0,
        }
    }
}
