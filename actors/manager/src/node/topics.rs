//! The topics of one node: what it was told of published ports and of the tasks behind them, and how that differs from
//! the state now.
//!
//! Effects count as told at once, because the actor sends all of them in this order or ends the link. Nothing is told
//! before the node has subscribed.

use crate::interests::Changed;
use essaim_model::{IngressPort, PortKey, ServiceId, State, TaskId};
use essaim_policy::backends;
use essaim_protocol::{Backends, PortTable, SUBSCRIPTIONS_MAX, Subscribe};
use essaim_wire::NodeId;
use essaim_wire::planted::{Bug, planted};
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};

/// A message for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The table of published ports, or a part of it.
    Ports(PortTable),
    /// The backends of a service, or how they changed.
    Backends(Backends),
}

/// What a node was told of its topics on this link.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// What the node asked for last; `None` until it has subscribed.
    wanted: Option<Subscribe>,
    ports: Option<OrdMap<PortKey, IngressPort>>,
    /// Backends by service; a service that was not told yet is missing.
    backends: BTreeMap<ServiceId, BTreeMap<TaskId, NodeId>>,
}

impl Topics {
    /// Takes note of what the node asks for. Returns whether it names more services than it may.
    pub(crate) fn subscribe(&mut self, wanted: Subscribe) -> bool {
        let services: BTreeSet<ServiceId> = wanted.services.iter().copied().collect();
        let is_too_many = services.len() > SUBSCRIPTIONS_MAX;
        self.backends.retain(|service, _| services.contains(service));
        self.wanted = Some(wanted);
        is_too_many
    }

