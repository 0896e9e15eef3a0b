//! Conversion of service specs. A request is parsed so that an invalid spec cannot exist; a spec is shown as it was
//! given.
//!
//! Every field of Docker's spec has its place in `model::ServiceSpec`. A field that a client left out stays left out,
//! so that a spec that is read back and sent again asks for nothing new. Whether a setting is honoured is not checked
//! here but by `model::service::support`, when a service is created or updated.
//!
//! The container of a service is converted in [`super::container`].

use super::container::{read_container, show_container};
use super::{duration, given, nanos};
use crate::base::Empty;
use crate::error::texts::missing;
use crate::network::NetworkAttachmentConfig;
use crate::node::{DiscreteResource, GenericResource, Platform, Resources};
use crate::service::{
    EndpointSpec, Limit, LogDriver, Placement, PlacementPreference, PortConfig, Replicated, ReplicatedJob,
    ResourceRequirements, RestartPolicy, ServiceMode, ServiceSpec, SpreadOver, TaskSpec, UpdateConfig,
};
use essaim_model as model;
use essaim_model::service::{GenericResources, NetworkAttachment, Share, Swap, Swappiness};
use essaim_model::{
    FailureAction, Mode, Name, PortProtocol, PublishMode, Refusal, RestartCondition, UpdateOrder, too_many_replicas,
};

/// Parses the spec of a request. `fallback` makes a name for a service without one.
pub fn read(asked: ServiceSpec, fallback: impl FnOnce() -> String) -> Result<model::ServiceSpec, Refusal> {
    let name = if asked.name.is_empty() { fallback() } else { asked.name };
    let name = Name::parse(&name).map_err(|invalid| Refusal::invalid(invalid.to_string()))?;
    let labels = asked.labels.unwrap_or_default();
    let mut task = read_task(asked.task_template)?;
    if task.networks.is_empty() {
        // Clients of before 2017 name the networks here.
        task.networks = asked.networks.into_iter().map(read_network).collect::<Result<_, _>>()?;
    }
    Ok(model::ServiceSpec {
        name,
        labels,
        task,
        mode: read_mode(asked.mode)?,
        update: asked.update_config.map(read_update).transpose()?,
        rollback: asked.rollback_config.map(read_update).transpose()?,
        // Some clients leave the endpoint out and others send the default; and they send the default back when they
        // change something else. Both mean the same: otherwise the first `service scale` would replace every task.
        endpoint: asked
            .endpoint_spec
            .map(read_endpoint)
            .transpose()?
            .filter(|it| *it != model::EndpointSpec::default()),
    })
}

/// The spec in Docker's shape.
pub fn show(spec: &model::ServiceSpec) -> ServiceSpec {
    ServiceSpec {
        name: spec.name.to_string(),
        labels: Some(spec.labels.clone()),
        task_template: show_task(&spec.task, true),
        mode: show_mode(spec.mode),
        update_config: spec.update.as_ref().map(show_update),
        rollback_config: spec.rollback.as_ref().map(show_update),
        networks: Vec::new(),
        endpoint_spec: Some(
            spec.endpoint
                .as_ref()
                .map_or_else(|| EndpointSpec { mode: "vip".into(), ports: Vec::new() }, show_endpoint),
        ),
    }
}

/// Parses the description of a service's tasks. A plugin or a network attachment as a service is refused by name; only
/// containers are supported.
fn read_task(asked: TaskSpec) -> Result<model::TaskSpec, Refusal> {
    let other = [
        (asked.plugin_spec.is_some(), "plugins as services"),
        (asked.network_attachment_spec.is_some(), "network attachments as services"),
        (
            !matches!(asked.runtime.as_str(), "" | "container"),
            "services of another TaskTemplate.Runtime than \"container\"",
        ),
    ];
    if let Some((_, runtime)) = other.iter().find(|(asked, _)| *asked) {
        return Err(missing(runtime, ""));
    }
    let Some(container) = asked.container_spec else {
        return Err(Refusal::invalid("TaskSpec: missing runtime"));
    };
    Ok(model::TaskSpec {
        container: read_container(container)?,
        resources: asked.resources.map(read_resources).transpose()?,
        restart: asked.restart_policy.map(read_restart).transpose()?,
        placement: asked.placement.map(read_placement).transpose()?,
        networks: asked.networks.into_iter().map(read_network).collect::<Result<_, _>>()?,
        log_driver: asked.log_driver.map(|LogDriver { name, options }| model::LogDriver { name: given(name), options }),
        force_update: asked.force_update,
    })
}

