//! What managers told this node beside its orders: which managers there are, what the node is, and whom it is linked
//! to. The uplink writes, the node reads; always the latest.

use essaim_model::Availability;
use essaim_protocol::{AssignmentVersion, Managers, Standing};
use essaim_wire::{Accusation, NodeId};
use std::sync::Arc;
use tokio::sync::watch;

/// A handle on what was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    managers: watch::Sender<Option<Arc<Managers>>>,
    standing: watch::Sender<Option<Standing>>,
    linked: watch::Sender<Option<NodeId>>,
    orders: watch::Sender<Option<AssignmentVersion>>,
    /// What an operator said at join, until a manager has heard it.
    availability: watch::Sender<Option<Availability>>,
    /// Whom this node accuses; the node writes it, the uplink says it.
    ballot: watch::Sender<Arc<[Accusation]>>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self {
            managers: watch::Sender::new(None),
            standing: watch::Sender::new(None),
            linked: watch::Sender::new(None),
            orders: watch::Sender::new(None),
            availability: watch::Sender::new(None),
            ballot: watch::Sender::new([].into()),
        }
    }

    pub(crate) fn knows_no_managers(&self) -> bool {
        self.managers.borrow().is_none()
    }

    /// Whether this was said later than what is known. A list of the same place in the log is the same list.
    pub(crate) fn is_newer(&self, managers: &Managers) -> bool {
        self.managers.borrow().as_ref().is_none_or(|known| managers.version > known.version)
    }

    /// The whole list that a difference makes of the one that is known; nothing if it builds on another.
    pub(crate) fn complete(&self, managers: Managers) -> Option<Managers> {
        managers.on(self.managers.borrow().as_deref())
    }

    /// The place of the newest list of managers, and with it of what this node is: a list is said, and kept, before that.
    pub(crate) fn newest(&self) -> Option<AssignmentVersion> {
        self.managers.borrow().as_ref().map(|known| known.version)
    }

    pub(crate) fn managers(&self, managers: Managers) {
        self.managers.send_replace(Some(Arc::new(managers)));
    }

    pub(crate) fn standing(&self, standing: Standing) {
        self.standing.send_if_modified(|known| known.replace(standing) != Some(standing));
    }

    pub(crate) fn linked(&self, manager: Option<NodeId>) {
        self.linked.send_if_modified(|known| std::mem::replace(known, manager) != manager);
    }

    /// These orders are in force.
    pub(crate) fn orders(&self, version: Option<AssignmentVersion>) {
        self.orders.send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    pub(crate) fn set_availability(&self, availability: Availability) {
        self.availability.send_replace(Some(availability));
    }

    pub(crate) fn availability(&self) -> Option<Availability> {
        *self.availability.borrow()
    }

    pub(crate) fn take_availability(&self) {
        self.availability.send_replace(None);
    }

    /// Whether that is another ballot than before.
    pub(crate) fn set_ballot(&self, ballot: Arc<[Accusation]>) -> bool {
        let is_news = **self.ballot.borrow() != *ballot;
        self.ballot.send_replace(ballot);
        is_news
    }

    pub(crate) fn ballot(&self) -> Arc<[Accusation]> {
        Arc::clone(&self.ballot.borrow())
    }

    pub(crate) fn watch_managers(&self) -> watch::Receiver<Option<Arc<Managers>>> {
        self.managers.subscribe()
    }

    pub(crate) fn watch_standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.subscribe()
    }

    pub(crate) fn watch_orders(&self) -> watch::Receiver<Option<AssignmentVersion>> {
        self.orders.subscribe()
    }

    pub(crate) fn watch_linked(&self) -> watch::Receiver<Option<NodeId>> {
        self.linked.subscribe()
    }
}