    /// Adds what the node has to be told. Only services that `changed` names are compared, and those that the node was
    /// told nothing of.
    pub(crate) fn look(&mut self, state: &State, changed: &Changed, effects: &mut Vec<Topic>) {
        let Some(wanted) = &self.wanted else { return };
        let ports = state.ingress();
        let has_them = match &self.ports {
            None => wanted.ports == PortTable::checksum(ports.iter()),
            Some(told) => told == ports || planted(Bug::PortsToldOnce),
        };
        if !has_them {
            let ports = ports.iter().map(|(key, port)| (*key, port.clone())).collect();
            effects.extend(PortTable::parts(ports).into_iter().map(Topic::Ports));
        }
        self.ports = Some(ports.clone());

        for service in wanted.services.iter().take(SUBSCRIPTIONS_MAX) {
            let told = self.backends.get(service);
            if told.is_some() && !changed.contains(*service) {
                continue;
            }
            let now: BTreeMap<TaskId, NodeId> = backends(state, *service).collect();
            let before = told.cloned().unwrap_or_default();
            let added: Vec<_> =
                now.iter().filter(|(task, _)| !before.contains_key(task)).map(|(task, node)| (*task, *node)).collect();
            let removed: Vec<_> = before.keys().filter(|task| !now.contains_key(task)).copied().collect();
            let whole = told.is_none();
            if whole || !added.is_empty() || !removed.is_empty() {
                let backends = Backends { service: *service, whole, added, removed };
                effects.extend(backends.parts().into_iter().map(Topic::Backends));
            }
            self.backends.insert(*service, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{self, done, founding, service, worker};
    use essaim_model::{
        Change, Desired, EndpointSpec, Observed, PortConfig, PortProtocol, PublishMode, ServiceSpec, TaskState,
    };
    use essaim_wire::Timestamp;

    const WEB: ServiceId = ServiceId::from_bits(100);

    fn apply(state: &mut State, change: Change) {
        done(state, Timestamp::default(), vec![change]);
    }

    fn published(number: u16) -> ServiceSpec {
        let (protocol, mode) = (PortProtocol::Tcp, PublishMode::Ingress);
        let port = PortConfig { name: String::new(), protocol, target: 80, published: number, mode };
        let endpoint = EndpointSpec { dns_round_robin: false, ports: vec![port] };
        ServiceSpec { endpoint: Some(endpoint), ..service("web", 3) }
    }

    /// A cluster in which the service `web` publishes port 80.
    fn world() -> State {
        let mut state = State::default();
        apply(&mut state, Change::Found(Box::new(founding())));
        apply(&mut state, Change::AcceptNode(Box::new(worker(2))));
        apply(&mut state, Change::CreateService { id: WEB, spec: Box::new(published(80)) });
        state
    }

    /// Creates task `id` of `web` on node 2, and lets it run.
    fn run(state: &mut State, id: u128) -> (TaskId, NodeId) {
        let (task, node) = (TaskId::from_bits(id), NodeId::from_bits(2));
        let version = state.service(WEB).expect("there").spec_version;
        let slot = essaim_model::Slot::Number(u32::try_from(id).expect("small"));
        let created = essaim_model::Task { slot, ..fixtures::task(task, WEB, version, node) };
        apply(state, Change::CreateTask(Box::new(created)));
        let seen = Observed { state: TaskState::Running, ..Observed::nothing(Timestamp::default()) };
        apply(state, Change::Observe { node, reports: vec![(task, seen)] });
        (task, node)
    }

    fn asked(state: &State, topics: &mut Topics, services: &[ServiceId], changed: &Changed) -> Vec<Topic> {
        topics.subscribe(Subscribe { ports: 0, services: services.to_vec() });
        let mut effects = Vec::new();
        topics.look(state, changed, &mut effects);
        effects
    }

    #[test]
    fn a_node_is_told_the_table_of_ports_unless_it_has_it_and_again_when_it_changes() {
        let (mut state, mut topics) = (world(), Topics::default());
        let mut effects = Vec::new();
        topics.look(&state, &Changed::All, &mut effects);
        assert_eq!(effects, [], "it has not subscribed");
        let table = |state: &State| state.ingress().iter().map(|(key, port)| (*key, port.clone())).collect();
        let whole = |state: &State| Topic::Ports(PortTable { ports: table(state), more: false });
        assert_eq!(asked(&state, &mut topics, &[], &Changed::All), [whole(&state)]);
        assert_eq!(asked(&state, &mut topics, &[], &Changed::All), [], "its checksum counts at first only");
        let mut knows = Topics::default();
        knows.subscribe(Subscribe { ports: PortTable::checksum(state.ingress().iter()), services: Vec::new() });
        knows.look(&state, &Changed::All, &mut effects);
        assert_eq!(effects, [], "it has that table");
        apply(
            &mut state,
            Change::CreateService {
                id: ServiceId::from_bits(7),
                spec: Box::new(ServiceSpec {
                    name: essaim_model::Name::parse("api").expect("a name"),
                    ..published(81)
                }),
            },
        );
        knows.look(&state, &Changed::default(), &mut effects);
        assert_eq!(effects, [whole(&state)]);
    }

    #[test]
    fn a_subscriber_is_told_all_backends_and_then_what_changed() {
        let (mut state, mut topics) = (world(), Topics::default());
        asked(&state, &mut topics, &[], &Changed::All);
        let one = run(&mut state, 1);
        let told = |whole, added: &[(TaskId, NodeId)], removed: &[TaskId]| {
            Topic::Backends(Backends { service: WEB, whole, added: added.to_vec(), removed: removed.to_vec() })
        };
        assert_eq!(asked(&state, &mut topics, &[WEB], &Changed::default()), [told(true, &[one], &[])]);
        let two = run(&mut state, 2);
        let mut effects = Vec::new();
        topics.look(&state, &Changed::default(), &mut effects);
        assert_eq!(effects, [], "nobody said that this service changed");
        let web = Changed::Services([WEB].into());
        topics.look(&state, &web, &mut effects);
        assert_eq!(effects, [told(false, &[two], &[])]);
        apply(&mut state, Change::SetDesired { id: one.0, desired: Desired::Shutdown });
        effects.clear();
        topics.look(&state, &web, &mut effects);
        assert_eq!(effects, [told(false, &[], &[one.0])]);
        // Who subscribes anew is told everything anew.
        assert_eq!(asked(&state, &mut topics, &[], &Changed::All), []);
        assert_eq!(asked(&state, &mut topics, &[WEB], &Changed::default()), [told(true, &[two], &[])]);
    }
}