fn read_network(asked: NetworkAttachmentConfig) -> Result<NetworkAttachment, Refusal> {
    let NetworkAttachmentConfig { target, aliases, driver_opts } = asked;
    if target.is_empty() {
        return Err(Refusal::invalid("TaskSpec: a network attachment names no network"));
    }
    Ok(NetworkAttachment { target, aliases, driver_opts })
}

fn read_resources(asked: ResourceRequirements) -> Result<model::Resources, Refusal> {
    let limit = asked.limits.map(|limit| Share::parse(limit.nano_cpus, limit.memory_bytes, limit.pids)).transpose()?;
    let mut generic = Vec::new();
    let mut reservation = None;
    if let Some(Resources { nano_cpus, memory_bytes, generic_resources }) = asked.reservations {
        reservation = Some(Share::parse(nano_cpus, memory_bytes, 0)?);
        for resource in generic_resources {
            match resource {
                GenericResource {
                    named_resource_spec: None,
                    discrete_resource_spec: Some(DiscreteResource { kind, value }),
                } => generic.push((kind, value)),
                _ => return Err(Refusal::invalid("generic resource: a reservation is a number of things of a kind")),
            }
        }
    }
    Ok(model::Resources {
        limit,
        reservation,
        generic: GenericResources::parse(generic)?,
        swap: asked.swap_bytes.map(Swap::parse).transpose()?,
        swappiness: asked.memory_swappiness.map(Swappiness::parse).transpose()?,
    })
}

fn read_restart(asked: RestartPolicy) -> Result<model::RestartPolicy, Refusal> {
    let condition = match asked.condition.as_str() {
        "" => None,
        "none" => Some(RestartCondition::None),
        "on-failure" => Some(RestartCondition::OnFailure),
        "any" => Some(RestartCondition::Any),
        other => return Err(Refusal::invalid(format!("invalid RestartCondition: {other:?}"))),
    };
    Ok(model::RestartPolicy {
        condition,
        delay: asked.delay.map(|delay| duration("TaskSpec: restart-delay", delay)).transpose()?,
        max_attempts: asked.max_attempts,
        window: asked.window.map(|window| duration("TaskSpec: restart-window", window)).transpose()?,
    })
}

fn read_placement(asked: Placement) -> Result<model::Placement, Refusal> {
    let invalid = |invalid: model::InvalidConstraint| Refusal::invalid(invalid.to_string());
    let constraints = asked.constraints.iter().map(|text| text.parse().map_err(invalid)).collect::<Result<_, _>>()?;
    let preference = |PlacementPreference { spread }: PlacementPreference| {
        let Some(SpreadOver { spread_descriptor }) = spread else {
            return Err(Refusal::invalid("a placement preference spreads over a label (spread=node.labels.NAME)"));
        };
        model::placement::SpreadOver::parse(&spread_descriptor).map_err(invalid)
    };
    Ok(model::Placement {
        constraints,
        replicas_max_per_node: asked.max_replicas,
        preferences: asked.preferences.into_iter().map(preference).collect::<Result<_, _>>()?,
        platforms: asked
            .platforms
            .into_iter()
            .map(|Platform { architecture, os }| model::Platform { architecture, os })
            .collect(),
    })
}

fn read_mode(asked: ServiceMode) -> Result<Mode, Refusal> {
    let ServiceMode { replicated, global, replicated_job, global_job } = asked;
    match (replicated, global, replicated_job, global_job) {
        (None, Some(Empty {}), None, None) => Ok(Mode::Global),
        (None, None, Some(job), None) => {
            let ReplicatedJob { max_concurrent, total_completions } = job;
            let mode = Mode::ReplicatedJob { concurrent_max: max_concurrent, completions: total_completions };
            // Clients read both numbers of a job without checking that they are there.
            let numbers = mode.of_replicated_job();
            Ok(Mode::ReplicatedJob {
                concurrent_max: numbers.map(|(concurrent_max, _)| concurrent_max),
                completions: numbers.map(|(_, completions)| completions),
            })
        }
        (None, None, None, Some(Empty {})) => Ok(Mode::GlobalJob),
        (replicated, None, None, None) => {
            let replicas = replicated.and_then(|replicated| replicated.replicas).unwrap_or(1);
            // A client that takes a negative number for a positive one sends a very large number.
            if i64::try_from(replicas).is_err() {
                return Err(Refusal::invalid("Number of replicas must be non-negative"));
            }
            let replicas = u32::try_from(replicas).map_err(|_| too_many_replicas(replicas))?;
            Ok(Mode::Replicated { replicas })
        }
        _ => Err(Refusal::invalid("must specify only one service mode")),
    }
}

