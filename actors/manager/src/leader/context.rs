//! What the actors of the leader's tree share: the store and the term, their notifiers, and the set of released nodes.

use super::{actor, liveness, reaper, roles, scheduler};
use crate::arguments::ManagerArguments;
use crate::ballots::BallotBox;
use crate::feed::{Feed, Followed};
use essaim_model::{Change, Refusal, ServiceId, Slot};
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_store::Store;
use essaim_system::Notifier;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, NodeId, Term};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Handles that every actor of one leader's tree uses.
pub(super) struct Context {
    pub(super) term: Term,
    pub(super) store: Store,
    pub(super) endpoint: Endpoint,
    pub(super) roster: RosterHandle,
    pub(super) ballots: BallotBox,
    /// Lost nodes whose slots may be filled on other nodes now; `liveness` sets them.
    pub(super) released: watch::Sender<Arc<BTreeSet<NodeId>>>,
    /// The manager's change feed.
    pub(super) feed: Feed,
    pub(super) leader: Notifier<actor::Msg, Followed>,
    pub(super) scheduler: Notifier<scheduler::Msg, Followed>,
    pub(super) liveness: Notifier<liveness::Msg>,
    pub(super) roles: Notifier<roles::Msg>,
    pub(super) reaper: Notifier<reaper::Msg, EndedSlots>,
}

impl Context {
    pub(super) fn new(manager: &ManagerArguments, ballots: BallotBox, feed: Feed, term: Term) -> Self {
        Self {
            term,
            store: manager.store.clone(),
            endpoint: manager.endpoint.clone(),
            roster: manager.roster.clone(),
            ballots,
            released: watch::Sender::new(Arc::default()),
            feed,
            leader: Notifier::new(|| actor::Msg::Look),
            scheduler: Notifier::new(|| scheduler::Msg::Look),
            liveness: Notifier::new(|| liveness::Msg::Look),
            roles: Notifier::new(|| roles::Msg::Look),
            reaper: Notifier::new(|| reaper::Msg::Look),
        }
    }

    /// Proposes as the leader of this term (a fence): the proposal is void under any other term.
    pub(super) async fn propose(&self, changes: Vec<Change>) -> Result<Index, Refusal> {
        self.store.change(changes, Some(self.term)).await
    }

    /// Proposes changes that need not be made together, in as many proposals as they need; the first refusal ends it.
    pub(super) async fn propose_in_pieces(&self, changes: Vec<Change>) -> Result<(), Refusal> {
        self.store.change_in_pieces(changes, Some(self.term)).await
    }
}

/// Slots that the leader has marked and the reaper has not taken over yet.
#[derive(Debug, Default)]
pub(super) struct EndedSlots {
    /// Slots in which tasks ended.
    pub(super) slots: BTreeSet<(ServiceId, Slot)>,
    /// Every slot may have more history than is kept: the cluster's settings changed, or events were missed.
    pub(super) everything: bool,
}

/// A tokio task that is aborted when the actor that it works for drops it.
pub(super) struct Errand(JoinHandle<()>);

impl Errand {
    pub(super) fn run(errand: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(errand))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if !planted(Bug::DroppedFence) {
            self.0.abort();
        }
    }
}
