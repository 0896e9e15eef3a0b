//! The execution of a task: from its order and spec to what its engine needs to know.

use crate::engine::{EngineError, Payloads, Run, Signal};
use crate::mesh::Published;
use essaim_model::service::Variable;
use essaim_model::service::template::{self, Facts, Readable};
use essaim_model::{
    EngineKind, Labels, Payload, PayloadId, Platform, PortConfig, PortProtocol, PublishMode, Refusal, ServiceSpec,
    Slot, TaskId,
};
use essaim_protocol::TaskOrder;
use essaim_wire::NodeId;
use std::net::IpAddr;
use std::time::Duration;

/// This machine, as the environment variables of its tasks name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Here {
    /// Id of this node.
    pub(crate) node: NodeId,
    /// Host name of this machine.
    pub(crate) hostname: String,
}

/// How a task is run and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) run: Run,
    /// Payloads of the secrets and configs that the container names.
    pub(crate) payloads: Payloads,
    pub(crate) stop_signal: Signal,
    pub(crate) stop_grace: Duration,
    /// The ports that the mesh publishes for the task; `None` without any.
    pub(crate) published: Option<Published>,
    /// Whether the task has ports in host mode for which the service names no number.
    pub(crate) has_open_numbers: bool,
    /// The facts that templates of the container name, without the platform of the node; `None` without templates.
    templates: Option<Box<Templates>>,
}

/// What the expansion of templates needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Templates {
    spec: ServiceSpec,
    order: TaskOrder,
    here: Here,
}

/// Makes the execution of a task, still without an address, which is set once it is claimed. `payloads` are those that
/// this node was sent.
pub(crate) fn execution(order: &TaskOrder, spec: &ServiceSpec, payloads: &Payloads, here: &Here) -> Execution {
    let container = &spec.task.container;
    let name = format!("{}.{}.{}", spec.name, order.slot, order.id);
    let mut env: Vec<(String, String)> = container.env.iter().map(variable).collect();
    env.extend(order.generic.variables());
    env.extend(identity(order, spec, here, &name));
    let run = Run {
        labels: labels(order, spec, here, &name),
        env,
        resources: spec.task.resources.clone().unwrap_or_default(),
        log_driver: spec.task.log_driver.clone(),
        ..Run::new(order.id, name, container.clone())
    };
    let own: Payloads = container.files().filter_map(|(id, ..)| Some((id, payloads.get(&id)?.clone()))).collect();
    let has_templates = template::has_templates(container) || own.values().any(Payload::is_template);
    let templates =
        has_templates.then(|| Box::new(Templates { spec: spec.clone(), order: order.clone(), here: here.clone() }));
    let (stop_signal, stop_grace) = (container.stop_signal.unwrap_or_default(), container.stop_grace());
    // Docker Engine publishes ports of its machine itself, and leaves clients their addresses.
    let by_engine = |port: &PortConfig| port.mode == PublishMode::Host && order.engine == EngineKind::Docker;
    let all = spec.endpoint.iter().flat_map(|endpoint| endpoint.ports.iter().cloned());
    let has_open_numbers = all.clone().any(|port| port.mode == PublishMode::Host && port.published == 0);
    let (by_engine, ports): (Vec<_>, Vec<_>) = all.partition(by_engine);
    let run = Run { ports: by_engine, ..run };
    let published =
        (!ports.is_empty()).then(|| Published { service: order.service, ports: ports.into(), proxied: spec.proxied() });
    Execution { run, payloads: own, stop_signal, stop_grace, published, has_open_numbers, templates }
}

impl Execution {
    /// Whether some setting of the container, or a secret or config, is a template that [`expand`](Self::expand) has to replace.
    pub(crate) const fn has_templates(&self) -> bool {
        self.templates.is_some()
    }

    /// Replaces the templates of the container, its environment, its secrets and its configs by what they stand for on a
    /// node of this platform.
    pub(crate) fn expand(&mut self, platform: &Platform) -> Result<(), EngineError> {
        let Some(templates) = self.templates.take() else { return Ok(()) };
        let Templates { spec, order, here } = *templates;
        let ids = (order.service, order.id, order.slot);
        let facts = Facts::new(&spec, ids, &self.run.name, here.node, &here.hostname, platform);
        let rejected = |refusal: Refusal| EngineError::Rejected(refusal.text);
        let container = template::expand(&self.run.container, &facts).map_err(rejected)?;
        // The service's own variables are the first ones of the environment.
        for (entry, own) in self.run.env.iter_mut().zip(&container.env) {
            *entry = variable(own);
        }
        let readable = Readable { container: &container, payloads: &self.payloads, env: &self.run.env, facts: &facts };
        self.payloads = readable.expand().map_err(rejected)?;
        self.run.container = container;
        Ok(())
    }

