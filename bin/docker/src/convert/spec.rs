//! The wish: a request for a service, read so that an invalid one cannot exist, and shown as it was given.
//!
//! Reading goes through every field that Docker's spec has. Each either has its place in `model::ServiceSpec`, or is
//! refused by the name of its flag, or is one of the few that the CLI sends whatever its user wrote.

use super::{duration, nanos};
use crate::container::{ContainerSpec, DnsConfig, Privileges};
use crate::error::texts::unsupported;
use crate::node::Resources;
use crate::service::{
    Empty, EndpointSpec, Limit, Placement, PortConfig, Replicated, ResourceRequirements, RestartPolicy, ServiceMode,
    ServiceSpec, TaskSpec, UpdateConfig,
};
use essaim_model as model;
use essaim_model::service::Share;
use essaim_model::service::{DRAIN_LABEL, ENGINE_LABEL, ON_UNREACHABLE_LABEL};
use essaim_model::{FailureAction, Mode, Name, PortProtocol, PublishMode, Refusal, RestartCondition, UpdateOrder};
use std::time::Duration;

/// Swarm gives no task less memory than this.
const MEMORY_MIN: i64 = 4 << 20;

/// Swarm gives no task less of a processor than this: a thousandth.
const NANO_CPUS_MIN: i64 = 1_000_000;

/// A service has no more tasks than this: ten times what Swarm was ever shown to carry, so that a slip of the hand
/// is an error and not a million tasks.
const REPLICAS_MAX: u64 = 100_000;

/// How long the CLI watches a new task when its user says nothing.
const MONITOR_UNSAID: i64 = 5_000_000_000;

/// Reads a wish. `fallback` names a service that was given no name.
pub fn read(asked: ServiceSpec, fallback: impl FnOnce() -> String) -> Result<model::ServiceSpec, Refusal> {
    let name = if asked.name.is_empty() { fallback() } else { asked.name };
    let name = Name::parse(&name).map_err(|invalid| Refusal::invalid(invalid.to_string()))?;
    if !asked.networks.is_empty() {
        return Err(unsupported("--network"));
    }
    let labels = asked.labels.unwrap_or_default();
    check_own_labels(&labels)?;
    Ok(model::ServiceSpec {
        name,
        labels,
        task: read_task(asked.task_template)?,
        mode: read_mode(asked.mode)?,
        update: asked.update_config.map(|config| read_update(config, "--update")).transpose()?,
        rollback: asked.rollback_config.map(|config| read_update(config, "--rollback")).transpose()?,
        // Clients leave it out or send the default, and send the default back when they change something else: that is
        // no other wish, or the first `service scale` would replace every task.
        endpoint: asked
            .endpoint_spec
            .map(read_endpoint)
            .transpose()?
            .filter(|it| *it != model::EndpointSpec::default()),
    })
}

/// As Docker shows it.
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

/// Labels that begin with `essaim.` have a meaning, so one that has none, or a value that has none, is a slip.
fn check_own_labels(labels: &model::Labels) -> Result<(), Refusal> {
    for (label, value) in labels.iter().filter(|(label, _)| label.starts_with("essaim.")) {
        let known: &[&str] = match label.as_str() {
            ENGINE_LABEL => &["process", "docker", "actor"],
            ON_UNREACHABLE_LABEL => &["replace", "wait"],
            DRAIN_LABEL => &["start-first", "stop-first"],
            _ => {
                return Err(Refusal::invalid(format!(
                    "no label is called {label} here (labels that begin with \"essaim.\" have a meaning)"
                )));
            }
        };
        if !known.contains(&value.as_str()) {
            return Err(Refusal::invalid(format!("label {label}={value}: expected one of {}", known.join(", "))));
        }
    }
    Ok(())
}

