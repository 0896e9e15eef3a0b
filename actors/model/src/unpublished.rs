//! Published ports that a node cannot listen on, because another program of its machine holds them or the kernel refuses
//! them: which services miss them, and on which of their tasks that is shown.
//!
//! A node reports them in its description. Its tasks run all the same, and the other nodes publish the port, so managers
//! only show the fault and decide nothing by it.

use crate::{Node, PortKey, PublishMode, Service, ServiceId, State, Task, TaskId, UnpublishedPort};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ports that nodes cannot listen on, by the service that publishes them.
pub type Unpublished<'a> = BTreeMap<ServiceId, Vec<(&'a Node, &'a UnpublishedPort)>>;

impl State {
    /// The ports that nodes report as not listened on and that services still publish.
    pub fn unpublished(&self) -> Unpublished<'_> {
        let mut all = Unpublished::new();
        // A node that cannot be reached is a greater fault, and its report may be out of date.
        for node in self.nodes().filter(|node| node.is_ready()) {
            for port in node.description.iter().flat_map(|description| &description.unpublished) {
                let of_cluster = self.ingress().get(&port.port).map(|ingress| ingress.service);
                let of_host = || self.publisher_on(node, port.port);
                if let Some(service) = of_cluster.or_else(of_host) {
                    all.entry(service).or_default().push((node, port));
                }
            }
        }
        all
    }

    /// The service with a task on the node that publishes the port in host mode.
    fn publisher_on(&self, node: &Node, port: PortKey) -> Option<ServiceId> {
        let publishes = |task: &&Arc<Task>| {
            let spec = self.spec(task.service, task.spec_version);
            let ports = spec.into_iter().flat_map(|spec| &spec.endpoint).flat_map(|endpoint| &endpoint.ports);
            let mut of_host = ports.filter(|port| port.mode == PublishMode::Host);
            of_host.any(|it| it.key() == Some(port))
        };
        self.tasks_on(node.id).filter(|task| !task.has_ended()).find(publishes).map(|task| task.service)
    }

    /// The faults that running tasks show because of ports that nodes cannot listen on. A task shows those of its own
    /// node. The first running task of a service shows those of nodes without one too, because nothing else in the list
    /// of the service's tasks would.
    pub fn faults_of_ports(&self) -> BTreeMap<TaskId, String> {
        let mut faults: BTreeMap<TaskId, String> = BTreeMap::new();
        for (service, ports) in self.unpublished() {
            let running: Vec<_> = self.tasks_of(service).filter(|task| task.is_running() && task.is_wanted()).collect();
            for (node, port) in ports {
                let there: Vec<_> = running.iter().filter(|task| task.node() == Some(node.id)).collect();
                let shown = if there.is_empty() { running.first().into_iter().collect() } else { there };
                for task in shown {
                    let fault = faults.entry(task.id).or_default();
                    if !fault.is_empty() {
                        fault.push_str("; ");
                    }
                    fault.push_str(&format!("port {} is not published on {}: {}", port.port, node.name(), port.why));
                }
            }
        }
        faults
    }
}

impl Service {
    /// The ports of this service that a node cannot listen on, in words for people.
    pub fn unpublished_on(&self, node: &Node, all: &Unpublished<'_>) -> Option<String> {
        let ports = all.get(&self.id).into_iter().flatten().filter(|(on, _)| on.id == node.id);
        let words: Vec<_> = ports.map(|(_, it)| format!("port {} is not published: {}", it.port, it.why)).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}