    /// Whether the task publishes ports, by the mesh or by its engine.
    pub(crate) const fn has_ports(&self) -> bool {
        self.published.is_some() || !self.run.ports.is_empty()
    }

    /// Refuses an execution whose secrets or configs were removed after the service had got another spec.
    pub(crate) fn check_payloads(&self) -> Result<(), EngineError> {
        let mut missing = self.run.container.files().filter(|(id, ..)| !self.payloads.contains_key(id));
        match missing.next() {
            None => Ok(()),
            Some((PayloadId::Secret(_), name, _)) => Err(EngineError::Rejected(format!("secret not found: {name}"))),
            Some((PayloadId::Config(_), name, _)) => Err(EngineError::Rejected(format!("config not found: {name}"))),
        }
    }

    /// Sets the claimed address, also as a variable that no variable of the service can override.
    pub(crate) fn set_address(&mut self, address: IpAddr) {
        self.run.address = Some(address);
        self.run.env.push(("ESSAIM_ADDRESS".into(), address.to_string()));
    }

    /// Gives each port in host mode that the engine does not publish itself its number, chosen by `choose` where the service
    /// names none, and tells the task by variables that no variable of the service can override.
    pub(crate) fn number_ports(
        &mut self,
        mut choose: impl FnMut(PortProtocol) -> Option<u16>,
    ) -> Result<(), EngineError> {
        let ports = self.published.iter().flat_map(|published| published.ports.iter());
        for port in ports.filter(|port| port.mode == PublishMode::Host) {
            let number = if port.published == 0 { choose(port.protocol) } else { Some(port.published) };
            let Some(published) = number else {
                let protocol = port.protocol.as_str();
                return Err(EngineError::Failed(format!("no {protocol} port of this node is free for mode=host")));
            };
            self.run.env.push((port_variable(port), published.to_string()));
            self.run.ports.push(PortConfig { published, ..port.clone() });
        }
        Ok(())
    }
}

/// Variable with the number under which a port in host mode is published: `ESSAIM_PORT_8080_TCP`.
fn port_variable(port: &PortConfig) -> String {
    format!("ESSAIM_PORT_{}_{}", port.target, port.protocol.as_str().to_uppercase())
}

/// Variables that identify the task. They come after the service's own variables, so that none of those can override
/// them.
fn identity(order: &TaskOrder, spec: &ServiceSpec, here: &Here, name: &str) -> [(String, String); 7] {
    [
        ("ESSAIM_SERVICE".into(), spec.name.to_string()),
        ("ESSAIM_SERVICE_ID".into(), order.service.to_string()),
        ("ESSAIM_SLOT".into(), order.slot.to_string()),
        ("ESSAIM_TASK".into(), name.into()),
        ("ESSAIM_TASK_ID".into(), order.id.to_string()),
        ("ESSAIM_NODE".into(), here.hostname.clone()),
        ("ESSAIM_NODE_ID".into(), here.node.to_string()),
    ]
}

/// Labels by which Docker marks the container of a task, so that people and tools find it as they are used to.
fn labels(order: &TaskOrder, spec: &ServiceSpec, here: &Here, name: &str) -> Labels {
    Labels::from([
        ("com.docker.swarm.node.id".into(), here.node.to_string()),
        ("com.docker.swarm.service.id".into(), order.service.to_string()),
        ("com.docker.swarm.service.name".into(), spec.name.to_string()),
        ("com.docker.swarm.task".into(), String::new()),
        ("com.docker.swarm.task.id".into(), order.id.to_string()),
        ("com.docker.swarm.task.name".into(), name.into()),
    ])
}

/// Name and value of a variable of the service; a name without value has an empty value.
fn variable(variable: &Variable) -> (String, String) {
    (variable.name().into(), variable.value().unwrap_or_default().into())
}