fn read_update(asked: UpdateConfig) -> Result<model::UpdateConfig, Refusal> {
    let order = match asked.order.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        other => return Err(Refusal::invalid(format!("unrecognized update order {other}"))),
    };
    let failure_action = match asked.failure_action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        other => return Err(Refusal::invalid(format!("unrecognized update failure action {other}"))),
    };
    if !(0.0..=1.0).contains(&asked.max_failure_ratio) {
        return Err(Refusal::invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"));
    }
    Ok(model::UpdateConfig {
        parallelism: asked.parallelism,
        delay: duration("TaskSpec: update-delay", asked.delay)?,
        failure_action,
        monitor: (asked.monitor != 0).then(|| duration("TaskSpec: update-monitor", asked.monitor)).transpose()?,
        max_failure_millionths: (asked.max_failure_ratio * 1e6).round() as u32,
        order,
    })
}

fn read_endpoint(asked: EndpointSpec) -> Result<model::EndpointSpec, Refusal> {
    let dns_round_robin = match asked.mode.as_str() {
        "" | "vip" => false,
        "dnsrr" => true,
        other => return Err(Refusal::invalid(format!("invalid endpoint mode: {other:?}"))),
    };
    let ports = asked.ports.into_iter().map(read_port).collect::<Result<Vec<_>, _>>()?;
    Ok(model::EndpointSpec { dns_round_robin, ports })
}

fn read_port(asked: PortConfig) -> Result<model::PortConfig, Refusal> {
    let protocol = match asked.protocol.as_str() {
        "" | "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        "sctp" => PortProtocol::Sctp,
        other => return Err(Refusal::invalid(format!("invalid protocol value {other:?}"))),
    };
    let mode = match asked.publish_mode.as_str() {
        "" | "ingress" => PublishMode::Ingress,
        "host" => PublishMode::Host,
        other => return Err(Refusal::invalid(format!("invalid publish mode {other:?}"))),
    };
    let port = |what, number| {
        u16::try_from(number).map_err(|_| Refusal::invalid(format!("invalid {what} port {number}: at most 65535")))
    };
    let target = port("target", asked.target_port)?;
    if target == 0 {
        return Err(Refusal::invalid("EndpointSpec: a published port needs a target port"));
    }
    Ok(model::PortConfig {
        name: asked.name,
        protocol,
        target,
        published: port("published", asked.published_port)?,
        mode,
    })
}

/// The description of tasks in Docker's shape. `template` is true for that of a service, which names its runtime, and
/// false for that of a single task.
pub(crate) fn show_task(task: &model::TaskSpec, template: bool) -> TaskSpec {
    TaskSpec {
        container_spec: Some(show_container(&task.container)),
        plugin_spec: None,
        network_attachment_spec: None,
        resources: task.resources.as_ref().map(show_resources),
        restart_policy: task.restart.as_ref().map(show_restart),
        placement: task.placement.as_ref().map(show_placement),
        networks: task.networks.iter().map(show_network).collect(),
        log_driver: task
            .log_driver
            .as_ref()
            .map(|it| LogDriver { name: it.name.clone().unwrap_or_default(), options: it.options.clone() }),
        force_update: task.force_update,
        runtime: if template { "container".into() } else { String::new() },
    }
}

fn show_network(network: &NetworkAttachment) -> NetworkAttachmentConfig {
    let NetworkAttachment { target, aliases, driver_opts } = network.clone();
    NetworkAttachmentConfig { target, aliases, driver_opts }
}

