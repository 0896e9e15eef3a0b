//! Requests about services: create, update, roll back and remove.
//!
//! `State::apply` checks that a service fits the cluster, on the state that the change is made to
//! (`model::apply::fit`). Checked here, where the request arrives, is only what the engines of this build honour:
//! managers of several builds apply the same log, and must not judge an entry by what each of them happens to know.

use super::Control;
use essaim_model::service::{support, template};
use essaim_model::{Change, Refusal, RollbackCause, ServiceId, ServiceSpec, State};
use essaim_wire::Index;

impl Control {
    /// Creates a service.
    pub async fn create_service(&self, spec: ServiceSpec) -> Result<ServiceId, Refusal> {
        check_honoured(&*self.read().await?, &spec)?;
        let id = ServiceId::from_bits(self.scope.env.seed.draw_id());
        self.commit(vec![Change::CreateService { id, spec: Box::new(spec) }]).await?;
        Ok(id)
    }

    /// Gives a service a new spec if its spec is still the one read at `expect`.
    pub async fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> Result<(), Refusal> {
        check_honoured(&*self.read().await?, &spec)?;
        self.commit(vec![Change::UpdateService { id, expect, spec: Some(Box::new(spec)) }]).await.map(|_| ())
    }

    /// Gives a service its former spec again.
    pub async fn rollback_service(&self, id: ServiceId, expect: Index) -> Result<(), Refusal> {
        self.commit(vec![Change::UpdateService { id, expect, spec: None }]).await.map(|_| ())
    }

    /// Gives a service the former spec of version `to` again, if the service is still as it was read at `expect`.
    pub async fn rollback_service_to(&self, id: ServiceId, expect: Index, to: Index) -> Result<(), Refusal> {
        let cause = RollbackCause::Asked { expect };
        self.commit(vec![Change::RollBackService { id, to, cause }]).await.map(|_| ())
    }

    /// Removes a service; its tasks end.
    pub async fn remove_service(&self, id: ServiceId) -> Result<(), Refusal> {
        self.commit(vec![Change::RemoveService { id }]).await.map(|_| ())
    }
}

/// Refuses templates that cannot be expanded, and settings that the service's engine does not honour; names them.
fn check_honoured(state: &State, spec: &ServiceSpec) -> Result<(), Refusal> {
    template::check(spec)?;
    support::refusal(spec, state.engine_of(spec)).map_or(Ok(()), Err)
}