/// Label of a task's actor: `task.web.3.k2f9x1`. Only as many characters of the id as tell tasks of one slot apart.
pub(crate) fn label(service: &str, slot: &Slot, task: TaskId) -> String {
    let id = task.to_string();
    match slot {
        Slot::Number(number) => format!("task.{service}.{number}.{}", &id[..SHORT_ID]),
        // A global service has one slot on each node, and the node is the first part of the actor's path already.
        Slot::Node(_) => format!("task.{service}.{}", &id[..SHORT_ID]),
    }
}

/// Characters of a task's id in a label.
const SHORT_ID: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, spec};
    use essaim_model::SecretId;
    use essaim_model::fixtures::secrets;

    #[test]
    fn a_task_is_told_who_it_is_and_no_setting_can_say_otherwise() {
        let mut spec = spec();
        let variable = |text| Variable::parse(text).expect("a variable");
        spec.task.container.env = ["A=b=c", "ESSAIM_SLOT=9", "EMPTY"].map(variable).into();
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let mut order = order(1);
        order.generic = essaim_model::GenericStock::parse(["gpu=b,gpu=a", "ssd=2"]).expect("generic resources");
        let mut execution = execution(&order, &spec, &Payloads::new(), &here);
        execution.set_address([127, 70, 0, 2].into());
        let last = |name: &str| {
            let entry = execution.run.env.iter().rev().find(|(found, _)| found == name);
            entry.map(|(_, value)| value.as_str()).unwrap_or("missing")
        };
        assert_eq!((last("A"), last("EMPTY"), last("ESSAIM_SLOT")), ("b=c", "", "1"));
        assert_eq!((last("ESSAIM_SERVICE"), last("ESSAIM_NODE")), ("web", "n3"));
        assert_eq!(last("ESSAIM_ADDRESS"), "127.70.0.2");
        assert_eq!(last("ESSAIM_TASK"), format!("web.1.{}", order.id));
        let label = |name: &str| execution.run.labels[&format!("com.docker.swarm.{name}")].clone();
        assert_eq!((label("service.name"), label("task")), ("web".into(), String::new()));
        assert_eq!((label("task.name"), label("task.id")), (execution.run.name.clone(), order.id.to_string()));
        assert_eq!(label("node.id"), here.node.to_string());
        assert_eq!((last("DOCKER_RESOURCE_GPU"), last("DOCKER_RESOURCE_SSD")), ("a,b", "2"));
        assert_eq!(execution.run.address, Some([127, 70, 0, 2].into()));
    }

    #[test]
    fn a_process_is_told_the_numbers_of_its_ports_in_host_mode() {
        let mut spec = spec();
        let port = |target, published, mode| {
            let (name, protocol) = (String::new(), PortProtocol::Tcp);
            PortConfig { name, protocol, target, published, mode }
        };
        let ports = vec![
            port(80, 0, PublishMode::Host),
            port(81, 8081, PublishMode::Host),
            port(82, 9000, PublishMode::Ingress),
        ];
        spec.endpoint = Some(essaim_model::EndpointSpec { ports, ..essaim_model::EndpointSpec::default() });
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let mut numbered = execution(&order(1), &spec, &Payloads::new(), &here);
        assert!(numbered.has_open_numbers);
        assert_eq!(numbered.number_ports(|_| Some(40_000)), Ok(()));
        let told: Vec<_> = numbered.run.env.iter().filter(|(name, _)| name.starts_with("ESSAIM_PORT")).collect();
        let of = |name: &str, number: &str| (name.to_owned(), number.to_owned());
        assert_eq!(told, [&of("ESSAIM_PORT_80_TCP", "40000"), &of("ESSAIM_PORT_81_TCP", "8081")]);
        assert_eq!(numbered.run.ports.iter().map(|port| port.published).collect::<Vec<_>>(), [40_000, 8081]);
        let refused = execution(&order(1), &spec, &Payloads::new(), &here).number_ports(|_| None);
        assert_eq!(refused, Err(EngineError::Failed("no tcp port of this node is free for mode=host".into())));
        // Docker Engine chooses by itself.
        let mut of_docker = order(1);
        of_docker.engine = EngineKind::Docker;
        let mut by_engine = execution(&of_docker, &spec, &Payloads::new(), &here);
        assert_eq!(by_engine.number_ports(|_| None), Ok(()));
        assert_eq!(by_engine.run.ports.iter().map(|port| port.published).collect::<Vec<_>>(), [0, 8081]);
    }

    #[test]
    fn templates_are_expanded_on_the_node_of_the_task_and_a_bad_one_rejects_it() {
        let mut spec = spec();
        let variable = |text| Variable::parse(text).expect("a variable");
        spec.task.container.env =
            ["WHERE={{.Node.Hostname}}/{{.Node.Platform.OS}}", "SLOT={{.Task.Slot}}"].map(variable).into();
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let mut expanded = execution(&order(1), &spec, &Payloads::new(), &here);
        assert!(expanded.has_templates());
        let platform = Platform { architecture: "x86_64".into(), os: "linux".into() };
        assert_eq!(expanded.expand(&platform), Ok(()));
        assert_eq!(expanded.run.env[..2], [("WHERE".into(), "n3/linux".into()), ("SLOT".into(), "1".into())]);
        assert_eq!(expanded.run.container.env[1].value(), Some("1"));
        spec.task.container.env = [variable("A={{.Nothing}}")].into();
        let refused = execution(&order(1), &spec, &Payloads::new(), &here).expand(&platform);
        assert!(matches!(refused, Err(EngineError::Rejected(why)) if why.starts_with("expanding env failed: ")));
    }

    #[test]
    fn a_templated_secret_is_expanded_for_its_task_and_a_bad_one_rejects_it() {
        let mut spec = spec();
        spec.task.container.secrets = secrets(&[(1, "url"), (2, "key")]);
        spec.task.container.env = vec![Variable::parse("DB=db-{{.Task.Slot}}").expect("a variable")];
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let platform = Platform { architecture: "x86_64".into(), os: "linux".into() };
        let id = |id| PayloadId::Secret(SecretId::from_bits(id));
        let expand = |template: &str| {
            let template = Payload::template(template.into());
            let payloads = Payloads::from([(id(1), template), (id(2), b"s3cr3t"[..].into())]);
            let mut execution = execution(&order(1), &spec, &payloads, &here);
            assert!(execution.has_templates());
            execution.expand(&platform).map(|()| execution.payloads[&id(1)].to_vec())
        };
        let made = expand("{{env \"DB\"}}:{{secret \"key\"}}@{{.Node.Hostname}}");
        assert_eq!(made, Ok(b"db-1:s3cr3t@n3".to_vec()), "with the environment as it is expanded");
        let why = "expanding secret \"url\" failed: secret target other not found";
        assert_eq!(expand("{{secret \"other\"}}"), Err(EngineError::Rejected(why.into())));
    }

    #[test]
    fn a_task_gets_its_own_payloads_and_is_rejected_without_one_of_them() {
        let mut spec = spec();
        spec.task.container.secrets = secrets(&[(1, "key")]);
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let payload = |id| (PayloadId::Secret(SecretId::from_bits(id)), b"s3cr3t"[..].into());
        let whole = execution(&order(1), &spec, &Payloads::from([payload(1), payload(2)]), &here);
        assert_eq!((whole.payloads.len(), whole.check_payloads()), (1, Ok(())));
        let without = execution(&order(1), &spec, &Payloads::from([payload(2)]), &here);
        assert_eq!(without.check_payloads(), Err(EngineError::Rejected("secret not found: key".into())));
    }

    #[test]
    fn stopping_is_by_sigterm_and_ten_seconds_unless_set() {
        let here = Here { node: NodeId::from_bits(3), hostname: "n3".into() };
        let mut spec = spec();
        let plain = execution(&order(1), &spec, &Payloads::new(), &here);
        assert_eq!((plain.stop_signal, plain.stop_grace), (Signal::TERM, Duration::from_secs(10)));
        spec.task.container.stop_signal = Some("SIGPOLL".parse().expect("a signal"));
        spec.task.container.stop_grace = Some(Duration::from_secs(1));
        let set = execution(&order(1), &spec, &Payloads::new(), &here);
        assert_eq!((set.stop_signal.number(), set.stop_grace), (29, Duration::from_secs(1)));
    }

    #[test]
    fn a_label_names_service_slot_and_task() {
        let task = "0k2f9x1aaaaaaaaaaaaaaaaaa".parse().unwrap();
        assert_eq!(label("web", &Slot::Number(3), task), "task.web.3.0k2f9x1a");
        assert_eq!(label("agent", &Slot::Node(NodeId::from_bits(1)), task), "task.agent.0k2f9x1a");
    }
}