fn read_task(asked: TaskSpec) -> Result<model::TaskSpec, Refusal> {
    refuse_first(&[
        (asked.plugin_spec.is_some(), "a plugin as a service"),
        (asked.network_attachment_spec.is_some(), "a network attachment as a service"),
        (!matches!(asked.runtime.as_str(), "" | "container"), "TaskTemplate.Runtime other than \"container\""),
        (!asked.networks.is_empty(), "--network"),
        (asked.log_driver.is_some(), "--log-driver"),
    ])?;
    let Some(container) = asked.container_spec else {
        return Err(Refusal::invalid("TaskSpec: missing runtime"));
    };
    Ok(model::TaskSpec {
        container: read_container(container)?,
        resources: asked.resources.map(read_resources).transpose()?.flatten(),
        restart: asked.restart_policy.map(read_restart).transpose()?,
        placement: asked.placement.map(read_placement).transpose()?.flatten(),
        force_update: asked.force_update,
    })
}

fn read_container(asked: ContainerSpec) -> Result<model::ContainerSpec, Refusal> {
    if asked.image.is_empty() {
        return Err(Refusal::invalid("ContainerSpec: image reference must be provided"));
    }
    // The CLI fills these in itself: `Init: false`, an empty DNSConfig, and, when it sends a spec back that it read,
    // `Isolation: default` and privileges of which none is set.
    let dns = asked.dns_config.is_some_and(|dns| dns != DnsConfig::default());
    let privileges = asked.privileges.is_some_and(|privileges| privileges != Privileges::default());
    let health = asked.healthcheck.is_some_and(|health| health.test.first().map(String::as_str) != Some("NONE"));
    refuse_first(&[
        (!asked.hostname.is_empty(), "--hostname"),
        (!asked.groups.is_empty(), "--group"),
        (privileges, "ContainerSpec.Privileges"),
        (asked.init == Some(true), "--init"),
        (asked.tty, "--tty"),
        (asked.open_stdin, "ContainerSpec.OpenStdin"),
        (asked.read_only, "--read-only"),
        (!asked.mounts.is_empty(), "--mount"),
        (health, "--health-cmd"),
        (!asked.hosts.is_empty(), "--host"),
        (dns, "--dns"),
        (!asked.secrets.is_empty(), "--secret"),
        (!asked.configs.is_empty(), "--config"),
        (!matches!(asked.isolation.as_str(), "" | "default"), "--isolation"),
        (!asked.sysctls.is_empty(), "--sysctl"),
        (!asked.capability_add.is_empty(), "--cap-add"),
        (!asked.capability_drop.is_empty(), "--cap-drop"),
        (!asked.ulimits.is_empty(), "--ulimit"),
        (asked.oom_score_adj != 0, "--oom-score-adj"),
        (asked.env.iter().any(|variable| variable.contains("{{")), "a template in --env"),
    ])?;
    if let Some(bad) = asked.env.iter().find(|variable| variable.is_empty() || variable.starts_with('=')) {
        return Err(Refusal::invalid(format!("invalid environment variable: {bad}")));
    }
    if !asked.stop_signal.is_empty() && !is_signal(&asked.stop_signal) {
        return Err(Refusal::invalid(format!("invalid signal: {}", asked.stop_signal)));
    }
    let said = |text: String| (!text.is_empty()).then_some(text);
    Ok(model::ContainerSpec {
        image: asked.image,
        labels: asked.labels,
        command: asked.command,
        args: asked.args,
        hostname: None,
        env: asked.env,
        dir: said(asked.dir),
        user: said(asked.user),
        stop_signal: said(asked.stop_signal),
        stop_grace: asked.stop_grace_period.map(|span| duration("StopGracePeriod", span)).transpose()?,
    })
}

/// `SIGTERM`, `TERM`, `sigterm` or a number.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
}

