//! The answer to a service about its plan, which is sent even when the scheduler fails meanwhile.

use crate::leader::service::Msg;
use essaim_model::{Refusal, RefusalKind};
use ractor::ActorRef;

/// Tells a service the outcome of its plan, once; dropped without an outcome, it says that the plan was lost.
pub(in crate::leader) struct Answer(Option<ActorRef<Msg>>);

impl Answer {
    /// The answer that is owed to this service.
    pub(in crate::leader) const fn to(service: ActorRef<Msg>) -> Self {
        Self(Some(service))
    }

    /// Tells the service the outcome.
    pub(super) fn tell(mut self, settled: Result<(), Refusal>) {
        self.send(settled);
    }

    fn send(&mut self, settled: Result<(), Refusal>) {
        if let Some(service) = self.0.take() {
            // A service that was removed meanwhile has no actor any more.
            let _ = service.cast(Msg::Settled(settled));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.send(Err(Refusal::new(RefusalKind::Unknown, "the scheduler ended before it was through")));
    }
}
