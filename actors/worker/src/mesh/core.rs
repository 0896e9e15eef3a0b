//! The table of published ports, the backends of the services that have connections, and the choice among them. Knows
//! nothing of sockets, clocks or actors.

use essaim_model::{IngressPort, PortKey, ServiceId, TaskId};
use essaim_protocol::{Backends, PortTable, SUBSCRIPTIONS_MAX};
use essaim_wire::{Moment, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time for which a backend that could not be reached is passed over, while there are others. A node that has died is
/// missed by membership within that time, and a program that is just starting listens.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Time without connections after which a service's backends are no longer followed.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// What a connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// Connect to this task on this node. The connection counts until [`Core::ended`].
    Backend(TaskId, NodeId),
    /// No backend is left that was not tried, or none is known: wait for news.
    Nothing,
}

/// The ports and backends, as this node was told.
#[derive(Debug, Default)]
pub(super) struct Core {
    ports: BTreeMap<PortKey, IngressPort>,
    /// Parts of a table of which more is to come.
    parts: Vec<(PortKey, IngressPort)>,
    services: BTreeMap<ServiceId, Followed>,
    /// Number of picks so far: it orders backends by when each was chosen last.
    picks: u64,
}

/// A service whose backends this node follows.
#[derive(Debug)]
struct Followed {
    backends: BTreeMap<TaskId, Backend>,
    /// Connections to the service through this node.
    connections: usize,
    used_at: Moment,
}

#[derive(Debug)]
struct Backend {
    node: NodeId,
    connections: usize,
    last_pick: u64,
    failed_at: Option<Moment>,
}

impl Backend {
    /// Whether the backend could not be reached a moment ago.
    fn has_failed(&self, now: Moment) -> bool {
        self.failed_at.is_some_and(|at| now.saturating_since(at) < FAILED_FOR)
    }
}

impl Core {
    /// Takes over the table, or a part of it. Returns whether it is complete and another one than before.
    pub(super) fn on_ports(&mut self, table: PortTable) -> bool {
        self.parts.extend(table.ports);
        if table.more {
            return false;
        }
        let ports = std::mem::take(&mut self.parts).into_iter().collect();
        std::mem::replace(&mut self.ports, ports) != self.ports
    }

    /// Takes over backends. Those of a service that is no longer followed are ignored.
    pub(super) fn on_backends(&mut self, told: Backends) {
        let Some(followed) = self.services.get_mut(&told.service) else { return };
        let mut before = if told.whole { std::mem::take(&mut followed.backends) } else { BTreeMap::new() };
        for task in &told.removed {
            followed.backends.remove(task);
        }
        for (task, node) in told.added {
            let kept = before.remove(&task).or_else(|| followed.backends.remove(&task));
            let fresh = Backend { node, connections: 0, last_pick: 0, failed_at: None };
            followed.backends.insert(task, kept.unwrap_or(fresh));
        }
    }