fn show_resources(resources: &model::Resources) -> ResourceRequirements {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let counts = resources.generic.iter().map(|(kind, count)| GenericResource {
        named_resource_spec: None,
        discrete_resource_spec: Some(DiscreteResource { kind: kind.clone(), value: signed(*count) }),
    });
    ResourceRequirements {
        limits: resources.limit.map(|limit| Limit {
            nano_cpus: signed(limit.nano_cpus),
            memory_bytes: signed(limit.memory_bytes),
            pids: signed(limit.pids),
        }),
        reservations: resources.reservation.map(|reservation| Resources {
            nano_cpus: signed(reservation.nano_cpus),
            memory_bytes: signed(reservation.memory_bytes),
            generic_resources: counts.collect(),
        }),
        swap_bytes: resources.swap.map(Swap::get),
        memory_swappiness: resources.swappiness.map(|it| i64::from(it.get())),
    }
}

fn show_restart(policy: &model::RestartPolicy) -> RestartPolicy {
    let condition = policy.condition.map(|condition| match condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    });
    RestartPolicy {
        condition: condition.unwrap_or_default().into(),
        delay: policy.delay.map(nanos),
        max_attempts: policy.max_attempts,
        window: policy.window.map(nanos),
    }
}

fn show_placement(placement: &model::Placement) -> Placement {
    let preference = |it: &model::placement::SpreadOver| PlacementPreference {
        spread: Some(SpreadOver { spread_descriptor: it.to_string() }),
    };
    let platform = |it: &model::Platform| Platform { architecture: it.architecture.clone(), os: it.os.clone() };
    Placement {
        constraints: placement.constraints.iter().map(ToString::to_string).collect(),
        preferences: placement.preferences.iter().map(preference).collect(),
        max_replicas: placement.replicas_max_per_node,
        platforms: placement.platforms.iter().map(platform).collect(),
    }
}

fn show_mode(mode: Mode) -> ServiceMode {
    let none = ServiceMode::default();
    match mode {
        Mode::Replicated { replicas } => {
            ServiceMode { replicated: Some(Replicated { replicas: Some(u64::from(replicas)) }), ..none }
        }
        Mode::Global => ServiceMode { global: Some(Empty {}), ..none },
        Mode::ReplicatedJob { concurrent_max, completions } => {
            let job = ReplicatedJob { max_concurrent: concurrent_max, total_completions: completions };
            ServiceMode { replicated_job: Some(job), ..none }
        }
        Mode::GlobalJob => ServiceMode { global_job: Some(Empty {}), ..none },
    }
}

fn show_update(config: &model::UpdateConfig) -> UpdateConfig {
    let failure_action = match config.failure_action {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
    };
    let order = match config.order {
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::StartFirst => "start-first",
    };
    UpdateConfig {
        parallelism: config.parallelism,
        delay: nanos(config.delay),
        failure_action: failure_action.into(),
        monitor: config.monitor.map_or(0, nanos),
        max_failure_ratio: f64::from(config.max_failure_millionths) / 1e6,
        order: order.into(),
    }
}

fn show_endpoint(endpoint: &model::EndpointSpec) -> EndpointSpec {
    EndpointSpec {
        mode: if endpoint.dns_round_robin { "dnsrr" } else { "vip" }.into(),
        ports: endpoint.ports.iter().map(show_port).collect(),
    }
}

