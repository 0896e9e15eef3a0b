//! The answer to a service about its plan, which the service receives even when the scheduler fails meanwhile.

use crate::leader::service::Msg;
use essaim_model::{Refusal, RefusalKind};
use ractor::ActorRef;

/// Tells a service the outcome of its plan, once. When it is dropped without an outcome, it tells the service that the
/// plan was lost.
pub(in crate::leader) struct Answer(Option<ActorRef<Msg>>);

impl Answer {
    pub(in crate::leader) const fn to(service: ActorRef<Msg>) -> Self {
        Self(Some(service))
    }

    pub(super) fn tell(mut self, settled: Result<(), Refusal>) {
        self.send(settled);
    }

    fn send(&mut self, settled: Result<(), Refusal>) {
        if let Some(service) = self.0.take() {
            // The cast fails when the service was removed meanwhile: its actor has ended.
            let _ = service.cast(Msg::Settled(settled));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.send(Err(Refusal::new(RefusalKind::Unknown, "the scheduler ended before it was through")));
    }
}
