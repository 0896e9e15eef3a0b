//! What managers told this node beside its orders: the list of managers, this node's standing, and the manager that it
//! is linked to. The uplink writes, the node reads, and only the latest value is kept.

use essaim_model::service::DISCONNECT_LEASE;
use essaim_model::{Availability, PayloadId};
use essaim_protocol::{AssignmentVersion, KnownManagers, Managers, RoleStatement};
use essaim_wire::{Accusation, Moment, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// The secrets and configs whose data this node has, for tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PayloadsHeld {
    /// Those whose data this node was sent with its last orders, or keeps from before.
    pub held: BTreeSet<PayloadId>,
    /// Those that the specs of its task orders name.
    pub needed: BTreeSet<PayloadId>,
}

/// Handle on the latest values; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct LinkState {
    managers: watch::Sender<Option<Arc<KnownManagers>>>,
    role: watch::Sender<Option<RoleStatement>>,
    linked: watch::Sender<Option<NodeId>>,
    /// Whether a manager has refused this node because it was removed from the cluster.
    removed: watch::Sender<bool>,
    orders: watch::Sender<Option<AssignmentVersion>>,
    payloads: watch::Sender<PayloadsHeld>,
    /// Availability that an operator chose at join, until a manager has it.
    availability: watch::Sender<Option<Availability>>,
    /// Nodes that this node accuses of being unreachable; the node writes them, the uplink sends them to a manager.
    ballot: watch::Sender<Arc<[Accusation]>>,
    /// Whether the node leaves its cluster; the node writes it, the uplink takes no orders from then on.
    leaves: watch::Sender<bool>,
    /// Start of the lease of tasks that end when this node has no manager: when the renewal that a manager granted last
    /// was asked for. `None` until the worker starts, which begins a lease.
    leased_from: watch::Sender<Option<Moment>>,
}

impl LinkState {
    pub(crate) fn new() -> Self {
        Self {
            managers: watch::Sender::new(None),
            role: watch::Sender::new(None),
            linked: watch::Sender::new(None),
            removed: watch::Sender::new(false),
            orders: watch::Sender::new(None),
            payloads: watch::Sender::default(),
            availability: watch::Sender::new(None),
            ballot: watch::Sender::new([].into()),
            leaves: watch::Sender::new(false),
            leased_from: watch::Sender::new(None),
        }
    }

    pub(crate) fn knows_no_managers(&self) -> bool {
        self.managers.borrow().is_none()
    }

    /// Whether this list of managers is newer than the known one. Lists with the same index in the log are the same
    /// list.
    pub(crate) fn is_newer(&self, managers: &Managers) -> bool {
        self.managers.borrow().as_ref().is_none_or(|known| managers.version > known.version)
    }

    /// Applies a difference to the known list of managers; none if the difference builds on another list.
    pub(crate) fn complete(&self, managers: Managers) -> Option<KnownManagers> {
        managers.on(self.managers.borrow().as_deref())
    }

    /// Version of the newest list of managers. This node's known standing is never newer, because a manager sends a
    /// list, and the node stores it, before the standing of the same version.
    pub(crate) fn newest(&self) -> Option<AssignmentVersion> {
        self.managers.borrow().as_ref().map(|known| known.version)
    }

    pub(crate) fn managers(&self, managers: KnownManagers) {
        self.managers.send_replace(Some(Arc::new(managers)));
    }

    pub(crate) fn role(&self, said: RoleStatement) {
        self.role.send_if_modified(|known| known.replace(said) != Some(said));
    }

    pub(crate) fn linked(&self, manager: Option<NodeId>) {
        self.linked.send_if_modified(|known| std::mem::replace(known, manager) != manager);
    }

    pub(crate) fn removed(&self) {
        self.removed.send_if_modified(|known| !std::mem::replace(known, true));
    }

    /// Sets the version of the orders in force.
    pub(crate) fn orders(&self, version: Option<AssignmentVersion>) {
        self.orders.send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    pub(crate) fn hold(&self, payloads: PayloadsHeld) {
        self.payloads.send_replace(payloads);
    }

    pub(crate) fn held(&self) -> PayloadsHeld {
        self.payloads.borrow().clone()
    }

    pub(crate) fn set_availability(&self, availability: Availability) {
        self.availability.send_replace(Some(availability));
    }

    pub(crate) fn availability(&self) -> Option<Availability> {
        *self.availability.borrow()
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

    pub(crate) fn leave(&self) {
        self.leaves.send_replace(true);
    }

    pub(crate) fn leaves(&self) -> bool {
        *self.leaves.borrow()
    }

    /// Begins the first lease. A worker that was restarted keeps the lease that there is.
    pub(crate) fn begin_lease(&self, now: Moment) {
        self.leased_from.send_if_modified(|from| from.is_none() && from.replace(now).is_none());
    }

    /// Renews the lease, as of the moment at which the renewal was asked for.
    pub(crate) fn renew_lease(&self, asked_at: Moment) {
        self.leased_from.send_modify(|from| *from = (*from).max(Some(asked_at)));
    }

    /// The end of the lease, unless it is renewed.
    pub(crate) fn leased_until(&self) -> Moment {
        self.leased_from.borrow().unwrap_or(Moment::START) + DISCONNECT_LEASE
    }

    pub(crate) fn watch_role(&self) -> watch::Receiver<Option<RoleStatement>> {
        self.role.subscribe()
    }

    pub(crate) fn watch_removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    pub(crate) fn watch_orders(&self) -> watch::Receiver<Option<AssignmentVersion>> {
        self.orders.subscribe()
    }

    pub(crate) fn watch_linked(&self) -> watch::Receiver<Option<NodeId>> {
        self.linked.subscribe()
    }
}
