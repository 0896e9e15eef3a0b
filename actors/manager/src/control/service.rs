//! Services: created, updated, rolled back, removed.
//!
//! A [`ServiceSpec`] that exists is well formed; what is checked here is how it fits the cluster: that its engine
//! exists and honours its settings, and that nobody else publishes its ports.

use super::Control;
use essaim_model::service::{ENGINE_LABEL, support};
use essaim_model::{Change, Mode, PublishMode, Refusal, ServiceId, ServiceSpec, State};
use essaim_wire::Index;

impl Control {
    /// Creates a service.
    pub async fn create_service(&self, spec: ServiceSpec) -> Result<ServiceId, Refusal> {
        let state = self.read().await?;
        check_fits(&state, None, &spec)?;
        let id = ServiceId::from_bits(self.scope.env.seed.draw_id());
        self.commit(vec![Change::CreateService { id, spec: Box::new(spec) }]).await?;
        Ok(id)
    }

    /// Gives a service a new spec, as read at `expect`.
    pub async fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> Result<(), Refusal> {
        let state = self.read().await?;
        let service = state.service(id).ok_or_else(|| Refusal::not_found("service", id))?;
        if service.meta.version != expect {
            return Err(Refusal::out_of_sequence());
        }
        check_fits(&state, Some(id), &spec)?;
        self.commit(vec![Change::UpdateService { id, expect, spec: Some(Box::new(spec)) }]).await.map(|_| ())
    }

    /// Gives a service its former spec again.
    pub async fn rollback_service(&self, id: ServiceId, expect: Index) -> Result<(), Refusal> {
        self.commit(vec![Change::UpdateService { id, expect, spec: None }]).await.map(|_| ())
    }

    /// Removes a service; its tasks end.
    pub async fn remove_service(&self, id: ServiceId) -> Result<(), Refusal> {
        self.commit(vec![Change::RemoveService { id }]).await.map(|_| ())
    }
}

fn check_fits(state: &State, id: Option<ServiceId>, spec: &ServiceSpec) -> Result<(), Refusal> {
    if let Some(engine) = spec.labels.get(ENGINE_LABEL)
        && spec.engine().is_none()
    {
        let text = format!("label {ENGINE_LABEL}={engine}: there is no such engine; use process, docker or actor");
        return Err(Refusal::invalid(text));
    }
    if let Some(refusal) = support::refusal(spec, state.engine_of(spec)) {
        return Err(refusal);
    }
    let ports = |spec: &ServiceSpec| spec.endpoint.iter().flat_map(|it| it.ports.clone()).collect::<Vec<_>>();
    for port in ports(spec).iter().filter(|port| port.published != 0) {
        for other in state.services().filter(|other| Some(other.id) != id) {
            let taken = ports(&other.spec).iter().any(|it| {
                (it.published, it.protocol) == (port.published, port.protocol)
                    && (it.mode == PublishMode::Ingress || port.mode == PublishMode::Ingress)
            });
            if taken {
                let how = if port.mode == PublishMode::Ingress { "an ingress" } else { "a host-published" };
                let text = format!(
                    "port '{}' is already in use by service '{}' ({}) as {how} port",
                    port.published, other.spec.name, other.id
                );
                return Err(Refusal::invalid(text));
            }
        }
    }
    if matches!(spec.mode, Mode::Replicated { replicas } if replicas > REPLICAS_MAX) {
        return Err(Refusal::invalid(format!("a service has at most {REPLICAS_MAX} replicas")));
    }
    Ok(())
}

/// How many replicas a service may have: ten for each of ten thousand nodes. More is a slip of the finger.
const REPLICAS_MAX: u32 = 100_000;