pub(super) fn show_port(port: &model::PortConfig) -> PortConfig {
    let mode = match port.mode {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    PortConfig {
        name: port.name.clone(),
        protocol: port.protocol.as_str().into(),
        target_port: u32::from(port.target),
        published_port: u32::from(port.published),
        publish_mode: mode.into(),
    }
}

/// Makes a name for a service without one, from the bits of its id.
pub fn name_from(bits: u128) -> String {
    const MANNERS: [&str; 16] = [
        "amber", "brisk", "calm", "deft", "eager", "fond", "gentle", "humble", "idle", "jolly", "keen", "lively",
        "merry", "nimble", "quiet", "witty",
    ];
    const BEES: [&str; 16] = [
        "bumble",
        "carder",
        "cuckoo",
        "digger",
        "drone",
        "forager",
        "honey",
        "larva",
        "leafcutter",
        "mason",
        "miner",
        "nurse",
        "orchid",
        "queen",
        "scout",
        "wool",
    ];
    let (manner, bee) = (MANNERS[(bits & 15) as usize], BEES[(bits >> 4 & 15) as usize]);
    format!("{manner}_{bee}_{:04x}", bits >> 8 & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::service::support::refusal;
    use essaim_model::{EngineKind, RefusalKind};
    use serde_json::json;

    fn parse(value: serde_json::Value) -> Result<model::ServiceSpec, Refusal> {
        read(serde_json::from_value(value).expect("Docker's shape"), || "unnamed".into())
    }

    fn plain() -> serde_json::Value {
        json!({
            "Name": "web", "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "sleep:latest", "Args": ["1000"], "Init": false, "DNSConfig": {}},
                "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0
            },
            "Mode": {"Replicated": {"Replicas": 3}}, "EndpointSpec": {"Mode": "vip"}
        })
    }

    /// The plain spec with one more field; `parent` is the JSON pointer to the field's parent.
    fn with(parent: &str, field: &str, value: serde_json::Value) -> serde_json::Value {
        let mut spec = plain();
        spec.pointer_mut(parent).expect("a parent")[field] = value;
        spec
    }

    fn refused(value: serde_json::Value) -> Refusal {
        parse(value).expect_err("must be refused")
    }

    #[test]
    fn a_wish_is_shown_as_it_was_given_and_reads_back_as_itself() {
        let spec = parse(plain()).expect("plain");
        let shown = show(&spec);
        assert_eq!(read(shown.clone(), String::new), Ok(spec));
        let mut expected = plain();
        expected["TaskTemplate"]["ContainerSpec"]["Isolation"] = "default".into();
        expected["TaskTemplate"]["Runtime"] = "container".into();
        assert_eq!(serde_json::to_value(shown).expect("JSON"), expected);
    }

    #[test]
    fn a_wish_that_left_the_defaults_out_is_the_same_when_it_is_sent_back_with_them() {
        let mut spare = plain();
        spare.as_object_mut().expect("an object").retain(|field, _| field == "Name" || field == "TaskTemplate");
        spare["TaskTemplate"] = json!({"ContainerSpec": {"Image": "web"}});
        let wish = parse(spare).expect("plain");
        assert_eq!(read(show(&wish), String::new), Ok(wish));
    }

    #[test]
    fn every_recorded_wish_reads_back_as_itself_and_is_honoured_or_refused_in_words() {
        let text = include_str!("../../tests/fixtures/service_spec.json");
        let recorded: Vec<ServiceSpec> = serde_json::from_str(text).expect("recorded bodies parse");
        let (mut taken, mut declined) = (0, 0);
        for mut asked in recorded {
            // Docker's ids may be larger than the 128 bits of Essaim's ids.
            let container = asked.task_template.container_spec.iter_mut();
            for it in container {
                it.secrets.iter_mut().for_each(|it| it.secret_id.replace_range(..1, "0"));
                it.configs.iter_mut().for_each(|it| it.config_id.replace_range(..1, "0"));
            }
            match read(asked, String::new) {
                Ok(spec) if refusal(&spec, EngineKind::Process).is_some() => declined += 1,
                Ok(spec) => {
                    assert_eq!(read(show(&spec), String::new), Ok(spec));
                    taken += 1;
                }
                // Swarm refused these requests as well.
                Err(refusal) => assert_eq!(refusal.kind, RefusalKind::Invalid),
            }
        }
        assert!(taken >= 10 && declined >= 10, "{taken} taken, {declined} declined");
    }

    #[test]
    fn a_setting_without_effect_is_refused_by_its_flag() {
        let container = "/TaskTemplate/ContainerSpec";
        for (parent, field, value, flag) in [
            (container, "ReadOnly", json!(true), "--read-only"),
            (container, "Mounts", json!([{"Type": "volume", "Target": "/x"}]), "--mount"),
            (container, "Init", json!(true), "--init"),
            (container, "Healthcheck", json!({"Test": ["CMD", "true"]}), "--health-cmd"),
            (container, "OomScoreAdj", json!(5), "--oom-score-adj"),
            ("/TaskTemplate/Resources", "SwapBytes", json!(-1), "--memory-swap"),
            ("/TaskTemplate", "LogDriver", json!({"Name": "none"}), "--log-driver"),
            ("/TaskTemplate", "Networks", json!([{"Target": "n"}]), "--network"),
            ("", "EndpointSpec", json!({"Mode": "dnsrr"}), "--endpoint-mode dnsrr"),
        ] {
            let spec = parse(with(parent, field, value)).expect(flag);
            let refusal = refusal(&spec, EngineKind::Process).expect(flag);
            assert_eq!(refusal.kind, RefusalKind::Unsupported);
            assert!(refusal.text.starts_with(flag), "{}", refusal.text);
        }
        // Settings that only managers act on work with every engine.
        let update = json!({"Parallelism": 2, "Delay": 7, "FailureAction": "rollback", "Order": "start-first"});
        let generic = json!([{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]);
        let zones = json!([{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]);
        for honoured in [
            plain(),
            with("", "UpdateConfig", update.clone()),
            with("", "RollbackConfig", update),
            with("/TaskTemplate/Resources/Reservations", "GenericResources", generic),
            with("/TaskTemplate/Placement", "Preferences", zones),
        ] {
            assert_eq!(refusal(&parse(honoured).expect("plain"), EngineKind::Process), None);
        }
    }

    #[test]
    fn what_the_process_engine_lacks_is_no_fault_of_another_engine() {
        let spec = parse(with("/TaskTemplate/ContainerSpec", "ReadOnly", json!(true))).expect("read");
        let words = refusal(&spec, EngineKind::Process).expect("refused").text;
        assert!(words.contains("process engine"), "{words}");
        assert_eq!(refusal(&spec, EngineKind::Docker), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        for (parent, field, value, text) in [
            ("", "Name", json!("bad name"), "name must be valid as a DNS name component"),
            (
                "/TaskTemplate/Placement",
                "Constraints",
                json!(["node.role==worker", "foo"]),
                "constraint expected one operator from ==, !=: 'foo' has none; there are <, <=, >, >=, ~= and in besides",
            ),
            (
                "/TaskTemplate/Resources/Limits",
                "MemoryBytes",
                json!(1_048_576),
                "invalid memory value 1048576: Must be at least 4MiB",
            ),
            ("/TaskTemplate/ContainerSpec", "StopSignal", json!("SIGFOO"), "invalid signal: SIGFOO"),
            (
                "/TaskTemplate/ContainerSpec",
                "Mounts",
                json!([{"Type": "bind", "Source": "x", "Target": "/x"}]),
                "invalid bind mount source, must be an absolute path: x",
            ),
            (
                "/TaskTemplate/ContainerSpec",
                "Mounts",
                json!([{"Type": "volume", "Target": "/x", "BindOptions": {}}]),
                "invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
            ("/TaskTemplate/ContainerSpec", "Secrets", json!([{"SecretName": "x"}]), "malformed secret reference"),
            ("/TaskTemplate/ContainerSpec", "StopGracePeriod", json!(-1), "StopGracePeriod cannot be negative"),
        ] {
            assert_eq!(refused(with(parent, field, value)).text, text);
        }
    }

    #[test]
    fn a_missing_mode_or_number_means_one_replica() {
        let mut spec = plain();
        spec["Mode"] = json!({"Replicated": {}});
        assert_eq!(parse(spec).map(|spec| spec.mode), Ok(Mode::Replicated { replicas: 1 }));
        assert_eq!(refused(with("/Mode", "Global", json!({}))).text, "must specify only one service mode");
        let negative = refused(with("", "Mode", json!({"Replicated": {"Replicas": u64::MAX}})));
        assert_eq!(negative.text, "Number of replicas must be non-negative");
        let many = refused(with("", "Mode", json!({"Replicated": {"Replicas": 99_999_999_999_u64}})));
        assert_eq!(many.text, "a service has at most 100000 replicas, not 99999999999");
    }

    #[test]
    fn both_numbers_of_a_job_are_shown_also_when_they_were_left_out() {
        for (given, shown) in [(json!({}), (1, 1)), (json!({"MaxConcurrent": 3}), (3, 3))] {
            let spec = parse(with("", "Mode", json!({"ReplicatedJob": given}))).expect("a job");
            let job = show(&spec).mode.replicated_job.expect("a job");
            assert_eq!((job.max_concurrent, job.total_completions), (Some(shown.0), Some(shown.1)));
        }
    }

    #[test]
    fn a_service_without_a_name_gets_a_valid_one() {
        for bits in [0, 1, u128::MAX, 0x1234_5678] {
            assert!(Name::parse(&name_from(bits)).is_ok());
        }
    }
}