fn read_resources(asked: ResourceRequirements) -> Result<Option<model::Resources>, Refusal> {
    refuse_first(&[
        (asked.swap_bytes.is_some(), "--memory-swap"),
        (asked.memory_swappiness.is_some(), "--memory-swappiness"),
        (asked.reservations.as_ref().is_some_and(|it| !it.generic_resources.is_empty()), "--generic-resource"),
    ])?;
    let limit = asked.limits.map(|limit| read_share(limit.nano_cpus, limit.memory_bytes, limit.pids)).transpose()?;
    let reservation = asked.reservations.map(|it| read_share(it.nano_cpus, it.memory_bytes, 0)).transpose()?;
    let given = |share: Option<Share>| share.filter(|share| *share != Share::default());
    let resources = model::Resources { limit: given(limit), reservation: given(reservation) };
    Ok((resources != model::Resources::default()).then_some(resources))
}

fn read_share(nano_cpus: i64, memory_bytes: i64, pids: i64) -> Result<Share, Refusal> {
    if nano_cpus != 0 && nano_cpus < NANO_CPUS_MIN {
        let (given, least) = (nano_cpus as f64 / 1e9, NANO_CPUS_MIN as f64 / 1e9);
        return Err(Refusal::invalid(format!("invalid cpu value {given}: Must be at least {least}")));
    }
    if memory_bytes != 0 && memory_bytes < MEMORY_MIN {
        return Err(Refusal::invalid(format!("invalid memory value {memory_bytes}: Must be at least 4MiB")));
    }
    // Docker takes −1 as well as 0 for "no limit" on processes.
    let pids = u64::try_from(pids.max(0)).unwrap_or(0);
    let share = |value| u64::try_from(value).unwrap_or(0);
    Ok(Share { nano_cpus: share(nano_cpus), memory_bytes: share(memory_bytes), pids })
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

fn read_placement(asked: Placement) -> Result<Option<model::Placement>, Refusal> {
    refuse_first(&[(!asked.preferences.is_empty(), "--placement-pref")])?;
    let constraints = asked
        .constraints
        .iter()
        .map(|text| text.parse().map_err(|invalid: model::InvalidConstraint| Refusal::invalid(invalid.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    // `Platforms` is what the CLI read from a registry; a program of the host runs on the host.
    let placement = model::Placement { constraints, replicas_max_per_node: asked.max_replicas };
    Ok((placement != model::Placement::default()).then_some(placement))
}

fn read_mode(asked: ServiceMode) -> Result<Mode, Refusal> {
    refuse_first(&[
        (asked.replicated_job.is_some(), "--mode replicated-job"),
        (asked.global_job.is_some(), "--mode global-job"),
    ])?;
    match (asked.replicated, asked.global) {
        (Some(_), Some(_)) => Err(Refusal::invalid("must specify only one service mode")),
        (None, Some(Empty {})) => Ok(Mode::Global),
        (replicated, None) => {
            let replicas = replicated.and_then(|replicated| replicated.replicas).unwrap_or(1);
            match u32::try_from(replicas) {
                Ok(fits) if replicas <= REPLICAS_MAX => Ok(Mode::Replicated { replicas: fits }),
                _ => Err(Refusal::invalid(format!("a service has at most {REPLICAS_MAX} replicas, not {replicas}"))),
            }
        }
    }
}

/// Updates go one task at a time, stop first; whatever asks for something else is refused until it comes.
fn read_update(asked: UpdateConfig, flag: &str) -> Result<model::UpdateConfig, Refusal> {
    let order = match asked.order.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => return Err(unsupported(&format!("{flag}-order start-first"))),
        other => return Err(Refusal::invalid(format!("unrecognized update order {other}"))),
    };
    let failure_action = match asked.failure_action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" | "rollback" => {
            return Err(unsupported(&format!("{flag}-failure-action {}", asked.failure_action)));
        }
        other => return Err(Refusal::invalid(format!("unrecognized update failure action {other}"))),
    };
    if !(0.0..=1.0).contains(&asked.max_failure_ratio) {
        return Err(Refusal::invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"));
    }
    refuse_first(&[
        (asked.parallelism != 1, &format!("{flag}-parallelism other than 1")),
        (asked.delay != 0, &format!("{flag}-delay")),
        (!matches!(asked.monitor, 0 | MONITOR_UNSAID), &format!("{flag}-monitor other than 5s")),
        (asked.max_failure_ratio != 0.0, &format!("{flag}-max-failure-ratio")),
    ])?;
    Ok(model::UpdateConfig {
        parallelism: asked.parallelism,
        delay: Duration::ZERO,
        failure_action,
        monitor: (asked.monitor != 0).then(|| duration("update-monitor", asked.monitor)).transpose()?,
        max_failure_millionths: 0,
        order,
    })
}

fn read_endpoint(asked: EndpointSpec) -> Result<model::EndpointSpec, Refusal> {
    match asked.mode.as_str() {
        "" | "vip" => (),
        "dnsrr" => return Err(unsupported("--endpoint-mode dnsrr")),
        other => return Err(Refusal::invalid(format!("invalid endpoint mode: {other:?}"))),
    }
    let ports = asked.ports.into_iter().map(read_port).collect::<Result<Vec<_>, _>>()?;
    for (place, port) in ports.iter().enumerate() {
        let same = |other: &model::PortConfig| {
            other.published == port.published && other.protocol == port.protocol && other.mode == port.mode
        };
        if port.published != 0 && ports[..place].iter().any(same) {
            return Err(Refusal::invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(model::EndpointSpec { dns_round_robin: false, ports })
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

fn refuse_first(settings: &[(bool, &str)]) -> Result<(), Refusal> {
    match settings.iter().find(|(asked, _)| *asked) {
        Some((_, setting)) => Err(unsupported(setting)),
        None => Ok(()),
    }
}

/// What each task is made of; `template` for a service's, which names its runtime, and not for a task's own.
pub fn show_task(task: &model::TaskSpec, template: bool) -> TaskSpec {
    let resources = task.resources.unwrap_or_default();
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (limit, reservation) = (resources.limit.unwrap_or_default(), resources.reservation.unwrap_or_default());
    TaskSpec {
        container_spec: Some(show_container(&task.container)),
        plugin_spec: None,
        network_attachment_spec: None,
        resources: Some(ResourceRequirements {
            limits: Some(Limit {
                nano_cpus: signed(limit.nano_cpus),
                memory_bytes: signed(limit.memory_bytes),
                pids: signed(limit.pids),
            }),
            reservations: Some(Resources {
                nano_cpus: signed(reservation.nano_cpus),
                memory_bytes: signed(reservation.memory_bytes),
                generic_resources: Vec::new(),
            }),
            swap_bytes: None,
            memory_swappiness: None,
        }),
        restart_policy: task.restart.as_ref().map(show_restart),
        placement: Some(task.placement.as_ref().map(show_placement).unwrap_or_default()),
        networks: Vec::new(),
        log_driver: None,
        force_update: task.force_update,
        runtime: if template { "container".into() } else { String::new() },
    }
}

fn show_container(container: &model::ContainerSpec) -> ContainerSpec {
    ContainerSpec {
        image: container.image.clone(),
        labels: container.labels.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        hostname: container.hostname.clone().unwrap_or_default(),
        env: container.env.clone(),
        dir: container.dir.clone().unwrap_or_default(),
        user: container.user.clone().unwrap_or_default(),
        init: Some(false),
        stop_signal: container.stop_signal.clone().unwrap_or_default(),
        stop_grace_period: container.stop_grace.map(nanos),
        dns_config: Some(DnsConfig::default()),
        isolation: "default".into(),
        ..ContainerSpec::default()
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
    Placement {
        constraints: placement.constraints.iter().map(ToString::to_string).collect(),
        preferences: Vec::new(),
        max_replicas: placement.replicas_max_per_node,
        platforms: Vec::new(),
    }
}

fn show_mode(mode: Mode) -> ServiceMode {
    match mode {
        Mode::Replicated { replicas } => ServiceMode {
            replicated: Some(Replicated { replicas: Some(u64::from(replicas)) }),
            ..ServiceMode::default()
        },
        Mode::Global => ServiceMode { global: Some(Empty {}), ..ServiceMode::default() },
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

fn show_port(port: &model::PortConfig) -> PortConfig {
    let protocol = match port.protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    };
    let mode = match port.mode {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    PortConfig {
        name: port.name.clone(),
        protocol: protocol.into(),
        target_port: u32::from(port.target),
        published_port: u32::from(port.published),
        publish_mode: mode.into(),
    }
}

/// A name for a service that was given none, from the bits of its id.
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
    use essaim_model::RefusalKind;
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

    /// The plain wish with one more field, addressed by a JSON pointer to its parent.
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
    fn every_recorded_wish_is_taken_or_refused_in_words() {
        let text = include_str!("../../tests/fixtures/service_spec.json");
        let recorded: Vec<ServiceSpec> = serde_json::from_str(text).expect("recorded bodies parse");
        let (mut taken, mut declined) = (0, 0);
        for asked in recorded {
            match read(asked, String::new) {
                Ok(spec) => {
                    assert_eq!(read(show(&spec), String::new), Ok(spec));
                    taken += 1;
                }
                Err(refusal) => {
                    assert!(matches!(refusal.kind, RefusalKind::Invalid | RefusalKind::Unsupported), "{refusal:?}");
                    declined += 1;
                }
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
            (container, "Secrets", json!([{"SecretName": "x"}]), "--secret"),
            ("/TaskTemplate", "Networks", json!([{"Target": "n"}]), "--network"),
            ("/TaskTemplate/Placement", "Preferences", json!([{"Spread": null}]), "--placement-pref"),
            ("", "UpdateConfig", json!({"Parallelism": 2, "Order": "stop-first"}), "--update-parallelism"),
            ("", "UpdateConfig", json!({"Parallelism": 1, "Order": "start-first"}), "--update-order"),
            ("", "Mode", json!({"GlobalJob": {}}), "--mode global-job"),
        ] {
            let refusal = refused(with(parent, field, value));
            assert_eq!(refusal.kind, RefusalKind::Unsupported);
            assert!(refusal.text.starts_with(flag), "{}", refusal.text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        for (parent, field, value, text) in [
            ("", "Name", json!("bad name"), "name must be valid as a DNS name component"),
            ("/TaskTemplate/Placement", "Constraints", json!(["foo"]), "constraint expected one operator from ==, !="),
            (
                "/TaskTemplate/Resources/Limits",
                "MemoryBytes",
                json!(1_048_576),
                "invalid memory value 1048576: Must be at least 4MiB",
            ),
            ("/TaskTemplate/ContainerSpec", "StopSignal", json!("SIGFOO"), "invalid signal: SIGFOO"),
            ("/TaskTemplate/ContainerSpec", "StopGracePeriod", json!(-1), "StopGracePeriod cannot be negative"),
        ] {
            assert_eq!(refused(with(parent, field, value)).text, text);
        }
    }

    #[test]
    fn a_label_of_ours_must_mean_something() {
        assert!(parse(with("/Labels", "essaim.engine", json!("process"))).is_ok());
        assert!(refused(with("/Labels", "essaim.engine", json!("steam"))).text.contains("expected one of"));
        assert!(refused(with("/Labels", "essaim.colour", json!("red"))).text.contains("essaim.colour"));
    }

    #[test]
    fn a_missing_mode_or_number_means_one_replica() {
        let mut spec = plain();
        spec["Mode"] = json!({"Replicated": {}});
        assert_eq!(parse(spec).map(|spec| spec.mode), Ok(Mode::Replicated { replicas: 1 }));
        assert_eq!(refused(with("/Mode", "Global", json!({}))).text, "must specify only one service mode");
    }

    #[test]
    fn a_service_without_a_name_gets_a_valid_one() {
        for bits in [0, 1, u128::MAX, 0x1234_5678] {
            assert!(Name::parse(&name_from(bits)).is_ok());
        }
    }
}
