//! Checks whether a service fits the cluster: everything that a new or updated spec is refused for, beside what its
//! types rule out. Every manager runs these checks on the state that the change is applied to, so two concurrent
//! requests cannot both be granted a thing that only one service may have.
//!
//! Each check is part of the meaning of a log entry: managers of two builds must apply the same one. A check that
//! changes needs a new level of the cluster (`level`) and holds from that level on.

use super::Made;
use crate::service::{labels, ports};
use crate::{
    ConfigSpec, EndpointSpec, Mode, Noun, PortConfig, PortKey, PublishMode, Refusal, SecretSpec, Service, ServiceId,
    ServiceSpec, State,
};
use std::sync::Arc;

/// Replicas that a service may have at most: ten for each of ten thousand nodes. A larger number is a typing error.
pub(crate) const REPLICAS_MAX: u32 = 100_000;

/// The refusal of a service with this number of replicas.
pub fn too_many_replicas(replicas: u64) -> Refusal {
    Refusal::invalid(format!("a service has at most {REPLICAS_MAX} replicas, not {replicas}"))
}

impl State {
    /// Refuses a spec that service `id` cannot have in this state.
    pub(super) fn check_service(&self, id: ServiceId, spec: &ServiceSpec) -> Made {
        labels::check(spec)?;
        if let Mode::Replicated { replicas } = spec.mode
            && replicas > REPLICAS_MAX
        {
            return Err(too_many_replicas(replicas.into()));
        }
        check_job(spec)?;
        let container = &spec.task.container;
        self.check_there::<SecretSpec>(container.secrets.iter().map(|it| (it.id, it.name.as_str())))?;
        self.check_there::<ConfigSpec>(container.configs.iter().map(|it| (it.id, it.name.as_str())))?;
        let ingress = |endpoint: &EndpointSpec| endpoint.ports.iter().any(|port| port.mode == PublishMode::Ingress);
        if spec.endpoint.as_ref().is_some_and(|endpoint| endpoint.dns_round_robin && ingress(endpoint)) {
            let text = "EndpointSpec: port published with ingress mode can't be used with dnsrr mode";
            return Err(Refusal::invalid(text));
        }
        let ports = published(spec);
        for (place, port) in ports.iter().enumerate() {
            if ports[..place].iter().any(|other| other.mode == port.mode && other.key() == port.key()) {
                return Err(Refusal::invalid("EndpointSpec: duplicate published ports provided"));
            }
            let Some(key) = port.key() else { continue };
            if let Some(other) = self.publisher_beside(id, key, port.mode) {
                // What the other service has is the reason; a service may have both, and the port on every node excludes more.
                let is_ingress = self.ingress.get(&key).is_some_and(|taken| taken.service == other.id);
                let how = if is_ingress { "an ingress" } else { "a host-published" };
                let text = format!(
                    "port '{}' is already in use by service '{}' ({}) as {how} port",
                    port.published, other.spec.name, other.id
                );
                return Err(Refusal::invalid(text));
            }
        }
        Ok(())
    }

    /// Refuses a reference to an object that does not exist, or whose id now belongs to an object of another name. A
    /// former version has two names, its own and that of its newest version.
    fn check_there<'a, N: Noun>(&self, references: impl Iterator<Item = (N::Id, &'a str)>) -> Made {
        let is_called = |spec: &N, name: &str| spec.name() == name || spec.base_name() == name;
        let there = |id, name| self.object::<N>(id).is_some_and(|object| is_called(&object.spec, name));
        let missing: Vec<_> = references.filter(|(id, name)| !there(*id, name)).map(|(_, name)| name).collect();
        match missing.as_slice() {
            [] => Ok(()),
            [one] => Err(Refusal::invalid(format!("{} not found: {one}", N::WORD))),
            many => Err(Refusal::invalid(format!("{}s not found: {}", N::WORD, many.join(", ")))),
        }
    }

    /// The ports that a new spec of service `id` is published under; `before` are those that the service has.
    pub(super) fn number_ports(
        &self,
        id: ServiceId,
        spec: &ServiceSpec,
        before: &[PortConfig],
    ) -> Result<Vec<PortConfig>, Refusal> {
        ports::number(spec, before, |key| self.publisher_beside(id, key, PublishMode::Ingress).is_some())
    }

    /// Another service whose published port excludes that `id` publishes a port in this mode. Several services may publish
    /// the same port in host mode, on the hosts their tasks run on; a port in ingress mode belongs to one service.
    fn publisher_beside(&self, id: ServiceId, key: PortKey, mode: PublishMode) -> Option<&Arc<Service>> {
        let range = (key, ServiceId::from_bits(0))..=(key, ServiceId::from_bits(u128::MAX));
        let others = self.publishers.range(range).filter(|(_, other)| *other != id);
        others.filter_map(|(_, other)| self.services.get(other)).find(|other| {
            mode == PublishMode::Ingress || self.ingress.get(&key).is_some_and(|port| port.service == other.id)
        })
    }

    /// Adds the published ports of a service to the indexes.
    pub(crate) fn index_ports(&mut self, service: &Service) {
        for key in service.ports.iter().filter_map(PortConfig::key) {
            self.publishers.insert((key, service.id));
        }
        self.ingress.extend(service.ingress());
    }

    /// Removes the published ports of a service from the indexes.
    pub(super) fn unindex_ports(&mut self, service: &Service) {
        for key in service.ports.iter().filter_map(PortConfig::key) {
            self.publishers.remove(&(key, service.id));
        }
        for (key, _) in service.ingress() {
            self.ingress.remove(&key);
        }
    }
}

/// The ports of a spec whose published number was chosen by an operator.
fn published(spec: &ServiceSpec) -> Vec<PortConfig> {
    let all = spec.endpoint.iter().flat_map(|endpoint| endpoint.ports.iter());
    all.filter(|port| port.published != 0).cloned().collect()
}

/// Refuses what a job cannot have, in Swarm's words where Swarm has any: a job is not updated task by task, so it has
/// nothing to configure there.
fn check_job(spec: &ServiceSpec) -> Made {
    if !spec.mode.is_job() {
        return Ok(());
    }
    if let Mode::ReplicatedJob { concurrent_max, completions } = spec.mode {
        let negative = |number: Option<u64>| number.is_some_and(|number| i64::try_from(number).is_err());
        if negative(concurrent_max) {
            return Err(Refusal::invalid("Maximum concurrent jobs must not be negative"));
        }
        if negative(completions) {
            return Err(Refusal::invalid("Total completed jobs must not be negative"));
        }
        let (_, completions) = spec.mode.of_replicated_job().unwrap_or_default();
        if completions > u64::from(REPLICAS_MAX) {
            let text = format!("a job has at most {REPLICAS_MAX} completions, not {completions}");
            return Err(Refusal::invalid(text));
        }
    }
    if spec.update.is_some() {
        return Err(Refusal::invalid("Jobs may not have an update config"));
    }
    if spec.rollback.is_some() {
        return Err(Refusal::invalid("Jobs may not have a rollback config"));
    }
    Ok(())
}