    /// The published ports.
    pub(super) fn ports(&self) -> impl Iterator<Item = PortKey> + '_ {
        self.ports.keys().copied()
    }

    /// What a published port leads to.
    pub(super) fn port(&self, key: PortKey) -> Option<IngressPort> {
        self.ports.get(&key).cloned()
    }

    /// Checksum of the table, for the manager.
    pub(super) fn checksum(&self) -> u64 {
        PortTable::checksum(self.ports.iter())
    }

    /// The services whose backends are followed.
    pub(super) fn subscriptions(&self) -> Vec<ServiceId> {
        self.services.keys().copied().collect()
    }

    /// Chooses the backend with the fewest connections that is not among `tried`; of several, the one that was chosen
    /// longest ago. Backends on nodes that membership misses come last, and those that failed a moment ago before them;
    /// of the others, those on the node `prefers` come first.
    /// Also returns whether the service is followed only from now on.
    pub(super) fn pick(
        &mut self,
        now: Moment,
        service: ServiceId,
        tried: &[TaskId],
        prefers: Option<NodeId>,
        is_missed: impl Fn(NodeId) -> bool,
    ) -> (Pick, bool) {
        let is_new = !self.services.contains_key(&service);
        if is_new && self.services.len() >= SUBSCRIPTIONS_MAX {
            return (Pick::Nothing, false);
        }
        let fresh = || Followed { backends: BTreeMap::new(), connections: 0, used_at: now };
        let followed = self.services.entry(service).or_insert_with(fresh);
        followed.used_at = now;
        let left = followed.backends.iter_mut().filter(|(task, _)| !tried.contains(task));
        let is_elsewhere = |it: &Backend| prefers.is_some_and(|node| node != it.node);
        let best = left.min_by_key(|(_, it)| {
            (is_missed(it.node), it.has_failed(now), is_elsewhere(it), it.connections, it.last_pick)
        });
        let Some((task, backend)) = best else { return (Pick::Nothing, is_new) };
        self.picks += 1;
        backend.last_pick = self.picks;
        backend.connections += 1;
        followed.connections += 1;
        (Pick::Backend(*task, backend.node), is_new)
    }

    /// Whether a flow of datagrams is to leave its backend, which is no longer one or whose node membership misses, for
    /// another one of which neither is true. Without such a one it stays where it is.
    pub(super) fn is_better_elsewhere(
        &self,
        now: Moment,
        service: ServiceId,
        task: TaskId,
        is_missed: impl Fn(NodeId) -> bool,
    ) -> bool {
        let Some(followed) = self.services.get(&service) else { return false };
        let is_good = |it: &Backend| !is_missed(it.node);
        !followed.backends.get(&task).is_some_and(is_good)
            && followed.backends.iter().any(|(other, it)| *other != task && is_good(it) && !it.has_failed(now))
    }

    /// A connection that [`pick`](Self::pick) chose a backend for has ended, or was not made.
    pub(super) fn ended(&mut self, now: Moment, service: ServiceId, task: TaskId) {
        let Some(followed) = self.services.get_mut(&service) else { return };
        followed.connections = followed.connections.saturating_sub(1);
        followed.used_at = now;
        if let Some(backend) = followed.backends.get_mut(&task) {
            backend.connections = backend.connections.saturating_sub(1);
        }
    }

    /// A backend could not be reached, or, with `node`, nothing on its node.
    pub(super) fn failed(&mut self, now: Moment, service: ServiceId, task: TaskId, node: Option<NodeId>) {
        let Some(followed) = self.services.get_mut(&service) else { return };
        for (other, backend) in &mut followed.backends {
            if *other == task || Some(backend.node) == node {
                backend.failed_at = Some(now);
            }
        }
    }

    /// Forgets the services that had no connection for long. Returns those that are left, if any was forgotten.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Vec<ServiceId>> {
        let before = self.services.len();
        self.services
            .retain(|_, followed| followed.connections > 0 || now.saturating_since(followed.used_at) < IDLE_MAX);
        (self.services.len() < before).then(|| self.subscriptions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::PortProtocol;

    const WEB: ServiceId = ServiceId::from_bits(1);

    fn at(ms: u64) -> Moment {
        Moment::START + Duration::from_millis(ms)
    }

    fn task(bits: u128) -> TaskId {
        TaskId::from_bits(bits)
    }

    fn told(whole: bool, added: &[(u128, u128)], removed: &[u128]) -> Backends {
        Backends {
            service: WEB,
            whole,
            added: added.iter().map(|(id, node)| (task(*id), NodeId::from_bits(*node))).collect(),
            removed: removed.iter().map(|id| task(*id)).collect(),
        }
    }

    /// A core that follows `WEB` with tasks 1 and 2 on node 1, and task 3 on node 2.
    fn followed() -> Core {
        let mut core = Core::default();
        assert_eq!(core.pick(at(0), WEB, &[], None, |_| false), (Pick::Nothing, true));
        core.on_backends(told(true, &[(1, 1), (2, 1), (3, 2)], &[]));
        core
    }

    fn pick(core: &mut Core, now: Moment, tried: &[u128], missed: &[u128]) -> Option<u128> {
        let tried: Vec<_> = tried.iter().map(|id| task(*id)).collect();
        match core.pick(now, WEB, &tried, None, |node| missed.contains(&node.bits())) {
            (Pick::Backend(task, _), false) => Some(task.bits()),
            (Pick::Nothing, false) => None,
            news => panic!("{news:?}"),
        }
    }

    #[test]
    fn connections_go_around_and_to_whom_has_the_fewest() {
        let mut core = followed();
        let four: Vec<_> = (0..4).map(|_| pick(&mut core, at(1), &[], &[])).collect();
        assert_eq!(four, [Some(1), Some(2), Some(3), Some(1)]);
        core.ended(at(2), WEB, task(3));
        assert_eq!(pick(&mut core, at(3), &[], &[]), Some(3));
    }

    #[test]
    fn a_node_that_prefers_its_own_tasks_connects_elsewhere_when_none_of_them_answers() {
        let mut core = followed();
        let mut local = |tried: &[TaskId], missed: bool| {
            let own = NodeId::from_bits(1);
            let (picked, _) = core.pick(at(1), WEB, tried, Some(own), |node| missed && node == own);
            picked
        };
        let (one, two) = (NodeId::from_bits(1), NodeId::from_bits(2));
        let picks: Vec<_> = (0..3).map(|_| local(&[], false)).collect();
        assert_eq!(picks, [1, 2, 1].map(|id| Pick::Backend(task(id), one)), "task 3 is on the other node");
        assert_eq!(local(&[task(1), task(2)], false), Pick::Backend(task(3), two));
        assert_eq!(local(&[], true), Pick::Backend(task(3), two));
    }

    #[test]
    fn a_backend_that_failed_or_is_missed_is_chosen_when_no_other_is_left() {
        let mut core = followed();
        core.failed(at(0), WEB, task(1), None);
        assert_eq!([pick(&mut core, at(1), &[], &[]), pick(&mut core, at(1), &[], &[])], [Some(2), Some(3)]);
        assert_eq!(pick(&mut core, at(1), &[2, 3], &[]), Some(1));
        assert_eq!(pick(&mut core, at(1), &[1, 2, 3], &[]), None);
        let mut core = followed();
        assert_eq!(pick(&mut core, at(1), &[], &[1]), Some(3));
        assert_eq!(pick(&mut core, at(1), &[3], &[1]), Some(1), "membership may be wrong");
        // The whole node failed, for a second.
        let mut core = followed();
        core.failed(at(0), WEB, task(1), Some(NodeId::from_bits(1)));
        let three: Vec<_> = (0..3).map(|_| pick(&mut core, at(999), &[], &[])).collect();
        assert_eq!(three, [Some(3), Some(3), Some(3)]);
        assert_eq!(pick(&mut core, at(1000), &[], &[]), Some(1));
    }

    #[test]
    fn a_flow_leaves_a_backend_that_is_gone_or_missed_for_one_that_is_neither() {
        let mut core = followed();
        let leaves = |core: &Core, id: u128, missed: &[u128]| {
            core.is_better_elsewhere(at(1), WEB, task(id), |node| missed.contains(&node.bits()))
        };
        assert!(!leaves(&core, 1, &[]), "it is as good as any");
        assert!(leaves(&core, 1, &[1]), "task 3 is on node 2");
        assert!(!leaves(&core, 1, &[1, 2]), "membership misses all of them");
        assert!(leaves(&core, 9, &[]), "it is no backend");
        core.failed(at(0), WEB, task(3), None);
        assert!(!leaves(&core, 1, &[1]), "the other one failed a moment ago");
    }

    #[test]
    fn news_of_backends_keep_the_counts_of_those_that_stay() {
        let mut core = followed();
        assert_eq!(pick(&mut core, at(1), &[], &[]), Some(1));
        core.on_backends(told(true, &[(1, 1), (4, 2)], &[]));
        assert_eq!(pick(&mut core, at(1), &[], &[]), Some(4));
        core.on_backends(told(false, &[(5, 1)], &[4]));
        assert_eq!(pick(&mut core, at(1), &[], &[]), Some(5));
        core.on_backends(told(true, &[], &[]));
        assert_eq!(pick(&mut core, at(1), &[], &[]), None);
        core.ended(at(2), WEB, task(5));
    }

    #[test]
    fn a_service_is_followed_until_it_had_no_connection_for_ten_minutes() {
        let mut core = followed();
        assert_eq!(pick(&mut core, at(0), &[], &[]), Some(1));
        let hour = at(3_600_000);
        assert_eq!(core.expire(hour), None, "a connection is open");
        core.ended(hour, WEB, task(1));
        assert_eq!(core.expire(hour + (IDLE_MAX - Duration::from_millis(1))), None);
        assert_eq!(core.expire(hour + IDLE_MAX), Some(Vec::new()));
        core.on_backends(told(false, &[(7, 1)], &[]));
        assert_eq!(core.subscriptions(), []);
    }

    #[test]
    fn a_table_in_parts_counts_when_it_is_complete() {
        let port = |number| {
            let key = PortKey { protocol: PortProtocol::Tcp, number };
            (key, IngressPort { service: WEB, target: 80, is_local_first: false })
        };
        let mut core = Core::default();
        assert!(!core.on_ports(PortTable { ports: vec![port(1)], more: true }));
        assert_eq!(core.ports().count(), 0);
        assert!(core.on_ports(PortTable { ports: vec![port(2)], more: false }));
        assert_eq!(core.ports().map(|key| key.number).collect::<Vec<_>>(), [1, 2]);
        assert!(!core.on_ports(PortTable { ports: vec![port(1), port(2)], more: false }), "it is the same");
        assert!(core.on_ports(PortTable { ports: Vec::new(), more: false }));
        assert_eq!(core.checksum(), 0);
    }
}
