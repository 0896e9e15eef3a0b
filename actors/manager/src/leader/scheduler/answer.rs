//! What a service is owed: a word on what became of its plan, whatever happens to those who had it.

use crate::leader::service::Msg;
use essaim_model::{Refusal, RefusalKind};
use ractor::ActorRef;

/// Tells a service once what became of its plan; when it is lost on the way, that it was lost.
pub(in crate::leader) struct Answer(Option<ActorRef<Msg>>);

impl Answer {
    /// The answer that is owed to this service.
    pub(in crate::leader) const fn to(service: ActorRef<Msg>) -> Self {
        Self(Some(service))
    }

    /// Tells it.
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
